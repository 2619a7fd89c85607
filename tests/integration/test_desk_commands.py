"""worker-glue submit, check, job and stale over a real nsqd, a MongoDB-protocol server and a mirrored folder."""

from __future__ import annotations

import base64
import json
import os
import shlex
from collections.abc import Iterator
from contextlib import closing
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from tests.support.cli import Done, Syncd
from tests.support.mongo import KINDS, MongoServer, start_mongo
from tests.support.nsqd import NsqdServer, start_nsqd
from worker_glue.cli.main import main
from worker_glue.jobs.mongo import MongoJobs
from worker_glue.model import Page, Recognized, SourceOf, Task
from worker_glue.ports import Saved
from worker_glue.store.sqlite import SqliteStore
from worker_glue.tasks import entries
from worker_glue.tasks.dead import dead_body, read_dead
from worker_glue.tasks.parse import read_task

TOPIC, CHANNEL, DEAD = "bulk_ocr_file_tasks", "bulk_ocr_workers", "bulk_ocr_file_tasks_dead"
FILES = ("eng/b.PDF", "eng/a 1 .JPG", "eng/deep/a 1 .JPG", "hin/x.jpg", "hin/notes.txt", "hin/._x.jpg")
TASKS = ["B/eng/a 1 .JPG", "B/eng/b.PDF", "B/eng/deep/a 1 .JPG", "B/hin/x.jpg"]


@pytest.fixture(scope="module")
def nsqd(tmp_path_factory: pytest.TempPathFactory) -> Iterator[NsqdServer]:
    with start_nsqd(tmp_path_factory.mktemp("nsqd")) as server:
        yield server


@pytest.fixture(scope="module", params=KINDS)
def mongo(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[MongoServer]:
    with start_mongo(request.param, tmp_path_factory.mktemp("mongo")) as server:
        yield server


class Site:
    """One host with a mirror B of FILES; commands run in this process, workers are played by the test."""

    def __init__(self, base: Path, nsqd: NsqdServer, mongo: MongoServer, capsys: pytest.CaptureFixture[str]) -> None:
        self.nsqd, self.mongo, self._capsys = nsqd, mongo, capsys
        self.share, self.target = base / "share", base / "data" / "B"
        self.syncd = Syncd(base)
        for path in FILES:
            self.write(path, path.encode())
        self.syncd.add_mirror("B", f"file://{self.share}", self.target)
        assert self.syncd.run_once().code == 0

    def write(self, path: str, content: bytes) -> None:
        (self.share / path).parent.mkdir(parents=True, exist_ok=True)
        (self.share / path).write_bytes(content)
        os.utime(self.share / path, (10**9, 10**9))

    def __call__(self, *words: str) -> Done:
        self._capsys.readouterr()
        code = main(["-c", str(self.syncd.config), *words])
        told = self._capsys.readouterr()
        assert "bug" not in told.err, told.err
        return Done(code, told.out, told.err)

    def document(self, job_id: str) -> dict[str, Any]:
        with self.mongo.client() as database:
            found: dict[str, Any] = database.bulk_jobs.find_one({"job_id": job_id})
        return found

    def take(self, count: int) -> list[Task]:
        """Take tasks as a worker does."""
        tasks = [read_task(body) for body in self.nsqd.take(TOPIC, CHANNEL, count)]
        assert all(isinstance(task, Task) for task in tasks)
        assert self.nsqd.depth(TOPIC) == 0
        return tasks  # type: ignore[return-value]

    def record(self, task: Task, *, error: str = "", sha256: str = "") -> None:
        """Record a task's end as a worker does."""
        now, source = datetime.now(UTC), SourceOf(task.file_path, sha256, 1, 7)
        told: dict[str, Any] = {"message_id": os.urandom(8).hex(), "worker_id": "host-1", "now": now}
        if error:
            outcome = entries.error(task, error, **told)
        else:
            read = Recognized((Page(1, "text", None, (), 1, 1),), "null", "1")
            outcome = entries.result(task, read, source, took_s=0.1, retries=0, **told)
        with closing(MongoJobs(self.mongo.uri)) as jobs:
            assert jobs.save(outcome) is Saved.RECORDED


@pytest.fixture
def site(
    tmp_path: Path,
    nsqd: NsqdServer,
    mongo: MongoServer,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> Iterator[Site]:
    monkeypatch.setenv("MONGO_URI", mongo.uri())
    monkeypatch.setenv("NSQD_ADDRESS", f"127.0.0.1:{nsqd.tcp_port}")
    nsqd.make_channel(TOPIC, CHANNEL)
    yield Site(tmp_path, nsqd, mongo, capsys)
    nsqd.take_all(TOPIC, CHANNEL, quiet_s=0.1)


def test_a_job_as_the_backend_makes_it(site: Site) -> None:
    done = site(
        "submit", "B/eng", "B/hin", "--languages", "hi,en", "--handwriting", "--provider", "tesseract", "--json"
    )
    assert done.code == 0
    told = done.json
    assert [each["file_path"] for each in told["files"]] == TASKS
    document = site.document(told["job_id"])
    counters = {name: document[name] for name in ("status", "total_files", "published_count", "consumed_count")}
    assert counters == {"status": "processing", "total_files": 4, "published_count": 4, "consumed_count": 0}
    assert document["progress"] == {"current": 0, "total": 4, "percentage": 0, "filename": ""}
    assert document["checkpoint"] == {"results": [], "errors": [], "processed_files": [], "processed_message_ids": []}
    bodies = [json.loads(body) for body in site.nsqd.take(TOPIC, CHANNEL, 4)]
    assert [(each["file_index"], each["file_path"]) for each in bodies] == list(enumerate(TASKS))
    assert {(each["total_files"], each["processing_mode"], each["provider"], each["attempt"]) for each in bodies} == {
        (4, "single", "tesseract", 0)
    }
    assert bodies[0]["languages"] == ["hi", "en"]
    assert bodies[0]["handwriting"] is True


def test_a_dry_run_makes_nothing(site: Site) -> None:
    done = site("submit", str(site.target / "eng"), "--dry-run")
    assert done.code == 0
    assert "3 tasks would be published" in done.out
    assert site.nsqd.depth(TOPIC) == 0


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["B/eng/A 1 .jpg"], "near: B/eng/a 1 .JPG"),
        (["B/nix"], "not on the share"),
        (["B/hin/notes.txt"], "not a file that the server queues"),
        (["B/eng", "--languages", "english"], "two letters"),
        (["B/eng", "--job", "a\nb"], "printable"),
        (["B/eng", "--job=-x"], "does not begin with -"),
    ],
)
def test_what_is_wrong_makes_nothing(site: Site, words: list[str], said: str) -> None:
    done = site("submit", *words)
    assert (done.code, said in done.err) == (2, True), done.err
    assert site.nsqd.depth(TOPIC) == 0


def test_the_next_command_can_be_typed_whatever_the_jobs_id_is(site: Site) -> None:
    made = site("submit", "B/eng", "--job", "a b; $x")
    again = site("submit", "B/eng", "--job", "a b; $x")
    for said in (made.out, again.err, site("job", "a b; $x").out):
        assert "next: worker-glue job 'a b; $x'" in said
    assert "job 'a b; $x' --requeue" in site("job", "a b; $x", "--missing").out


def test_the_whole_life_of_a_job(site: Site) -> None:
    job = site("submit", "B", "--json").json["job_id"]
    assert site("submit", "B", "--job", job).code == 2
    checked = site("check", job, "--json")
    assert (checked.code, checked.json["ready"]) == (0, 4)
    first, second, third, _ = site.take(4)  # and the queue loses the last two
    site.record(first)
    site.record(second, error="the file is damaged")
    shown = site("job", job, "--json").json
    assert [shown[name] for name in ("results", "errors", "open", "complete")] == [1, 1, 2, False]
    missing = site("job", job, "--missing", "--json")
    assert missing.code == 3
    assert [each["file_path"] for each in missing.json["missing"]["tasks"]] == TASKS[2:]
    assert "deep/a 1 .JPG" in site("job", job, "--missing").out
    assert site("check", job, "--json").json["done"] == 2

    assert site("job", job, "--requeue", "--json").json == {"job_id": job, "published": 2}
    again = site.take(2)
    assert again[0].key == third.key
    for task in again:
        site.record(task)
    assert site("job", job, "--json").json["complete"]
    assert site("job", job, "--missing").code == 0
    assert site("job", job, "--requeue", "--json").json["published"] == 0

    retried = site("job", job, "--retry-errors", "--json").json
    assert retried["total_files"] == 1
    (task,) = site.take(1)
    assert (task.job_id, task.file_path, task.file_index) == (retried["job_id"], second.file_path, 0)
    site.record(task)
    assert site("job", retried["job_id"], "--json").json["complete"]
    assert site("job", retried["job_id"], "--retry-errors", "--json").json["job_id"] is None
    listed = site("job")
    assert job in listed.out
    assert retried["job_id"] in listed.out


def test_nsqd_away_after_the_job_was_made(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    address = os.environ["NSQD_ADDRESS"]
    monkeypatch.setenv("NSQD_ADDRESS", "127.0.0.1:1")
    done = site("submit", "B", "--job", "half-way")
    assert (done.code, "0 of 4 tasks are published" in done.err, "--requeue" in done.err) == (10, True, True), done.err
    assert site.document("half-way")["published_count"] == 4
    monkeypatch.setenv("NSQD_ADDRESS", address)
    assert site("job", "half-way", "--requeue", "--json").json["published"] == 4
    assert [task.file_path for task in site.take(4)] == TASKS


def test_a_job_of_the_backend(site: Site) -> None:
    with site.mongo.client() as database:
        empty = {"results": [], "errors": [], "processed_files": [], "processed_message_ids": []}
        fields = {"status": "processing", "total_files": 3, "published_count": 3, "consumed_count": 0}
        database.bulk_jobs.insert_one({"job_id": "backends", "checkpoint": empty, "progress": {}, **fields})
    body = {
        "job_id": "backends",
        "file_path": "/app/B/eng/b.PDF",
        "file_index": 1,
        "languages": ["en"],
        "provider": "p",
    }
    task = read_task(json.dumps(body).encode())
    assert isinstance(task, Task)
    site.record(task)
    assert site("check", "backends").code == 2
    missing = site("job", "backends", "--missing", "--json").json["missing"]
    assert (missing["file_indexes"], missing["listed"], missing["exact"]) == ([0, 2], False, True)
    assert "--folder" in site("job", "backends", "--requeue").err
    assert site("job", "backends", "--requeue", "--folder", "B").code == 2  # four files, three numbers
    assert site("job", "backends", "--requeue", "--folder", "B/eng", "--json").json["published"] == 2
    tasks = site.take(2)
    assert [each.file_path for each in tasks] == ["/app/B/eng/a 1 .JPG", "/app/B/eng/deep/a 1 .JPG"]
    for task in tasks:
        site.record(task)
    assert site("job", "backends", "--json").json["complete"]


def test_check(site: Site) -> None:
    done = site("check", "B", "B/hin/nix.jpg", "--json")
    assert done.code == 3
    assert (done.json["ready"], done.json["missing"]) == (4, 1)
    (site.target / "eng" / "b.PDF").unlink()
    done = site("check", "B/eng", "--json")
    assert (done.code, done.json["ready"], done.json["to_fetch"]) == (3, 2, 1)
    assert "to fetch" in site("check", "B/eng").out
    assert site("check", "--fetch", "B/eng").code == 2  # no daemon
    assert site("check", "no-such-thing").code == 3


def test_dead_letters_are_listed_and_replayed(site: Site) -> None:
    job = site("submit", "B/eng", "--json").json["job_id"]
    tasks = site.take(3)
    site.record(tasks[0], error="gave up")
    bodies = [dead_body(task.body, "unreadable", "it hung", 3, "tod-mac", "tod-mac-1", 0.0) for task in tasks[:2]]
    junk = dead_body(b"\xff junk", "bug", "not JSON", 1, "tod-mac", "tod-mac-1", 0.0)
    site.nsqd.publish(DEAD, *bodies, junk)
    for _ in range(2):  # looking leaves everything where it is
        found = site("job", "--dead", "--json")
        assert (found.code, found.json["count"], found.json["reasons"]) == (3, 3, {"unreadable": 2, "bug": 1})
    assert site("job", job, "--dead", "--json").json["count"] == 2
    assert "it hung" in site("job", "--dead").out
    done = site("job", "--dead", "--replay", "--job", job, "--json").json
    assert done == {"published": 2, "kept": 1, "settled": 1}
    again = site.take(2)
    assert sorted(task.key for task in again) == sorted(task.key for task in tasks[:2])
    assert {json.dumps(json.loads(task.body)) for task in again} == {json.dumps(json.loads(t.body)) for t in tasks[:2]}
    left = site("job", "--dead", "--json").json["messages"]
    assert [(each["reason"], each["task"]) for each in left] == [("bug", False)]
    assert "--replay" not in site("job", "--dead").out  # nothing is left that could be published
    (kept,) = site.nsqd.take_all(DEAD, "worker_glue_desk", quiet_s=1)
    assert base64.b64decode(json.loads(kept)["body_base64"]) == b"\xff junk"
    assert read_dead(kept).attempts == 1
    assert site("job", "--dead").code == 0


def test_a_dead_topic_that_cannot_be_read_is_not_empty(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NSQD_ADDRESS", "127.0.0.1:1")
    done = site("job", "--dead")
    assert (done.code, "cannot be read" in done.err) == (10, True), done.err


def test_of_several_nsqds_those_that_are_reached_are_read(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("worker_glue.desk.links.REACHED_WITHIN_S", 1.0)
    monkeypatch.setenv("NSQD_ADDRESS", f"127.0.0.1:1,127.0.0.1:{site.nsqd.tcp_port}")
    site.nsqd.publish(DEAD, dead_body(b"junk", "bug", "not JSON", 1, "tod-mac", "tod-mac-1", 0.0))
    done = site("job", "--dead", "--json")
    assert (done.code, done.json["count"]) == (3, 1)
    assert "nsqd at 127.0.0.1:1 is not reached" in done.err
    site.nsqd.take_all(DEAD, "worker_glue_desk", quiet_s=0.5)


def test_stale_results(site: Site) -> None:
    job = site("submit", "B/eng", "--json").json["job_id"]
    first, second, third = site.take(3)
    held = {each["server_path"]: each["sha256"] for each in manifest(site)}
    site.record(first, sha256=held[first.file_path])
    site.record(second, sha256=held[second.file_path])
    site.record(third)
    fresh = site("stale", "--job", job, "--json")
    assert (fresh.code, fresh.json["current"], fresh.json["unknown"]) == (0, 2, 1)
    site.write("eng/b.PDF", b"other bytes")
    os.utime(site.share / "eng/b.PDF", (10**9 + 5, 10**9 + 5))
    assert site.syncd.run_once().code == 0
    old = site("stale", "--job", job, "--json")
    assert (old.code, old.json["changed"]) == (3, 1)
    assert [each["file_path"] for each in old.json["stale"]] == [second.file_path]
    step = site("stale", "--job", job).out.splitlines()[-1].rpartition(": ")[2]
    words = shlex.split(step)
    assert words[:-2] == ["worker-glue", "submit", "B/eng/b.PDF", "--languages", "CODES"]
    assert words[-2] == "-c"
    unknown = site("stale", "--job", "nobodys")
    assert (unknown.code, unknown.err.partition(" -c ")[0]) == (
        2,
        "error: there is no job nobodys\n  next: worker-glue job",
    )


def manifest(site: Site) -> list[dict[str, Any]]:
    lines = (site.target / ".syncd" / "manifest.jsonl").read_text().splitlines()
    return [{**json.loads(line), "server_path": f"B/{json.loads(line)['path']}"} for line in lines]


def test_without_mongodb(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("MONGO_URI")
    done = site("submit", "B")
    assert (done.code, "MONGO_URI" in done.err) == (2, True)
    assert site.nsqd.depth(TOPIC) == 0
    assert site("job").code == 2
    assert site("stale").code == 15
    assert site("check", "B").code == 0


def test_stale_results_of_this_hosts_own_store(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("MONGO_URI")
    store = SqliteStore(site.syncd.state / "worker" / "results.db", worker_id="host-1")
    held = {each["server_path"]: each["sha256"] for each in manifest(site)}
    with closing(store):
        for index, (path, sha256) in enumerate([("B/eng/b.PDF", "0" * 64), ("B/hin/x.jpg", held["B/hin/x.jpg"])]):
            task = Task("j", path, index, (), False, "single", None, None, b"")
            read = Recognized((Page(1, "text", None, (), 1, 1),), "null", "1")
            told: dict[str, Any] = {"message_id": f"{index:016x}", "worker_id": "host-1", "now": datetime.now(UTC)}
            store.keep(entries.result(task, read, SourceOf(path, sha256, 1, 7), took_s=0.1, retries=0, **told))
        store.settled(task.key, Saved.RECORDED)
    done = site("stale", "--json")
    assert (done.code, done.json["changed"], done.json["current"]) == (3, 1, 1), done
    assert [each["file_path"] for each in done.json["stale"]] == ["B/eng/b.PDF"]


def test_in_a_container_that_has_the_mount_alone(
    site: Site, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for name in ("HOME", "XDG_CONFIG_HOME", "XDG_STATE_HOME"):
        monkeypatch.setenv(name, str(tmp_path / "home"))
    monkeypatch.delenv("SYNCD_CONFIG", raising=False)
    monkeypatch.setenv("SYNCD_MOUNTS", f"B={site.target}")
    (site.target / "eng" / "strangers.jpg").touch()
    capsys.readouterr()
    assert main(["submit", "/app/B/eng", "--dry-run", "--json"]) == 0
    assert [each["file_path"] for each in json.loads(capsys.readouterr().out)["files"]] == TASKS[:3]
    assert main(["submit", "B/eng/nix.jpg", "--dry-run"]) == 2  # whether it is on the share nobody can tell here
