"""How a message reads: its text for people, its JSON for programs. Pure."""

from __future__ import annotations

import json
from collections.abc import Sequence

from syncd.alerts.model import Alert, Notice

SHOWN_MAX = 20
"""Of more alerts in one message only so many are listed; the rest is counted."""


def subject(notice: Notice) -> str:
    """Return the message in one line."""
    if notice.test:
        return f"syncd {notice.host}: a test message"
    first = notice.begun[0].text if notice.begun else f"over: {notice.ended[0].text}"
    more = len(notice.begun) + len(notice.ended) - 1
    return f"syncd {notice.host}: {first[:100]}" + (f" (and {more} more)" if more else "")


def text(notice: Notice) -> str:
    """Return the message as lines, without a line end behind the last."""
    if notice.test:
        return f"{subject(notice)}, sent by: syncd alerts test\nNothing is wrong."
    lines = [f"syncd on {notice.host}, {notice.at}"]
    for alert in notice.begun[:SHOWN_MAX]:
        lines += ["", f"BEGUN {alert.severity}: {alert.text}", f"  since {alert.since}", f"  next: {alert.remedy}"]
    for alert in notice.ended[:SHOWN_MAX]:
        lines += ["", f"OVER: {alert.text}", f"  it began {alert.since}"]
    left = [f"{len(group) - SHOWN_MAX} more {word}" for group, word in _groups(notice) if len(group) > SHOWN_MAX]
    return "\n".join([*lines, *(["", ", ".join([*left, "syncd alerts list"])] if left else [])])


def document(notice: Notice) -> bytes:
    """Return the message as JSON (docs/alerts.md). `text` is what chat systems show of it."""
    fields = {
        "v": 1,
        "host": notice.host,
        "at": notice.at,
        "test": notice.test,
        "text": text(notice),
        "begun": [alert.as_json() for alert in notice.begun],
        "ended": [alert.as_json() for alert in notice.ended],
    }
    return json.dumps(fields, ensure_ascii=False).encode("utf-8", "backslashreplace")


def _groups(notice: Notice) -> tuple[tuple[Sequence[Alert], str], ...]:
    return (notice.begun, "begun"), (notice.ended, "over")
