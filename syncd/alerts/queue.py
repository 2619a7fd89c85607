"""How the workers' queue is, by nsqd's own statistics (nsqd's HTTP API, /stats)."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any
from urllib.parse import quote

from syncd.alerts.bounded import request
from syncd.alerts.model import NotDelivered
from syncd.alerts.rules import Queue

LIMIT_S = 3.0


def look(addresses: Sequence[str], topic: str, channel: str) -> Queue | None:
    """Return what waits and what is in hand in a channel of all nsqds (HOST:PORT); None unless all of them answer."""
    waiting = in_hand = 0
    for address in addresses:
        url = f"http://{address}/stats?format=json&topic={quote(topic, safe='')}"
        try:
            status, answer = request("GET", url, limit_s=LIMIT_S)
            found = _depths(json.loads(answer), topic, channel) if status == 200 else None
        except (NotDelivered, ValueError, RecursionError):
            return None
        if found is None:
            return None
        waiting, in_hand = waiting + found.waiting, in_hand + found.in_hand
    return Queue(waiting, in_hand) if addresses else None


def _depths(told: object, topic: str, channel: str) -> Queue | None:
    """Read an answer of /stats; None for what is none. A topic or channel that is not there holds nothing."""
    if not isinstance(told, Mapping) or not isinstance(told.get("topics"), list):
        return None
    waiting = in_hand = 0
    for each in _named(told["topics"], "topic_name", topic):
        waiting += _number(each, "depth")
        for one in _named(each.get("channels"), "channel_name", channel):
            waiting += _number(one, "depth") + _number(one, "deferred_count")
            in_hand += _number(one, "in_flight_count")
    return Queue(waiting, in_hand)


def _named(found: object, field: str, name: str) -> list[Mapping[str, Any]]:
    rows = found if isinstance(found, list) else []
    return [row for row in rows if isinstance(row, Mapping) and row.get(field) == name]


def _number(row: Mapping[str, Any], field: str) -> int:
    value = row.get(field)
    return value if isinstance(value, int) and value > 0 else 0
