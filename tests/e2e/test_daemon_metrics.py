"""What a running daemon shows to Prometheus: every metric that applies, in a form that promtool accepts."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

import pytest

from syncd.web.metrics import NAMES
from tests.support.daemon import Host
from tests.support.require import require

ELSEWHERE = {
    "syncd_mirror_failed_files",  # nothing fails here
    "syncd_failures_total",
    "syncd_topic_channels",  # there is no nsqlookupd
}


@pytest.fixture
def host(tmp_path: Path) -> Host:
    host = Host(tmp_path)
    source = tmp_path / "source"
    (source / "a").mkdir(parents=True)
    for n in range(5):
        (source / "a" / f"page {n}.jpg").write_bytes(b"page" * n)
    host.add_mirror("M", f"file://{source}", tmp_path / "data" / "M")
    return host


def test_every_metric_that_applies_is_shown_and_promtool_accepts_them(host: Host) -> None:
    promtool = require("promtool", "prometheus")
    with host.daemon() as daemon:
        daemon.until_ok()
        daemon.api.resolve("M/a/page 1.jpg")
        daemon.until(lambda: "syncd_api_requests_total" in scrape(host), "an answer was counted")
        text = scrape(host)
        assert daemon.stop() == 0
    shown = set(re.findall(r"^# TYPE (\S+) ", text, re.MULTILINE))
    assert {name for name in NAMES if name not in shown} <= ELSEWHERE
    assert 'syncd_events_total{event="ready",mirror="M"} 5.0' in text
    assert 'syncd_api_requests_total{call="POST /api/v1/resolve",status="200"} 1.0' in text
    assert 'syncd_mirror_state{mirror="M",state="ok"} 1.0' in text
    done = subprocess.run([promtool, "check", "metrics"], input=text.encode(), capture_output=True, timeout=60)
    assert done.returncode == 0, done.stdout + done.stderr


def scrape(host: Host) -> str:
    """Return what /metrics says, over the socket."""
    import http.client
    import socket

    link = http.client.HTTPConnection("localhost")
    link.sock = socket.socket(socket.AF_UNIX)
    link.sock.connect(str(host.state / "run" / "syncd.sock"))
    try:
        link.request("GET", "/metrics")
        return link.getresponse().read().decode()
    finally:
        link.close()


def test_doctor_shows_what_the_daemon_finds_too(host: Host, tmp_path: Path) -> None:
    with host.daemon() as daemon:
        daemon.until_ok()
        done = host("doctor", "--json")
        assert done.code == 0, done.out
        seen = {check["name"]: check for check in done.json["checks"] if check["group"] == "daemon"}
        assert seen["in the daemon"]["status"] == "ok"
        assert not seen["in the daemon"]["seen"].startswith("0 ")
        (tmp_path / "source").rename(tmp_path / "unmounted")
        done = host("doctor", "--json")
        assert done.code == 3
        answers = [check for check in done.json["checks"] if check["seen"].startswith("in the daemon, M:")]
        assert answers, "both answers are shown"
        assert daemon.stop() == 0
