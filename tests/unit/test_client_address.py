"""Where the API is: what SYNCD_API may say, and the token file."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from syncd.client.address import SocketAddress, TcpAddress, in_environment, short_path
from syncd.core.errors import ConfigError


@pytest.mark.parametrize(
    ("env", "address"),
    [
        ({}, None),
        ({"SYNCD_API": "  "}, None),
        ({"SYNCD_API": "unix:///run/syncd/syncd.sock"}, SocketAddress(Path("/run/syncd/syncd.sock"))),
        ({"SYNCD_API": "/run/syncd/syncd.sock"}, SocketAddress(Path("/run/syncd/syncd.sock"))),
        ({"SYNCD_API": "http://127.0.0.1:9470"}, TcpAddress("127.0.0.1", 9470)),
        ({"SYNCD_API": "http://[::1]:9470/"}, TcpAddress("::1", 9470)),
        (
            {"SYNCD_API": "http://host.docker.internal:9470", "SYNCD_API_TOKEN_FILE": "/run/secrets/t"},
            TcpAddress("host.docker.internal", 9470, Path("/run/secrets/t")),
        ),
    ],
)
def test_addresses(env: dict[str, str], address: SocketAddress | TcpAddress | None) -> None:
    assert in_environment(env) == address


@pytest.mark.parametrize(
    "text",
    [
        "run/syncd.sock",
        "unix:run/syncd.sock",
        "unix://host/run/syncd.sock",
        "https://127.0.0.1:9470",
        "http://127.0.0.1",
        "http://:9470",
        "http://127.0.0.1:port",
        "http://127.0.0.1:99999",
        "http://127.0.0.1:9470/api",
        "http://[::1:9470",
        "http://127.0.0.1:9470?token=x",
    ],
)
def test_what_is_no_address_names_the_variable_and_the_forms(text: str) -> None:
    with pytest.raises(ConfigError, match="SYNCD_API") as caught:
        in_environment({"SYNCD_API": text})
    assert "unix:///" in caught.value.hint


def test_a_password_in_an_address_is_not_repeated() -> None:
    with pytest.raises(ConfigError) as caught:
        in_environment({"SYNCD_API": "http://me:hunter2@127.0.0.1:9470"})
    assert "hunter2" not in caught.value.message + caught.value.hint


def test_the_token_is_read_at_each_request(tmp_path: Path) -> None:
    file = tmp_path / "token"
    address = TcpAddress("::1", 9470, file)
    file.write_text("one\n")
    assert address.headers() == {"Authorization": "Bearer one"}
    file.write_text("two")
    assert address.headers() == {"Authorization": "Bearer two"}
    assert address.authority == "[::1]:9470"


@pytest.mark.parametrize("content", [b"", b"\n", b"one\ntwo", b"one\r\nX-Header: y", b"\xff", "तो".encode()])
def test_a_token_file_without_one_line_of_ascii_is_refused(tmp_path: Path, content: bytes) -> None:
    file = tmp_path / "token"
    file.write_bytes(content)
    with pytest.raises(ConfigError, match="token") as caught:
        TcpAddress("127.0.0.1", 9470, file).headers()
    assert "X-Header" not in caught.value.message


def test_a_token_file_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="gone"):
        TcpAddress("127.0.0.1", 9470, tmp_path / "gone").headers()


def test_a_long_path_elsewhere_than_on_linux(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("syncd.client.address.sys.platform", "darwin")
    with short_path(Path("/short")) as path:
        assert path == "/short"
    with pytest.raises(OSError, match="too long"), short_path(tmp_path / ("x" * 120)):
        pass


def test_a_worker_that_starts_loads_little() -> None:
    heavy = ["tornado", "http.client", "ssl", "asyncio", "sqlite3", "json", "socket", "syncd.core.resolution"]
    code = f"import sys, syncd.client.api; print([name for name in {heavy} if name in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60)
    assert done.stdout.strip() == "[]"
