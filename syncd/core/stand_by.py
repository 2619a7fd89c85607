"""A mirror with several servers: which one is asked, and what a look at a stand-by may do. Pure.

The rules are these (RULES section 1, last bullet; docs/design/decisions.md says why):
- the main server first, then the stand-bys in their order; only one that is *unavailable* is passed over (its root not
  being there included). A refused login, an empty or a foreign share, a missing marker stop the run wherever they are
  found, since a person has to look;
- one server a run: what two servers say is never mixed;
- from a stand-by only what is missing here is fetched. Nothing that is held is replaced, renamed or retired, whatever
  it lists; what it does not list is no sighting of anything;
- no older version comes in the place of a newer one that was lost here, and nothing that left the main server since.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from syncd.core.errors import SourceUnavailable, SourceVanished, SyncdError
from syncd.core.model import Entry, Fingerprint, Kind, LocalEntry, Record, Unheld
from syncd.core.named import NamedTuple
from syncd.core.planner import DirectoryPlan, Sorted
from syncd.core.reasons import Reason
from syncd.core.resolution import COMES_AGAIN

DOWN_FIRST_S, DOWN_LONGEST_S = 30.0, 120.0
"""A server that was unavailable is asked after all others for so long, from the first time to when it was so often: it
costs its deadline only now and then."""
MS_NS = 1_000_000


class StandBy(NamedTuple):
    """The stand-by that is in use. server: its URL (no secrets); id: what tells it from others; why: what is wrong with
    those before it.
    """

    server: str
    id: str
    why: str


class Unavailable(NamedTuple):
    """A server that could not be asked, and what it was. vanished: it answers, but the root is not there."""

    server: str
    message: str
    hint: str = ""
    vanished: bool = False


def moves_on(error: SyncdError) -> bool:
    """Say whether the next server may be tried after this error: this one cannot be asked, or has no such share."""
    return isinstance(error, SourceUnavailable)


def in_order(down_until: Sequence[float], now: float) -> list[int]:
    """Return the order in which servers are tried: as configured, those that were down just now after all others."""
    numbers = range(len(down_until))
    return [n for n in numbers if down_until[n] <= now] + [n for n in numbers if down_until[n] > now]


def down_for_s(times: int) -> float:
    """Return how long a server counts as down that was found so for the `times`-th time in a row."""
    return min(DOWN_FIRST_S * 2.0 ** min(times - 1, 10), DOWN_LONGEST_S)


def said(tried: Sequence[Unavailable]) -> str:
    """Say what is wrong with servers, each by its name."""
    return "; ".join(f"{each.server}: {each.message}" for each in tried)


def none_available(tried: Sequence[Unavailable]) -> SourceUnavailable:
    """Return the error that ends a run for which no server is left."""
    hint = next((each.hint for each in tried if each.hint), "syncd doctor")
    kind = SourceVanished if all(each.vanished for each in tried) else SourceUnavailable
    return kind(f"none of {len(tried)} servers can be asked: {said(tried)}", hint=hint)


class StandByPlan(DirectoryPlan):
    """What one directory needs of what a stand-by listed.

    lost: held, but what lies here is not what was verified. differs: how many held files it lists otherwise; they stay.
    foreign_here: a file of other size lies at a name that is not held; it stays until the main server decides.
    """

    def __init__(self) -> None:
        super().__init__()
        self.lost: list[tuple[Entry, Record, Reason]] = []
        self.foreign_here: list[Entry] = []
        self.differs = 0


def compare_missing(
    entries: Sorted,
    held: Mapping[str, Record],
    known_folders: frozenset[str],
    local: Mapping[str, LocalEntry],
    settled_before_ns: int,
) -> StandByPlan:
    """Decide what one directory needs that a stand-by listed. Absent names, renames and flips take no part."""
    plan = StandByPlan()
    for name, entry in entries.files.items():
        record, here = held.get(name), local.get(name)
        if record is not None:
            _compare_held(plan, entry, record, here)
        elif name in known_folders:
            plan.differs += 1
        elif entry.mtime_ns > settled_before_ns:
            plan.unsettled.append(entry)
        elif here is None or here.kind is not Kind.FILE:
            plan.arriving.append((entry, Reason.NEW))
        elif here.stat.size == entry.size:
            plan.arriving.append((entry, Reason.UNKNOWN_LOCAL))
        else:
            plan.foreign_here.append(entry)
    plan.differs += sum(1 for name in entries.folders if name in held)
    return plan


def _compare_held(plan: StandByPlan, entry: Entry, record: Record, here: LocalEntry | None) -> None:
    plan.listed += 1
    if (entry.size, entry.mtime_ns) != (record.size, record.mtime_ns):
        plan.differs += 1
    if here is None:
        plan.lost.append((entry, record, Reason.LOST))
    elif here.stat == record.local:
        plan.unchanged += 1
    elif here.kind is Kind.FILE and here.stat.size == record.local_size:
        plan.recheck.append(entry)
    else:
        plan.lost.append((entry, record, Reason.LOCAL_CHANGED))


def is_older(fingerprint: Fingerprint, mtime_ns: int) -> bool:
    """Say whether what a stand-by lists is older than the version, of that mtime, which was held here."""
    return fingerprint.mtime_ns < mtime_ns


def may_come(fingerprint: Fingerprint, known: Unheld | None, removed_ms: int) -> bool:
    """Say whether a file that is not held may come from a stand-by.

    known: why it is not held, where it was listed: of one that was held and lost here nothing older comes. removed_ms:
    when it last left the mirror (ms since the epoch, 0 = never): a file that was last changed before stays away, since
    a stand-by that lags would bring back all that was removed or renamed at the main server.
    """
    if known is not None:
        return known.reason not in COMES_AGAIN or not is_older(fingerprint, known.mtime_ns)
    return fingerprint.mtime_ns > removed_ms * MS_NS
