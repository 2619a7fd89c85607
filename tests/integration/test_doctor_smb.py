"""`syncd doctor` against a real Samba: each hop that can fail does, is named, and the password is tried once."""

from __future__ import annotations

import secrets
import socket
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from syncd import config
from syncd.doctor.checks import Check, Group, Level, Pace
from syncd.doctor.examine import examine_mirrors
from tests.support.faultproxy import Direction, Ending, FaultProxy
from tests.support.smbd import SmbServer, start_smbd

QUICK = Pace(connect_s=2, setup_s=3, stall_s=4, hops_s=18, check_s=6, sample_s=3, listing_s=6, whole_s=35)
SKIPPED = "not tried: "


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SmbServer]:
    base = tmp_path_factory.mktemp("smb")
    root = base / "share"
    (root / "hin-typed").mkdir(parents=True)
    (root / "hin-typed" / "letter 1 .jpg").write_bytes(b"x" * 100)
    (root / "eng.pdf").write_bytes(b"y")
    with start_smbd(base, root=root, more_shares={"gvpocr-newsletters": base / "news"}) as running:
        yield running


def mirror(server: SmbServer, url: str = "", *, name: str = "B", password: Path | None = None, more: str = "") -> str:
    return (
        f'[[mirror]]\nname = "{name}"\nsource = "{url or server.url()}"\ntarget = "target-{name}"\n'
        f'password_file = "{password or server.password_file}"\n{more}\n'
    )


def examine(folder: Path, *mirrors: str, pace: Pace = QUICK) -> list[Group]:
    file = folder / "config.toml"
    file.write_text('[host]\nstate_dir = "state"\n' + "".join(mirrors))
    return list(examine_mirrors(config.load(file, {"HOME": str(folder)}), "syncd", pace))


def by_name(group: Group) -> dict[str, Check]:
    return {check.name: check for check in group.checks}


def failed(group: Group) -> list[str]:
    return [check.name for check in group.checks if check.status is Level.FAIL]


def wrong_password(folder: Path) -> Path:
    path = folder / "wrong"
    path.write_text(secrets.token_urlsafe(12))
    path.chmod(0o600)
    return path


def refusals(server: SmbServer) -> int:
    return server.log.count("FAILED with error NT_STATUS_WRONG_PASSWORD")


def left_open(server: SmbServer) -> list[str]:
    """Return what the server holds open once its processes have had time to notice that we are gone."""
    deadline = time.monotonic() + 20
    while (held := server.open_files()) and time.monotonic() < deadline:
        time.sleep(0.05)
    return held


def test_every_hop_to_a_share_that_is_well(server: SmbServer, tmp_path: Path) -> None:
    before = {path: path.stat().st_mtime_ns for path in server.root.rglob("*")}
    (group,) = examine(tmp_path, mirror(server))
    checks = by_name(group)
    assert not failed(group)
    hops = ["name", "port", "protocol", "login", "shares", "share", "folder", "clock", "listing", "names"]
    assert [check.name for check in group.checks][-len(hops) :] == hops
    assert "SMB 3.1.1" in checks["protocol"].seen
    assert "signing" in checks["protocol"].seen
    assert checks["shares"].seen == "gvpocr-bhushanji, gvpocr-newsletters"
    assert checks["listing"].seen == "2 files (101 B) to be mirrored in 2 folders, which is everything"
    assert checks["clock"].status is Level.OK
    assert {path: path.stat().st_mtime_ns for path in server.root.rglob("*")} == before
    assert not left_open(server)
    assert not (tmp_path / "state").exists()
    assert not (tmp_path / "target-B").exists()


def test_a_folder_of_the_share_and_one_that_is_not_there(server: SmbServer, tmp_path: Path) -> None:
    there, away = examine(
        tmp_path, mirror(server, server.url("hin-typed")), mirror(server, server.url("no such"), name="C")
    )
    assert by_name(there)["listing"].seen.startswith("1 file (100 B)")
    assert failed(away) == ["folder"]
    assert by_name(away)["listing"].seen == SKIPPED + "folder failed"


def test_mangled_names_are_told_with_the_line_for_smb_conf(tmp_path: Path) -> None:
    root = tmp_path / "share"
    root.mkdir()
    (root / 'what? "this".pdf').write_bytes(b"1")
    (root / "fine.pdf").write_bytes(b"2")
    with start_smbd(tmp_path, root=root) as server:
        (group,) = examine(tmp_path, mirror(server))
    check = by_name(group)["names"]
    assert check.status is Level.WARN
    assert check.seen.startswith("1 name not mirrored")
    assert "mangled names = no" in check.todo
    assert by_name(group)["listing"].seen.startswith("1 file ")


def test_a_wrong_share_shows_those_on_offer(server: SmbServer, tmp_path: Path) -> None:
    (group,) = examine(tmp_path, mirror(server, server.url(share="gvpocr-bushanji")))
    assert failed(group) == ["shares", "share"]
    check = by_name(group)["shares"]
    assert check.seen == 'on offer: gvpocr-bhushanji, gvpocr-newsletters; ours is "gvpocr-bushanji"'
    assert 'did you mean "gvpocr-bhushanji"?' in check.todo
    assert by_name(group)["listing"].seen.startswith(SKIPPED)


def test_a_hidden_share_is_fine(tmp_path: Path) -> None:
    with start_smbd(tmp_path, share_options={"browseable": "no"}, more_shares={"other": tmp_path / "o"}) as server:
        (tmp_path / "share" / "a.pdf").write_bytes(b"1")
        (group,) = examine(tmp_path, mirror(server))
    assert not failed(group)
    assert by_name(group)["share"].status is Level.OK


def test_a_wrong_password_is_tried_once_for_all_mirrors_and_stand_bys(server: SmbServer, tmp_path: Path) -> None:
    before = refusals(server)
    wrong = wrong_password(tmp_path)
    stand_by = f'fallback_sources = ["{server.url(share="gvpocr-newsletters").replace("127.0.0.1", "localhost")}"]'
    groups = examine(
        tmp_path,
        mirror(server, password=wrong, more=stand_by),
        mirror(server, server.url(share="gvpocr-newsletters"), name="N", password=wrong),
    )
    assert refusals(server) == before + 1
    assert [failed(group) for group in groups] == [["login"], ["login"]]
    told = [by_name(group)["login"] for group in groups]
    assert all("STATUS_LOGON_FAILURE" in check.seen for check in told)
    assert sum("on the same server" in check.seen for check in told) == 1
    assert told[0].todo in ("syncd secret B", "syncd secret N")
    stand_by_check = by_name(groups[0])["source"]
    assert "a password is tried once" in stand_by_check.seen
    assert "stand-by 1" in stand_by_check.seen
    assert wrong.read_text() not in str(groups)


def test_where_nothing_listens_and_a_host_that_is_not_known(server: SmbServer, tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as unused:
        port = unused.getsockname()[1]
    refused, unknown = examine(
        tmp_path,
        mirror(server, server.url(port=port)),
        mirror(server, "smb://u@no-such-host.invalid/s", name="C"),
    )
    assert failed(refused) == ["port"]
    assert str(port) in by_name(refused)["port"].seen
    assert failed(unknown) == ["name"]
    assert by_name(unknown)["login"].seen == SKIPPED + "name failed"


def test_where_something_else_answers(server: SmbServer, tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as other:
        other.settimeout(20)

        def greet() -> None:
            end, _ = other.accept()
            with end:
                end.sendall(b"SSH-2.0-OpenSSH_9.2\r\n")
                end.recv(1000)

        greeter = threading.Thread(target=greet)
        greeter.start()
        (group,) = examine(tmp_path, mirror(server, server.url(port=other.getsockname()[1])))
        greeter.join(20)
    assert failed(group) == ["protocol"]
    assert "SSH-2.0" in by_name(group)["protocol"].seen
    assert by_name(group)["port"].status is Level.OK


def test_a_silent_server_costs_its_time_once_whatever_the_mirrors(server: SmbServer, tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        url = server.url(port=silent.getsockname()[1])
        started = time.monotonic()
        groups = examine(tmp_path, *(mirror(server, url, name=f"M{n}") for n in range(5)), mirror(server))
        took_s = time.monotonic() - started
    assert took_s < 20
    assert [failed(group) for group in groups] == [["protocol"]] * 5 + [[]]
    assert "does not answer" in by_name(groups[0])["protocol"].seen


@pytest.mark.parametrize("after_bytes", [200, 700, 1_200])
def test_a_server_that_falls_silent_later_ends_in_time_too(server: SmbServer, tmp_path: Path, after_bytes: int) -> None:
    """A black hole in the middle: every connection loses all answers after so many bytes."""
    with FaultProxy((server.host, server.port)) as proxy:
        proxy.cut_after(after_bytes, Direction.TO_CLIENT, Ending.SWALLOW, times=-1)
        started = time.monotonic()
        (group,) = examine(tmp_path, mirror(server, server.url(port=proxy.port)))
        took_s = time.monotonic() - started
    assert failed(group)
    assert took_s < QUICK.whole_s + 5


def test_the_default_deadlines_stay_below_a_minute() -> None:
    assert Pace().whole_s + Pace().target_s < 60
