"""The state directory: its lock, the host's identity, and where it may not lie."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from syncd.client.file_systems import is_network, type_from_mount, type_from_mountinfo
from syncd.core.errors import AlreadyRunning, ConfigError
from syncd.store import state
from syncd.store.state import StateDirectory
from tests.support.catalogues import snapshot

HOLDER = """
import sys, time
from pathlib import Path
from syncd.store.state import StateDirectory
lock = StateDirectory.open(Path(sys.argv[1]), create=True).lock()
print("locked", flush=True)
sys.stdin.read()
"""

ASKER = """
import sys
from pathlib import Path
from syncd.store.state import StateDirectory
state = StateDirectory(Path(sys.argv[1]))
print("asking", flush=True)
while True:
    state.holder_pid()
"""


def hold_lock(path: Path) -> subprocess.Popen[str]:
    command = [sys.executable, "-c", HOLDER, str(path)]
    process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    assert process.stdout.readline() == "locked\n"
    return process


@pytest.fixture
def here(tmp_path: Path) -> StateDirectory:
    return StateDirectory.open(tmp_path / "state", create=True)


# --- the directory


def test_it_is_made_private_with_its_parents(tmp_path: Path) -> None:
    opened = StateDirectory.open(tmp_path / "a" / "b", create=True)
    assert opened.exists
    assert [path.stat().st_mode & 0o777 for path in (tmp_path / "a", tmp_path / "a" / "b")] == [0o700, 0o700]
    assert opened.catalogue == tmp_path / "a" / "b" / "catalogue.db"


def test_looking_makes_nothing(tmp_path: Path) -> None:
    opened = StateDirectory.open(tmp_path / "state", create=False)
    assert not opened.exists
    assert opened.holder_pid() is None
    assert opened.known_host() is None
    assert list(tmp_path.iterdir()) == []


def test_a_file_in_its_place_is_a_configuration_error(tmp_path: Path) -> None:
    (tmp_path / "state").touch()
    for create in (True, False):
        with pytest.raises(ConfigError, match="state") as caught:
            StateDirectory.open(tmp_path / "state", create=create)
        assert "host.state_dir" in caught.value.hint
    with pytest.raises(ConfigError):
        StateDirectory.open(tmp_path / "state" / "below", create=True)


# --- the lock


def test_a_second_process_is_told_the_pid(here: StateDirectory) -> None:
    holder = hold_lock(here.path)
    try:
        assert here.holder_pid() == holder.pid
        with pytest.raises(AlreadyRunning, match=str(holder.pid)) as caught:
            here.lock()
        assert (caught.value.pid, caught.value.exit_code) == (holder.pid, 11)
        assert here.holder_pid() == holder.pid
    finally:
        holder.communicate(timeout=30)
    assert here.holder_pid() is None


def test_a_killed_process_lock_frees_itself(here: StateDirectory) -> None:
    holder = hold_lock(here.path)
    holder.send_signal(signal.SIGKILL)
    holder.communicate(timeout=30)
    assert here.holder_pid() is None
    with here.lock():
        assert here.holder_pid() == os.getpid()


def test_the_same_process_cannot_take_it_twice(here: StateDirectory) -> None:
    lock = here.lock()
    with pytest.raises(AlreadyRunning):
        here.lock()
    lock.release()
    lock.release()
    here.lock().release()


def test_a_lock_whose_pid_is_not_written_yet_is_still_a_lock(here: StateDirectory) -> None:
    with here.lock():
        (here.path / "lock").write_text("")
        assert here.holder_pid() == 0
        with pytest.raises(AlreadyRunning) as caught:
            here.lock()
        assert caught.value.pid == 0


def test_asking_who_holds_it_writes_nothing_and_keeps_nobody_out(here: StateDirectory) -> None:
    here.lock().release()
    before = snapshot(here.path)
    assert here.holder_pid() is None
    assert snapshot(here.path) == before
    asking = subprocess.Popen(
        [
            sys.executable,
            "-c",
            ASKER,
            str(here.path),
        ],
        stdout=subprocess.PIPE,
    )
    try:
        assert asking.stdout is not None
        asking.stdout.readline()
        for _ in range(50):
            here.lock().release()
    finally:
        asking.kill()
        asking.communicate(timeout=30)


def test_the_lock_is_not_inherited_by_programs_that_are_started(here: StateDirectory) -> None:
    lock = here.lock()
    child = subprocess.Popen(["sleep", "30"])
    try:
        lock.release()
        here.lock().release()
    finally:
        child.kill()
        child.wait(timeout=30)


# --- the host


def test_the_host_is_made_once_and_keeps_its_name(here: StateDirectory, monkeypatch: pytest.MonkeyPatch) -> None:
    first = here.host()
    assert first.id
    assert first.name == os.uname().nodename.partition(".")[0]
    monkeypatch.setattr(state, "_host_name", lambda: "renamed")
    before = snapshot(here.path)
    assert here.host() == first == here.known_host()
    assert snapshot(here.path) == before, "what is known already is not written again"
    assert (here.path / "host.json").stat().st_mode & 0o777 == 0o600


def test_a_configured_name_wins_and_keeps_the_id(here: StateDirectory) -> None:
    first = here.host("tod-mac")
    assert first.name == "tod-mac"
    assert here.host() == first
    second = here.host("other")
    assert (second.id, second.name) == (first.id, "other")
    assert here.known_host() == second


def test_on_another_machine_it_is_another_host(here: StateDirectory, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(state, "machine_fingerprint", lambda: "machine one")
    first = here.host()
    monkeypatch.setattr(state, "machine_fingerprint", lambda: "machine two")
    second = here.host()
    assert second.id != first.id
    assert here.host() == second


def test_a_machine_that_cannot_be_told_apart_stays_the_same_host(
    here: StateDirectory, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(state, "machine_fingerprint", lambda: "")
    first = here.host()
    monkeypatch.setattr(state, "machine_fingerprint", lambda: "machine one")
    assert here.host() == first
    monkeypatch.setattr(state, "machine_fingerprint", lambda: "")
    assert here.host() == first
    monkeypatch.setattr(state, "machine_fingerprint", lambda: "machine two")
    assert here.host() != first, "bound to the first machine that could be told"


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"{",
        b"[]",
        b"\xff\xfe",
        b'{"id": "x"}',
        b'{"id": 5, "name": "n", "machine": ""}',
        b'{"id": "", "name": "n", "machine": ""}',
    ],
)
def test_an_unreadable_identity_is_said_so_and_not_replaced(here: StateDirectory, content: bytes) -> None:
    (here.path / "host.json").write_bytes(content)
    for ask in (here.host, here.known_host):
        with pytest.raises(ConfigError, match=r"host\.json") as caught:
            ask()
        assert caught.value.hint
    assert (here.path / "host.json").read_bytes() == content


def test_the_machines_own_id_is_not_passed_on(here: StateDirectory, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(state, "_machine_id", lambda: "0123456789abcdef0123456789abcdef")
    here.host()
    kept = json.loads((here.path / "host.json").read_text())
    if sys.platform != "darwin":
        assert kept["machine"]
    assert "0123456789abcdef" not in (here.path / "host.json").read_text()


# --- file systems

MOUNTINFO = r"""
22 1 254:0 / / rw,relatime shared:1 - ext4 /dev/vda rw
23 22 0:21 / /proc rw,nosuid - proc proc rw
30 22 0:30 / /home rw - nfs4 server:/home rw,vers=4.2
31 30 0:31 / /home/user/local rw master:1 - xfs /dev/vdb rw
32 22 0:32 / /mnt/with\040space rw - cifs //server/share rw
33 22 0:33 / /mnt/ssh rw - fuse.sshfs user@host: rw
34 22 0:34 / /mnt/twice rw - nfs server:/x rw
35 34 0:35 / /mnt/twice rw - tmpfs tmpfs rw
36 22 0:36 / /var/lib/overlay rw - overlay overlay rw
broken line
"""

MOUNT = """\
/dev/disk3s1s1 on / (apfs, sealed, local, read-only, journaled)
devfs on /dev (devfs, local, nobrowse)
/dev/disk3s5 on /System/Volumes/Data (apfs, local, journaled, nobrowse, protect)
//user@server/share on /Volumes/bhushanji_shared (smbfs, nodev, nosuid, mounted by user)
server:/home on /Volumes/some (odd) name (nfs, nodev)
"""


@pytest.mark.parametrize(
    ("path", "kind", "network"),
    [
        ("/", "ext4", False),
        ("/homestead/x", "ext4", False),
        ("/home", "nfs4", True),
        ("/home/user/.local/state/syncd", "nfs4", True),
        ("/home/user/local/state", "xfs", False),
        ("/mnt/with space/x", "cifs", True),
        ("/mnt/ssh/x", "fuse.sshfs", True),
        ("/mnt/twice/x", "tmpfs", False),
        ("/var/lib/overlay/x", "overlay", False),
    ],
)
def test_the_file_system_of_a_path_on_linux(path: str, kind: str, network: bool) -> None:
    assert type_from_mountinfo(MOUNTINFO, path) == kind
    assert is_network(kind) is network


@pytest.mark.parametrize(
    ("path", "kind", "network"),
    [
        ("/Users/tod/state", "apfs", False),
        ("/Volumes/bhushanji_shared/state", "smbfs", True),
        ("/Volumes/some (odd) name/state", "nfs", True),
        ("/Volumes/bhushanji", "apfs", False),
    ],
)
def test_the_file_system_of_a_path_on_macos(path: str, kind: str, network: bool) -> None:
    assert type_from_mount(MOUNT, path) == kind
    assert is_network(kind) is network


def test_what_cannot_be_told_is_allowed() -> None:
    assert type_from_mountinfo("", "/x") == ""
    assert not is_network("")


def test_a_network_file_system_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(state, "file_system_type", lambda path: "nfs4")
    with pytest.raises(ConfigError, match="nfs4") as caught:
        StateDirectory.open(tmp_path / "state", create=True)
    assert "local disk" in caught.value.hint
    assert not (tmp_path / "state").exists()


def test_this_machines_own_disk_is_taken(tmp_path: Path) -> None:
    assert not is_network(state.file_system_type(tmp_path))
