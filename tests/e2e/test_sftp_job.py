"""The main job over SFTP: a real sshd, key login, a pinned host key."""

from __future__ import annotations

from pathlib import Path

from tests.e2e.test_main_job import fill, same
from tests.support.cli import Syncd
from tests.support.sshd import start_sshd


def test_a_folder_behind_sshd_is_mirrored_and_a_changed_host_key_is_refused(tmp_path: Path) -> None:
    root = tmp_path / "share"
    root.mkdir()
    fill(root, 200)
    for folder in [*root.parents]:
        if folder != Path("/"):
            folder.chmod(folder.stat().st_mode | 0o055)
    syncd = Syncd(tmp_path)
    with start_sshd(tmp_path / "sshd", root=root) as server:
        keys = f'key_file = "{server.key_file}"\nknown_hosts_file = "{server.known_hosts_file}"\n'
        syncd.add_mirror("M", server.url(), tmp_path / "t", extra=keys)
        done = syncd.run_once()
        assert done.code == 0, done.err
        assert done.json["mirrors"][0]["fetched"] == 200
        assert same(root, tmp_path / "t") == ""
        assert syncd.run_once().json["mirrors"][0]["unchanged"] == 200
        lines = server.known_hosts_file.read_text().split()
        server.known_hosts_file.write_text(" ".join([*lines[:-1], lines[-1][:-6] + "AAAAAA"]) + "\n")
        done = syncd("run-once")
        assert done.code in (2, 12), done.err
        assert "Traceback" not in done.err
        assert "  next: " in done.err
