"""What a share hides: smbd's `veto files` knows no case, and so do the names that syncd calls vetoed."""

from __future__ import annotations

from pathlib import Path

from syncd.core.filters import Filters
from syncd.core.model import ROOT, RelPath
from syncd.sources.smb.source import SmbSource
from tests.support.smbd import start_smbd

HIDDEN = ["Thumbs.db", "thumbs.db", "THUMBS.DB", ".DS_Store", ".ds_store", "._x.jpg"]


def test_what_smbd_hides_is_what_is_left_out(tmp_path: Path) -> None:
    names = [*HIDDEN, "x.jpg", "thumbs.db.jpg"]
    with start_smbd(tmp_path, share_options={"veto files": "/._*/.DS_Store/Thumbs.db/"}) as server:
        for name in names:
            (server.root / name).write_bytes(b"x")
        source = SmbSource(
            host=server.host,
            port=server.port,
            share=server.share,
            username=server.username,
            password=lambda: server.password,
        )
        try:
            (listing,) = source.scan([ROOT])
        finally:
            source.close()
    shown = {entry.name for entry in listing.entries}
    assert shown == {name for name in names if not Filters().drops_file(RelPath(name), name)}
