"""worker-glue doctor against a whole site, as a container sees it: no file, the environment alone."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from syncd.client.heartbeats import FOLDER, LATE_S
from tests.support.mongo import DATABASE
from tests.support.ocr_site import MIRROR, NOWHERE, Site, WorkerHost, start_site
from tests.support.ports import free_port
from worker_glue.health.beat import Beat
from worker_glue.running.ids import claim

FILES = {"eng-typed/letter 1 .pdf": b"x" * 1000, "hin-typed/पत्र.JPG": b"y" * 2000, "a.pdf": b"z"}


class Container(NamedTuple):
    """What a worker's container is told, and where its home is."""

    site: Site
    host: WorkerHost
    home: Path
    env: Mapping[str, str]

    def doctor(self, *words: str, **env: str) -> tuple[int, str]:
        done = subprocess.run(
            [sys.executable, "-m", "worker_glue", "doctor", *words],
            capture_output=True,
            timeout=110,
            env={**self.env, **env},
            check=False,
        )
        assert done.stderr == b"", done.stderr.decode()
        return done.returncode, done.stdout.decode()

    def checks(self, **env: str) -> tuple[int, dict[str, list[dict[str, Any]]]]:
        """Return the exit code, and the checks by group."""
        code, out = self.doctor("--json", **env)
        found: dict[str, list[dict[str, Any]]] = {}
        for check in json.loads(out)["checks"]:
            found.setdefault(check["group"], []).append(check)
        return code, found


@pytest.fixture(scope="module")
def container(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Container]:
    base = tmp_path_factory.mktemp("doctor")
    token = base / "token"
    token.write_text("a-token-of-some-length\n")
    token.chmod(0o600)
    port = free_port()
    api = f'[api]\nlisten = "127.0.0.1:{port}"\ntoken_file = "{token}"\n'
    with start_site(base) as site:
        for path, content in FILES.items():
            file = site.share.root / path
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_bytes(content)
        with site.host(worker=api) as host:
            home = base / "home"
            home.mkdir()
            kept = {name: os.environ[name] for name in ("PATH", "LANG") if name in os.environ}
            env = {
                **kept,
                "PYTHONPATH": str(Path(__file__).parents[2]),
                "PYTHONIOENCODING": "utf-8",
                "HOME": str(home),
                "MONGO_URI": site.mongo.uri(port=host.proxies.mongo.port),
                "NSQD_ADDRESS": f"127.0.0.1:{host.proxies.nsqd.port}",
                "NSQLOOKUPD_ADDRESSES": f"127.0.0.1:{host.proxies.lookupd.port}",
                "WORKER_ID": "container-1",
                "SYNCD_API": f"http://127.0.0.1:{port}",
                "SYNCD_API_TOKEN_FILE": str(token),
                "SYNCD_MOUNTS": f"{MIRROR}={host.target}",
            }
            yield Container(site, host, home, env)


def _failed(checks: list[dict[str, Any]]) -> list[str]:
    return [check["name"] for check in checks if check["status"] == "fail"]


def test_a_container_that_is_set_up_well_passes(container: Container) -> None:
    code, groups = container.checks()
    assert code == 0, groups
    assert list(groups) == ["host", "nsqd", "nsqlookupd", "mongodb", "files", "ocr"]
    said = " ".join(check["seen"] for check in groups["files"])
    assert "accepts the token" in said
    assert f"{container.host.target} shows the mirror of tod-mac" in said
    assert "3 files have the size that the daemon says" in said
    (mapping,) = [check for check in groups["nsqlookupd"] if check["name"] == "mapping"]
    assert mapping["status"] == "warn"
    line = f'address_map = {{ "{NOWHERE}:{container.site.nsqd.tcp_port}" = "{container.env["NSQD_ADDRESS"]}" }}'
    assert line in mapping["todo"]
    assert any(check["name"] == "clock" for check in groups["mongodb"])
    assert any("container-1" in check["seen"] for check in groups["host"])
    (clocks,) = [check for check in groups["host"] if check["name"] == "largest difference"]
    assert clocks["status"] == "ok"
    assert "the farthest of 3 compared" in clocks["seen"], "MongoDB's, nsqlookupd's, the daemon's"


def test_a_mapped_nsqd_is_dialled(container: Container, tmp_path: Path) -> None:
    file = tmp_path / "config.toml"
    told, proxy = f"{NOWHERE}:{container.site.nsqd.tcp_port}", container.env["NSQD_ADDRESS"]
    file.write_text(f'[nsq]\naddress_map = {{ "{told}" = "{proxy}" }}\n')
    code, groups = container.checks(SYNCD_CONFIG=str(file))
    assert code == 0, groups
    (mapping,) = [check for check in groups["nsqlookupd"] if check["name"] == "mapping"]
    assert mapping["status"] == "ok"
    assert mapping["seen"].startswith(f"{told} -> {proxy} is nsqd ")


def test_for_people_it_is_lines_and_no_secret(container: Container) -> None:
    code, shown = container.doctor()
    assert code == 0, shown
    assert shown.splitlines()[-1].endswith("0 failed")
    assert container.site.mongo.login.password not in shown
    assert "a-token" not in shown


def test_what_is_away_is_named_with_the_next_step(container: Container) -> None:
    for proxy in container.host.proxies.all:
        proxy.cut()
    try:
        code, groups = container.checks()
    finally:
        for proxy in container.host.proxies.all:
            proxy.restore()
    assert code == 3
    assert _failed(groups["nsqd"]) == ["nsqd"]
    assert _failed(groups["nsqlookupd"]) == ["nsqlookupd"]
    assert _failed(groups["mongodb"]) == ["login"]
    assert _failed(groups["files"]) == []
    assert all(check["todo"] for group in groups.values() for check in group if check["status"] == "fail")


def test_another_program_on_nsqds_port_is_told_from_nsqd(container: Container) -> None:
    code, groups = container.checks(NSQD_ADDRESS=f"127.0.0.1:{container.site.mongo.port}")
    assert code == 3
    assert "is not nsqd" in groups["nsqd"][0]["seen"] or "does not answer" in groups["nsqd"][0]["seen"]


def test_a_refused_login_is_told_without_the_password(container: Container) -> None:
    uri = f"mongodb://somebody:wr0ng-s3cret@127.0.0.1:{container.host.proxies.mongo.port}/{DATABASE}?authSource=admin"
    code, groups = container.checks(MONGO_URI=uri)
    assert code == 3
    (login,) = [check for check in groups["mongodb"] if check["name"] == "login"]
    assert "login refused" in login["seen"]
    assert "wr0ng" not in json.dumps(groups)


def test_a_wrong_token_and_a_wrong_address_are_told(container: Container, tmp_path: Path) -> None:
    token = tmp_path / "token"
    token.write_text("another\n")
    code, groups = container.checks(SYNCD_API_TOKEN_FILE=str(token))
    assert code == 3
    assert _failed(groups["files"]) == ["daemon"], "the mirror can be seen all the same"
    code, groups = container.checks(SYNCD_API="127.0.0.1:1")
    assert code == 3
    assert "configuration" in _failed(groups["files"])


def test_a_mount_that_shows_something_else_is_told(container: Container, tmp_path: Path) -> None:
    code, groups = container.checks(SYNCD_MOUNTS=f"{MIRROR}={tmp_path / 'none'}")
    assert (code, _failed(groups["files"])) == (3, [MIRROR])
    assert "SYNCD_MOUNTS" in groups["files"][-1]["todo"]
    code, groups = container.checks(SYNCD_MOUNTS=f"{MIRROR}={tmp_path}")
    assert "no .syncd/owner" in groups["files"][-1]["seen"]
    old = tmp_path / "old"
    shutil.copytree(container.host.target, old)
    (old / "a.pdf").write_bytes(b"another size")
    code, groups = container.checks(SYNCD_MOUNTS=f"{MIRROR}={old}")
    assert (code, _failed(groups["files"])) == (3, [MIRROR])
    assert "a.pdf: 12 bytes instead of 1" in groups["files"][-1]["seen"]
    code, groups = container.checks(SYNCD_MOUNTS=f"newsletters={old}")
    assert "shows the mirror 'Bhushanji', not 'newsletters'" in " ".join(each["seen"] for each in groups["files"])


def test_an_engine_that_cannot_be_used_and_a_state_that_cannot_be_written(container: Container, tmp_path: Path) -> None:
    file = tmp_path / "config.toml"
    (tmp_path / "state").write_text("in the way")
    file.write_text(f'[host]\nstate_dir = "{tmp_path}/state"\n[worker]\nengine = "tesserakt"\n')
    code, groups = container.checks(SYNCD_CONFIG=str(file), WORKER_ID="${HOSTNAME}")
    assert code == 3
    assert _failed(groups["host"]) == ["state"]
    assert "worker id" in [check["name"] for check in groups["host"] if check["status"] == "warn"]
    assert _failed(groups["ocr"]) == ["engine"]


def test_live_goes_by_the_heartbeats_of_those_that_run(container: Container) -> None:
    folder = container.home / ".local/state/syncd" / FOLDER
    assert container.doctor("--live")[0] == 3
    folder.mkdir(parents=True, exist_ok=True)
    (held,) = claim(folder, iter(["container-1"]), 1)
    try:
        Beat(folder, "container-1").tell(state="working")
        assert container.doctor("--live") == (0, "container-1 working\n")
        Beat(folder, "container-1", clock=lambda: time.time() - LATE_S - 10).tell(state="idle")
        code, said = container.doctor("--live", "--json")
        assert code == 3
        assert json.loads(said) == {"live": False, "seen": "silent for more than 90 s: container-1"}
    finally:
        held.release(folder)
