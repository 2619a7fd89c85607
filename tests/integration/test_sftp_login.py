"""Who the server is, who we are: host keys from our own file only, one try a login, hints that say what to do."""

from __future__ import annotations

import os
import secrets
import shutil
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from syncd.core.errors import SourceAuthFailed, SourceUnavailable
from syncd.core.model import ROOT
from syncd.sources.sftp import SftpSource
from tests.support.hostile_sftp import HostileSftp
from tests.support.queues import fetch_all, scan_all, want_all
from tests.support.sshd import SshServer, prepare_sshd, start_sshd, write_key


@pytest.fixture(scope="module")
def sshd(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SshServer]:
    directory = tmp_path_factory.mktemp("sshd")
    (directory / "tree").mkdir()
    (directory / "tree" / "a.jpg").write_bytes(b"a")
    with start_sshd(directory / "server", root=directory / "tree") as server:
        yield server


def make(server: SshServer, **settings: object) -> SftpSource:
    given: dict[str, object] = {
        "host": server.host,
        "port": server.port,
        "username": server.username,
        "folder": str(server.root),
        "key_file": server.key_file,
        "password": None,
        "known_hosts_file": server.known_hosts_file,
    }
    return SftpSource(**(given | settings))  # type: ignore[arg-type]


def refusal(source: SftpSource) -> SourceAuthFailed:
    with pytest.raises(SourceAuthFailed) as caught:
        source.check()
    source.close()
    return caught.value


# --- the server's key ------------------------------------------------------------------------------------------------


def fingerprint_of(server: SshServer) -> str:
    """Ask OpenSSH's own tool."""
    shown = subprocess.run(
        ["ssh-keygen", "-lf", str(server.directory / "host_key")], capture_output=True, text=True, check=True
    )
    return shown.stdout.split()[1]


def test_an_unknown_host_key_is_refused_and_the_hint_adds_it(sshd: SshServer, tmp_path: Path) -> None:
    """The line in the hint, pasted into a shell, is all that is missing; nothing was written before."""
    known_hosts = tmp_path / "known_hosts"
    before = sshd.log.count("Accepted publickey")
    error = refusal(make(sshd, known_hosts_file=known_hosts))
    assert "is not known" in error.message
    assert fingerprint_of(sshd) in error.message
    assert not known_hosts.exists()
    assert sshd.log.count("Accepted publickey") == before, "no login before the key is known"
    subprocess.run(["sh", "-c", error.hint.partition("then: ")[2]], check=True)
    source = make(sshd, known_hosts_file=known_hosts)
    source.check()
    source.close()


def test_a_changed_host_key_is_refused_and_the_hint_replaces_it(sshd: SshServer, tmp_path: Path) -> None:
    known_hosts = tmp_path / "known_hosts"
    known_hosts.write_text(f"[{sshd.host}]:{sshd.port} {write_key(tmp_path / 'other')}\n")
    error = refusal(make(sshd, known_hosts_file=known_hosts))
    assert "has changed" in error.message
    assert fingerprint_of(sshd) in error.message
    subprocess.run(["sh", "-c", error.hint.partition("then: ")[2]], check=True, capture_output=True)
    source = make(sshd, known_hosts_file=known_hosts)
    source.check()
    source.close()


def test_a_key_of_another_host_or_port_does_not_count(sshd: SshServer, tmp_path: Path) -> None:
    known_hosts = tmp_path / "known_hosts"
    line = sshd.known_hosts_file.read_text().split(" ", 1)[1]
    known_hosts.write_text(f"127.0.0.1 {line}[127.0.0.1]:1 {line}other {line}")
    assert "is not known" in refusal(make(sshd, known_hosts_file=known_hosts)).message


def test_hashed_host_names_are_understood(sshd: SshServer, tmp_path: Path) -> None:
    known_hosts = tmp_path / "known_hosts"
    shutil.copy(sshd.known_hosts_file, known_hosts)
    subprocess.run(["ssh-keygen", "-H", "-f", str(known_hosts)], check=True, capture_output=True)
    assert "127.0.0.1" not in known_hosts.read_text()
    source = make(sshd, known_hosts_file=known_hosts)
    source.check()
    source.close()


def test_the_key_type_on_file_is_asked_for(tmp_path: Path) -> None:
    """A server with several keys, of which only one is on file, is the same server."""
    (tmp_path / "tree").mkdir()
    server = prepare_sshd(tmp_path / "server", tmp_path / "tree")
    rsa = tmp_path / "server" / "rsa_key"
    subprocess.run(["ssh-keygen", "-q", "-t", "rsa", "-b", "2048", "-N", "", "-f", str(rsa)], check=True)
    config = tmp_path / "server" / "sshd_config"
    config.write_text(config.read_text() + f"HostKey {rsa}\n")
    kind, key = rsa.with_suffix(".pub").read_text().split()[:2]
    known_hosts = tmp_path / "known_hosts"
    known_hosts.write_text(f"[{server.host}]:{server.port} {kind} {key}\n")
    server.start()
    try:
        source = make(server, known_hosts_file=known_hosts)
        source.check()
        source.close()
    finally:
        server.stop()


# --- our key ---------------------------------------------------------------------------------------------------------


def test_a_key_with_a_passphrase(sshd: SshServer, tmp_path: Path) -> None:
    phrase = secrets.token_urlsafe(12)
    key_file = tmp_path / "key"
    allowed = sshd.directory / "authorized_keys"
    allowed.write_text(allowed.read_text() + write_key(key_file, phrase.encode()) + "\n")
    source = make(sshd, key_file=key_file, password=lambda: phrase)
    source.check()
    source.close()
    assert "passphrase" in refusal(make(sshd, key_file=key_file)).message
    wrong = refusal(make(sshd, key_file=key_file, password=lambda: phrase[::-1]))
    assert "wrong passphrase" in wrong.message
    assert phrase not in wrong.message + wrong.hint


def test_a_password_beside_a_key_without_a_passphrase_does_no_harm(sshd: SshServer) -> None:
    source = make(sshd, password=lambda: "not needed")
    source.check()
    source.close()


@pytest.mark.parametrize("content", [None, b"", b"no key at all", b"-----BEGIN OPENSSH PRIVATE KEY-----\nAAAA\n"])
def test_a_key_file_that_is_none(sshd: SshServer, tmp_path: Path, content: bytes | None) -> None:
    if content is not None:
        (tmp_path / "key").write_bytes(content)
    assert str(tmp_path / "key") in refusal(make(sshd, key_file=tmp_path / "key")).message


def test_keys_lying_about_and_agents_are_not_used(
    sshd: SshServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The good key lies where OpenSSH would look for it; the configured one is another."""
    (tmp_path / ".ssh").mkdir()
    shutil.copy(sshd.key_file, tmp_path / ".ssh" / "id_ed25519")
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("SSH_AUTH_SOCK", str(tmp_path / "agent"))
    write_key(tmp_path / "other")
    before = sshd.log.count("Failed publickey")
    error = refusal(make(sshd, key_file=tmp_path / "other"))
    assert "Tried once" in error.message
    assert sshd.log.count("Failed publickey") == before + 1


def test_a_password_where_only_keys_are_taken(sshd: SshServer) -> None:
    error = refusal(make(sshd, key_file=None, password=lambda: secrets.token_urlsafe(8)))
    assert "publickey" in error.message


def test_a_login_that_is_not_answered_is_no_refusal(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("syncd.sources.sftp.connecting.CONNECT_S", 0.5)
    with HostileSftp({"/root/a.jpg": b"a"}, tmp_path) as server:
        monkeypatch.setattr("tests.support.hostile_sftp._Door.check_auth_password", lambda *_: time.sleep(3) or 2)
        source = SftpSource(
            host=server.host,
            port=server.port,
            username=server.username,
            folder="/root",
            key_file=None,
            password=lambda: server.password,
            known_hosts_file=server.known_hosts_file,
        )
        with pytest.raises(SourceUnavailable):
            source.check()
        source.close()


def test_the_login_and_the_source_do_not_show_the_password(tmp_path: Path) -> None:
    with HostileSftp({"/root/a.jpg": b"a"}, tmp_path) as server:
        source = SftpSource(
            host=server.host,
            port=server.port,
            username=server.username,
            folder="/root",
            key_file=None,
            password=lambda: server.password,
            known_hosts_file=server.known_hosts_file,
        )
        assert server.password not in source.check().description
        source.close()


# --- servers that are set up otherwise -------------------------------------------------------------------------------


def test_a_server_without_sftp_says_so(tmp_path: Path) -> None:
    (tmp_path / "tree").mkdir()
    with start_sshd(tmp_path / "server", root=tmp_path / "tree", options={"Subsystem": "other /bin/false"}) as server:
        source = make(server)
        with pytest.raises(SourceUnavailable) as caught:
            source.check()
        source.close()
    assert "SFTP" in caught.value.hint


def test_one_session_a_connection_is_enough_for_scan_and_fetch(tmp_path: Path) -> None:
    (tmp_path / "tree").mkdir()
    (tmp_path / "tree" / "a.jpg").write_bytes(b"a")
    with start_sshd(tmp_path / "server", root=tmp_path / "tree", options={"MaxSessions": "1"}) as server:
        source = make(server)
        fetch_all(source, want_all(scan_all(source)))
        source.close()


def test_one_connection_is_enough_for_everything(sshd: SshServer) -> None:
    before = sshd.log.count("Accepted publickey")
    source = make(sshd, connections=1)
    source.check()
    source.read(want_all(scan_all(source))[0].path)
    fetch_all(source, want_all(scan_all(source)))
    source.close()
    assert sshd.log.count("Accepted publickey") == before + 1


def test_a_folder_below_the_login_folder_and_the_login_folder_itself(tmp_path: Path) -> None:
    """internal-sftp -d changes the folder where the login lands."""
    (tmp_path / "tree" / "sub").mkdir(parents=True)
    (tmp_path / "tree" / "sub" / "a.jpg").write_bytes(b"a")
    options = {"Subsystem": f"sftp internal-sftp -d {tmp_path / 'tree'}"}
    with start_sshd(tmp_path / "server", root=tmp_path / "tree", options=options) as server:
        for folder, expected in {"": "sub/a.jpg", "sub": "a.jpg", "sub/": "a.jpg", ".": "sub/a.jpg"}.items():
            source = make(server, folder=folder)
            source.check()
            sinks, outcomes = fetch_all(source, want_all(scan_all(source)))
            assert list(outcomes) == [expected]
            assert sinks.content(expected) == b"a"
            source.close()


def test_the_root_of_the_server_can_be_the_root(sshd: SshServer) -> None:
    source = make(sshd, folder="/")
    source.check()
    (listing,) = source.scan([ROOT])
    assert "etc" in {each.name for each in listing.entries}
    source.close()


def test_a_file_as_root_is_no_folder(sshd: SshServer) -> None:
    source = make(sshd, folder=str(sshd.root / "a.jpg"))
    with pytest.raises(SourceUnavailable, match="not a folder"):
        source.check()
    source.close()


def test_a_root_that_is_a_link_is_followed(sshd: SshServer, tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to(sshd.root)
    source = make(sshd, folder=str(tmp_path / "link"))
    source.check()
    assert [each.path for each in want_all(scan_all(source))] == ["a.jpg"]
    source.close()


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can have a server that logs in somebody else")
def test_a_root_that_may_not_be_read_is_unavailable_with_a_hint() -> None:
    with tempfile.TemporaryDirectory() as made:  # pytest's own folders are closed to other users altogether
        directory = Path(made)
        directory.chmod(0o755)
        (directory / "tree").mkdir(mode=0o700)
        with start_sshd(directory / "server", root=directory / "tree", username="nobody") as server:
            source = make(server)
            with pytest.raises(SourceUnavailable) as caught:
                source.check()
            source.close()
    assert "may not be read" in caught.value.message
    assert caught.value.hint


# --- addresses -------------------------------------------------------------------------------------------------------


def test_a_name_that_does_not_exist(sshd: SshServer) -> None:
    source = make(sshd, host="no-such-host.invalid")
    with pytest.raises(SourceUnavailable, match="no-such-host"):
        source.check()
    source.close()


def test_something_that_is_no_ssh_server(sshd: SshServer) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        source = make(sshd, port=listener.getsockname()[1])

        def serve() -> None:
            end, _ = listener.accept()
            with end:
                end.sendall(b"HTTP/1.1 400 Bad Request\r\n\r\n" * 200)

        thread = threading.Thread(target=serve)
        thread.start()
        with pytest.raises(SourceUnavailable):
            source.check()
        thread.join(10)
        source.close()


def test_importing_the_sources_loads_no_client_library() -> None:
    code = "import sys, syncd.sources, syncd.sources.local, syncd.sources.memory; print('paramiko' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"
