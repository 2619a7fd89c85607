"""The values of the alerts. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum
from typing import Any, NamedTuple, Protocol

from syncd.core.errors import Scope, SyncdError
from syncd.core.shown import printable


class Rule(StrEnum):
    """What an alert may be about. docs/alerts.md says what each means, and what to do."""

    HALTED = "halted"
    FAILING = "failing"
    BEHIND = "behind"
    WORKER = "worker"
    OWED = "owed"
    DISK = "disk"
    NSQD = "nsqd"
    MONGODB = "mongodb"
    JOB = "job"
    HOST = "host"


CRITICAL, WARNING = "critical", "warning"
SEVERITY = {rule: CRITICAL if rule in (Rule.HALTED, Rule.DISK, Rule.JOB) else WARNING for rule in Rule}
ON_DUTY = frozenset({Rule.JOB, Rule.HOST})
"""What one host looks after for all."""
SHARED = ON_DUTY | {Rule.NSQD}
"""What every host sees alike: one of them tells it."""


class Alert(NamedTuple):
    """Something that is wrong, as people are told of it. since: ISO 8601 UTC.

    key: its identity while it lasts. about: the mirror, worker or job. remedy: what to type or do next.
    """

    key: str
    rule: Rule
    about: str
    text: str
    remedy: str
    since: str

    @property
    def severity(self) -> str:
        """How urgent it is: "critical" or "warning"."""
        return SEVERITY[self.rule]

    @property
    def shared(self) -> bool:
        """Whether other hosts see it too."""
        return self.rule in SHARED

    def as_json(self) -> dict[str, Any]:
        return {**self._asdict(), "rule": self.rule.value, "severity": self.severity}


TEXT_MAX = 500


def line_of(text: str) -> str:
    """Return a text from anywhere as one short line in which no character moves a cursor."""
    return printable(" ".join(text.split()))[:TEXT_MAX]


def alert_of(told: Mapping[str, Any]) -> Alert:
    """Return the alert that as_json() made, here or on another host. Raises KeyError, ValueError, TypeError else."""
    fields = [told[name] for name in Alert._fields]
    if not all(isinstance(field, str) for field in fields):
        raise TypeError("an alert's fields are texts")
    key, rule, *texts = fields
    return Alert(key, Rule(rule), *map(line_of, texts))


class Notice(NamedTuple):
    """One message: what has begun, and what is over. host: who tells it. at: ISO 8601 UTC.

    test: it is only to be seen whether it arrives.
    """

    host: str
    at: str
    begun: tuple[Alert, ...] = ()
    ended: tuple[Alert, ...] = ()
    test: bool = False


class NotDelivered(SyncdError):
    """A channel did not take a message. No secret in it: the URL of a webhook may be one."""

    scope = Scope.RUN
    transient = True
    exit_code = 3


class Channel(Protocol):
    """A way to tell people. Used by one thread at a time."""

    name: str
    """"webhook", "command" or "mail"."""

    def send(self, notice: Notice) -> None:
        """Deliver one message, once; returns within LIMIT_S.

        Raises: NotDelivered (it may have arrived all the same), ConfigError (its secret cannot be read).
        """
        ...


LIMIT_S = 10.0
"""No attempt to deliver a message takes longer."""
