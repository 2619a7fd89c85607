"""The rows of the table: what is copied, how far away the server is, and what is to be reached (DESIGN section 5)."""

from __future__ import annotations

from dataclasses import dataclass, replace

from bench.corpora import Corpus

TRANSFERS = (("--transfers", "16"), ("--transfers", "64"), ("--transfers", "128"))
STREAMS = (("--multi-thread-streams", "2"), ("--multi-thread-streams", "8"))
CHECKERS = (("--checkers", "32"), ("--checkers", "128"))


@dataclass(frozen=True, slots=True)
class Workload:
    """One row.

    unchanged: the output is there already, nothing is to be copied. tries: rclone's options of which the best is
    taken, beside its defaults. reach, aim: syncd's time as a share of rclone's best. left_out: peers for which this
    would take minutes or that cannot do it. runs_max bounds the rows that take long.
    """

    name: str
    title: str
    corpus: Corpus
    rtt_ms: int = 0
    encrypt: bool = False
    unchanged: bool = False
    on_disk: bool = False
    tries: tuple[tuple[str, ...], ...] = TRANSFERS
    reach: float = 0.0
    aim: float = 0.0
    left_out: frozenset[str] = frozenset()
    runs_max: int = 9


SMALL = Corpus("small", files=5_000, size=18_000, folders=25)
MEDIUM = Corpus("medium", files=400, size=1_000_000, folders=8)
LARGE = Corpus("large", files=2, size=512 << 20, folders=1)
WIDE = Corpus("wide", files=100_000, size=200, folders=100)
DEEP = Corpus("deep", files=100_000, size=200, folders=10_000)

FETCHES_AGAIN = frozenset({"smbclient"})

WORKLOADS = (
    Workload("small", "5,000 x 18 KB", SMALL, reach=0.6, aim=0.45),
    Workload("small-2ms", "5,000 x 18 KB, RTT 2 ms", SMALL, rtt_ms=2, reach=0.2, aim=0.15, runs_max=5),
    Workload(
        "small-10ms",
        "5,000 x 18 KB, RTT 10 ms",
        SMALL,
        rtt_ms=10,
        reach=0.2,
        aim=0.15,
        left_out=frozenset({"smbclient"}),
        runs_max=3,
    ),
    Workload("small-disk", "5,000 x 18 KB, output on disk", SMALL, on_disk=True, reach=0.8),
    Workload("medium", "400 files, 400 MB", MEDIUM, reach=0.5, aim=0.4),
    Workload("large", "1 GiB in 2 files", LARGE, tries=STREAMS, reach=0.5, aim=0.4),
    Workload("large-encrypted", "1 GiB in 2 files, encrypted", LARGE, encrypt=True, tries=STREAMS, reach=0.8),
    Workload(
        "unchanged",
        "no change, 100,000 files in 100 folders",
        WIDE,
        unchanged=True,
        tries=CHECKERS,
        reach=0.8,
        aim=0.5,
        left_out=FETCHES_AGAIN,
    ),
    Workload(
        "unchanged-2ms",
        "no change, 100,000 files in 10,000 folders, RTT 2 ms",
        DEEP,
        rtt_ms=2,
        unchanged=True,
        tries=CHECKERS,
        reach=0.5,
        left_out=FETCHES_AGAIN,
        runs_max=3,
    ),
)

_QUICK = {
    "small": Corpus("small", files=200, size=18_000, folders=4),
    "medium": Corpus("medium", files=20, size=100_000, folders=2),
    "large": Corpus("large", files=2, size=4 << 20, folders=1),
    "wide": Corpus("wide", files=500, size=200, folders=5),
    "deep": Corpus("deep", files=500, size=200, folders=50),
}


def quick(workload: Workload) -> Workload:
    """Return the same row in small, with one try of rclone: to see that all of it works, not how fast."""
    corpus = _QUICK[workload.corpus.name]
    title = f"{workload.title} (quick: {corpus.files} x {corpus.size:,} B)"
    return replace(workload, corpus=corpus, title=title, tries=workload.tries[:1], reach=0.0, runs_max=1)
