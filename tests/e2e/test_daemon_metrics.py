"""What a running daemon shows to Prometheus: every metric that applies, in a form that promtool accepts."""

from __future__ import annotations

import contextlib
import http.client
import re
import subprocess
from pathlib import Path

import pytest

from syncd.web.metrics import NAMES
from tests.support.api_server import eventually
from tests.support.consumer import TOPIC
from tests.support.daemon import Host, put
from tests.support.nsqd import start_lookupd, start_nsqd
from tests.support.ports import free_port
from tests.support.require import require

WITH_FAILURES = {"syncd_mirror_failed_files", "syncd_failures_total"}
WITH_NSQD = {"syncd_topic_channels"}


@pytest.fixture
def host(tmp_path: Path) -> Host:
    host = Host(tmp_path)
    source = tmp_path / "source"
    (source / "a").mkdir(parents=True)
    for n in range(5):
        (source / "a" / f"page {n}.jpg").write_bytes(b"page" * n)
    host.add_mirror("M", f"file://{source}", tmp_path / "data" / "M")
    return host


@pytest.fixture
def port(host: Host) -> int:
    """A port on which the daemon's API listens too, with a token."""
    token = host.base / "api-token"
    token.write_text("0123456789abcdef0123456789abcdef\n")
    token.chmod(0o600)
    port = free_port()
    host.tables = f'[api]\nlisten = "127.0.0.1:{port}"\ntoken_file = "{token}"\n[alerts]\ncommand = ["true"]\n'
    host.write()
    return port


def test_every_metric_that_applies_is_shown_and_promtool_accepts_them(host: Host, port: int) -> None:
    promtool = require("promtool", "prometheus")
    with host.daemon() as daemon:
        daemon.until_ok()
        daemon.api.resolve("M/a/page 1.jpg")
        daemon.api.release("unknown")
        assert get(port, "/nothing/here")[0] == 401
        daemon.until(lambda: 'call="other"' in scrape(port), "an answer was counted")
        text = scrape(port)
        assert daemon.stop() == 0
    shown = set(re.findall(r"^# TYPE (\S+) ", text, re.MULTILINE))
    assert shown == set(NAMES) - WITH_FAILURES - WITH_NSQD
    for line in (
        'syncd_events_total{event="ready",mirror="M"} 5.0',
        'syncd_api_requests_total{call="POST /api/v1/resolve",status="200"} 1.0',
        'syncd_api_requests_total{call="DELETE /api/v1/leases/*",status="404"} 1.0',
        'syncd_api_requests_total{call="other",status="401"} 1.0',
        'syncd_mirror_state{mirror="M",state="ok"} 1.0',
        'syncd_hop_up{hop="source",mirror="M"} 1.0',
        'syncd_alerts{rule="halted"} 0.0',
    ):
        assert line in text
    assert latency_s(text, "source", "M") < 10
    done = subprocess.run([promtool, "check", "metrics"], input=text.encode(), capture_output=True, timeout=60)
    assert done.returncode == 0, done.stdout + done.stderr
    assert not done.stdout + done.stderr, "no advice either"


def test_what_shows_only_where_something_fails_and_where_there_is_an_nsqd(host: Host, port: int) -> None:
    with start_lookupd(host.base) as lookupd, start_nsqd(host.base, lookupd=lookupd) as nsqd:
        nsqd.make_channel(TOPIC, "readers")
        eventually(lambda: bool(lookupd.http(f"/channels?topic={TOPIC}")["channels"]), "nsqlookupd knows the channel")
        host.tables += f'[nsq]\nnsqd_tcp_address = "127.0.0.1:{nsqd.tcp_port}"\n'
        host.tables += f'lookupd_http_addresses = ["127.0.0.1:{lookupd.http_port}"]\n'
        host.write()
        with host.daemon() as daemon:
            daemon.until_ok()
            put(host.base / "data" / "M", "blocked.jpg/notes.txt", b"a person's folder, where a file is to go")
            put(host.base / "source", "blocked.jpg", b"page")
            assert host("run-once").code == 3
            daemon.until(lambda: daemon.status["announcing"]["owed"] == 0, "all is announced")
            wanted = WITH_FAILURES | WITH_NSQD
            daemon.until(lambda: all(f"# TYPE {name} " in scrape(port) for name in wanted), "they are shown")
            text = scrape(port)
            assert daemon.stop() == 0
    assert re.search(r'^syncd_failures_total{mirror="M",reason="[a-z_]+"} [1-9]', text, re.MULTILINE)
    assert f'syncd_topic_channels{{topic="{TOPIC}"}} 1.0' in text
    assert 'syncd_hop_up{hop="nsqd",mirror=""} 1.0' in text
    assert 0 < latency_s(text, "nsqd", "") < 10


def latency_s(text: str, hop: str, mirror: str) -> float:
    found = re.search(rf'^syncd_hop_latency_seconds{{hop="{hop}",mirror="{mirror}"}} (\S+)$', text, re.MULTILINE)
    assert found is not None, text
    return float(found[1])


def scrape(port: int) -> str:
    """Return what /metrics says, asked as Prometheus does: over TCP, without the token."""
    status, text = get(port, "/metrics")
    assert status == 200
    return text


def get(port: int, path: str) -> tuple[int, str]:
    link = http.client.HTTPConnection("127.0.0.1", port, timeout=20)
    with contextlib.closing(link):
        link.request("GET", path)
        answer = link.getresponse()
        return answer.status, answer.read().decode()


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
