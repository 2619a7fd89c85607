"""Which NSQ the announcements are read from, where the caller names none."""

from __future__ import annotations

from pathlib import Path

import pytest

import worker_glue
from syncd.core.errors import ConfigError
from worker_glue import watching
from worker_glue.nsq import Where
from worker_glue.resolver import Resolver

NOWHERE = {"SYNCD_CONFIG": "/nowhere/syncd.toml"}
CONFIG = """[host]
state_dir = "{0}/state"
[[mirror]]
name = "M"
source = "file:///nowhere/M"
target = "{0}/M"
[nsq]
nsqd_tcp_address = "127.0.0.1:1"
topic = "ours"
"""


class Seen:
    """Stands for Watch."""

    def __init__(self, channel: str, topic: str, where: Where, say: object) -> None:
        self.told = channel, topic, list(where.nsqd), list(where.lookupd)


@pytest.fixture(autouse=True)
def _seen(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(watching, "Watch", Seen)


def told(files: Resolver, **given: object) -> object:
    found: object = files.watch("c", **given)  # type: ignore[arg-type]
    assert isinstance(found, Seen)
    return found.told


def test_the_environment_or_the_configuration_says_where(tmp_path: Path) -> None:
    file = tmp_path / "syncd.toml"
    file.write_text(CONFIG.format(tmp_path))
    env = {"NSQD_ADDRESS": "127.0.0.1:2", "NSQLOOKUPD_ADDRESSES": "127.0.0.1:3"}
    assert told(Resolver(file, env={})) == ("c", "ours", [("127.0.0.1", 1)], [])
    assert told(Resolver(file, env=env)) == ("c", "ours", [("127.0.0.1", 2)], [("127.0.0.1", 3)])
    assert told(Resolver(env=NOWHERE | env)) == ("c", "file_sync_ready", [("127.0.0.1", 2)], [("127.0.0.1", 3)])
    assert told(Resolver(file, env=env), nsqd=[("h", 4)], topic="t") == ("c", "t", [("h", 4)], [])


def test_nowhere_to_read_from_is_an_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ConfigError, match="NSQD_ADDRESS"):
        Resolver(env=NOWHERE).watch("c")
    broken = tmp_path / "syncd.toml"
    broken.write_text("[nsq]\ntopics = 1\n")
    with pytest.raises(ConfigError, match="has 1 problem"):
        Resolver(broken, env={}).watch("c")
    monkeypatch.setattr(worker_glue, "_default", lambda: Resolver(env=NOWHERE | {"NSQD_ADDRESS": "127.0.0.1:2"}))
    assert isinstance(worker_glue.watch("c"), Seen)
