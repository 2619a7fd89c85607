"""The contract of ports.Source, held against every adapter: in memory, a local folder, a real sshd, a real Samba."""

from __future__ import annotations

import contextlib
import os
import random
import threading
import time
import unicodedata
from collections.abc import Callable, Iterator

import pytest

from syncd.core.errors import (
    DiskFull,
    EntryChanged,
    EntryDenied,
    EntryGone,
    LocalIOError,
    Scope,
    SourceAuthFailed,
    SourceUnavailable,
    SourceVanished,
)
from syncd.core.model import ROOT, Fingerprint, Kind, Listing, RelPath, Wanted
from syncd.core.reasons import Reason
from syncd.ports import Fetched, Outcome, Source
from tests.conformance.backends import Backend, LocalBackend
from tests.support.queues import (
    KeptBytes,
    ListQueue,
    Sinks,
    error_of,
    fetch_all,
    files_in,
    join,
    scan_all,
    want_all,
)

MTIME_S = 1_600_000_000
SECOND_NS = 1_000_000_000
LARGE = 20_000_000
DEADLINE_S = 30.0

HARD_NAMES = [
    "page 1 .jpg",
    "two  spaces.jpg",
    "a,b;c.jpg",
    "letter (copy) [2].jpg",
    "-rf.jpg",
    "--help",
    "#hash & % $HOME 'quoted' {x}.PDF",
    ".hidden",
    "dots.in.the.stem.JPG",
    "no-extension",
    unicodedata.normalize("NFC", "हिन्दी पत्र ड़.jpg"),
    unicodedata.normalize("NFC", "café.jpg"),
    unicodedata.normalize("NFD", "café.jpg"),
    "𝒳 outside the BMP 🗎.jpg",
    "n" * 251 + ".jpg",
]


def noise(size: int, seed: int = 0) -> bytes:
    return random.Random(seed).randbytes(size)


def one(source: Source, path: str) -> Wanted:
    """Return what a listing of its folder says of one file."""
    above, _, name = path.rpartition("/")
    (listing,) = source.scan([RelPath(above)])
    (entry,) = [each for each in listing.entries if each.name == name]
    return Wanted(RelPath(path), entry.fingerprint)


def fetch_one(source: Source, wanted: Wanted, sinks: Sinks | None = None) -> tuple[Sinks, Outcome]:
    sinks, outcomes = fetch_all(source, [wanted], sinks)
    return sinks, outcomes[wanted.path]


@contextlib.contextmanager
def in_thread(work: Callable[[], object]) -> Iterator[list[object]]:
    """Run `work` beside the body; at the end it must have finished. Gives what it returned or raised."""
    ended: list[object] = []

    def run() -> None:
        try:
            ended.append(work())
        except Exception as error:
            ended.append(error)

    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    yield ended
    thread.join(DEADLINE_S)
    assert not thread.is_alive(), "the call did not end"


# --- check -----------------------------------------------------------------------------------------------------------


def test_check_says_what_it_found(backend: Backend) -> None:
    info = backend.source().check()
    assert info.description
    assert abs(info.clock_offset_ns) < 60 * SECOND_NS


def test_a_missing_root_is_not_an_empty_one(backend: Backend) -> None:
    source = backend.source_of_missing_root()
    with pytest.raises(SourceVanished):
        source.check()
    with contextlib.suppress(SourceUnavailable):
        (listing,) = source.scan([ROOT])
        assert not listing.complete
        assert listing.reason is Reason.GONE


def test_a_wrong_secret_is_tried_once(backend: Backend) -> None:
    if not backend.has_secret:
        pytest.skip(f"{backend.name} has no secret")
    before = backend.refused_logins()
    source = backend.source_with_wrong_secret()
    with pytest.raises(SourceAuthFailed) as caught:
        source.check()
    assert caught.value.scope is Scope.PROCESS
    with pytest.raises(SourceAuthFailed):
        list(source.fetch(ListQueue([Wanted(RelPath("a.jpg"), Fingerprint(1, 1, 1, 1))]), Sinks()))
    assert backend.refused_logins() == before + 1


def test_close_may_be_repeated_and_ends_the_source(backend: Backend) -> None:
    source = backend.source()
    source.check()
    source.close()
    source.close()
    with pytest.raises(SourceUnavailable):
        list(source.scan([ROOT]))


# --- scan ------------------------------------------------------------------------------------------------------------


def test_names_sizes_times_and_kinds_are_exact(backend: Backend) -> None:
    made = {name: (noise(index * 100, index), MTIME_S + index) for index, name in enumerate(HARD_NAMES)}
    for name, (content, mtime_s) in made.items():
        backend.put(f"a folder  (1)/{name}", content, mtime_s * SECOND_NS)
    listings = scan_all(backend.source())
    assert [(each.name, each.kind) for each in listings[""].entries] == [("a folder  (1)", Kind.DIRECTORY)]
    listed = listings["a folder  (1)"]
    assert listed.complete
    assert {each.name: (each.kind, each.size, each.mtime_ns) for each in listed.entries} == {
        name: (Kind.FILE, len(content), mtime_s * SECOND_NS) for name, (content, mtime_s) in made.items()
    }


def test_mtimes_are_as_fine_as_the_protocol_tells_them(backend: Backend) -> None:
    exact = MTIME_S * SECOND_NS + 123_456_700
    backend.put("a.jpg", b"x", exact)
    assert one(backend.source(), "a.jpg").fingerprint.mtime_ns == exact // backend.tick_ns * backend.tick_ns


def test_file_ids_tell_files_apart_and_survive_a_rename(backend: Backend) -> None:
    for name in ("a.jpg", "b.jpg", "folder/c.jpg"):
        backend.put(name, b"same", MTIME_S * SECOND_NS)
    source = backend.source()
    before = {path: entry.file_id for path, entry in files_in(scan_all(source))}
    if not backend.has_ids:
        assert set(before.values()) == {0}
        return
    assert len(set(before.values())) == 3
    assert all(0 < each < 1 << 64 for each in before.values())
    backend.rename("a.jpg", "folder/d.jpg")
    after = {path: entry.file_id for path, entry in files_in(scan_all(source))}
    assert after[RelPath("folder/d.jpg")] == before[RelPath("a.jpg")]


def test_empty_directories_are_complete_and_empty(backend: Backend) -> None:
    backend.mkdir("empty/also empty")
    listings = scan_all(backend.source())
    assert listings.keys() == {"", "empty", "empty/also empty"}
    assert listings["empty/also empty"] == Listing(RelPath("empty/also empty"), [])


def test_an_empty_root_is_complete_and_empty(backend: Backend) -> None:
    assert scan_all(backend.source()) == {"": Listing(ROOT, [])}


def test_many_files_in_one_folder(backend: Backend) -> None:
    names = {f"page {number:04d} of a letter.jpg" for number in range(3000)}
    for name in names:
        backend.put(f"many/{name}", b"")
    listed = scan_all(backend.source())["many"]
    assert listed.complete
    assert {each.name for each in listed.entries} == names
    assert len(listed.entries) == len(names)


def test_many_folders_each_listed_once(backend: Backend) -> None:
    for number in range(300):
        backend.put(f"set {number // 20}/folder {number}/page.jpg", b"x")
    listings = scan_all(backend.source())
    assert len(listings) == 1 + 15 + 300
    assert all(listing.complete for listing in listings.values())
    assert len(list(files_in(listings))) == 300


def test_a_deep_path(backend: Backend) -> None:
    path = "/".join(f"level {number} of newsletters" for number in range(7)) + "/page.jpg"
    assert len(path) >= 165
    backend.put(path, b"deep")
    source = backend.source()
    sinks, outcomes = fetch_all(source, want_all(scan_all(source)))
    assert list(outcomes) == [path]
    assert sinks.content(path) == b"deep"


def test_the_scan_descends_as_the_consumer_says(backend: Backend) -> None:
    for path in ("a/x.jpg", "b/y.jpg", "c/z.jpg"):
        backend.put(path, b"x")
    source = backend.source()
    assert {each.directory for each in source.scan([RelPath("b"), RelPath("c")])} == {"b", "c"}
    assert list(source.scan([])) == []


def test_links_and_fifos_are_other_and_never_fetched(backend: Backend) -> None:
    if not backend.shows_links:
        pytest.skip(f"{backend.name}: the server resolves links itself")
    backend.put("real.jpg", b"real")
    backend.mkdir("folder")
    for name, target in {
        "in": "real.jpg",
        "out": "/etc/hostname",
        "folder link": "folder",
        "dangling": "nowhere",
        "loop": "loop",
        "up": "..",
    }.items():
        backend.link(name, target)
    backend.fifo("fifo")
    listings = scan_all(backend.source())
    assert listings.keys() == {"", "folder"}
    assert listings[""].complete
    assert {each.name: each.kind for each in listings[""].entries} == {
        "real.jpg": Kind.FILE,
        "folder": Kind.DIRECTORY,
        **dict.fromkeys(["in", "out", "folder link", "dangling", "loop", "up", "fifo"], Kind.OTHER),
    }


def test_links_that_lead_out_bring_nothing_in(backend: Backend) -> None:
    backend.put("real.jpg", b"real")
    backend.link("out", "/etc/passwd")
    backend.link("out folder", "/etc")
    backend.link("dangling", "nowhere")
    source = backend.source()
    listings = scan_all(source)
    sinks, _ = fetch_all(source, want_all(listings))
    assert sinks.content("real.jpg") == b"real"
    assert all(bytes(kept.content) in (b"", b"real") for kept in sinks.kept.values())


def test_a_name_that_is_no_utf8_spoils_the_listing_but_not_its_neighbours(backend: Backend) -> None:
    backend.put("folder/good.jpg", b"good")
    if not backend.undecodable("folder"):
        pytest.skip(f"{backend.name}: the server leaves such names out")
    listed = scan_all(backend.source())["folder"]
    assert not listed.complete
    assert listed.reason is Reason.NAME_UNDECODABLE
    assert len(listed.undecodable) == 1
    assert "\\xff" in listed.undecodable[0]
    assert listed.undecodable[0].isprintable()
    assert [each.name for each in listed.entries] == ["good.jpg"]


def test_a_denied_folder_is_incomplete_and_its_neighbours_are_listed(backend: Backend) -> None:
    backend.put("closed/x.jpg", b"x")
    backend.put("open/y.jpg", b"y")
    source = backend.source()
    with backend.denied("closed"):
        listings = scan_all(source)
    assert not listings["closed"].complete
    assert listings["closed"].reason is Reason.DENIED
    assert listings["closed"].entries == []
    assert listings["open"].complete
    assert [each.name for each in listings["open"].entries] == ["y.jpg"]


def test_a_folder_that_vanished_is_incomplete_and_gone(backend: Backend) -> None:
    backend.put("a/x.jpg", b"x")
    backend.put("b/y.jpg", b"y")
    pending = [ROOT]
    found = {}
    for listing in backend.source().scan(pending):
        found[listing.directory] = listing
        if listing.directory == ROOT:
            backend.remove("a")
            pending += [RelPath("a"), RelPath("b")]
    assert not found[RelPath("a")].complete
    assert found[RelPath("a")].reason is Reason.GONE
    assert found[RelPath("b")].complete


def test_a_folder_that_became_a_file_is_not_an_empty_folder(backend: Backend) -> None:
    backend.put("a", b"a file")
    (listing,) = backend.source().scan([RelPath("a")])
    assert not listing.complete


def test_a_folder_that_became_a_link_is_not_followed(backend: Backend) -> None:
    if not backend.shows_links:
        pytest.skip(f"{backend.name}: the server resolves links itself")
    backend.put("real/x.jpg", b"x")
    backend.link("a", "real")
    (listing,) = backend.source().scan([RelPath("a")])
    assert not listing.complete
    assert listing.entries == []


# --- fetch: bytes ----------------------------------------------------------------------------------------------------


def test_files_arrive_whole_with_their_fingerprint(backend: Backend) -> None:
    made = {f"f{number % 7}/page {number}.jpg": noise(size, number) for number, size in enumerate(SIZES)}
    for path, content in made.items():
        backend.put(path, content, MTIME_S * SECOND_NS)
    source = backend.source()
    sinks, outcomes = fetch_all(source, want_all(scan_all(source)))
    assert {path: sinks.content(path) for path in made} == made
    for path, outcome in outcomes.items():
        assert isinstance(outcome, Fetched)
        assert outcome.after[:2] == (len(made[path]), MTIME_S * SECOND_NS)
        assert outcome.after == outcome.wanted.fingerprint


SIZES = [0, 1, 2, 4095, 4096, 32_767, 32_768, 32_769, 65_536, 261_120, 261_121, 1 << 20, (1 << 20) + 1, 3_000_000, 0]


def test_a_large_file(backend: Backend) -> None:
    content = noise(LARGE)
    backend.put("large.tif", content)
    source = backend.source()
    sinks, outcome = fetch_one(source, one(source, "large.tif"))
    assert isinstance(outcome, Fetched)
    assert sinks.content("large.tif") == content
    assert sinks.kept["large.tif"].largest_chunk <= 8 << 20


def test_a_thousand_small_files(backend: Backend) -> None:
    made = {f"folder {number % 10}/page {number}.jpg": noise(number, number) for number in range(1000)}
    for path, content in made.items():
        backend.put(path, content)
    source = backend.source()
    sinks, outcomes = fetch_all(source, want_all(scan_all(source)))
    assert all(isinstance(each, Fetched) for each in outcomes.values())
    assert {path: sinks.content(path) for path in made} == made


@pytest.mark.parametrize("offset", [1, 1 << 20, LARGE - 1, LARGE])
def test_a_resumed_file_starts_at_its_offset(backend: Backend, offset: int) -> None:
    content = noise(LARGE)
    backend.put("large.tif", content)
    source = backend.source()
    wanted = one(source, "large.tif")
    sinks, outcome = fetch_one(source, Wanted(wanted.path, wanted.fingerprint, offset))
    assert isinstance(outcome, Fetched)
    assert sinks.content("large.tif") == content[offset:]


def test_a_file_of_no_bytes_has_a_sink_too(backend: Backend) -> None:
    backend.put("empty.jpg", b"")
    source = backend.source()
    sinks, outcome = fetch_one(source, one(source, "empty.jpg"))
    assert isinstance(outcome, Fetched)
    assert sinks.content("empty.jpg") == b""


# --- fetch: files that change ----------------------------------------------------------------------------------------


def grown(backend: Backend, path: str) -> None:
    backend.put(path, noise(LARGE + 1000), (MTIME_S + 10) * SECOND_NS)


def grown_with_its_old_time(backend: Backend, path: str) -> None:
    backend.put(path, noise(LARGE + 1000), MTIME_S * SECOND_NS)


def shrunk(backend: Backend, path: str) -> None:
    backend.put(path, noise(LARGE // 10), MTIME_S * SECOND_NS)


def emptied(backend: Backend, path: str) -> None:
    backend.put(path, b"", MTIME_S * SECOND_NS)


def edited(backend: Backend, path: str) -> None:
    backend.put(path, noise(LARGE, 1), (MTIME_S + 10) * SECOND_NS)


def replaced(backend: Backend, path: str) -> None:
    backend.put("new one", noise(LARGE, 2), (MTIME_S + 20) * SECOND_NS)
    backend.rename("new one", path)


def removed(backend: Backend, path: str) -> None:
    backend.remove(path)


def renamed(backend: Backend, path: str) -> None:
    backend.rename(path, "elsewhere")


def folder_removed(backend: Backend, path: str) -> None:
    backend.remove(path.rpartition("/")[0])


CHANGES = [grown, grown_with_its_old_time, shrunk, emptied, edited, replaced]
REMOVALS = [removed, renamed, folder_removed]


@pytest.mark.parametrize("change", CHANGES)
def test_changed_between_listing_and_fetch(backend: Backend, change: Callable[[Backend, str], None]) -> None:
    backend.put("f/x.jpg", noise(LARGE), MTIME_S * SECOND_NS)
    backend.put("f/good.jpg", b"good")
    source = backend.source()
    wanted = want_all(scan_all(source))
    change(backend, "f/x.jpg")
    sinks, outcomes = fetch_all(source, wanted)
    assert isinstance(error_of(outcomes["f/x.jpg"]), EntryChanged)
    assert sinks.content("f/good.jpg") == b"good"
    assert isinstance(outcomes["f/good.jpg"], Fetched)


@pytest.mark.parametrize("change", REMOVALS)
def test_removed_between_listing_and_fetch(backend: Backend, change: Callable[[Backend, str], None]) -> None:
    backend.put("f/x.jpg", b"content", MTIME_S * SECOND_NS)
    backend.put("g/good.jpg", b"good")
    source = backend.source()
    wanted = want_all(scan_all(source))
    change(backend, "f/x.jpg")
    _, outcomes = fetch_all(source, wanted)
    assert isinstance(error_of(outcomes["f/x.jpg"]), EntryGone)
    assert isinstance(outcomes["g/good.jpg"], Fetched)


class MeddlingSink(KeptBytes):
    """Lets something happen at the source once the first bytes are here."""

    def __init__(self, meddle: Callable[[], None]) -> None:
        super().__init__()
        self._meddle: Callable[[], None] | None = meddle

    def write(self, chunk: memoryview) -> None:
        super().write(chunk)
        meddle, self._meddle = self._meddle, None
        if meddle is not None:
            meddle()


@pytest.mark.parametrize("change", [*CHANGES, *REMOVALS])
def test_changed_while_it_is_read(backend: Backend, change: Callable[[Backend, str], None]) -> None:
    """The outcome is an error, or exactly the bytes of one version: never a mix, never a hang."""
    old = noise(LARGE)
    backend.put("f/x.jpg", old, MTIME_S * SECOND_NS)
    source = backend.source()
    wanted = one(source, "f/x.jpg")
    sink = MeddlingSink(lambda: change(backend, "f/x.jpg"))
    (outcome,) = source.fetch(ListQueue([wanted]), lambda _: sink)
    if isinstance(outcome, Fetched):
        assert change in (replaced, *REMOVALS), "an edit in place must be noticed"
        assert bytes(sink.content) == old
        assert outcome.after[:2] == wanted.fingerprint[:2]
    else:
        assert isinstance(outcome.error, EntryChanged | EntryGone)
        assert len(sink.content) <= LARGE


@pytest.mark.parametrize("kind", ["folder", "fifo", "link"])
def test_another_type_took_the_files_place(backend: Backend, kind: str) -> None:
    """The link leads to a file of the same size and time: only looking at the link itself tells."""
    backend.put("x.jpg", b"content", MTIME_S * SECOND_NS)
    backend.put("other.jpg", b"CONTENT", MTIME_S * SECOND_NS)
    if kind == "link" and not backend.shows_links:
        pytest.skip(f"{backend.name}: the server resolves links itself")
    source = backend.source()
    wanted = one(source, "x.jpg")
    backend.remove("x.jpg")
    match kind:
        case "folder":
            backend.mkdir("x.jpg")
        case "fifo":
            backend.fifo("x.jpg")
        case _:
            backend.link("x.jpg", "other.jpg")
    with in_thread(lambda: fetch_one(source, wanted)[1]) as ended:
        pass
    assert error_of(ended[0]).scope is Scope.FILE  # type: ignore[arg-type]


def test_a_folder_above_the_file_became_a_link(backend: Backend) -> None:
    if not backend.shows_links or backend.name == "sftp":
        pytest.skip(f"{backend.name}: the server resolves the folders of a path itself")
    backend.put("f/x.jpg", b"content", MTIME_S * SECOND_NS)
    backend.put("g/x.jpg", b"CONTENT", MTIME_S * SECOND_NS)
    source = backend.source()
    wanted = one(source, "f/x.jpg")
    backend.remove("f")
    backend.link("f", "g")
    assert isinstance(error_of(fetch_one(source, wanted)[1]), EntryGone)


def test_a_denied_file_fails_alone(backend: Backend) -> None:
    backend.put("closed.jpg", b"secret")
    backend.put("open.jpg", b"open")
    source = backend.source()
    wanted = want_all(scan_all(source))
    with backend.denied("closed.jpg"):
        sinks, outcomes = fetch_all(source, wanted)
    assert isinstance(error_of(outcomes["closed.jpg"]), EntryDenied)
    assert sinks.content("open.jpg") == b"open"
    assert isinstance(outcomes["open.jpg"], Fetched)


# --- fetch: sinks and queues -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("error_at", [0, LARGE // 2])
def test_a_sink_that_fails_ends_its_file_only(backend: Backend, error_at: int) -> None:
    backend.put("bad.jpg", noise(LARGE))
    for number in range(20):
        backend.put(f"good {number}.jpg", noise(1000, number))
    source = backend.source()
    error = LocalIOError("the disk said no")
    sinks, outcomes = fetch_all(source, want_all(scan_all(source)), Sinks({"bad.jpg": error}, error_at=error_at))
    assert error_of(outcomes["bad.jpg"]) is error
    assert sum(isinstance(each, Fetched) for each in outcomes.values()) == 20
    assert all(sinks.content(f"good {number}.jpg") == noise(1000, number) for number in range(20))


def test_a_sink_that_stops_the_run_is_raised_and_the_source_stays_usable(backend: Backend) -> None:
    for number in range(20):
        backend.put(f"{number}.jpg", noise(1000, number))
    source = backend.source()
    wanted = want_all(scan_all(source))
    full = DiskFull("no space left")
    with pytest.raises(DiskFull) as caught:
        fetch_all(source, wanted, Sinks({"7.jpg": full}))
    assert caught.value is full
    _, outcomes = fetch_all(source, wanted)
    assert all(isinstance(each, Fetched) for each in outcomes.values())


def test_a_sink_that_cannot_be_made_ends_its_file_only(backend: Backend) -> None:
    backend.put("bad.jpg", b"bad")
    backend.put("good.jpg", b"good")
    source = backend.source()

    def sink(wanted: Wanted) -> KeptBytes:
        if wanted.path == "bad.jpg":
            raise LocalIOError("too many open files")
        return KeptBytes()

    queue = ListQueue(want_all(scan_all(source)))
    outcomes = {each.wanted.path: each for each in source.fetch(queue, sink)}
    assert isinstance(error_of(outcomes[RelPath("bad.jpg")]), LocalIOError)
    assert isinstance(outcomes[RelPath("good.jpg")], Fetched)


def test_a_queue_that_fills_slowly(backend: Backend) -> None:
    """Outcomes come as files finish, not when the queue is closed; and the last file before the close is not lost."""
    for number in range(5):
        backend.put(f"{number}.jpg", noise(1000, number))
    source = backend.source()
    wanted = want_all(scan_all(source))
    queue = ListQueue(closed=False)
    outcomes = source.fetch(queue, Sinks())
    for each in wanted[:-1]:
        queue.put(each)
        outcome = next(outcomes)
        assert isinstance(outcome, Fetched)
        assert outcome.wanted is each

    def finish() -> None:
        time.sleep(0.3)
        queue.put(wanted[-1])
        queue.close()

    with in_thread(finish):
        assert [each.wanted for each in outcomes] == [wanted[-1]]


def test_an_abandoned_fetch_leaves_nothing_open(backend: Backend) -> None:
    for number in range(50):
        backend.put(f"{number}.jpg", noise(300_000, number))
    source = backend.source()
    outcomes = source.fetch(ListQueue(want_all(scan_all(source))), Sinks())
    next(outcomes)
    outcomes.close()  # type: ignore[attr-defined]
    wait_until_nothing_is_open(backend)
    assert isinstance(fetch_one(source, one(source, "7.jpg"))[1], Fetched)


# --- threads ---------------------------------------------------------------------------------------------------------


def test_scan_and_fetch_at_once(backend: Backend) -> None:
    made = {f"folder {number % 40}/page {number}.jpg": noise(5000, number) for number in range(400)}
    for path, content in made.items():
        backend.put(path, content)
    source = backend.source()
    queue = ListQueue(closed=False)
    sinks = Sinks()
    with in_thread(lambda: list(source.fetch(queue, sinks))) as ended:
        pending = [ROOT]
        for listing in source.scan(pending):
            for each in listing.entries:
                path = join(listing.directory, each.name)
                queue.put(Wanted(path, each.fingerprint)) if each.kind is Kind.FILE else pending.append(path)
        queue.close()
    outcomes = ended[0]
    assert isinstance(outcomes, list), outcomes
    assert len(outcomes) == 400
    assert {path: sinks.content(path) for path in made} == made


def test_close_ends_a_waiting_fetch(backend: Backend) -> None:
    backend.put("a.jpg", b"a")
    source = backend.source()
    queue = ListQueue([one(source, "a.jpg")], closed=False)
    with in_thread(lambda: list(source.fetch(queue, Sinks()))) as ended:
        deadline = time.monotonic() + DEADLINE_S
        while len(queue) and time.monotonic() < deadline:
            time.sleep(0.01)
        source.close()
    assert isinstance(ended[0], SourceUnavailable)


def test_close_ends_a_scan(backend: Backend) -> None:
    for number in range(50):
        backend.put(f"{number}/a.jpg", b"a")
    source = backend.source()
    pending = [ROOT]
    listings = source.scan(pending)
    pending += [join(ROOT, each.name) for each in next(listings).entries]
    source.close()
    with pytest.raises(SourceUnavailable):
        list(listings)


# --- read ------------------------------------------------------------------------------------------------------------


def test_read_looks_at_one_file_now(backend: Backend) -> None:
    backend.put("f/x.jpg", b"one", MTIME_S * SECOND_NS)
    source = backend.source()
    assert source.read(RelPath("f/x.jpg")) == one(source, "f/x.jpg").fingerprint
    backend.put("f/x.jpg", b"longer", (MTIME_S + 5) * SECOND_NS)
    assert source.read(RelPath("f/x.jpg"))[:2] == (6, (MTIME_S + 5) * SECOND_NS)


@pytest.mark.parametrize("path", ["nothing.jpg", "no folder/x.jpg", "a folder"])
def test_read_of_what_is_not_a_file_is_gone(backend: Backend, path: str) -> None:
    backend.mkdir("a folder")
    with pytest.raises(EntryGone):
        backend.source().read(RelPath(path))


def test_read_below_a_closed_folder_is_denied(backend: Backend) -> None:
    if backend.name == "memory":
        pytest.skip("memory: a fault sits on one path")
    backend.put("closed/x.jpg", b"x")
    source = backend.source()
    with backend.denied("closed"), pytest.raises(EntryDenied):
        source.read(RelPath("closed/x.jpg"))


# --- the source is left alone ----------------------------------------------------------------------------------------


def wait_until_nothing_is_open(backend: Backend) -> None:
    """A server closes in its own time what we have let go of."""
    deadline = time.monotonic() + DEADLINE_S
    while (left := backend.open_files()) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert left == []


def test_the_source_is_never_changed_and_no_handle_stays_open(backend: Backend) -> None:
    for number in range(100):
        backend.put(
            f"folder {number % 9}/page {number}.jpg", noise(number * 997, number), (MTIME_S + number) * SECOND_NS
        )
    backend.put("large.tif", noise(LARGE), MTIME_S * SECOND_NS)
    backend.mkdir("empty")
    before = backend.hash()
    source = backend.source()
    source.check()
    for _ in range(2):
        wanted = want_all(scan_all(source))
        fetch_all(source, wanted)
        for each in wanted[::10]:
            source.read(each.path)
    fetch_all(source, [Wanted(each.path, Fingerprint(1, 1, 1, 1)) for each in wanted])
    assert backend.hash() == before
    wait_until_nothing_is_open(backend)


def test_others_may_write_rename_and_delete_while_it_is_read(backend: Backend) -> None:
    """The edits happen while the file is open; none of them may be refused or wait."""
    backend.put("f/x.jpg", noise(LARGE), MTIME_S * SECOND_NS)
    source = backend.source()
    done = []

    def meddle() -> None:
        backend.put("f/x.jpg", noise(LARGE, 1), MTIME_S * SECOND_NS)
        backend.rename("f/x.jpg", "f/y.jpg")
        backend.remove("f")
        done.append(True)

    list(source.fetch(ListQueue([one(source, "f/x.jpg")]), lambda _: MeddlingSink(meddle)))
    assert done == [True]


@pytest.mark.skipif(not hasattr(os, "O_NOATIME"), reason="only Linux can read without touching the access time")
def test_a_local_file_keeps_its_access_time(backend: Backend) -> None:
    if not isinstance(backend, LocalBackend):
        pytest.skip("a server's access times are its own")
    backend.put("x.jpg", b"content")
    path = backend.root / "x.jpg"
    os.utime(path, ns=(MTIME_S * SECOND_NS, MTIME_S * SECOND_NS + 1))
    source = backend.source()
    fetch_all(source, want_all(scan_all(source)))
    assert path.stat().st_atime_ns == MTIME_S * SECOND_NS


# --- pace ------------------------------------------------------------------------------------------------------------


class SlowPace:
    """Counts what is charged; after each read it says "wait" a few times."""

    def __init__(self) -> None:
        self.charged = 0
        self.waits = 0
        self._hold = 0

    def piece(self, longest: int) -> int:
        return min(longest, 1 << 16)

    def wait_s(self) -> float:
        self._hold -= 1
        self.waits += self._hold > 0
        return 0.001 if self._hold > 0 else 0.0

    def charge(self, count: int) -> None:
        assert self._hold <= 0 or count == 0, "a read was sent while it had to wait"
        self.charged += count
        self._hold = 3


def test_each_byte_is_charged_before_it_is_read_and_waits_are_kept(backend: Backend) -> None:
    contents = {f"f/{n}.jpg": noise(30_000, n) for n in range(20)} | {"f/large.jpg": noise(LARGE // 20, 1)}
    for path, content in contents.items():
        backend.put(path, content, MTIME_S * SECOND_NS)
    source, pace = backend.source(), SlowPace()
    source.keep_pace(pace)
    written = 0

    class Sink(KeptBytes):
        def write(self, chunk: memoryview) -> None:
            nonlocal written
            super().write(chunk)
            written += len(chunk)
            assert written <= pace.charged

    class PacedSinks(Sinks):
        def __call__(self, wanted: Wanted) -> KeptBytes:
            kept = self.kept[wanted.path] = Sink()
            return kept

    sinks, outcomes = fetch_all(source, want_all(scan_all(source)), PacedSinks())
    assert all(isinstance(outcome, Fetched) for outcome in outcomes.values())
    assert {path: sinks.content(path) for path in contents} == contents
    assert pace.charged == sum(map(len, contents.values()))
    assert pace.waits > len(contents)


def test_close_ends_a_fetch_that_waits_for_its_turn(backend: Backend) -> None:
    backend.put("x.jpg", noise(1000), MTIME_S * SECOND_NS)
    source = backend.source()
    wanted = one(source, "x.jpg")

    class Never(SlowPace):
        def wait_s(self) -> float:
            return 60.0

    source.keep_pace(Never())
    with in_thread(lambda: list(source.fetch(ListQueue([wanted]), Sinks()))) as ended:
        time.sleep(0.2)
        source.close()
    assert isinstance(ended[0], SourceUnavailable)
