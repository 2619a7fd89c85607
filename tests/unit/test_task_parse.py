"""Messages of every sort -> tasks, or what is left of them."""

from __future__ import annotations

import json
import random
from datetime import datetime, timedelta, timezone
from typing import Any

import bson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from worker_glue.model import Task
from worker_glue.tasks.parse import INDEX_MAX, JOB_ID_MAX, PATH_MAX, Malformed, new_task, passed_on, read_task

NOW = datetime(2026, 2, 1, 15, 30, 0, 125000, tzinfo=timezone(timedelta(hours=5, minutes=30)))
AS_PUBLISHED = {
    "job_id": "6f0c1a52-0d1f-4f0e-9f3e-1d2c3b4a5968",
    "file_path": "Bhushanji/hin-typed/Patra  3, Haridwar (2) .jpg",
    "file_index": 7,
    "total_files": 16,
    "processing_mode": "single",
    "languages": ["hi", "en"],
    "handwriting": True,
    "attempt": 0,
    "enqueued_at": "2026-02-01T10:00:00.125000",
    "provider": "chrome_lens",
}


def body(**changes: Any) -> bytes:
    return json.dumps({**AS_PUBLISHED, **changes}).encode()


def task(**changes: Any) -> Task:
    found = read_task(body(**changes))
    assert isinstance(found, Task), found
    return found


def wrong(**changes: Any) -> tuple[str, Task]:
    found = read_task(body(**changes))
    assert isinstance(found, Malformed), found
    assert found.task is not None
    return found.why, found.task


def test_a_task_as_the_backend_publishes_it() -> None:
    assert task() == Task(
        AS_PUBLISHED["job_id"],  # type: ignore[arg-type]
        "Bhushanji/hin-typed/Patra  3, Haridwar (2) .jpg",
        7,
        ("hi", "en"),
        True,
        "single",
        "chrome_lens",
        None,
        body(),
    )


def test_optional_fields_may_be_missing_null_or_unknown() -> None:
    bare = read_task(b'{"job_id": "j", "file_path": "a/b.jpg"}')
    assert isinstance(bare, Task)
    assert bare[:8] == ("j", "a/b.jpg", None, (), False, "single", None, None)
    nulls = {name: None for name in AS_PUBLISHED if name not in ("job_id", "file_path")}
    assert task(**nulls)[:8] == task(**nulls, new_field={"a": [1]}, chain_config=7)[:8]
    assert task(**nulls).key.file == task(**nulls).file_path
    assert task(languages=[]).languages == ()
    assert task(languages=["en", "", " hi "]).languages == ("en", "hi")
    assert task(provider="").provider is None
    assert task(processing_mode="CHAIN").mode == "chain"


@pytest.mark.parametrize("when", [1769940000, 1769940000.5, "2026-02-01T10:00:00", None, {}, [], "soon", True])
def test_when_it_was_queued_may_be_of_any_type(when: object) -> None:
    assert task(enqueued_at=when)[:8] == task()[:8]


@pytest.mark.parametrize(
    "nothing",
    [
        b"",
        b"\x00",
        b"not json",
        b"\xff\xfe{}",
        b"[]",
        b'"x"',
        b"null",
        b"1" * 5_000,
        b'{"job_id": "j", "file_index": ' + b"9" * 5_000 + b"}",
        b"[" * 500_000,
        b'{"a":' * 200_000,
        b"\x00" * (1 << 20),
        bytes(random.Random(5).randbytes(1 << 20)),
        b"x" * (5 << 20),
        b"{}",
        b'{"file_path": "a"}',
        b'{"job_id": null, "file_path": "a"}',
        b'{"job_id": "", "file_path": "a"}',
        b'{"job_id": 5, "file_path": "a"}',
        b'{"job_id": ["j"], "file_path": "a"}',
        b'{"job_id": "\\ud800", "file_path": "a"}',
        b'{"job_id": "%s", "file_path": "a"}' % (b"x" * (JOB_ID_MAX + 1)),
    ],
)
def test_what_names_no_job_is_nobodys(nothing: bytes) -> None:
    found = read_task(nothing)
    assert isinstance(found, Malformed)
    assert found.task is None
    assert 0 < len(found.why) < 200


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"file_index": -1}, "file_index"),
        ({"file_index": True}, "file_index"),
        ({"file_index": 1.0}, "file_index"),
        ({"file_index": "3"}, "file_index"),
        ({"file_index": INDEX_MAX + 1}, "file_index"),
        ({"file_index": 10**4000}, "file_index"),
        ({"file_index": []}, "file_index"),
        ({"file_path": None}, "file_path"),
        ({"file_path": ""}, "file_path"),
        ({"file_path": 5}, "file_path"),
        ({"file_path": {"a": 1}}, "file_path"),
        ({"file_path": "a\0b"}, "file_path"),
        ({"file_path": "a\ud800b"}, "file_path"),
        ({"file_path": "x/" * PATH_MAX}, "file_path"),
        ({"languages": "hi"}, "languages"),
        ({"languages": {"hi": 1}}, "languages"),
        ({"languages": ["hi", 5]}, "languages"),
        ({"languages": ["hi", None]}, "languages"),
        ({"languages": ["x" * 1_000]}, "language"),
        ({"languages": ["hi"] * 1_000}, "languages"),
        ({"languages": ["\udfff"]}, "language"),
        ({"handwriting": "yes"}, "handwriting"),
        ({"handwriting": 1}, "handwriting"),
        ({"processing_mode": 5}, "processing_mode"),
        ({"provider": 5}, "provider"),
        ({"provider": {"name": "x"}}, "provider"),
        ({"provider": "x" * 1_000}, "provider"),
        ({"provider": "x\udc80"}, "provider"),
    ],
)
def test_one_wrong_field_leaves_a_task_to_record_an_error_for(changes: dict[str, Any], said: str) -> None:
    why, left = wrong(**changes)
    assert said in why
    assert len(why) < 200
    assert "\n" not in why
    assert left.job_id == AS_PUBLISHED["job_id"]
    assert left.file_index == (None if "file_index" in changes else 7)
    assert left.file_path
    bson.encode({"why": why, **left._replace(body=b"")._asdict(), "key": list(left.key)})


def test_two_tasks_without_paths_are_two_tasks() -> None:
    (_, one), (_, other), (_, again) = (wrong(file_path=None, file_index=None, x=n) for n in (1, 2, 1))
    assert one.key == again.key != other.key
    (_, long), (_, longer) = (wrong(file_path="long" * PATH_MAX + end) for end in ("a", "b"))
    assert long.file_path != longer.file_path
    assert len(long.file_path) < 300


def test_passed_on_is_the_same_task_and_says_since_when() -> None:
    spelled = b'\xef\xbb\xbf { "job_id":"j", "file_path": "\\u092a.jpg", "odd": 1.50e2, "n": 12345678901234567890 } \n'
    first = read_task(spelled)
    assert isinstance(first, Task)
    passed = read_task(passed_on(first, 1_770_000_000.25))
    assert isinstance(passed, Task)
    assert passed.passed_since == 1_770_000_000.25
    assert passed[:7] == first[:7]
    assert passed.body.startswith(spelled.rstrip()[:-1].rstrip())
    assert passed_on(passed, 1_770_000_900.0) == passed.body
    for useless in (None, "x", True, -5, 0, float("nan"), float("inf"), 10**400):
        again = task(passed_since=useless)
        assert again.passed_since is None
        renewed = read_task(passed_on(again, 5.0))
        assert isinstance(renewed, Task)
        assert renewed.passed_since == 5.0
    for written in ("2026-07-04T06:13:20", "2026-07-04T06:13:20Z", "2026-07-04T08:13:20+02:00"):
        assert task(passed_since=written).passed_since == 1_783_145_600.0


def test_a_new_task_is_what_the_backend_would_send() -> None:
    made = new_task(
        str(AS_PUBLISHED["job_id"]),
        str(AS_PUBLISHED["file_path"]),
        7,
        16,
        now=NOW,
        languages=["hi", "en"],
        handwriting=True,
        provider="chrome_lens",
    )
    assert json.loads(made) == AS_PUBLISHED
    assert json.loads(new_task("j", "p", 0, 1, now=NOW))["provider"] is None
    chain = json.loads(new_task("j", "p", 0, 1, now=NOW, chain_config={"steps": []}))
    assert (chain["processing_mode"], chain["chain_config"], "provider" in chain) == ("chain", {"steps": []}, False)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(st.characters(codec=None)),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=6,
)


@given(st.fixed_dictionaries({}, optional=dict.fromkeys([*AS_PUBLISHED, "passed_since", "other"], JSON)))
def test_whatever_the_fields_what_comes_out_can_be_stored(fields: dict[str, Any]) -> None:
    found = read_task(json.dumps({"job_id": "j", **fields}).encode())
    left = found.task if isinstance(found, Malformed) else found
    if left is not None:
        bson.encode(left._replace(body=b"")._asdict())
        assert left.key.file is not None
        again = read_task(passed_on(left, 5.0))
        assert (again.task if isinstance(again, Malformed) else again) is not None


@given(st.binary(max_size=300))
def test_no_bytes_whatever_raise(junk: bytes) -> None:
    assert isinstance(read_task(junk), Malformed)
