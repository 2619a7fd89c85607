"""Who holds what, over a registry in memory: what a path is taken for, and what is said of each host."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from syncd import config
from syncd.app.whereabouts import Whereabouts, call_the_roll, find
from syncd.cli.main import main
from syncd.config.settings import Settings
from syncd.core.errors import ConfigError
from syncd.ports import Bookmark, RegistryEntry
from syncd.registry.memory import MemoryRegistry

NOW_S = 1_770_000_000.0
SHARE = "smb://gvpocr@172.12.0.132:13445/gvpocr-bhushanji"


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    file = tmp_path / "syncd.toml"
    file.write_text(
        f'[[mirror]]\nname = "Bhushanji"\nsource = "{SHARE}"\ntarget = "/home/w/data/Bhushanji"\n'
        'password_env = "NOTHING"\naliases = ["old/place"]\n'
    )
    return config.load(file, {"NOTHING": "x"})


class Hosts:
    """Hosts that tell a registry of themselves."""

    def __init__(self) -> None:
        self.registry = MemoryRegistry()
        self.now_s = NOW_S
        self.registry.now_s = lambda: self.now_s

    def add(self, host_id: str, *mirrors: str, files: bool = True, whole: bool = True, name: str = "") -> None:
        told: dict[str, Any] = {"id": host_id, "name": name or f"{host_id}-mac", "version": "1", "workers": 3}
        told |= {"files": files, "mirrors": [{"name": mirror, "state": "ok"} for mirror in mirrors]}
        self.registry.beat(told)
        if files:
            self.registry.mark(host_id, Bookmark(0, "", 1, None if whole else ("", "")), None)

    def hold(self, host_id: str, server_path: str, sha256: str = "aa", generation: int = 5, size: int = 9) -> None:
        mirror = server_path.partition("/")[0]
        self.registry.record(
            host_id, [RegistryEntry(mirror, server_path, size, sha256 * 32, generation, removed=False)]
        )

    def find(self, settings: Settings, path: str) -> Whereabouts:
        return find(self.registry, settings, path)


@pytest.fixture
def hosts() -> Hosts:
    return Hosts()


@pytest.mark.parametrize(
    "spelled",
    [
        "Bhushanji/hin-typed/x y .JPG",
        "./Bhushanji/hin-typed/x y .JPG",
        "/app/Bhushanji/hin-typed/x y .JPG",
        "/mnt/sda1/mango1_home/Bhushanji/hin-typed/x y .JPG",
        "hin-typed/x y .JPG",
        "\\\\172.12.0.132\\gvpocr-bhushanji\\hin-typed\\x y .JPG",
        "smb://172.12.0.132/gvpocr-bhushanji/hin-typed/x%20y%20.JPG",
        "/home/w/data/Bhushanji/hin-typed/x y .JPG",
        "old/place/hin-typed/x y .JPG",
    ],
)
def test_every_spelling_leads_to_the_file(hosts: Hosts, settings: Settings, spelled: str) -> None:
    hosts.add("a", "Bhushanji")
    hosts.hold("a", "Bhushanji/hin-typed/x y .JPG")
    found = hosts.find(settings, spelled)
    assert (found.server_path, found.is_held, found.exit_code) == ("Bhushanji/hin-typed/x y .JPG", True, 0)


def test_a_collection_that_only_others_mirror_is_found_too(hosts: Hosts, settings: Settings) -> None:
    hosts.add("a", "newsletters")
    hosts.hold("a", "newsletters/2/x.jpg")
    for spelled in ("newsletters/2/x.jpg", "/data/newsletters/2/x.jpg", "2/x.jpg"):
        assert hosts.find(settings, spelled).server_path == "newsletters/2/x.jpg"


def test_of_several_readings_the_most_specific_that_is_held_counts(hosts: Hosts, settings: Settings) -> None:
    hosts.add("a", "Bhushanji", "newsletters")
    hosts.hold("a", "newsletters/Bhushanji/x.jpg")
    assert hosts.find(settings, "Bhushanji/x.jpg").server_path == "newsletters/Bhushanji/x.jpg"
    hosts.hold("a", "Bhushanji/x.jpg")
    assert hosts.find(settings, "Bhushanji/x.jpg").server_path == "Bhushanji/x.jpg"


def test_either_unicode_form_leads_to_the_one_that_is_held(hosts: Hosts, settings: Settings) -> None:
    hosts.add("a", "Bhushanji")
    hosts.hold("a", "Bhushanji/e\u0301.jpg")
    assert hosts.find(settings, "Bhushanji/\u00e9.jpg").server_path == "Bhushanji/e\u0301.jpg"


def test_each_host_is_said_to_hold_it_or_not_or_not_to_say(hosts: Hosts, settings: Settings) -> None:
    hosts.add("holds", "Bhushanji")
    hosts.add("lacks", "Bhushanji")
    hosts.add("mute", "Bhushanji", files=False)
    hosts.add("fills", "Bhushanji", whole=False)
    hosts.add("another", "newsletters")
    hosts.hold("holds", "Bhushanji/x.jpg", generation=1_770_000_000_000)
    found = hosts.find(settings, "Bhushanji/x.jpg")
    assert {holder.host.id: holder.held for holder in found.holders} == {
        "holds": True, "mute": None, "fills": None, "lacks": False,
    }  # fmt: skip
    assert found.holders[0].host.id == "holds"
    assert found.agree is True
    assert any("mute-mac" in remark and "registry_files = true" in remark for remark in found.remarks)
    assert any("fills-mac" in remark for remark in found.remarks)
    told = found.as_json()
    assert told["hosts"][0] == {
        "id": "holds", "name": "holds-mac", "held": True, "since": "2026-02-02T02:40:00.000Z", "size": 9,
        "sha256": "aa" * 32, "generation": 1_770_000_000_000, "last_heartbeat": "2026-02-02T02:40:00.000Z",
        "age_s": 0.0, "stale": False,
    }  # fmt: skip


def test_nobody_holds_it(hosts: Hosts, settings: Settings) -> None:
    assert hosts.find(settings, "Bhushanji/x.jpg") == (
        "Bhushanji/x.jpg",
        "Bhushanji/x.jpg",
        (),
        'database "memory" at memory',
    )
    hosts.add("a", "Bhushanji")
    found = hosts.find(settings, "x.jpg")
    assert (found.is_held, found.agree, found.exit_code) == (False, None, 3)


def test_without_files_the_mirrors_are_told_and_the_key(hosts: Hosts, settings: Settings) -> None:
    hosts.add("a", "Bhushanji", files=False)
    hosts.add("b", "newsletters", files=False)
    found = hosts.find(settings, "Bhushanji/x.jpg")
    assert [(holder.host.id, holder.held) for holder in found.holders] == [("a", None)]
    assert (found.is_held, found.exit_code) == (False, 0)
    assert "registry_files = true in [mongo]" in found.remarks[0]


def test_hosts_that_hold_other_bytes_disagree(hosts: Hosts, settings: Settings) -> None:
    for host_id, sha256 in (("a", "aa"), ("b", "bb")):
        hosts.add(host_id, "Bhushanji")
        hosts.hold(host_id, "Bhushanji/x.jpg", sha256)
    found = hosts.find(settings, "Bhushanji/x.jpg")
    assert found.agree is False
    assert "not hold the same bytes" in found.remarks[0]
    assert found.as_json()["agree"] is False


def test_a_silent_host_is_told_apart(hosts: Hosts, settings: Settings) -> None:
    hosts.add("a", "Bhushanji")
    hosts.hold("a", "Bhushanji/x.jpg")
    hosts.now_s += 119
    assert not hosts.find(settings, "x.jpg").holders[0].host.stale
    hosts.now_s += 2
    hosts.add("b", "Bhushanji")
    found = hosts.find(settings, "x.jpg")
    assert found.as_json()["hosts"][0]["stale"] is True
    assert found.remarks == ["a-mac is silent: this is what it said last"]


def test_files_of_a_host_that_was_taken_out_are_still_shown(hosts: Hosts, settings: Settings) -> None:
    hosts.add("b", "Bhushanji")
    hosts.hold("a", "Bhushanji/x.jpg")
    found = hosts.find(settings, "Bhushanji/x.jpg")
    assert [(holder.host.name, holder.held, holder.host.at) for holder in found.holders] == [
        ("a", True, ""),
        ("b-mac", False, "2026-02-02T02:40:00.000Z"),
    ]


@pytest.mark.parametrize("path", ["", "/", "a/../b", "a\nb", "x" * 20_000])
def test_what_is_no_path_is_refused(hosts: Hosts, settings: Settings, path: str) -> None:
    with pytest.raises(ConfigError):
        hosts.find(settings, path)
    assert not hosts.registry.calls


def test_live_namesakes_are_remarked_on(hosts: Hosts) -> None:
    hosts.add("a", name="same")
    hosts.now_s += 300
    hosts.add("b", name="same")
    assert call_the_roll(hosts.registry).remarks == []
    hosts.add("c", name="same")
    (remark,) = call_the_roll(hosts.registry).remarks
    assert '2 live hosts are called "same" (ids b, c)' in remark


@pytest.mark.parametrize("words", [["hosts"], ["where", "x"], ["where", "x", "--json"]])
def test_without_a_mongodb_the_key_is_named(
    tmp_path: Path, words: list[str], capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("MONGO_URI", raising=False)
    file = tmp_path / "syncd.toml"
    file.write_text(f'[[mirror]]\nname = "M"\nsource = "file://{tmp_path}/share"\ntarget = "{tmp_path}/t"\n')
    assert main(["-c", str(file), *words]) == 2
    said = capsys.readouterr().err
    assert "uri_file" in said
    assert "[mongo]" in said
