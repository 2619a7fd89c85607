"""Everything that can be wrong with host, port, user, password, share and server: one error in time, naming the hop."""

from __future__ import annotations

import contextlib
import os
import re
import secrets
import signal
import socket
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from syncd.core.errors import SourceAuthFailed, SourceVanished, SyncdError
from syncd.core.model import ROOT
from syncd.sources.smb.limits import SmbLimits
from syncd.sources.smb.probing import probe
from syncd.sources.smb.session import Server
from syncd.sources.smb.source import SmbSource
from tests.support.faultproxy import Direction, FaultProxy
from tests.support.hostile_smb import wait_until
from tests.support.ports import free_port
from tests.support.queues import ListQueue, Sinks
from tests.support.smbd import SmbServer, start_smbd

BRISK = SmbLimits(setup_s=3, ask_s=3)


def source_of(server: SmbServer, **options: object) -> SmbSource:
    asked = {
        "host": server.host,
        "port": server.port,
        "share": server.share,
        "username": server.username,
        "password": lambda: server.password,
        "secret_hint": "syncd secret Bhushanji",
        **options,
    }
    return SmbSource(**asked)  # type: ignore[arg-type]


def failure(source: SmbSource) -> SyncdError:
    """Return the one error of check(), within the promised time."""
    began = time.monotonic()
    with contextlib.closing(source), pytest.raises(SyncdError) as caught:
        source.check()
    assert time.monotonic() - began < 30
    assert caught.value.message
    return caught.value


@pytest.fixture
def server(tmp_path: Path) -> Iterator[SmbServer]:
    with start_smbd(tmp_path, more_shares={"newsletters": tmp_path / "news"}) as running:
        yield running


def login_attempts(server: SmbServer, user: str) -> int:
    return len(re.findall(rf"check_ntlm_password:  Checking password for unmapped user .*\\\[{user}\]@", server.log))


def test_a_wrong_password_is_tried_once_by_whatever_call(server: SmbServer) -> None:
    tried: list[int] = []
    wrong = secrets.token_urlsafe(8)
    source = source_of(server, password=lambda: (tried.append(1), wrong)[1])
    with contextlib.closing(source):
        with pytest.raises(SourceAuthFailed) as caught:
            source.check()
        for again in (source.check, lambda: list(source.scan([ROOT])), lambda: list(source.fetch(_one(), Sinks()))):
            with pytest.raises(SourceAuthFailed):
                again()
    error = caught.value
    assert "STATUS_LOGON_FAILURE" in error.message
    assert f'login refused for "{server.username}" at {server.host}:{server.port}' in error.message
    assert error.message.endswith("Tried once.")
    assert error.hint == "syncd secret Bhushanji"
    assert error.exit_code == 12
    assert wrong not in error.message
    assert login_attempts(server, server.username) == 1


def _one() -> ListQueue:
    from syncd.core.model import Fingerprint, RelPath, Wanted

    return ListQueue([Wanted(RelPath("x"), Fingerprint(1, 1, 1, 1))])


def test_two_threads_try_a_wrong_password_once(server: SmbServer) -> None:
    source = source_of(server, password=lambda: "wrong")
    errors: list[BaseException] = []

    def scan() -> None:
        try:
            list(source.scan([ROOT]))
        except SyncdError as exc:
            errors.append(exc)

    threads = [threading.Thread(target=scan) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    source.close()
    assert [type(each) for each in errors] == [SourceAuthFailed] * 4
    assert login_attempts(server, server.username) == 1


def test_a_corrected_password_is_used_at_once(server: SmbServer) -> None:
    password = ["wrong"]
    with contextlib.closing(source_of(server, password=lambda: password[0])) as source:
        with pytest.raises(SourceAuthFailed):
            source.check()
        password[0] = server.password
        source.check()


def test_an_unknown_user_is_refused(server: SmbServer) -> None:
    error = failure(source_of(server, username="nobody-knows"))
    assert isinstance(error, SourceAuthFailed)
    assert '"nobody-knows"' in error.message


def test_a_wrong_share_names_those_on_offer(server: SmbServer) -> None:
    error = failure(source_of(server, share="bhushanji_shared"))
    assert error.exit_code == 10
    assert "STATUS_BAD_NETWORK_NAME" in error.message
    assert "gvpocr-bhushanji" in error.hint
    assert "newsletters" in error.hint
    assert "IPC$" not in error.hint


def test_a_missing_root_folder_is_vanished(server: SmbServer) -> None:
    (server.root / "file").touch()
    for folder in ("nothing", "file"):
        error = failure(source_of(server, folder=folder))
        assert isinstance(error, SourceVanished), error
        assert f'"{folder}"' in error.message


def test_a_share_whose_folder_is_gone_is_vanished(tmp_path: Path) -> None:
    with start_smbd(tmp_path) as server:
        with contextlib.closing(source_of(server)) as source:
            source.check()
            server.root.rmdir()
            with pytest.raises(SourceVanished):
                source.check()
            (listing,) = source.scan([ROOT])
            assert not listing.complete
        assert isinstance(failure(source_of(server)), SourceVanished)


def test_what_the_server_may_come_to_allow_is_tried_again(tmp_path: Path) -> None:
    refused = {"valid users": "somebody-else"}
    with start_smbd(tmp_path, share_options=refused) as server, contextlib.closing(source_of(server)) as source:
        with pytest.raises(SourceAuthFailed):
            source.check()
        server.config.write_text(server.config.read_text().replace("valid users = somebody-else", ""))
        os.kill(server.process.pid, signal.SIGHUP)
        wait_until(lambda: _accepted(source))


def _accepted(source: SmbSource) -> bool:
    try:
        source.check()
    except SourceAuthFailed:
        return False
    return True


def test_a_port_where_nobody_listens(server: SmbServer) -> None:
    error = failure(source_of(server, port=free_port()))
    assert error.exit_code == 10
    assert "refused" in error.message


def test_a_host_that_is_not_there(server: SmbServer) -> None:
    error = failure(source_of(server, host="no-such-host.invalid"))
    assert error.exit_code == 10
    assert "no-such-host.invalid" in error.message


@contextlib.contextmanager
def listener(serve: Callable[[socket.socket], None]) -> Iterator[int]:
    """Something that is no SMB server."""
    held: list[socket.socket] = []
    with socket.create_server(("127.0.0.1", 0)) as listening:

        def run() -> None:
            with contextlib.suppress(OSError):
                while True:
                    held.append(listening.accept()[0])
                    serve(held[-1])

        thread = threading.Thread(target=run)
        thread.start()
        try:
            yield listening.getsockname()[1]
        finally:
            listening.shutdown(socket.SHUT_RDWR)
            thread.join(5)
            for sock in held:
                sock.close()


def failure_at(serve: Callable[[socket.socket], None], limits: SmbLimits = BRISK) -> SyncdError:
    with listener(serve) as port:
        source = SmbSource(
            host="127.0.0.1", port=port, share="s", username="u", password=lambda: "never sent", limits=limits
        )
        return failure(source)


def test_a_port_where_nothing_is_ever_said() -> None:
    error = failure_at(lambda _: None)
    assert "does not answer" in error.message
    assert "port" in error.hint


@pytest.mark.parametrize(
    "greeting", [b"SSH-2.0-OpenSSH_9.2\r\n", b"HTTP/1.1 400 Bad Request\r\n\r\n", b"\xff\xfb\x01login: ", b"x" * 5000]
)
def test_a_port_where_something_else_answers(greeting: bytes) -> None:
    error = failure_at(lambda sock: sock.sendall(greeting))
    assert "something else than an SMB server" in error.message
    assert "port" in error.hint


@pytest.mark.parametrize(
    "answer",
    [
        b"\0\0\0\x50\xfeSMB" + b"\0" * 76,
        b"\0\0\0\x50\xfeSMB\x40\0" + b"\xff" * 74,
        b"\0\0\x01\0\xfdSMB" + b"\x11" * 252,
        b"\0\0\0\x41\xfeSMB\x40\0\0\0\0\0\0\0\0\0\x01\0\x01\0\0\0" + b"\0" * 41,
        b"\0\xff\xff\xff\xfeSMB",
        b"\0\0\0\x50\xfeSMB",
    ],
    ids=["zeros", "ones", "encrypted", "short", "long", "cut"],
)
def test_a_broken_handshake_is_one_error_and_nothing_on_stderr(
    answer: bytes, capfd: pytest.CaptureFixture[str]
) -> None:
    error = failure_at(lambda sock: sock.sendall(answer))
    assert error.exit_code == 10
    assert capfd.readouterr() == ("", "")


def test_a_port_that_hangs_up() -> None:
    error = failure_at(lambda sock: sock.close())
    assert "closed the connection" in error.message


def test_a_server_that_only_speaks_smb1(tmp_path: Path) -> None:
    with start_smbd(tmp_path, options={"server max protocol": "NT1", "server min protocol": "NT1"}) as server:
        error = failure(source_of(server))
        assert error.exit_code == 10
        assert "SMB1" in error.message


@pytest.mark.parametrize("oldest", ["SMB2_02", "NT1"])
def test_a_lost_connection_to_a_server_that_speaks_smb2_is_not_taken_for_smb1(tmp_path: Path, oldest: str) -> None:
    with start_smbd(tmp_path, options={"server min protocol": oldest}) as server:
        with FaultProxy((server.host, server.port)) as proxy:
            proxy.cut_after(1, Direction.TO_SERVER)
            error = failure(source_of(server, port=proxy.port))
        assert error.exit_code == 10
        assert "closed the connection" in error.message
        assert "speaks only" not in error.message


def test_a_server_that_makes_everyone_a_guest(tmp_path: Path) -> None:
    with start_smbd(tmp_path, options={"map to guest": "bad user"}, share_options={"guest ok": "yes"}) as server:
        error = failure(source_of(server, username="nobody-knows"))
        assert isinstance(error, SourceAuthFailed)
        assert "guest" in error.message
        with contextlib.closing(source_of(server)) as source:
            source.check()


def test_encryption_that_is_asked_for_and_not_to_be_had(tmp_path: Path) -> None:
    with start_smbd(tmp_path, options={"smb encrypt": "off"}) as server:
        error = failure(source_of(server, encrypt=True))
        assert isinstance(error, SourceAuthFailed)
        assert "encrypt" in error.message


def test_a_share_that_the_user_may_not_use(tmp_path: Path) -> None:
    with start_smbd(tmp_path, share_options={"valid users": "somebody-else"}) as server:
        error = failure(source_of(server))
        assert isinstance(error, SourceAuthFailed)
        assert "STATUS_ACCESS_DENIED" in error.message


def test_dfs_roots_are_refused(tmp_path: Path) -> None:
    with start_smbd(tmp_path, share_options={"msdfs root": "yes"}) as server:
        assert "DFS" in failure(source_of(server)).message


@pytest.mark.skipif(os.geteuid() != 0, reason="needs a root folder that the server may not read")
def test_a_root_that_may_not_be_read(tmp_path_factory: pytest.TempPathFactory) -> None:
    base = Path("/tmp") / f"smb-{secrets.token_hex(4)}"
    base.mkdir(mode=0o755)
    try:
        with start_smbd(base, force_user="nobody") as server:
            server.root.mkdir(exist_ok=True)
            (server.root / "locked").mkdir(mode=0)
            error = failure(source_of(server, folder="locked/inner"))
            assert error.exit_code == 10
    finally:
        import shutil

        shutil.rmtree(base)


def test_close_ends_a_set_up_that_waits() -> None:
    with listener(lambda _: None) as port:
        source = SmbSource(host="127.0.0.1", port=port, share="s", username="u", password=lambda: "p")
        errors: list[SyncdError] = []

        def check() -> None:
            try:
                source.check()
            except SyncdError as exc:
                errors.append(exc)

        thread = threading.Thread(target=check)
        thread.start()
        time.sleep(0.3)
        source.close()
        thread.join(5)
        assert not thread.is_alive()
        assert errors[0].message == "the source was closed"


def test_no_thread_is_left_behind(server: SmbServer) -> None:
    before = threading.active_count()
    for options in ({}, {"password": lambda: "wrong"}, {"share": "nothing"}):
        with contextlib.closing(source_of(server, **options)) as source, contextlib.suppress(SyncdError):
            source.check()
    assert threading.active_count() == before


# --- doctor's view ----------------------------------------------------------------------------------------------------


def hops(server: SmbServer, share: str, password: str, folder: str = "") -> dict[str, tuple[bool | None, str, str]]:
    asked = Server(server.host, server.port, server.username, "", lambda: password)
    return {each.hop: (each.ok, each.seen, each.hint) for each in probe(asked, share, folder)}


def test_probe_tells_what_each_hop_saw(server: SmbServer) -> None:
    (server.root / "f").touch()
    (server.root / "d").mkdir()
    seen = hops(server, server.share, server.password)
    assert list(seen) == ["name", "tcp", "negotiate", "login", "shares", "share", "root"]
    assert all(ok for ok, _, _ in seen.values()), seen
    assert "SMB 3.1.1" in seen["negotiate"][1]
    assert "newsletters" in seen["shares"][1]
    assert "1 file and 1 folder" in seen["root"][1]


def test_probe_stops_at_the_hop_that_failed(server: SmbServer) -> None:
    seen = hops(server, server.share, "wrong")
    assert seen["login"][0] is False
    assert seen["negotiate"][0] is True
    assert seen["share"][0] is None
    assert login_attempts(server, server.username) == 1


def test_probe_of_a_wrong_share_lists_those_on_offer(server: SmbServer) -> None:
    seen = hops(server, "nothing", server.password)
    assert seen["share"][0] is False
    assert seen["shares"][0] is False
    assert "gvpocr-bhushanji" in seen["shares"][1]
    assert seen["login"][0] is True


def test_probe_of_a_wrong_folder(server: SmbServer) -> None:
    seen = hops(server, server.share, server.password, "nothing")
    assert seen["root"][0] is False
    assert seen["share"][0] is True
