"""One look at the whole source, directory by directory, compared with what is held as the listings arrive.

New files are wanted at once (when enough of what is held has been seen, core.guard); everything that takes something
away or replaces it is only noted in the run's findings and judged after the scan. Memory: one directory at a time.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping

from syncd.core import paths
from syncd.core.errors import MirrorError, PathUnsafe, SourceUnavailable, SourceVanished
from syncd.core.guard import enough_listed
from syncd.core.model import (
    ROOT,
    Entry,
    Fingerprint,
    Held,
    Kind,
    Listing,
    LocalEntry,
    LocalStat,
    Record,
    RelPath,
    Unheld,
)
from syncd.core.planner import (
    DirectoryPlan,
    NameRules,
    Sorted,
    align_local,
    all_unchanged,
    compare,
    find_respelled,
    sort_entries,
)
from syncd.core.reasons import Reason
from syncd.engine.acts import Acts
from syncd.engine.report import Report
from syncd.engine.rules import MirrorRules, RunOptions
from syncd.ports import Findings, HeldDirectory, Mirror, MirrorCatalogue

MAX_FOREIGN_WALK = 10_000
AT_ONCE = 256
NOTHING_HELD = HeldDirectory({}, frozenset())


class Census:
    """Counts of a scan, in files, that the guard asks for."""

    __slots__ = ("arriving", "held", "listed")

    def __init__(self, held: int) -> None:
        self.held = held
        self.listed = self.arriving = 0


class Left:
    """What a scan leaves for afterwards, besides its findings."""

    __slots__ = ("absent_folders", "flipped_files", "flipped_folders", "missing_folders", "respelled", "unsettled")

    def __init__(self) -> None:
        self.unsettled: dict[RelPath, dict[str, Entry]] = {}
        self.missing_folders: list[RelPath] = []
        self.absent_folders: list[RelPath] = []
        self.flipped_folders: set[RelPath] = set()
        self.flipped_files: set[RelPath] = set()
        self.respelled: list[tuple[RelPath, RelPath, Entry]] = []


class Scan:
    """Visits listings; `census`, `left` and the findings are what comes of it."""

    def __init__(
        self,
        rules: MirrorRules,
        options: RunOptions,
        mirror: Mirror | None,
        catalogue: MirrorCatalogue,
        findings: Findings,
        acts: Acts,
        report: Report,
        settled_before_ns: Callable[[], int],
    ) -> None:
        traits = mirror.traits if mirror is not None else None
        self._rules = NameRules(
            rules.filters,
            folds_case=traits is not None and traits.folds_case,
            folds_unicode=traits is not None and traits.folds_unicode,
        )
        self._hinted = frozenset(options.hinted)
        self._only = frozenset(options.only)
        self._only_seen: set[RelPath] = set()
        self._not_listed: set[RelPath] = set()
        self._above_only = frozenset(parent for only in options.only for parent in paths.parents(only))
        self._mirror = mirror
        self._catalogue = catalogue
        self._findings = findings
        self._acts = acts
        self._report = report
        self._settled_before_ns = settled_before_ns
        self._renewals: list[Held] = []
        self._repairs: list[tuple[RelPath, Fingerprint, Reason]] = []
        self.census = Census(catalogue.totals().files)
        self.left = Left()
        self.root_is_empty = False

    # -- one directory

    def visit(self, listing: Listing) -> Iterable[RelPath]:
        """Compare one listing with what is held; return the folders to list next."""
        directory = listing.directory
        if not listing.complete:
            self._note_incomplete(listing)
        held = self._catalogue.held_in(directory) if self.census.held or self._hinted else NOTHING_HELD
        spelled = held.records if self._rules.folds_case or self._rules.folds_unicode else {}
        entries = sort_entries(listing, self._rules, spelled)
        if self._only:
            self._keep_scope(directory, entries)
        elif directory == ROOT and listing.complete:
            self.root_is_empty = not entries.files and not entries.folders
        local = self._local(directory, entries)
        if local is not None:
            here = align_local(local, entries, spelled, self._rules)
            plan = self._compare(listing, entries, held, here)
            find_respelled(plan, self._rules)
            self._act(directory, plan, held)
            self._note_folders(directory, entries, held, here)
        self._report.scanned += len(entries.files)
        for name, reason in entries.refused:
            self._refuse(directory, paths.printable(name), reason)
        for name in listing.undecodable if self._in_scope(directory) else ():
            self._refuse(directory, name, Reason.NAME_UNDECODABLE)
        below = [
            paths.join(directory, name) for name in entries.folders if not self._hinted or name not in held.folders
        ]
        return [folder for folder in below if folder not in self._hinted]

    def _compare(
        self, listing: Listing, entries: Sorted, held: HeldDirectory, here: Mapping[str, LocalEntry]
    ) -> DirectoryPlan:
        if held.are_exactly(entries.files, here):
            return all_unchanged(listing, entries, held.folders, here)
        return compare(listing, entries, held.records, held.folders, here, self._settled_before_ns())

    def _note_incomplete(self, listing: Listing) -> None:
        reason = listing.reason or Reason.LISTING_INCOMPLETE
        if listing.directory == ROOT and reason is not Reason.NAME_UNDECODABLE:
            if reason is Reason.GONE:
                raise SourceVanished(f"the root folder of the source is not there: {listing.detail}")
            if not listing.entries:
                raise SourceUnavailable(
                    f"the root folder of the source cannot be listed ({reason}): {listing.detail}",
                    hint="syncd doctor",
                )
        if reason in (Reason.GONE, Reason.NAME_UNDECODABLE):
            return  # a folder that went away is for the next run; undecodable names are counted one by one
        self._not_listed.add(listing.directory)
        self._report.fail(listing.directory or ".", reason, listing.detail)
        self._findings.unheld(Unheld(listing.directory, reason, listing.detail))

    def _in_scope(self, path: RelPath) -> bool:
        return not self._only or any(each in self._only for each in (ROOT, path, *paths.parents(path)))

    def _keep_scope(self, directory: RelPath, entries: Sorted) -> None:
        inside = self._in_scope

        def towards(path: RelPath) -> bool:
            return path in self._above_only or inside(path)

        refused = (name for name, _ in entries.refused)  # they are there, and counted as what they are
        listed = {paths.join(directory, name) for name in (*entries.files, *entries.folders, *refused)}
        self._only_seen |= listed & self._only
        entries.files = {n: e for n, e in entries.files.items() if inside(paths.join(directory, n))}
        entries.folders = [n for n in entries.folders if towards(paths.join(directory, n))]
        entries.refused = [(n, r) for n, r in entries.refused if inside(paths.join(directory, n))]

    def _local(self, directory: RelPath, entries: Sorted) -> dict[str, LocalEntry] | None:
        """Return the local listing; None if the local folder is unsafe: then its files fail and nothing is touched."""
        if self._mirror is None or self._is_below_a_flip(directory):
            return {}  # no target yet, or a held file lies where this folder will be once that has been retired
        try:
            return self._mirror.list_local(directory) or {}
        except MirrorError as error:
            if not isinstance(error, PathUnsafe) and error.reason is not Reason.LOCAL_IO:
                raise
            for name in entries.files:
                path = paths.join(directory, name)
                self._report.fail(path, error.reason, error.message)
                self._findings.unheld(Unheld(path, error.reason, error.message))
            self.census.listed += len(entries.files)
            return None

    def _refuse(self, directory: RelPath, name: str, reason: Reason) -> None:
        path = RelPath(f"{directory}/{name}" if directory else name)
        self._report.refuse(path, reason)
        self._findings.unheld(Unheld(path, reason, ""))

    # -- what follows from a plan

    def _act(self, directory: RelPath, plan: DirectoryPlan, held: HeldDirectory) -> None:
        join, findings = paths.join, self._findings
        self._report.unchanged += plan.unchanged
        self.census.listed += plan.listed
        self.census.arriving += len(plan.arriving) + len(plan.unsettled)
        for name in plan.flipped_folders:
            self._flip_folder(join(directory, name))
        if plan.arriving:
            self._arrive_all(directory, plan.arriving)
        for entry in plan.changed:
            findings.replaced(join(directory, entry.name), entry.fingerprint)
        for entry in plan.learned:
            record = held.records[entry.name]
            self._renew(
                Held(join(directory, entry.name), entry.fingerprint, record.sha256, record.local, announce=False)
            )
        for entry in plan.recheck:
            self._recheck(join(directory, entry.name), entry, held.records[entry.name])
        for entry, reason in plan.repair:
            self._repair(join(directory, entry.name), entry, reason)
        if plan.unsettled:
            self.left.unsettled.setdefault(directory, {}).update((entry.name, entry) for entry in plan.unsettled)
        for old, entry in plan.respelled:
            self.left.respelled.append((join(directory, old), join(directory, entry.name), entry))
        for name in plan.foreign:
            self._note_foreign(join(directory, name))
        if self._only:
            return  # a run over a part concludes nothing about absence
        for name in plan.seen_again:
            findings.seen_again(join(directory, name))
        if plan.absent:
            findings.absent(directory, plan.absent)
        for name in plan.flipped_files:
            findings.flipped(join(directory, name))
            self.left.flipped_files.add(join(directory, name))
        for name in plan.absent_folders:
            folder = join(directory, name)
            findings.absent_below(folder)
            self.left.absent_folders.append(folder)

    def settle(self, path: RelPath, entry: Entry) -> None:
        """A file that was still being written at the first look has not changed since: treat it as any other."""
        if self._catalogue.record(path) is not None:
            self._findings.replaced(path, entry.fingerprint)
        else:
            self._arrive(path, entry, arrival_reason(self._mirror, path))

    def _arrive_all(self, directory: RelPath, arriving: list[tuple[Entry, Reason]]) -> None:
        left, new = self.left, Reason.NEW
        if not (self._only or self.census.held or left.flipped_folders or left.flipped_files):
            # the gate is open, none can be a held file's new name, none waits for a flip: no need to ask for each
            self._acts.fetch_new(directory, [entry for entry, reason in arriving if reason is new])
            arriving = [each for each in arriving if each[1] is not new]
        for entry, reason in arriving:
            self._arrive(paths.join(directory, entry.name), entry, reason)

    def _arrive(self, path: RelPath, entry: Entry, reason: Reason) -> None:
        if reason is Reason.UNKNOWN_LOCAL and self._take_over(path, entry):
            return
        later = (
            not self._gate_is_open()
            or (entry.file_id and self.census.held and self._catalogue.holds_identity(entry.fingerprint))
            or self._waits_for_flip(path)
        )
        if later and not self._only:
            self._findings.arrived(path, entry.fingerprint)
        else:
            self._acts.fetch(path, entry.fingerprint, reason, None)

    def _take_over(self, path: RelPath, entry: Entry) -> bool:
        """Rebuild: hold a local file that is what the manifest says and the server lists, without reading it there."""
        sha256 = self._acts.rebuilt(path, entry.fingerprint)
        local = self._local_if(path, sha256)
        if sha256 is None or local is None:
            return False
        self._report.unchanged += 1
        self._renew(Held(path, entry.fingerprint, sha256, local))
        return True

    def _gate_is_open(self) -> bool:
        return bool(self._only or self._hinted) or enough_listed(self.census.held, self.census.listed)

    def _waits_for_flip(self, path: RelPath) -> bool:
        left = self.left
        if not (left.flipped_folders or left.flipped_files):
            return False
        return path in left.flipped_folders or self._is_below_a_flip(paths.split(path)[0])

    def _is_below_a_flip(self, directory: RelPath) -> bool:
        flipped = self.left.flipped_files
        return bool(flipped) and any(folder in flipped for folder in (*paths.parents(directory), directory))

    def _flip_folder(self, folder: RelPath) -> None:
        """A folder's name is a file now: everything held below it has left, by proof."""
        self.left.flipped_folders.add(folder)
        if not self._only:
            for path, _ in self._catalogue.records(folder):
                self._findings.flipped(path)
            self._findings.directory(folder, seen=False)
            self.left.absent_folders.append(folder)

    def _recheck(self, path: RelPath, entry: Entry, record: Record) -> None:
        """The local stat is not the record's, but the size is: hash the file before fetching it again."""
        local = self._local_if(path, record.sha256)
        if local is not None:
            self._report.unchanged += 1
            self._renew(Held(path, entry.fingerprint, record.sha256, local, announce=False))
        else:
            self._repair(path, entry, Reason.LOCAL_CHANGED)

    def _local_if(self, path: RelPath, sha256: str | None) -> LocalStat | None:
        """Hash a local file; return its stat if that is its digest (None never is)."""
        if sha256 is None or self._mirror is None:
            return None
        try:
            digest, local = self._mirror.hash_local(path)
        except MirrorError:
            return None
        return local if digest == sha256 else None

    def _repair(self, path: RelPath, entry: Entry, reason: Reason) -> None:
        self._repairs.append((path, entry.fingerprint, reason))
        if len(self._repairs) >= AT_ONCE:
            self._flush_repairs()

    def _flush_repairs(self) -> None:
        """Say of lost and changed files that they are not held any more, then fetch them."""
        repairs, self._repairs = self._repairs, []
        self._acts.drop([path for path, _, _ in repairs])
        for path, fingerprint, reason in repairs:
            if self._gate_is_open():
                self._acts.fetch(path, fingerprint, reason, None)
            else:
                self._findings.replaced(path, fingerprint)

    def _renew(self, held: Held) -> None:
        self._renewals.append(held)
        if len(self._renewals) >= AT_ONCE:
            self._flush_renewals()

    def _flush_renewals(self) -> None:
        renewals, self._renewals = self._renewals, []
        self._acts.renew(renewals)

    @property
    def not_found(self) -> list[RelPath]:
        """The paths of --only that no listing had; below a folder that could not be listed nothing is known of any."""
        unseen = self._only - self._only_seen - {ROOT}
        return sorted(each for each in unseen if self._not_listed.isdisjoint((ROOT, *paths.parents(each))))

    def flush(self) -> None:
        """Carry out the repairs and renewals collected so far (at the end of the scan)."""
        if self._renewals:
            self._flush_renewals()
        if self._repairs:
            self._flush_repairs()

    # -- folders and foreign files

    def _note_folders(
        self, directory: RelPath, entries: Sorted, held: HeldDirectory, local: Mapping[str, LocalEntry]
    ) -> None:
        for name in entries.folders:
            folder = paths.join(directory, name)
            if name not in held.folders and not self._only:
                self._findings.directory(folder, seen=True)
            here = local.get(name)
            if here is None or here.kind is not Kind.DIRECTORY:
                self.left.missing_folders.append(folder)

    def _note_foreign(self, path: RelPath) -> None:
        for file in self._foreign_files(path):
            self._report.foreign += 1
            if len(self._report.foreigners) < MAX_FOREIGN_WALK:
                self._report.foreigners.append(file)

    def _foreign_files(self, path: RelPath) -> Iterable[RelPath]:
        if self._mirror is None:
            return
        waiting = [path]
        for _ in range(MAX_FOREIGN_WALK):
            if not waiting:
                return
            found = waiting.pop()
            try:
                here = self._mirror.stat_local(found)
                inside = self._mirror.list_local(found) if here and here.kind is Kind.DIRECTORY else None
            except MirrorError:
                here, inside = None, None
            if inside is not None:
                waiting.extend(paths.join(found, name) for name in inside)
            elif here is not None:
                yield found


def arrival_reason(mirror: Mirror | None, path: RelPath) -> Reason:
    """Say why a listed path that is not held is to come: a file that no record knows may already lie there."""
    if mirror is None:
        return Reason.NEW
    try:
        here = mirror.stat_local(path)
    except MirrorError:
        return Reason.NEW
    return Reason.UNKNOWN_LOCAL if here is not None and here.kind is Kind.FILE else Reason.NEW
