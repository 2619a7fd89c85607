"""The daemon itself, in this process, held against the contract of web.port.Service."""

from __future__ import annotations

import gc
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from syncd import config
from syncd.daemon.living import Daemon
from syncd.log import logger
from syncd.notify import Notifier
from syncd.web.port import Service
from tests.conformance.test_service_contract import ServiceContract
from tests.support.api_server import PATIENCE_S, eventually
from tests.support.daemon import put

CONFIG = """\
[host]
state_dir = "state"
[[mirror]]
name = "M"
source = "file://./source"
target = "data"
min_free = "0%"
settle = "0s"
every = "1h"
"""


class DaemonWorld:
    """A daemon that mirrors a local folder."""

    mirror = "M"

    def __init__(self, base: Path, daemon: Daemon) -> None:
        self.service: Service = daemon.answers
        self._source = base / "source"

    def put(self, path: str, body: bytes) -> None:
        put(self._source, path, body)

    def settle(self) -> None:
        wishes = {"mirrors": [self.mirror], "only": [], "new_target": False, "take_over": False}
        errand_id = self.service.start("run", wishes)
        eventually(lambda: bool((found := self.service.errand(errand_id)) and found.done), "the run does not end")


class TestDaemon(ServiceContract):
    """The daemon keeps the contract, as the fake does."""

    @pytest.fixture
    def world(self, tmp_path: Path) -> Iterator[DaemonWorld]:
        (tmp_path / "source").mkdir()
        put(tmp_path / "source", "first.jpg", b"an empty source would be suspicious")
        file = tmp_path / "syncd.toml"
        file.write_text(CONFIG)
        bugs: list[tuple[BaseException, str]] = []
        daemon = Daemon(
            config.load(file, {"HOME": str(tmp_path)}),
            load=lambda: config.load(file, {"HOME": str(tmp_path)}),
            log=logger(),
            bug=lambda error, where: bugs.append((error, where)),
            notifier=Notifier({}),
        )
        switching_s = sys.getswitchinterval()
        codes: list[int] = []
        thread = threading.Thread(target=lambda: codes.append(daemon.live()), name="daemon")
        thread.start()
        try:
            world = DaemonWorld(tmp_path, _ready(daemon))
            yield world
        finally:
            daemon.stop()
            thread.join(PATIENCE_S)
            sys.setswitchinterval(switching_s)
            gc.unfreeze()
        assert codes == [0]
        assert bugs == []


def _ready(daemon: Daemon) -> Daemon:
    """Wait until the first run has ended."""
    eventually(lambda: bool(daemon.kept) and set(daemon.answers.states().values()) == {"ok"}, "no first run")
    return daemon
