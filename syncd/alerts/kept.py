"""What survives a restart: what is watched, and what each channel has been told. One file, replaced whole.

Lost or damaged, it costs at worst that what is on is told once more.
"""

from __future__ import annotations

import json
import os
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from syncd.alerts.memory import Watched, alerts_of
from syncd.alerts.model import Alert, Rule, alert_of
from syncd.alerts.rules import Condition

FILE = "alerts.json"
"""Its name in the state directory."""
BYTES_MAX = 16 << 20
TIME_MAX_S = 1e11
"""In the year 5138; what lies beyond is no time of ours, and perhaps none that can be shown."""


class Kept:
    """The memory of one host. Thread-safe; change what is in it within `changing()`, which writes the file.

    watched: by key. told: channel -> key -> the alert as it was told of. looked: when conditions were last judged (Unix
    seconds, 0 = never).
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._lock = threading.RLock()
        self._turns: dict[str, threading.Lock] = {}
        self.watched: dict[str, Watched] = {}
        self.told: dict[str, dict[str, Alert]] = {}
        self.looked = 0.0
        self.problem = ""
        """Why the file could not be written the last time; "" when it was."""
        self._read()

    @contextmanager
    def changing(self) -> Iterator[None]:
        """Change what is here, and have it written; what cannot be is kept in memory, and said.

        Where only the time of the last look is new, the disk is not waited for.
        """
        with self._lock:
            before = self.watched, {name: dict(told) for name, told in self.told.items()}
            yield
            try:
                self._write(durable=before != (self.watched, self.told))
                self.problem = ""
            except OSError as error:
                self.problem = f"{self._path} cannot be written: {error.strerror}"

    def turn(self, channel: str) -> threading.Lock:
        """Return the lock that one attempt to tell a channel holds, also across a change of the configuration."""
        with self._lock:
            return self._turns.setdefault(channel, threading.Lock())

    def told_to(self, channel: str) -> dict[str, Alert]:
        """Return what a channel has been told of and not yet of its end."""
        with self._lock:
            return dict(self.told.get(channel, {}))

    def alerts(self) -> list[Alert]:
        """Return the alerts that are on, the oldest first."""
        with self._lock:
            return sorted(alerts_of(self.watched).values(), key=lambda alert: (alert.since, alert.key))

    def _read(self) -> None:
        try:
            with self._path.open("rb") as file:
                found = json.loads(file.read(BYTES_MAX))
            watched = {key: _watched(each) for key, each in found["watched"].items()}
            told = {name: {key: alert_of(each) for key, each in all_.items()} for name, all_ in found["told"].items()}
            looked = _time(found["looked"])
        except (OSError, ValueError, KeyError, TypeError, AttributeError, OverflowError, RecursionError):
            return
        self.watched, self.told, self.looked = watched, told, looked

    def _write(self, *, durable: bool) -> None:
        fields = {
            "v": 1,
            "looked": self.looked,
            "watched": {key: _fields(each) for key, each in self.watched.items()},
            "told": {name: {key: each.as_json() for key, each in all_.items()} for name, all_ in self.told.items()},
        }
        new = self._path.with_name(f"{FILE}.new")
        with open(os.open(new, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600), "wb") as file:
            file.write(json.dumps(fields, ensure_ascii=False).encode("utf-8", "backslashreplace"))
            if durable:
                file.flush()
                os.fsync(file.fileno())
        os.replace(new, self._path)


def _fields(each: Watched) -> dict[str, Any]:
    return {**each._asdict(), "condition": each.condition._asdict()}


def _watched(told: Mapping[str, Any]) -> Watched:
    """Return what _fields() made. Raises KeyError, TypeError, ValueError."""
    said = told["condition"]
    texts = [said[name] for name in ("key", "about", "text", "remedy", "mark")]
    if not all(isinstance(text, str) for text in texts):
        raise TypeError("a condition's fields are texts")
    key, about, text, remedy, mark = texts
    condition = Condition(key, Rule(said["rule"]), about, text, remedy, float(said["after_s"]), mark)
    since, gone, ended = (_time(told[name]) for name in ("since", "gone", "ended"))
    return Watched(condition, since, bool(told["begun"]), gone, ended, int(told["flaps"]))


def _time(told: Any) -> float:
    """Return a time in Unix seconds. Raises ValueError, TypeError for what is none, infinity too."""
    seconds = float(told)
    if not 0 <= seconds < TIME_MAX_S:
        raise ValueError("no time")
    return seconds
