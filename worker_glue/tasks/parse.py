"""A message's body -> a task, and back. Pure; hostile bodies included.

Whatever the message says, the strings of a task can be stored in MongoDB: no lone surrogates, bounded lengths.
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any, NamedTuple

from syncd.core.spelling import MAX_SPELLED
from worker_glue.model import Task
from worker_glue.tasks.text import one_line, storable

BODY_MAX = 4 << 20
"""nsqd takes 1 MiB a message as it comes; anything near this is no task."""
JOB_ID_MAX = 200
PATH_MAX = MAX_SPELLED
LANGUAGES_MAX, WORD_MAX = 64, 100
INDEX_MAX = (1 << 63) - 1
"""BSON's largest integer."""
SINGLE, CHAIN = "single", "chain"


class Malformed(NamedTuple):
    """A message that is no task. why: one sentence.

    task: what is left of it, so that one error can be recorded and the job ends; None when it names no job.
    """

    why: str
    task: Task | None


class _Wrong(Exception):
    """One field is not what it should be."""


def read_task(body: bytes) -> Task | Malformed:
    """Read a message as the backend and its older versions write it. Never raises, whatever the bytes."""
    fields = _object(body)
    if isinstance(fields, str):
        return Malformed(fields, None)
    job_id = fields.get("job_id")
    if not isinstance(job_id, str) or not job_id or len(job_id) > JOB_ID_MAX or storable(job_id) != job_id:
        return Malformed("job_id is missing, or no text that could name a job", None)
    left = Task(job_id, _stand_in(fields.get("file_path"), body), None, (), False, SINGLE, None, None, body)
    try:
        left = left._replace(file_index=_index(fields.get("file_index")))
        left = left._replace(file_path=_path(fields.get("file_path")))
        left = left._replace(languages=_languages(fields.get("languages")))
        return left._replace(
            handwriting=_flag(fields.get("handwriting"), "handwriting"),
            mode=(_word(fields.get("processing_mode"), "processing_mode") or SINGLE).lower(),
            provider=_word(fields.get("provider"), "provider"),
            passed_since=_moment(fields.get("passed_since")),
        )
    except _Wrong as wrong:
        return Malformed(str(wrong), left)


def passed_on(task: Task, now: float) -> bytes:
    """Return the body to pass on: as it came, and since when it has been passed on (Unix time) where it did not say."""
    if task.passed_since is not None:
        return task.body
    text = task.body.rstrip()
    # of two equal keys readers take the last, so one with a useless value does no harm
    return b'%s, "passed_since": %s}' % (text[:-1].rstrip(), json.dumps(round(now, 3)).encode())


def new_task(
    job_id: str,
    file_path: str,
    file_index: int,
    total_files: int,
    *,
    now: datetime,
    languages: Sequence[str] = (),
    handwriting: bool = False,
    provider: str | None = None,
    chain_config: Mapping[str, Any] | None = None,
) -> bytes:
    """Return a task as the backend publishes it. chain_config: makes it one of chain mode. now: aware."""
    mode = {"provider": provider} if chain_config is None else {"chain_config": dict(chain_config)}
    fields = {
        "job_id": job_id,
        "file_path": file_path,
        "file_index": file_index,
        "total_files": total_files,
        "processing_mode": SINGLE if chain_config is None else CHAIN,
        "languages": list(languages),
        "handwriting": handwriting,
        "attempt": 0,
        "enqueued_at": now.astimezone(UTC).replace(tzinfo=None).isoformat(),
        **mode,
    }
    return json.dumps(fields).encode()


def _object(body: bytes) -> dict[str, Any] | str:
    """Return the JSON object, or why there is none."""
    if len(body) > BODY_MAX:
        return f"the message has {len(body)} bytes, which is no task"
    try:
        fields = json.loads(body.decode("utf-8-sig"))
    except (ValueError, RecursionError):  # not UTF-8, not JSON, numbers of thousands of digits, nested without end
        return "the message is not JSON"
    return fields if isinstance(fields, dict) else "the message is no JSON object"


def _index(value: object) -> int | None:
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, int) or not 0 <= value <= INDEX_MAX:
        raise _Wrong(f"file_index is no number from 0 on: {_shown(value)}")
    return value


def _path(value: object) -> str:
    if not isinstance(value, str) or not value:
        raise _Wrong(f"file_path is missing, or no text: {_shown(value)}")
    if len(value) > PATH_MAX:
        raise _Wrong(f"file_path has {len(value)} characters, more than any path here")
    if "\0" in value or storable(value) != value:
        raise _Wrong(f"file_path has a character in it that no path has: {_shown(value)}")
    return value


def _stand_in(value: object, body: bytes) -> str:
    """Return what stands for a path that cannot be one: distinct, so that each such task has an entry of its own."""
    if isinstance(value, str) and value and len(value) <= PATH_MAX:
        return storable(value)
    shown = f"{storable(value[:200])}... " if isinstance(value, str) and value else ""
    return f"{shown}(no path, message {hashlib.sha256(body).hexdigest()[:12]})"


def _languages(value: object) -> tuple[str, ...]:
    if value is None:
        return ()
    if not isinstance(value, list) or len(value) > LANGUAGES_MAX:
        raise _Wrong(f"languages is no list of language codes: {_shown(value)}")
    if not all(isinstance(each, str) for each in value):
        raise _Wrong("languages has something other than language codes in it")
    return tuple(word for each in value if (word := _word(each, "a language")) is not None)


def _word(value: object, name: str) -> str | None:
    if value is None:
        return None
    if not isinstance(value, str) or len(value) > WORD_MAX or storable(value) != value:
        raise _Wrong(f"{name} is no short text: {_shown(value)}")
    return value.strip() or None


def _flag(value: object, name: str) -> bool:
    if value is None:
        return False
    if not isinstance(value, bool):
        raise _Wrong(f"{name} is neither true nor false: {_shown(value)}")
    return value


def _moment(value: object) -> float | None:
    """Return a Unix time, which is what we write; a neighbour may write it as other times are, naive UTC. Else None."""
    if isinstance(value, str):
        value = _unix_time(value)
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    try:
        moment = float(value)
    except OverflowError:
        return None
    return moment if math.isfinite(moment) and moment > 0 else None


def _unix_time(text: str) -> float | None:
    try:
        moment = datetime.fromisoformat(text)
        return (moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp()
    except (ValueError, OverflowError):
        return None


def _shown(value: object) -> str:
    """Return a value for a message: short, whatever it is."""
    if isinstance(value, str):
        return one_line(f'"{value[:80]}"', 60)
    if isinstance(value, list | dict):
        return f"a{'n object' if isinstance(value, dict) else ' list'} of {len(value)}"
    if isinstance(value, int) and not isinstance(value, bool) and abs(value) > INDEX_MAX:
        return "a huge number"
    return json.dumps(value)
