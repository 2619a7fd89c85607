"""SmbSource against a real smbd: listing, reading, names, rights, changes, other clients, kinds of servers."""

from __future__ import annotations

import contextlib
import os
import shutil
import subprocess
import tempfile
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from syncd.core.errors import EntryChanged, EntryDenied, EntryGone, SourceUnavailable
from syncd.core.model import ROOT, Fingerprint, Kind, RelPath, Wanted
from syncd.core.reasons import Reason
from syncd.ports import Fetched
from syncd.sources.smb.limits import SmbLimits
from syncd.sources.smb.reading import FileRead
from syncd.sources.smb.source import SmbSource
from tests.support.faultproxy import FaultProxy
from tests.support.hostile_smb import wait_until
from tests.support.queues import ListQueue, Sinks, error_of, fetch_all, scan_all, want_all
from tests.support.require import require
from tests.support.smbd import SmbServer, start_smbd


@pytest.fixture
def folder() -> Iterator[Path]:
    """A short path that other users can walk into (pytest's own is private, and smbd may serve as nobody)."""
    path = Path(tempfile.mkdtemp(prefix="smb-"))
    path.chmod(0o755)
    yield path
    subprocess.run(["chmod", "-R", "u+rwX", str(path)], check=False)
    shutil.rmtree(path)


@pytest.fixture
def server(folder: Path) -> Iterator[SmbServer]:
    with start_smbd(folder) as running:
        yield running


@contextlib.contextmanager
def opened(server: SmbServer, **options: object) -> Iterator[SmbSource]:
    asked = {
        "host": server.host,
        "port": server.port,
        "share": server.share,
        "username": server.username,
        "password": lambda: server.password,
        **options,
    }
    source = SmbSource(**asked)  # type: ignore[arg-type]
    try:
        yield source
    finally:
        source.close()


def smbclient(server: SmbServer, *commands: str) -> subprocess.CompletedProcess[str]:
    """Run another client; the password goes by its environment."""
    argv = [
        require("smbclient", "smbclient"), "-p", str(server.port), f"//{server.host}/{server.share}",
        "-U", server.username, "-c", "; ".join(commands),
    ]  # fmt: skip
    environment = {**os.environ, "PASSWD": server.password}
    return subprocess.run(argv, env=environment, capture_output=True, text=True, check=False, timeout=30)


def fingerprint(path: Path) -> Fingerprint:
    stat = path.stat()
    mtime = stat.st_mtime_ns // 100 * 100
    return Fingerprint(stat.st_size, mtime, mtime, stat.st_ino)


def wanted(server: SmbServer, path: str) -> Wanted:
    return Wanted(RelPath(path), fingerprint(server.root / path))


def fill(root: Path, sizes: dict[str, int]) -> None:
    for name, size in sizes.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(os.urandom(size))


SIZES = {
    "eng-typed/a b .pdf": 100,
    "eng-typed/empty.pdf": 0,
    "hin-typed/x, (1).JPG": 18_432,
    "hin-typed/y.JPG": 65_536,
    "hin-typed/z.JPG": 65_537,
    "deep/er/and/deeper/हिन्दी.jpg": 1_048_576,
    "large": 9_000_001,
}


def whole_tree_is_right(server: SmbServer, source: SmbSource) -> None:
    listings = scan_all(source)
    assert all(each.complete for each in listings.values())
    files = {str(path.relative_to(server.root)) for path in server.root.rglob("*") if path.is_file()}
    sinks, outcomes = fetch_all(source, want_all(listings))
    assert outcomes.keys() == files
    for path, outcome in outcomes.items():
        assert isinstance(outcome, Fetched), outcome
        assert outcome.after == fingerprint(server.root / path)
        assert sinks.content(path) == (server.root / path).read_bytes()


# --- what is listed and read ------------------------------------------------------------------------------------------


def test_a_tree_is_listed_and_read_byte_for_byte_and_nothing_stays_open(server: SmbServer) -> None:
    fill(server.root, SIZES)
    (server.root / "empty folder").mkdir()
    with opened(server) as source:
        info = source.check()
        assert abs(info.clock_offset_ns) < 60 * 10**9
        assert str(server.port) in info.description
        whole_tree_is_right(server, source)
        assert scan_all(source)["empty folder"].entries == []
        assert server.open_files() == []


def test_listings_carry_the_exact_fingerprint(server: SmbServer) -> None:
    fill(server.root, {"x.jpg": 4711})
    os.utime(server.root / "x.jpg", ns=(1, 1_234_567_890_123_456_789))
    (server.root / "d").mkdir()
    with opened(server) as source:
        (listing,) = source.scan([ROOT])
        found = {each.name: each for each in listing.entries}
        assert found["x.jpg"].fingerprint == fingerprint(server.root / "x.jpg")
        assert found["x.jpg"].mtime_ns == 1_234_567_890_123_456_700
        assert found["d"].kind is Kind.DIRECTORY
        assert source.read(RelPath("x.jpg")) == found["x.jpg"].fingerprint


def test_a_folder_below_the_share_can_be_the_root(server: SmbServer) -> None:
    fill(server.root, {"a/b c/x": 5, "a/other": 6})
    with opened(server, folder="a/b c") as source:
        source.check()
        listings = scan_all(source)
        assert [each.name for each in listings[""].entries] == ["x"]
        sinks, _ = fetch_all(source, want_all(listings))
        assert sinks.content("x") == (server.root / "a/b c/x").read_bytes()
        with pytest.raises(EntryGone):
            source.read(RelPath("nothing"))


def test_a_folder_of_ten_thousand_files_is_complete(server: SmbServer) -> None:
    names = {f"img {number:05d} {'x' * (number % 60)}.jpg" for number in range(10_000)}
    for name in names:
        (server.root / name).touch()
    for limits in (SmbLimits(), SmbLimits(query_size=65_536)):
        with opened(server, limits=limits) as source:
            (listing,) = source.scan([ROOT])
            assert listing.complete
            assert {each.name for each in listing.entries} == names
            assert len(listing.entries) == len(names)
            assert server.open_files() == []


def test_many_small_folders_are_each_listed_once(server: SmbServer) -> None:
    fill(server.root, {f"d{number}/e{number % 7}/f": 1 for number in range(300)})
    with opened(server) as source:
        listings = scan_all(source)
        assert len(listings) == 601
        assert sum(len(each.entries) for each in listings.values()) == 900


@pytest.mark.parametrize("allowed", ["0", "1"])
def test_a_scan_that_has_to_wait_takes_further_connections_where_it_may(folder: Path, allowed: str) -> None:
    """A far server: one connection takes up to 32 folders at once, so that most are left to begin after a wait."""
    folders = 300
    with start_smbd(folder, share_options={"max connections": allowed}) as server:
        fill(server.root, {f"d{number}/{'x' * 50}{each}": 0 for number in range(folders) for each in range(4)})
        for connections in (1, 3):
            with FaultProxy((server.host, server.port), latency_s=0.04) as proxy:
                with opened(server, port=proxy.port, connections=connections) as source:
                    found, most = count_and_see_connections(source, server)
                assert found == folders + folders * 4
                assert allowed == "1" or most == max(connections - 1, 1), "one is left for the files"
                assert server.open_files() == []
            wait_until(lambda: not server.sessions())


def test_a_scan_whose_listings_are_worked_on_slowly_takes_one_connection(server: SmbServer) -> None:
    fill(server.root, {f"d{number}/f": 0 for number in range(100)})
    with opened(server, connections=4) as source:
        found, most = count_and_see_connections(source, server, pause_s=0.004)
    assert (found, most) == (200, 1)


def count_and_see_connections(source: SmbSource, server: SmbServer, pause_s: float = 0.0) -> tuple[int, int]:
    """Scan everything; return how many entries there were, and how many sessions at most."""
    pending, found, most = [ROOT], 0, 0
    for listing in source.scan(pending):
        pending += [RelPath(each.name) for each in listing.entries if each.kind is Kind.DIRECTORY]
        found += len(listing.entries)
        time.sleep(pause_s)  # an engine that has work of its own
        most = max(most, len(server.sessions()))
    return found, most


def test_stand_ins_for_names_that_windows_forbids_are_told_from_legal_look_alikes(server: SmbServer) -> None:
    legal = ["LETTER~1.JPG", "ABCDEF~Z", "x.jpg"]
    for name in [*legal, "a:b.jpg", "what?.png", "trailing.", "con", "back\\slash"]:
        (server.root / name).write_bytes(name.encode())
    (server.root / "d:ir").mkdir()
    with opened(server) as source:
        (listing,) = source.scan([ROOT])
        names = {each.name for each in listing.entries}
        assert listing.complete
        assert len(names) == 9
        assert names - listing.mangled == set(legal)
        assert server.open_files() == []


def test_names_that_samba_does_not_mangle_pass_as_they_are(folder: Path) -> None:
    names = {"a:b.jpg", "what?.png", "back\\slash", "trailing ", "..dots"}
    with start_smbd(folder, options={"mangled names": "no"}) as server, opened(server) as source:
        for name in names:
            (server.root / name).touch()
        (listing,) = source.scan([ROOT])
        assert {each.name for each in listing.entries} == names


def test_links_on_the_server_never_make_a_scan_endless(server: SmbServer) -> None:
    fill(server.root, {"a/b/x": 3})
    (server.root / "a/b/up").symlink_to("..")
    (server.root / "top").symlink_to(".")
    (server.root / "out").symlink_to("/etc")
    (server.root / "dangling").symlink_to("nowhere")
    with opened(server) as source:
        listings = scan_all(source)
        kinds = {each.name: each.kind for listing in listings.values() for each in listing.entries}
        assert kinds["up"] is Kind.OTHER
        assert kinds["top"] is Kind.OTHER
        assert set(listings) == {"", "a", "a/b"} | ({"out"} if "out" in kinds else set())


# --- rights -----------------------------------------------------------------------------------------------------------


def test_denied_files_and_folders_fail_alone(folder: Path) -> None:
    force_user = "nobody" if os.geteuid() == 0 else ""
    with start_smbd(folder, force_user=force_user) as server, opened(server) as source:
        fill(server.root, {"good": 10, "secret": 10, "locked/x": 10})
        for path in server.root.rglob("*"):
            path.chmod(0o755)
        (server.root / "secret").chmod(0)
        (server.root / "locked").chmod(0)
        listings = scan_all(source)
        assert listings[""].complete
        assert not listings["locked"].complete
        assert listings["locked"].reason is Reason.DENIED
        _, outcomes = fetch_all(source, [wanted(server, "secret"), wanted(server, "good")])
        assert isinstance(error_of(outcomes["secret"]), EntryDenied)
        assert isinstance(outcomes["good"], Fetched)
        assert server.open_files() == []


# --- changes ----------------------------------------------------------------------------------------------------------


def test_what_is_gone_or_changed_since_the_listing_is_told(server: SmbServer) -> None:
    fill(server.root, {"gone": 10, "longer": 10, "touched": 10, "folder": 10, "same": 10, "d/x": 1})
    with opened(server) as source:
        before = want_all(scan_all(source))
        (server.root / "gone").unlink()
        (server.root / "longer").write_bytes(bytes(11))
        os.utime(server.root / "touched", ns=(5, 5))
        (server.root / "folder").unlink()
        (server.root / "folder").mkdir()
        shutil.rmtree(server.root / "d")
        _, outcomes = fetch_all(source, before)
        assert isinstance(error_of(outcomes["gone"]), EntryGone)
        assert isinstance(error_of(outcomes["d/x"]), EntryGone)
        for path in ("longer", "touched", "folder"):
            assert isinstance(error_of(outcomes[path]), EntryChanged), path
        assert isinstance(outcomes["same"], Fetched)
        (listing,) = source.scan([RelPath("d")])
        assert (listing.complete, listing.reason) == (False, Reason.GONE)
        with pytest.raises(EntryGone):
            source.read(RelPath("gone"))
        with pytest.raises(EntryGone):
            source.read(RelPath("folder"))


def append(path: Path) -> None:
    with path.open("ab") as file:
        file.write(b"more")


class Meddling:
    """A sink that does something to the server's file once, at its first bytes."""

    def __init__(self, action: object) -> None:
        self.content = bytearray()
        self._action = action

    def write(self, chunk: memoryview) -> None:
        self.content += chunk
        if self._action is not None:
            action, self._action = self._action, None
            action()  # type: ignore[operator]


def test_a_file_that_changes_while_it_is_read_is_told(server: SmbServer) -> None:
    size = 30_000_000
    fill(server.root, {"big": size})
    with opened(server) as source:
        for meddle in (
            lambda: os.utime(server.root / "big", ns=(7, 7)),
            lambda: os.truncate(server.root / "big", 1_000_000),
            lambda: append(server.root / "big"),
        ):
            (outcome,) = source.fetch(ListQueue([wanted(server, "big")]), lambda _, meddle=meddle: Meddling(meddle))
            assert isinstance(error_of(outcome), EntryChanged)
            fill(server.root, {"big": size})
            assert server.open_files() == []


def test_other_clients_write_rename_and_delete_what_we_read(folder: Path) -> None:
    """Between our first and last byte another SMB client does as it likes; nothing of ours is in its way (P6)."""
    with start_smbd(folder, read_only=False) as server:
        fill(server.root, {"renamed": 30_000_000, "deleted": 30_000_000, "written": 30_000_000})
        (folder / "new").write_bytes(b"new")
        commands = {
            "renamed": "rename renamed other",
            "deleted": "del deleted",
            "written": f"put {folder}/new written",
        }
        said: dict[str, str] = {}

        def meddle(path: str) -> None:
            done = smbclient(server, commands[path])
            said[path] = done.stdout + done.stderr

        with opened(server) as source:
            for path in commands:
                sink = Meddling(lambda path=path: meddle(path))
                list(source.fetch(ListQueue([wanted(server, path)]), lambda _, sink=sink: sink))
        assert not any("NT_STATUS" in each for each in said.values()), said
        assert not (server.root / "renamed").exists()
        assert (server.root / "other").exists()
        assert not (server.root / "deleted").exists()
        assert (server.root / "written").read_bytes() == b"new"


# --- partials, order, several threads ---------------------------------------------------------------------------------


@pytest.mark.parametrize("offset", [1, 65_536, 8_999_999, 9_000_000])
def test_a_resumed_file_goes_on_at_its_offset(server: SmbServer, offset: int) -> None:
    fill(server.root, {"big": 9_000_000})
    start = Wanted(RelPath("big"), fingerprint(server.root / "big"), offset)
    with opened(server) as source:
        sinks, outcomes = fetch_all(source, [start])
        assert isinstance(outcomes["big"], Fetched)
        assert sinks.content("big") == (server.root / "big").read_bytes()[offset:]


def test_a_file_put_into_the_queue_while_a_large_one_is_read_comes_first(server: SmbServer) -> None:
    fill(server.root, {"large": 60_000_000, "urgent": 1000})
    queue = ListQueue([wanted(server, "large")], closed=False)
    sinks = Sinks()

    def make(asked: Wanted) -> object:
        if asked.path == "large":
            queue.put(wanted(server, "urgent"), first=True)
            queue.close()
        return sinks(asked)

    with opened(server) as source:
        order = [each.wanted.path for each in source.fetch(queue, make)]  # type: ignore[arg-type]
    assert order == ["urgent", "large"]


def test_scan_fetch_and_read_go_on_at_the_same_time(server: SmbServer) -> None:
    fill(server.root, {f"d{number % 20}/f{number}": 20_000 for number in range(1000)})
    with opened(server) as source:
        everything = want_all(scan_all(source))
        scans: list[int] = []

        def scan_again() -> None:
            scans.extend(len(scan_all(source)) for _ in range(5))

        scanner = threading.Thread(target=scan_again)
        scanner.start()
        queue = ListQueue(everything)
        outcomes = []
        for outcome in source.fetch(queue, Sinks()):
            outcomes.append(outcome)
            if len(outcomes) % 100 == 0:
                source.read(outcome.wanted.path)
        scanner.join(60)
        assert scans == [21] * 5
        assert all(isinstance(each, Fetched) for each in outcomes)
        assert len(outcomes) == 1000
        assert server.open_files() == []


def test_close_from_another_thread_ends_a_waiting_fetch(server: SmbServer) -> None:
    fill(server.root, {"x": 10})
    ended = threading.Event()
    with opened(server) as source:
        source.check()

        def fetch() -> None:
            with contextlib.suppress(SourceUnavailable):
                list(source.fetch(ListQueue([wanted(server, "x")], closed=False), Sinks()))
            ended.set()

        thread = threading.Thread(target=fetch)
        thread.start()
        wait_until(lambda: len(server.sessions()) == 1)
        time.sleep(0.1)
        source.close()
        assert ended.wait(5)
        thread.join(5)
        source.close()
        with pytest.raises(SourceUnavailable):
            source.check()


# --- servers ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("options", "encrypt"),
    [
        ({"server max protocol": "SMB2_02"}, False),
        ({"server max protocol": "SMB2_10"}, False),
        ({"server max protocol": "SMB3_00"}, False),
        ({"server max protocol": "SMB3_02"}, False),
        ({"server max protocol": "SMB3_00", "smb encrypt": "required"}, True),
        ({"server signing": "mandatory"}, False),
        ({"server signing": "disabled"}, False),
        ({"server smb3 signing algorithms": "AES-128-CMAC"}, False),
        ({"server smb3 signing algorithms": "HMAC-SHA256"}, False),
        ({"smb encrypt": "required"}, False),
        ({"smb encrypt": "required"}, True),
        ({"server smb3 encryption algorithms": "AES-128-CCM"}, True),
        ({"server smb3 encryption algorithms": "AES-256-GCM"}, True),
        ({"server smb3 encryption algorithms": "AES-256-CCM"}, True),
        ({"smb2 max credits": "8"}, False),
        ({"smb2 max read": "65536", "smb2 max trans": "65536"}, False),
        ({"smb2 max credits": "8", "smb2 max read": "65536"}, True),
        ({"oplocks": "no", "level2 oplocks": "no", "kernel oplocks": "no"}, False),
        ({"aio read size": "0"}, False),
    ],
    ids=str,
)
def test_every_kind_of_server_is_read_right(
    folder: Path, options: dict[str, str], encrypt: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """And its replies to small files come so that they are taken at once."""
    at_once: list[int] = []
    take_whole = FileRead.take_whole

    def counting(file: FileRead, content: memoryview) -> None:
        at_once.append(len(content))
        take_whole(file, content)

    monkeypatch.setattr(FileRead, "take_whole", counting)
    with start_smbd(folder, options=options) as server, opened(server, encrypt=encrypt) as source:
        fill(server.root, {**SIZES, **{f"many/{number}": number * 97 for number in range(200)}})
        source.check()
        whole_tree_is_right(server, source)
        assert server.open_files() == []
        assert len(at_once) > 150


def test_encryption_of_one_share_only_is_kept(folder: Path) -> None:
    with start_smbd(folder, share_options={"smb encrypt": "required"}) as server, opened(server) as source:
        fill(server.root, SIZES)
        whole_tree_is_right(server, source)
        channel = source._pool.channel()
        assert channel.sealed
        source._pool.give_back(channel)
