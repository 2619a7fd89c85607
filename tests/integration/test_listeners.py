"""An address that is taken: one line that names it and who has it, as far as this user may know."""

from __future__ import annotations

import contextlib
import os
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from syncd.client.address import SOCKET
from syncd.client.listeners import Holder, holder_of_lsof, listening_inodes, socket_holder, tcp_holder
from syncd.core.errors import ConfigError
from syncd.web.server import ApiServer
from syncd.web.sockets import UnixListener, check_free
from tests.support.fake_service import FakeService
from tests.support.ports import free_port
from worker_glue.health.server import HealthServer
from worker_glue.health.staff import Staff

LISTEN = """
import socket, sys
end = socket.socket(getattr(socket, sys.argv[1]))
end.bind(sys.argv[2] if sys.argv[1] == "AF_UNIX" else ("127.0.0.1", int(sys.argv[2])))
end.listen()
print("listens", flush=True)
sys.stdin.read()
"""

only_linux = pytest.mark.skipif(sys.platform != "linux", reason="by /proc")


@contextlib.contextmanager
def another(family: str, where: str, folder: Path) -> Iterator[int]:
    """A program of ours, but not of syncd, that listens; gives its pid."""
    script = folder / "squatter.py"
    script.write_text(LISTEN)
    with subprocess.Popen(
        [sys.executable, str(script), family, where], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as program:
        assert program.stdout is not None and program.stdin is not None
        assert program.stdout.readline() == b"listens\n"
        try:
            yield program.pid
        finally:
            program.stdin.close()


@only_linux
def test_who_has_a_port_is_named_by_its_program(tmp_path: Path) -> None:
    port = free_port()
    with another("AF_INET", str(port), tmp_path) as pid:
        assert tcp_holder(port) == Holder(pid, "squatter.py")
        with pytest.raises(ConfigError) as caught:
            check_free(tmp_path / "s", ("127.0.0.1", port))
        assert caught.value.message == (
            f"cannot listen on 127.0.0.1:{port} (api.listen): process {pid} (squatter.py) listens there"
        )
        assert "choose another port" in caught.value.hint
        with pytest.raises(ConfigError) as caught:
            HealthServer(("127.0.0.1", port), tmp_path, lambda: Staff([], {}, {}))
        assert f"127.0.0.1:{port} (--metrics): process {pid} (squatter.py) listens there" in caught.value.message
    check_free(tmp_path / "s", ("127.0.0.1", port))
    assert tcp_holder(port) == Holder()


def test_an_address_of_another_machine_is_told_apart(tmp_path: Path) -> None:
    with pytest.raises(ConfigError) as caught:
        check_free(tmp_path / "s", ("192.0.2.1", 9470))
    assert caught.value.hint == "set api.listen to an address of this machine"


@only_linux
def test_a_socket_that_another_program_answers_is_not_taken_over(tmp_path: Path) -> None:
    path = tmp_path / SOCKET
    path.parent.mkdir()
    with another("AF_UNIX", str(path), tmp_path) as pid:
        assert socket_holder(path) == Holder(pid, "squatter.py")
        with pytest.raises(ConfigError) as caught:
            UnixListener(path)
        assert caught.value.message == (f"the API's socket {path} is taken: process {pid} (squatter.py) answers there")
        assert path.is_socket()
    assert socket_holder(path) is None
    server = ApiServer(FakeService(), path)  # what it left behind is replaced
    server.start()
    server.close()
    assert not path.exists()


@pytest.mark.parametrize("kind", ["file", "folder", "link"])
def test_what_is_no_socket_stays_where_it_is(tmp_path: Path, kind: str) -> None:
    path = tmp_path / SOCKET
    path.parent.mkdir()
    if kind == "folder":
        path.mkdir()
    elif kind == "link":
        path.symlink_to(tmp_path / "elsewhere")
    else:
        path.write_text("letters")
    with pytest.raises(ConfigError, match="is no socket") as caught:
        UnixListener(path)
    assert str(path) in caught.value.hint
    assert os.path.lexists(path)
    assert kind != "file" or path.read_text() == "letters"


def test_a_socket_whose_listener_is_busy_counts_as_taken(tmp_path: Path) -> None:
    path = tmp_path / "s"
    with contextlib.closing(socket.socket(socket.AF_UNIX)) as end, contextlib.ExitStack() as waiting:
        end.bind(str(path))
        end.listen(0)
        for _ in range(3):
            caller = waiting.enter_context(contextlib.closing(socket.socket(socket.AF_UNIX)))
            caller.setblocking(False)
            with contextlib.suppress(BlockingIOError):
                caller.connect(str(path))
        assert socket_holder(path) == Holder()


def test_what_the_tables_say() -> None:
    table = [
        "  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode",
        "   0: 0100007F:24FE 00000000:0000 0A 00000000:00000000 00:00000000 00000000  1000        0 4711 1 x",
        "   1: 0100007F:24FE 0100007F:AAAA 01 00000000:00000000 00:00000000 00000000  1000        0 4712 1 x",
        "   2: 00000000:0016 00000000:0000 0A 00000000:00000000 00:00000000 00000000     0        0 4713 1 x",
        "broken",
    ]
    assert list(listening_inodes(table, 9470)) == ["4711"]
    assert holder_of_lsof("p123\ncControlCe\nf9\n") == Holder(123, "ControlCe")
    assert holder_of_lsof("") == Holder()
    assert str(Holder()) == "another program (this user may not see which)"
