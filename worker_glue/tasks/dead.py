"""Messages of the dead topic: tasks that were given up. What the worker writes, and what an operator reads. Pure.

A message is the task's own object, as it came, with `dead`, and the three of its fields that most readers want:

    {"job_id": "...", "file_path": "...", ..., "reason": "...", "attempts": 3, "host": "...",
     "dead": {"reason", "error", "attempts", "host", "worker_id", "at"}}

A body that is no JSON object is kept byte for byte: {"body_base64": "...", "dead": {...}}. One that would not fit into
a message any more (nsqd takes 1 MiB) is kept in part, and "body_size" says how long it was.
"""

from __future__ import annotations

import base64
import binascii
import json
import math
from datetime import UTC, datetime
from typing import Any, NamedTuple

DEAD_TOPIC = "bulk_ocr_file_tasks_dead"
_OF_THIS_TRY = frozenset({"passed_since", "waiting_since", "missing_at"})
"""What workers note in a task that they pass on: it does not count against the next try."""
_SHOWN = ("reason", "attempts", "host")
"""Stand beside the task's own fields too, for readers that look no deeper; a field of the task's own wins."""
_DEAD, _RAW, _SIZE = "dead", "body_base64", "body_size"
_MESSAGE_MAX = 1 << 20
_RAW_MAX = 720 << 10
"""As base64 it leaves 61 KiB for `dead`."""
_ERROR_MAX = 4_000


class DeadTask(NamedTuple):
    """One message of the dead topic. task: the task's own object, None where the body was no JSON object.

    body: what to publish so that the task is tried again; b"" where that makes no sense (it was never a task).
    reason: a code; error: for people; attempts: deliveries; at: ISO 8601 UTC. Unknown = "" and 0.
    """

    task: dict[str, Any] | None
    body: bytes
    reason: str
    error: str
    attempts: int
    host: str
    worker_id: str
    at: str

    @property
    def job_id(self) -> str:
        """The task's job, "" where it named none."""
        return _text((self.task or {}).get("job_id"))

    @property
    def file_path(self) -> str:
        """The task's path, as it spelled it."""
        return _text((self.task or {}).get("file_path"))

    @property
    def file_index(self) -> int | None:
        """The task's number in its job."""
        index = (self.task or {}).get("file_index")
        return index if isinstance(index, int) and not isinstance(index, bool) else None


def dead_body(
    body: bytes, reason: str, error: str, attempts: int, host: str, worker_id: str, at: float | datetime
) -> bytes:
    """Return what goes to the dead topic for a message that is given up. body: the message's, byte for byte.

    attempts: deliveries so far. at: Unix time, or an aware time.
    """
    dead = {
        "reason": reason,
        "error": error[:_ERROR_MAX],
        "attempts": attempts,
        "host": host,
        "worker_id": worker_id,
        "at": _iso(at),
    }
    task = _object(body)
    if task is not None:
        whole = _encode({**_shown(dead), **task, _DEAD: dead})
        if len(whole) <= _MESSAGE_MAX:
            return whole
    cut = {_SIZE: len(body)} if len(body) > _RAW_MAX else {}
    return _encode({_RAW: base64.b64encode(body[:_RAW_MAX]).decode("ascii"), **cut, **_shown(dead), _DEAD: dead})


def read_dead(body: bytes) -> DeadTask:
    """Read a message of the dead topic. Anything is read: what is not of this form has no reason, host and so on."""
    told = _object(body)
    if told is None:
        return DeadTask(None, b"", "", "not a message of the dead topic", 0, "", "", "")
    dead = told.pop(_DEAD, None)
    dead = dead if isinstance(dead, dict) else {}
    told = {name: value for name, value in told.items() if name not in _SHOWN or value != dead.get(name)}
    raw = _raw(told)
    task = told if raw is None else None
    attempts = dead.get("attempts")
    return DeadTask(
        task,
        b"" if task is None or not isinstance(task.get("job_id"), str) else _again(task),
        _text(dead.get("reason")),
        _text(dead.get("error")),
        attempts if isinstance(attempts, int) else 0,
        _text(dead.get("host")),
        _text(dead.get("worker_id")),
        _text(dead.get("at")),
    )


def _shown(dead: dict[str, Any]) -> dict[str, Any]:
    return {name: dead[name] for name in _SHOWN}


def raw_body(body: bytes) -> bytes | None:
    """Return the bytes of a message that was no JSON object, or their beginning; None for any other."""
    told = _object(body)
    return None if told is None else _raw(told)


def _again(task: dict[str, Any]) -> bytes:
    """Return a task's body for another try, which starts anew."""
    return _encode({name: value for name, value in task.items() if name not in _OF_THIS_TRY})


def _raw(told: dict[str, Any]) -> bytes | None:
    raw = told.get(_RAW)
    if not isinstance(raw, str) or set(told) - {_RAW, _SIZE, _DEAD, *_SHOWN}:
        return None
    try:
        return base64.b64decode(raw, validate=True)
    except (binascii.Error, ValueError):
        return None


def _object(body: bytes) -> dict[str, Any] | None:
    """Return a body's JSON object; None where it is none, or one that could not be written again."""
    try:
        told = json.loads(body, parse_constant=_refuse)
    except (ValueError, RecursionError):
        return None
    return told if isinstance(told, dict) else None


def _refuse(constant: str) -> None:
    raise ValueError(f"{constant} is no JSON")


def _encode(message: dict[str, Any]) -> bytes:
    try:
        return json.dumps(message, ensure_ascii=False, separators=(",", ":")).encode()
    except UnicodeEncodeError:  # a lone surrogate, which JSON can spell, and UTF-8 cannot
        return json.dumps(message, separators=(",", ":")).encode("ascii")


def _iso(at: float | datetime) -> str:
    moment = at if isinstance(at, datetime) else datetime.fromtimestamp(at if math.isfinite(at) else 0, UTC)
    return moment.astimezone(UTC).isoformat(timespec="seconds").replace("+00:00", "Z")


def _text(value: object) -> str:
    return value if isinstance(value, str) else ""
