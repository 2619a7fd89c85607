"""One directory's listing x what is held of it x what lies in the mirror -> what is to be done. Pure.

The decision tree, one leaf a line:
  name refused, link, special file            refused (counted, shown)
  left out by a filter                        absent if held, else nothing
  file: not held, nothing local               NEW: fetch
        not held, a local file                UNKNOWN_LOCAL: adopt (compare with the server's bytes)
        held, same fingerprint, same stat     unchanged; an id that was unknown (of a stand-by's file) is learned
        held, same fingerprint, local gone    LOST: fetch
        held, same fingerprint, other stat    recheck: re-hash the local file, fetch if it differs
        held, other fingerprint               CHANGED: fetch
        (any fetch of one that may still be written to waits: UNSETTLED)
        a known folder has this name          flip: what was held below it is retired first
  folder: a held file has this name           flip: the file is retired first
  held file, not listed, listing complete     absent; an arrival that folds to it (folding target) is its new name
  known folder, not listed, listing complete  everything below is absent
"""

from __future__ import annotations

from collections.abc import Mapping
from collections.abc import Set as AbstractSet
from enum import StrEnum

from syncd.core import paths
from syncd.core.filters import Filters
from syncd.core.model import Entry, Kind, Listing, LocalEntry, Record, RelPath
from syncd.core.named import NamedTuple
from syncd.core.reasons import Reason

_DEEP = paths.MAX_PATH_BYTES // 4 - paths.MAX_NAME_BYTES // 4 - 1
"""Characters of a directory below which no path can be too long, when no name is."""


class Action(StrEnum):
    """What a plan does with one path (the words of `run-once --dry-run`)."""

    FETCH = "fetch"
    RENAME = "rename"
    RETIRE = "retire"
    ADOPT = "adopt"
    REFUSE = "refuse"
    WAIT = "wait"


class NameRules(NamedTuple):
    """What decides about names: the filters, and what the mirror's file system folds."""

    filters: Filters
    folds_case: bool = False
    folds_unicode: bool = False


class Sorted:
    """A listing's entries by what they may become. refused: (name, reason)."""

    __slots__ = ("excluded", "files", "folders", "refused")

    def __init__(self, files: dict[str, Entry]) -> None:
        self.files = files
        self.folders: list[str] = []
        self.refused: list[tuple[str, Reason]] = []
        self.excluded: set[str] = set()


class DirectoryPlan:
    """What one directory needs. Names, not paths; `arriving` and `changed` carry the entry as listed."""

    def __init__(self) -> None:
        self.unchanged = 0
        self.listed = 0
        self.arriving: list[tuple[Entry, Reason]] = []
        self.changed: list[Entry] = []
        self.repair: list[tuple[Entry, Reason]] = []
        self.recheck: list[Entry] = []
        self.unsettled: list[Entry] = []
        self.learned: list[Entry] = []
        self.seen_again: list[str] = []
        self.absent: list[str] = []
        self.respelled: list[tuple[str, Entry]] = []
        self.absent_folders: list[str] = []
        self.flipped_files: list[str] = []
        self.flipped_folders: list[str] = []
        self.foreign: list[str] = []


def sort_entries(listing: Listing, rules: NameRules, held: Mapping[str, Record]) -> Sorted:
    """Split a listing into files, folders, refused and excluded names; of folding twins keep one (a held one first)."""
    result = _sort_plain(listing, rules) or _sort_each(listing, rules)
    if rules.folds_case or rules.folds_unicode:
        _refuse_twins(result, rules, held)
    return result


def _sort_plain(listing: Listing, rules: NameRules) -> Sorted | None:
    """Sort a directory in which nothing is wrong with any name, which is the rule; None where that is not certain."""
    entries = listing.entries
    if listing.mangled or len(listing.directory) > _DEEP:
        return None
    joined = paths.join_plain([entry.name for entry in entries])
    if joined is None or not rules.filters.spares(joined):
        return None
    file, folder = Kind.FILE, Kind.DIRECTORY
    result = Sorted({entry.name: entry for entry in entries if entry.kind is file})
    if len(result.files) < len(entries):
        result.folders = [entry.name for entry in entries if entry.kind is folder]
        result.refused = [(entry.name, Reason.LINK) for entry in entries if entry.kind is Kind.OTHER]
    return result


def _sort_each(listing: Listing, rules: NameRules) -> Sorted:
    result = Sorted({})
    drops_file, drops_folder = rules.filters.drops_file, rules.filters.drops_folder
    refuse_name = paths.refuse_name
    prefix = listing.directory + "/" if listing.directory else ""
    for entry in listing.entries:
        name = entry.name
        reason = refuse_name(name)
        if reason is None and name in listing.mangled:
            reason = Reason.NAME_MANGLED
        if reason is None and len(prefix) + len(name) > paths.MAX_PATH_BYTES // 4:
            reason = _too_deep(prefix + name)
        if reason is not None:
            result.refused.append((name, reason))
        elif entry.kind is Kind.DIRECTORY:
            if drops_folder(RelPath(prefix + name), name):
                result.excluded.add(name)
            else:
                result.folders.append(name)
        elif drops_file(RelPath(prefix + name), name):
            result.excluded.add(name)
        elif entry.kind is Kind.FILE:
            result.files[name] = entry
        else:
            result.refused.append((name, Reason.LINK))
    return result


def _too_deep(path: str) -> Reason | None:
    return Reason.NAME_TOO_LONG if len(path.encode()) > paths.MAX_PATH_BYTES else None


def _refuse_twins(result: Sorted, rules: NameRules, held: Mapping[str, Record]) -> None:
    """Keep the first of names that the mirror's file system would fold into one: held before new, then by spelling."""
    kept: dict[str, str] = {}
    for name in sorted([*result.files, *result.folders], key=lambda name: (name not in held, name)):
        folded = paths.fold(name, case=rules.folds_case, form=rules.folds_unicode)
        first = kept.setdefault(folded, name)
        if first == name:
            continue
        same_form = paths.fold(first, case=False) == paths.fold(name, case=False)
        result.refused.append((name, Reason.UNICODE_TWIN if same_form else Reason.CASE_TWIN))
        if result.files.pop(name, None) is None:
            result.folders.remove(name)


def align_local(
    local: Mapping[str, LocalEntry], entries: Sorted, held: Mapping[str, Record], rules: NameRules
) -> Mapping[str, LocalEntry]:
    """Give local names the spelling that the server uses, where the file system folds names (it may list another)."""
    if not (rules.folds_case or rules.folds_unicode):
        return local
    spelled = {
        paths.fold(name, case=rules.folds_case, form=rules.folds_unicode): name
        for name in (*entries.folders, *entries.files, *held)
    }
    return {
        name
        if name in held
        else spelled.get(paths.fold(name, case=rules.folds_case, form=rules.folds_unicode), name): here
        for name, here in local.items()
    }


def find_respelled(plan: DirectoryPlan, rules: NameRules) -> None:
    """Move arrivals that fold to an absent name from `arriving` and `absent` to `respelled` (old name, new entry)."""
    if not plan.absent or not (rules.folds_case or rules.folds_unicode):
        return
    absent = {paths.fold(name, case=rules.folds_case, form=rules.folds_unicode): name for name in plan.absent}
    staying = []
    for entry, reason in plan.arriving:
        old = absent.get(paths.fold(entry.name, case=rules.folds_case, form=rules.folds_unicode))
        if old is None:
            staying.append((entry, reason))
        else:
            plan.absent.remove(old)
            plan.listed += 1
            plan.respelled.append((old, entry))
    plan.arriving = staying


def _same(entry: Entry, record: Record) -> bool:
    """Compare fingerprints; ids and change times that one side does not know take no part."""
    return (
        entry.size == record.size
        and entry.mtime_ns == record.mtime_ns
        and (entry.file_id == record.file_id or not record.file_id or not entry.file_id)
        and (entry.ctime_ns == record.ctime_ns or not record.ctime_ns or not entry.ctime_ns)
    )


def compare(
    listing: Listing,
    entries: Sorted,
    held: Mapping[str, Record],
    known_folders: frozenset[str],
    local: Mapping[str, LocalEntry],
    settled_before_ns: int,
) -> DirectoryPlan:
    """Decide what one directory needs.

    settled_before_ns: mtimes up to this are settled (the server's clock less `settle`).
    """
    if not (held or known_folders or local):
        return _all_new(entries, settled_before_ns)
    plan = DirectoryPlan()
    records = held.get
    local_of = local.get
    unchanged = 0
    for name, entry in entries.files.items():
        record = records(name)
        if record is not None and entry[2:] == record[:4] and not record[9]:
            here = local_of(name)
            if here is not None and here[1] == record[6:9]:
                unchanged += 1  # the rule, by positions: a fingerprint each, a local stat each, no absent_run
                continue
        if record is None:
            if name in known_folders:
                plan.flipped_folders.append(name)
            if entry.mtime_ns > settled_before_ns:
                plan.unsettled.append(entry)
            else:
                plan.arriving.append((entry, _arrival_reason(local_of(name))))
            continue
        plan.listed += 1
        if record.absent_run:
            plan.seen_again.append(name)
        if not _same(entry, record):
            if entry.mtime_ns > settled_before_ns:
                plan.unsettled.append(entry)
            else:
                plan.changed.append(entry)
            continue
        here = local_of(name)
        if here is None:
            plan.repair.append((entry, Reason.LOST))
        elif here.stat == record.local:
            plan.unchanged += 1
            if entry.file_id and not record.file_id:
                plan.learned.append(entry)
        elif here.kind is Kind.FILE and here.stat.size == record.local_size:
            plan.recheck.append(entry)
        else:
            plan.repair.append((entry, Reason.LOCAL_CHANGED))
    plan.unchanged += unchanged
    plan.listed += unchanged
    return _conclude(plan, listing, entries, held.keys(), known_folders, local)


def all_unchanged(
    listing: Listing, entries: Sorted, known_folders: frozenset[str], local: Mapping[str, LocalEntry]
) -> DirectoryPlan:
    """Decide on a directory whose files are known to be those that are held, each as its record says."""
    plan = DirectoryPlan()
    plan.unchanged = plan.listed = len(entries.files)
    return _conclude(plan, listing, entries, entries.files.keys(), known_folders, local)


def _conclude(
    plan: DirectoryPlan,
    listing: Listing,
    entries: Sorted,
    held: AbstractSet[str],
    known_folders: frozenset[str],
    local: Mapping[str, LocalEntry],
) -> DirectoryPlan:
    if listing.complete:
        _conclude_absences(plan, entries, held, known_folders)
    _find_foreign(plan, entries, held, known_folders, local)
    return plan


def _all_new(entries: Sorted, settled_before_ns: int) -> DirectoryPlan:
    """Decide on a directory of which nothing is held and nothing lies here: a first run's."""
    new, listed = Reason.NEW, entries.files.values()
    plan = DirectoryPlan()
    plan.arriving = [(entry, new) for entry in listed if entry.mtime_ns <= settled_before_ns]
    if len(plan.arriving) < len(listed):
        plan.unsettled = [entry for entry in listed if entry.mtime_ns > settled_before_ns]
    return plan


def _arrival_reason(here: LocalEntry | None) -> Reason:
    return Reason.UNKNOWN_LOCAL if here is not None and here.kind is Kind.FILE else Reason.NEW


def _conclude_absences(
    plan: DirectoryPlan, entries: Sorted, held: AbstractSet[str], known_folders: frozenset[str]
) -> None:
    folders, files = set(entries.folders), entries.files
    for name in () if held <= files.keys() else held:
        if name in files:
            continue
        if name in folders:
            plan.flipped_files.append(name)
            continue
        plan.absent.append(name)
        if name in entries.excluded:
            plan.listed += 1
    plan.absent_folders.extend(name for name in known_folders if name not in folders and name not in files)


def _find_foreign(
    plan: DirectoryPlan,
    entries: Sorted,
    held: AbstractSet[str],
    known_folders: frozenset[str],
    local: Mapping[str, LocalEntry],
) -> None:
    if local.keys() <= held:
        return
    folders = set(entries.folders)
    plan.foreign.extend(
        name
        for name in local
        if name not in held and name not in entries.files and name not in known_folders and name not in folders
    )
