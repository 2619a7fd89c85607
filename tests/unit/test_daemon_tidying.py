"""What the daemon does once a minute ends it for nothing that passes by itself."""

from __future__ import annotations

from pathlib import Path
from typing import cast
from unittest.mock import MagicMock

from syncd import config
from syncd.core.errors import DiskFull
from syncd.daemon.living import Daemon
from syncd.store.catalogue import Catalogue


class FullDisk:
    """A catalogue on a disk that is full."""

    shrunk = 0

    def record_run_day(self, day: str) -> bool:
        raise DiskFull(f"no room to note {day}", hint="free some space")

    def shrink(self) -> None:
        self.shrunk += 1


def test_a_full_disk_is_told_and_does_not_end_the_daemon(tmp_path: Path) -> None:
    file = tmp_path / "config.toml"
    file.write_text('[host]\nstate_dir = "state"\n[[mirror]]\nname = "M"\nsource = "file://./s"\ntarget = "M"\n')
    settings = config.load(file, {"HOME": str(tmp_path)})
    log = MagicMock()
    daemon = Daemon(settings, load=lambda: settings, log=log, bug=lambda *_: None)
    full = FullDisk()
    daemon.catalogue = cast("Catalogue", full)
    daemon._tidy()
    assert [call.args[0] for call in log.warning.call_args_list] == ["tidy.failed"]
    assert full.shrunk == 1
