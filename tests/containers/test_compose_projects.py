"""Both compose projects of deploy/ up for real on one machine, and a job through them; `python3 dev.py containers`."""

from __future__ import annotations

import json
import os
import secrets
import shutil
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from tests.support.containers import Project, loopback_address
from tests.support.containers_images import ROOT, call, image
from tests.support.daemon import Host
from tests.support.ports import free_port
from tests.support.rendered import render
from tests.support.require import require

if not os.environ.get("SYNCD_CONTAINERS"):
    pytest.skip("containers have a command of their own: python3 dev.py containers", allow_module_level=True)

pytestmark = pytest.mark.timeout(240)

PAGES = 30
PORTS = {
    "MONGODB_PORT": "27117",
    "NSQD_PORT": "14150",
    "NSQD_HTTP_PORT": "14151",
    "NSQLOOKUPD_PORT": "14161",
    "SAMBA_PORT": "23445",
}
PING = ("smbcontrol", "-s", "/etc/samba/smb.conf", "smbd", "ping")
LOOK = """
import socket, sys
for each in sys.argv[1:]:
    host, port = each.rsplit(":", 1)
    try:
        socket.create_connection((host, int(port)), 3).close()
        print(each, "open")
    except OSError as error:
        print(each, "closed")
"""


@dataclass
class Site:
    """The server's project, a worker's, and the folders behind them."""

    address: str
    server: Project
    worker: Project
    share: Path
    data: Path

    def status(self) -> dict[str, Any]:
        """Return the mirror's part of `syncd status --json` in the container."""
        said = json.loads(self.worker.run("syncd", "syncd", "status", "--json", check=False) or "{}")
        return dict(said["mirrors"][0]) if said.get("mirrors") else {}

    def holds_all(self) -> bool:
        held = self.status()
        return held.get("state") == "ok" and held.get("files") == PAGES

    def job(self, job_id: str) -> dict[str, Any]:
        return dict(
            json.loads(self.worker.run("worker-1", "worker-glue", "job", "--json", job_id, check=False) or "{}")
        )

    def submit(self) -> str:
        argv = ("worker-glue", "submit", "Bhushanji", "--languages", "en,hi", "--json")
        return str(json.loads(self.worker.run("worker-1", *argv))["job_id"])

    def finish(self, job_id: str, within_s: float = 180) -> None:
        """Wait for the job's end: exactly one result a task."""
        done: dict[str, Any] = {}

        def complete() -> object:
            done.update(self.job(job_id))
            return done.get("complete")

        self.worker.until("complete", complete, within_s, every_s=1)
        assert (done["results"], done["errors"], done["consumed_count"]) == (PAGES, 0, PAGES)


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    base = tmp_path_factory.mktemp("compose")
    base.chmod(0o755)
    base.parent.chmod(0o755)
    share, data = base / "Bhushanji", base / "data"
    for number in range(PAGES):
        language = "hi" if number % 5 == 0 else "en"
        folder = share / ("hin-typed" if language == "hi" else "eng-typed")
        folder.mkdir(parents=True, exist_ok=True)
        render(folder / f"page {number:02d} .jpg", language, seed=number)
    (base / "newsletters").mkdir()
    data.mkdir()
    for folder in (share, base / "newsletters", data):
        _give(folder, 1000)
    with loopback_address() as address:
        here = Site(address, *_projects(base, address), share, data)
        try:
            here.server.up()
            # a first look that fails is followed by the next 15 s later
            here.server.until("serving", lambda: here.server.code("samba", *PING) == 0)
            here.worker.up()
            here.worker.until("holding all", here.holds_all)
            yield here
        finally:
            here.worker.remove()
            here.server.remove()


def _give(folder: Path, uid: int) -> None:
    for path in (folder, *folder.rglob("*")):
        os.chown(path, uid, uid)


def _projects(base: Path, address: str) -> tuple[Project, Project]:
    run = os.environ["SYNCD_CONTAINERS"]
    server = Project(f"{run}-server", base / "server")
    worker = Project(f"{run}-worker", base / "worker")
    shutil.copytree(ROOT / "deploy" / "main-server", server.folder)
    shutil.copytree(ROOT / "deploy" / "worker", worker.folder)
    server.configure(
        SERVER=address,
        LISTEN=address,
        SSHD_PORT="12222",
        BHUSHANJI_DIR=str(base / "Bhushanji"),
        NEWSLETTERS_DIR=str(base / "newsletters"),
        MONGO_IMAGE=image("ferretdb"),
        NSQ_IMAGE=image("nsq"),
        SAMBA_IMAGE=image("samba"),
        SSHD_IMAGE=image("sshd"),
        **PORTS,
    )
    mongo, smb = secrets.token_urlsafe(16), secrets.token_urlsafe(16)
    server.secret("mongo-password", mongo)
    server.secret("smb-password", smb)
    subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(base / "key")], check=True, timeout=30)
    server.secret("authorized-keys", (base / "key.pub").read_text())
    worker.configure(
        SERVER=address,
        HOST_NAME="tod-mac",
        DATA_DIR=str(base / "data"),
        SAMBA_PROXY_PORT="23446",
        SYNCD_IMAGE=image("syncd"),
        WORKER_IMAGE=image("worker"),
        PROXY_IMAGE=image("proxy"),
        **{key: port for key, port in PORTS.items() if key != "NSQD_HTTP_PORT"},
    )
    worker.secret("smb-password", smb)
    login = "authSource=admin&directConnection=true"
    worker.secret("mongo-uri", f"mongodb://gvpocr:{mongo}@mongodb-proxy:27017/gvpocr?{login}")
    return server, worker


def test_a_job_goes_through_both_projects(site: Site) -> None:
    site.finish(site.submit())


def test_health_checks_and_doctor_agree(site: Site) -> None:
    for service in ("syncd", "worker-1", "mongodb-proxy", "nsqd-proxy", "nsqlookupd-proxy", "samba-proxy"):
        site.worker.podman("healthcheck run", service)
    site.worker.run("worker-2", "worker-glue", "doctor")


def test_nothing_but_the_proxies_is_reached_from_inside_a_worker(site: Site) -> None:
    direct = [f"{site.address}:{port}" for port in PORTS.values()] + ["192.0.2.1:80"]
    proxies = ["mongodb-proxy:27017", "nsqd-proxy:4150", "nsqlookupd-proxy:4161", "samba-proxy:13445"]
    for service in ("worker-1", "syncd"):
        said = site.worker.run(service, "python3", "-c", LOOK, *direct, *proxies).splitlines()
        assert said == [f"{each} closed" for each in direct] + [f"{each} open" for each in proxies]


def test_containers_are_no_root_and_write_nowhere_else(site: Site) -> None:
    for service in ("syncd", "worker-3", "samba-proxy"):
        assert site.worker.run(service, "id", "-u").strip() == "1000"
        assert site.worker.code(service, "touch", "/etc/x") != 0
        assert site.worker.run(service, "sh", "-c", "grep CapEff /proc/1/status").split()[1].strip("0") == ""


def test_a_job_outlives_killed_proxies_workers_and_a_restarted_syncd(site: Site) -> None:
    job_id = site.submit()
    site.worker.podman("kill", "worker-2", "--signal=KILL")
    site.worker.podman("kill", "nsqd-proxy", "--signal=KILL")
    site.worker.podman("start", "nsqd-proxy")
    site.worker.podman("restart", "syncd", "--time=20")
    site.worker.podman("kill", "mongodb-proxy", "--signal=KILL")
    site.worker.podman("start", "mongodb-proxy")
    site.worker.podman("start", "worker-2")
    site.finish(job_id)


def test_down_and_up_again_loses_nothing(site: Site) -> None:
    before = site.worker.run("syncd", "syncd", "manifest")
    job_id = site.submit()
    site.worker.down("worker-1", "worker-2", "worker-3", "syncd")
    site.worker.up()
    site.worker.until("holding all", site.holds_all)
    assert site.status()["last_run"]["fetched"] == 0
    assert site.worker.run("syncd", "syncd", "manifest") == before
    site.finish(job_id)


def test_a_secret_that_others_can_read_is_one_clear_line_and_no_crash_loop(site: Site) -> None:
    secret = site.worker.folder / "secrets" / "smb-password"
    content = secret.read_text()
    secret.chmod(0o644)
    try:
        site.worker.podman("restart", "syncd", "--time=20")
        site.worker.until("said", lambda: "smb-password" in site.worker.logs("syncd").splitlines()[-1])
        state = json.loads(site.worker.podman("inspect", "syncd"))[0]
        assert state["State"]["Running"]
        assert content not in site.worker.logs("syncd")
    finally:
        secret.chmod(0o600)
    site.worker.until("holding all", site.holds_all)


def test_a_data_directory_filled_by_hand_is_taken_over_without_rewriting(site: Site) -> None:
    site.worker.podman("rm -f -t 20", "syncd")
    call("podman", "volume", "rm", f"{site.worker.name}_state")
    shutil.rmtree(site.data / ".syncd")
    before = {path: path.stat().st_ino for path in site.data.rglob("*.jpg")}
    assert len(before) == PAGES
    site.worker.up("syncd")
    site.worker.until("holding all", site.holds_all)
    assert {path: path.stat().st_ino for path in site.data.rglob("*.jpg")} == before


def test_workers_in_containers_ask_a_native_syncd(site: Site, tmp_path: Path) -> None:
    """The second layout: syncd is no container; its share is the published proxy, workers reach it by TCP."""
    site.worker.remove()
    socat = require("socat", "socat")
    host, port, token = Host(tmp_path), free_port(), secrets.token_urlsafe(16)
    tmp_path.chmod(0o755)
    (tmp_path / "token").touch(mode=0o600)
    (tmp_path / "token").write_text(token)
    (tmp_path / "password").touch(mode=0o600)
    (tmp_path / "password").write_text((site.worker.folder / "secrets" / "smb-password").read_text())
    host.tables = (
        f'[api]\nlisten = "127.0.0.1:{port}"\ntoken_file = "{tmp_path / "token"}"\nallowed_hosts = ["syncd-proxy"]\n'
    )
    data = site.data.with_name("native")
    source = "smb://gvpocr@127.0.0.1:23446/gvpocr-bhushanji"
    site.worker.secret("api-token", token)
    site.worker.files = ("compose.yaml", "compose.native.yaml")
    site.worker.configure(DATA_DIR=str(data), NATIVE_SYNCD=f"{site.address}:9470")
    data.mkdir()
    # what Docker Desktop does for host.docker.internal
    forward = [socat, f"TCP4-LISTEN:9470,bind={site.address},reuseaddr,fork", f"TCP4:127.0.0.1:{port}"]
    with subprocess.Popen(forward) as docker_desktop:
        try:
            site.worker.up()
            host.add_mirror("Bhushanji", source, data, tmp_path / "password")
            with host.daemon() as daemon:
                daemon.until_ok()
                assert site.worker.code("syncd", "true") != 0  # there is no such container
                site.finish(site.submit())
        finally:
            docker_desktop.terminate()
