"""A page over HTTP, bounded in time and size: what it says, and how far the clock behind it is from ours."""

from __future__ import annotations

import http.client
import json
import time
from email.utils import parsedate_to_datetime
from typing import Any, NamedTuple

from syncd.core.dialling import HostPort

BYTES_MAX = 4 << 20
_HALF_A_SECOND = 0.5


class PageFailed(Exception):
    """Nobody answers there, or not as over HTTP; the text says how."""


class Page(NamedTuple):
    """What was answered. content: None where it is no JSON. offset_s: their clock minus ours, None where not told."""

    status: int
    content: Any
    offset_s: float | None


def page(address: HostPort, path: str, limit_s: float) -> Page:
    """Ask for a page. Raises PageFailed."""
    link = http.client.HTTPConnection(*address, timeout=limit_s)
    try:
        before = time.time()
        link.request("GET", path)
        answer = link.getresponse()
        body = answer.read(BYTES_MAX)
        offset_s = offset(answer.headers.get("Date", ""), (before + time.time()) / 2)
        return Page(answer.status, json.loads(body), offset_s)
    except TimeoutError as error:
        raise PageFailed(f"no answer within {limit_s:g} s") from error
    except (ValueError, RecursionError):
        return Page(answer.status, None, offset_s)
    except (OSError, UnicodeError, http.client.HTTPException) as error:
        raise PageFailed(str(getattr(error, "strerror", None) or error).lower()) from error
    finally:
        link.close()


def offset(date: str, now: float) -> float | None:
    """Return how far the clock of a Date header is ahead of ours (Unix time); it counts whole seconds."""
    try:
        return parsedate_to_datetime(date).timestamp() + _HALF_A_SECOND - now
    except (TypeError, ValueError, OverflowError):
        return None
