"""A file that took another's name, with its size and mtime: only its id tells (Samba lists mtimes as change times)."""

from __future__ import annotations

import os
from pathlib import Path

from tests.support.cli import Syncd
from tests.support.smbd import SmbServer, start_smbd

MTIME_S = 1_700_000_000


def put(path: Path, content: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(content)
    os.utime(path, (MTIME_S, MTIME_S))


def run(server: SmbServer, syncd: Syncd) -> dict[str, int]:
    done = syncd.run_once()
    assert done.code == 0, done.err
    for path in server.root.rglob("*.jpg"):
        if "loop" not in path.parts:
            assert (syncd.base / "data" / path.relative_to(server.root)).read_bytes() == path.read_bytes(), path
    (mirror,) = done.json["mirrors"]
    return {key: mirror[key] for key in ("fetched", "renamed", "unchanged", "refused")}


def test_names_that_change_hands_on_a_real_server(tmp_path: Path) -> None:
    for folder in ("smbd", "host"):
        (tmp_path / folder).mkdir()
    with start_smbd(tmp_path / "smbd") as server:
        one, two = server.root / "set" / "one", server.root / "set" / "two"
        for path in (one / "a.jpg", one / "b.jpg", two / "c.jpg"):
            put(path, path.name)
        syncd = Syncd(tmp_path / "host")
        syncd.add_mirror("M", server.url(), syncd.base / "data", server.password_file, 'settle = "0s"')
        assert run(server, syncd) == {"fetched": 3, "renamed": 0, "unchanged": 0, "refused": 0}
        assert run(server, syncd) == {"fetched": 0, "renamed": 0, "unchanged": 3, "refused": 0}

        (one / "a.jpg").rename(one / "tmp")
        (one / "b.jpg").rename(one / "a.jpg")
        (one / "tmp").rename(one / "b.jpg")
        assert run(server, syncd)["fetched"] == 2, "two that swapped their names"

        put(server.root / "other", "C.JPG")
        (server.root / "other").replace(two / "c.jpg")
        assert run(server, syncd)["fetched"] == 1, "one that was replaced"

        (one / "a.jpg").rename(one / "moved.jpg")
        assert run(server, syncd)["renamed"] == 1

        (one / "loop").symlink_to(server.root / "set")
        put(two / "new" / "d.jpg", "d")
        assert run(server, syncd) == {"fetched": 1, "renamed": 0, "unchanged": 3, "refused": 1}
