"""The daemon tells people: once when it begins and once when it is over, whatever else happens meanwhile."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from syncd.alerts.queue import look
from syncd.alerts.rules import Queue
from tests.support.daemon import Daemon, Host, fill
from tests.support.ferretdb import start_ferretdb
from tests.support.nsqd import start_nsqd
from tests.support.ports import free_port
from tests.support.webhook import WebhookServer, start_webhook

OFTEN = 'every = "1h"\nsettle = "0.01s"\n'
QUICK = 'every = "1s"\nhold = "1s"\nfailing_after = "1s"\n'
JOB = "3f0c8b1e-6f0a-4a52-9d55-0c1de4a1a3a7"
TASKS, WORKERS = "bulk_ocr_file_tasks", "bulk_ocr_workers"
LOOKS_S = 2.0
"""Time for several looks: what would be told twice would have been by then."""


@pytest.fixture
def hook() -> Iterator[WebhookServer]:
    with start_webhook() as server:
        yield server


@pytest.fixture
def host(tmp_path: Path) -> Host:
    """A host that mirrors 30 files of a local folder as M."""
    fill(tmp_path / "source", 30)
    host = Host(tmp_path)
    host.add_mirror("M", f"file://{tmp_path / 'source'}", tmp_path / "data" / "M", extra=OFTEN)
    return host


def told_by(host: Host, url: str, more: str = "") -> None:
    secret = host.base / "webhook-url"
    secret.write_text(f"{url}\n")
    secret.chmod(0o600)
    host.tables = f'[alerts]\nwebhook_file = "{secret}"\n{QUICK}{more}\n'
    host.write()


def halt(daemon: Daemon, host: Host) -> None:
    """Let so many files vanish from the source that a person has to decide."""
    for path in sorted((host.base / "source").rglob("*.*"))[:12]:
        path.unlink()
    for _ in range(2):
        host.run_once()
    daemon.until_state("M", "halted")


def test_a_halted_mirror_begins_once_and_is_over_once(host: Host, hook: WebhookServer) -> None:
    told_by(host, hook.url)
    with host.daemon() as daemon:
        daemon.until_ok()
        assert hook.notices == [], "all is well"
        halt(daemon, host)
        daemon.until(lambda: hook.accepted, "it is told")
        time.sleep(LOOKS_S)
        daemon.kill()
        daemon.start()
        daemon.until_state("M", "halted")
        time.sleep(LOOKS_S)
        (notice,) = hook.accepted
        (alert,) = notice["begun"]
        assert (alert["key"], alert["severity"], notice["host"]) == ("halted M", "critical", "tod-mac")
        assert "syncd approve --mirror M" in alert["remedy"]
        listed = host("alerts", "list", "--json").json["alerts"]
        assert [each["key"] for each in listed] == ["halted M"]
        assert host("approve", "--mirror", "M", "--yes").code == 0
        daemon.until(lambda: len(hook.accepted) == 2, "its end is told")
        time.sleep(LOOKS_S)
        assert hook.told("begun") == hook.told("ended") == ["halted M"]
        assert host("alerts", "list").out.startswith("no alerts")


def test_a_webhook_that_stalls_or_fails_holds_nothing_up_and_is_told_in_the_end(
    host: Host, hook: WebhookServer, tmp_path: Path
) -> None:
    seen = tmp_path / "seen"
    hook.status, hook.slow_s = 500, 3.0
    told_by(host, hook.url, f'command = ["/bin/sh", "-c", "cat >> {seen}; echo >> {seen}"]')
    with host.daemon() as daemon:
        daemon.until_ok()
        halt(daemon, host)
        daemon.until(lambda: seen.exists() and "halted M" in seen.read_text(), "the other channel is told")
        fill(tmp_path / "source" / "more", 3)
        daemon.until(lambda: daemon.mirror("M")["files"] == 33, "the mirror goes on, told by a hint")
        daemon.until(lambda: hook.notices, "the webhook was tried")
        hook.slow_s = 0.0
        daemon.until_logged("event=alerts.undelivered")
        assert "s3cret" not in daemon.log
        hook.status = 200
        daemon.until(lambda: hook.accepted, "it is told when it takes messages again")
        daemon.until_logged("event=alerts.delivered_again")
        assert hook.told("begun") == ["halted M"]
        assert daemon.log.count("event=alerts.undelivered") == 1
        assert len(seen.read_text().splitlines()) == 1
        assert json.loads(seen.read_text())["begun"][0]["key"] == "halted M"


def test_a_reload_tells_nothing_twice_and_a_new_receiver_takes_over(host: Host, hook: WebhookServer) -> None:
    told_by(host, hook.url)
    with host.daemon() as daemon:
        daemon.until_ok()
        halt(daemon, host)
        daemon.until(lambda: hook.accepted, "it is told")
        since = len(daemon.log)
        told_by(host, hook.url, 'stuck_after = "20m"')
        daemon.until_logged("event=config.reloaded", since)
        time.sleep(LOOKS_S)
        assert hook.told("begun") == ["halted M"]
        since = len(daemon.log)
        host.tables = ""
        host.write()
        daemon.until_logged("event=config.reloaded", since)
        assert host("alerts", "list").code == 2


def test_a_job_that_is_stuck_is_told_with_the_state_of_its_queue(
    host: Host, hook: WebhookServer, tmp_path: Path
) -> None:
    with start_ferretdb(tmp_path / "mongo") as mongo, start_nsqd(tmp_path / "nsq") as nsqd:
        nsqd.make_channel(TASKS, WORKERS)
        uri = tmp_path / "uri"
        uri.write_text(mongo.uri())
        uri.chmod(0o600)
        with mongo.client() as db:
            db.bulk_jobs.insert_one(
                {"job_id": JOB, "status": "processing", "published_count": 30, "consumed_count": 12}
            )
        told_by(host, hook.url, f'stuck_after = "1s"\nnsqd_http_addresses = ["127.0.0.1:{nsqd.http_port}"]')
        host.tables += f'[mongo]\nuri_file = "{uri}"\n'
        host.write()
        with host.daemon() as daemon:
            daemon.until(lambda: hook.accepted, "it is told")
            (alert,) = [alert for notice in hook.accepted for alert in notice["begun"] if alert["rule"] == "job"]
            assert "12 of 30 tasks are done, and the queue is empty" in alert["text"]
            assert alert["remedy"] == f"worker-glue job {JOB} --requeue"
            with mongo.client() as db:
                db.bulk_jobs.update_one({"job_id": JOB}, {"$set": {"consumed_count": 30, "status": "completed"}})
            daemon.until(lambda: hook.told("ended"), "its end is told")
            assert hook.told("begun") == hook.told("ended") == [f"job {JOB}"]
        nsqd.publish(TASKS, b"one", b"two")
        address = f"127.0.0.1:{nsqd.http_port}"
        assert look([address], TASKS, WORKERS) == Queue(2, 0)
        assert look([address, f"127.0.0.1:{free_port()}"], TASKS, WORKERS) is None, "one nsqd is not known"
        assert look([], TASKS, WORKERS) is None


def test_alerts_test_says_of_each_channel_what_happened(host: Host, hook: WebhookServer, tmp_path: Path) -> None:
    secret = tmp_path / "url"
    secret.write_text(hook.url + "\n")
    secret.chmod(0o600)
    host.tables = f'[alerts]\nwebhook_file = "{secret}"\ncommand = ["cat"]\n'
    host.write()
    done = host("alerts", "test")
    assert (done.code, done.out) == (0, "webhook: sent\ncommand: sent\n"), done.err
    assert hook.accepted[0]["test"] is True
    hook.status = 500
    mail = f'mail_to = ["a@example.org"]\nmail_server = "127.0.0.1:{free_port()}"\n'
    host.tables = f'[alerts]\nwebhook_file = "{secret}"\ncommand = ["/no/such/program"]\n{mail}'
    host.write()
    done = host("alerts", "test")
    assert done.code == 3
    assert "webhook: the webhook answers with HTTP status 500" in done.out
    assert "command: /no/such/program: no such file" in done.out
    assert "mail: 127.0.0.1" in done.out
    assert "s3cret" not in done.out + done.err
    assert [each["ok"] for each in host("alerts", "test", "--json").json["channels"]] == [False] * 3
    secret.unlink()
    assert host("alerts", "test").code == 2
