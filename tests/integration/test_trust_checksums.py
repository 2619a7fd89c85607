"""`trust_checksums`: a hand-filled target is held by the share's own SHA256SUMS, and by nothing that proves less."""

from __future__ import annotations

import contextlib
import hashlib
import os
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from syncd.core.model import RelPath
from syncd.engine import checksums
from syncd.engine.checksums import ShareChecksums
from syncd.sources.memory import Fault, MemorySource
from tests.support.cli import Syncd
from tests.support.smbd import start_smbd
from tests.support.sshd import start_sshd
from tests.support.stand_by_world import StandByWorld
from tests.support.world import World

TRUST = "trust_checksums = true"
FILES = {
    "eng-typed/letter 1 .pdf": b"one" * 500,
    "eng-typed/letter  2, (copy).PDF": b"two" * 1000,
    "hin-written/1923/पत्र.jpg": b"three" * 700,
    "readme": b"",
}
SIZE = sum(map(len, FILES.values()))


def sums(files: dict[str, bytes], below: str = "") -> bytes:
    """Return what `sha256sum` would write in a folder."""
    lines = (f"{hashlib.sha256(files[path]).hexdigest()}  {path.removeprefix(below)}\n" for path in sorted(files))
    return "".join(lines).encode()


def fill(target: Path, files: dict[str, bytes]) -> None:
    """Copy files into a target by hand."""
    for path, content in files.items():
        (target / path).parent.mkdir(parents=True, exist_ok=True)
        (target / path).write_bytes(content)


@pytest.fixture
def world(tmp_path: Path) -> World:
    world = World(tmp_path, FILES, TRUST)
    fill(world.target, FILES)
    return world


def put_sums(world: World, path: str, text: bytes, *, below: str = "", mtime_ns: int | None = None) -> None:
    """Put a SHA256SUMS on the share and into the target, newer than everything before it."""
    world.source.put(path, text, mtime_ns)
    fill(world.target, {path: text})


# -- real servers


@contextlib.contextmanager
def over_smb(base: Path, originals: Path) -> Iterator[tuple[str, Path | None, str]]:
    with start_smbd(base, root=originals) as server:
        yield server.url(), server.password_file, ""


@contextlib.contextmanager
def over_sftp(base: Path, originals: Path) -> Iterator[tuple[str, Path | None, str]]:
    with start_sshd(base / "sshd", root=originals) as server:
        keys = f'key_file = "{server.key_file}"\nknown_hosts_file = "{server.known_hosts_file}"'
        yield server.url(), None, keys


@contextlib.contextmanager
def over_a_folder(base: Path, originals: Path) -> Iterator[tuple[str, Path | None, str]]:
    yield f"file://{originals}", None, ""


@pytest.mark.parametrize("serve", [over_smb, over_sftp, over_a_folder])
def test_a_hand_filled_target_is_held_after_reading_the_sums_alone(
    tmp_path: Path, serve: Callable[[Path, Path], contextlib.AbstractContextManager[tuple[str, Path | None, str]]]
) -> None:
    originals, target = tmp_path / "originals", tmp_path / "data" / "M"
    text = sums(FILES)
    fill(originals, {**FILES, "SHA256SUMS": text})
    shutil.copytree(originals, target)
    (target / "eng-typed/letter 1 .pdf").write_bytes(b"eno" * 500)
    victim = len(FILES["eng-typed/letter 1 .pdf"])
    with serve(tmp_path, originals) as (url, password, extra):
        host = Syncd(tmp_path)
        host.add_mirror("M", url, target, password, f'{extra}\n{TRUST}\nsettle = "10ms"\nmin_free = "0%"')
        (done,) = host.run_once().json["mirrors"]
        assert done["state"] == "ok", done
        # the damaged one: read, found to be different, and read again to be written
        assert (done["adopted"], done["fetched"], done["bytes"]) == (4, 1, len(text) + 2 * victim)
        assert host("verify", "--source").code == 0
        (again,) = host.run_once().json["mirrors"]
        assert (again["unchanged"], again["bytes"]) == (5, 0)


# -- which file's word is taken, and when


def test_bytes_are_those_of_the_sums_alone_and_what_is_held_is_true(world: World) -> None:
    text = sums(FILES)
    put_sums(world, "SHA256SUMS", text)
    report = world.run()
    assert (report.state, report.adopted, report.fetched, report.bytes) == ("ok", 5, 0, len(text))
    held = {str(path): record.sha256 for path, record in world.records().items()}
    assert held == {path: hashlib.sha256(content).hexdigest() for path, content in world.source.tree().items()}
    assert all(event == "ready" for event, _ in world.announced())
    assert not world.trashed()


def test_sums_that_are_not_in_the_target_are_fetched_like_any_file(world: World) -> None:
    text = sums(FILES)
    world.source.put("SHA256SUMS", text)
    report = world.run()
    assert (report.adopted, report.fetched, report.bytes) == (4, 1, 2 * len(text))
    assert world.converged()


def test_without_the_setting_the_servers_bytes_are_compared(world: World) -> None:
    world.extra = ""
    put_sums(world, "SHA256SUMS", sums(FILES))
    assert world.run().bytes == SIZE + len(sums(FILES))


def test_a_dry_run_reads_nothing(world: World) -> None:
    put_sums(world, "SHA256SUMS", sums(FILES))
    report = world.dry_run()
    assert (report.bytes, [step.action for step in report.plan or ()]) == (0, ["adopt"] * 5)


def test_a_wrong_digest_is_settled_by_the_servers_bytes(world: World) -> None:
    text = sums({**FILES, "readme": b"something else"})
    put_sums(world, "SHA256SUMS", text)
    other = sums({**FILES, "hin-written/1923/पत्र.jpg": b"x"})
    put_sums(world, "SHA256SUMS", other)
    report = world.run()
    assert (report.adopted, report.bytes) == (5, len(other) + len(FILES["hin-written/1923/पत्र.jpg"]))
    assert world.converged()


def test_a_local_file_that_is_not_the_named_one_is_replaced(world: World) -> None:
    put_sums(world, "SHA256SUMS", sums(FILES))
    fill(world.target, {"eng-typed/letter 1 .pdf": b"eno" * 500, "readme": b"longer"})
    report = world.run()
    assert (report.adopted, report.fetched) == (3, 2)
    assert world.converged()
    assert world.trashed() == {"eng-typed/letter 1 .pdf": b"eno" * 500, "readme": b"longer"}


def test_sums_that_are_older_than_a_file_prove_nothing_about_it(world: World) -> None:
    put_sums(world, "SHA256SUMS", sums(FILES))
    world.source.put("readme", b"edited")
    fill(world.target, {"readme": b""})
    report = world.run()
    assert (report.adopted, report.fetched) == (4, 1)
    assert world.mirrored()["readme"] == b"edited"


def test_sums_of_the_same_time_as_a_file_are_not_older() -> None:
    source = MemorySource({"early": b"1", "same": b"2", "late": b"3"})
    source.put("SHA256SUMS", sums(source.tree()), mtime_ns=source.fingerprint("same").mtime_ns)
    share = ShareChecksums(lambda: source)
    said = {path: share.digest(RelPath(path), source.fingerprint(path)) for path in ("early", "same", "late")}
    assert said == {"early": hashlib.sha256(b"1").hexdigest(), "same": hashlib.sha256(b"2").hexdigest(), "late": None}


def test_an_edit_that_the_old_sums_still_describe_is_not_held_by_them(world: World) -> None:
    """The server's file is newer than its line; the target has the old bytes that the line names."""
    put_sums(world, "SHA256SUMS", sums(FILES))
    world.source.put("eng-typed/letter 1 .pdf", b"eno" * 500)
    world.run()
    assert world.converged()


def test_the_nearest_that_names_a_file_decides(world: World) -> None:
    names = "eng-typed/letter 1 .pdf", "eng-typed/letter  2, (copy).PDF"
    put_sums(world, "SHA256SUMS", sums({**FILES, names[0]: b"wrong"}))
    put_sums(world, "eng-typed/SHA256SUMS", sums({names[0]: FILES[names[0]]}, "eng-typed/"))
    put_sums(world, "hin-written/SHA256SUMS", sums({"1923/पत्र.jpg": b"wrong"}))
    report = world.run()
    spent = sum(len(text) for path, text in world.source.tree().items() if path.endswith("SHA256SUMS"))
    assert (report.adopted, report.fetched) == (7, 0)
    assert report.bytes == spent + len(FILES["hin-written/1923/पत्र.jpg"]), "the root's word on it is not asked for"


def test_an_excluded_sums_file_is_believed_too(world: World) -> None:
    world.extra = f'{TRUST}\nexclude = ["SHA256SUMS"]'
    world.source.put("SHA256SUMS", sums(FILES))
    report = world.run()
    assert (report.adopted, report.fetched, report.bytes) == (4, 0, len(sums(FILES)))


def test_the_gate_against_another_share_holds(world: World) -> None:
    """Files of another share that lie in the target are not held while less than half of what is held was seen."""
    world.target.joinpath("readme").unlink()
    shutil.rmtree(world.target)
    many = {f"old/{n}": b"%d" % n for n in range(20)}
    world.source = MemorySource(many)
    world.run()
    world.source = MemorySource(FILES)
    fill(world.target, FILES)
    put_sums(world, "SHA256SUMS", sums(FILES))
    report = world.run()
    assert report.exit_code == 13
    assert set(world.records()) == set(many)


# -- hostile and broken


@pytest.mark.parametrize("fault", [Fault.DENIED, Fault.UNREADABLE, Fault.CHANGE_WHILE_READ, Fault.SHORT])
def test_a_sums_file_that_cannot_be_read_costs_only_the_saving(
    world: World, fault: Fault, monkeypatch: pytest.MonkeyPatch
) -> None:
    told: list[str] = []
    monkeypatch.setattr("syncd.app.runs._tell_unused", lambda _, share: told.extend(path for path, _ in share.unused))
    world.extra = f'{TRUST}\nexclude = ["SHA256SUMS"]'
    world.source.put("SHA256SUMS", sums(FILES))
    world.source.fault("SHA256SUMS", fault)
    report = world.run()
    assert (report.state, report.adopted) == ("ok", 4)
    assert report.bytes >= SIZE
    assert told == ["SHA256SUMS"]


def test_an_oversized_or_endless_sums_file_is_not_read(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    world.source.put("SHA256SUMS", sums(FILES) + b"#" * (checksums.MAX_BYTES + 1))
    world.source.put("eng-typed/SHA256SUMS", b"\n" * 200_000)
    wanted = {path: world.source.fingerprint(path) for path in FILES}
    share = ShareChecksums(lambda: world.source)
    assert not any(share.digest(RelPath(path), seen) for path, seen in wanted.items())
    assert share.bytes == 200_000
    assert [(path, "MiB" in why or "lines" in why) for path, why in share.unused] == [
        ("eng-typed/SHA256SUMS", True),
        ("SHA256SUMS", True),
    ]
    monkeypatch.setattr(checksums, "MAX_BYTES_READ", 300)
    world.source.put("SHA256SUMS", sums(FILES))
    share = ShareChecksums(lambda: world.source)
    assert not share.digest(RelPath("readme"), wanted["readme"])
    assert share.bytes == 0


def test_what_is_kept_in_memory_is_bounded_and_read_again(monkeypatch: pytest.MonkeyPatch) -> None:
    content = b"x" * 10
    source = MemorySource({f"{n}/file": content for n in range(8)})
    for n in range(8):
        source.put(f"{n}/SHA256SUMS", sums({"file": content}))
    line = len(sums({"file": content}))
    monkeypatch.setattr(checksums, "MAX_BYTES", 2 * line)
    monkeypatch.setattr(checksums, "MAX_FOLDERS", 4)
    share = ShareChecksums(lambda: source)
    for _ in range(2):
        for n in range(8):
            path = RelPath(f"{n}/file")
            assert share.digest(path, source.fingerprint(path)) == hashlib.sha256(content).hexdigest()
    assert share.bytes == 16 * line
    share.close()


def test_a_lost_connection_of_its_own_ends_the_look_ups_not_the_run(tmp_path: Path) -> None:
    world = World(tmp_path, FILES, TRUST)
    put_sums(world, "SHA256SUMS", sums(FILES))
    lost = MemorySource(FILES)
    lost.down = True
    share = ShareChecksums(lambda: lost)
    for path in FILES:
        assert share.digest(RelPath(path), world.source.fingerprint(path)) is None
    assert lost.calls["check"] == 1, "asked once"
    assert [path for path, _ in share.unused] == ["eng-typed/SHA256SUMS"]


def test_a_link_in_the_place_of_a_named_file_is_not_followed(world: World, tmp_path: Path) -> None:
    put_sums(world, "SHA256SUMS", sums(FILES))
    secret = tmp_path / "elsewhere"
    secret.write_bytes(FILES["eng-typed/letter 1 .pdf"])
    victim = world.target / "eng-typed/letter 1 .pdf"
    victim.unlink()
    os.symlink(secret, victim)
    world.run()
    assert secret.read_bytes() == FILES["eng-typed/letter 1 .pdf"]
    assert world.converged()
    assert not victim.is_symlink()


def test_while_a_stand_by_is_in_use_its_bytes_are_compared(tmp_path: Path) -> None:
    """The sums would be the main server's, which may be back by then: what two servers say is never mixed."""
    world = StandByWorld(tmp_path, FILES)
    world.extra += f"\n{TRUST}"
    put_sums(world, "SHA256SUMS", sums(FILES))
    fill(world.target, FILES)
    world.replicate()
    world.source.down = True
    report = world.run()
    assert (report.adopted, report.bytes) == (5, SIZE + len(sums(FILES)))
    assert world.source.calls["read"] == 0
