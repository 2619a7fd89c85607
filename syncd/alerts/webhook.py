"""A channel: each message is POSTed as JSON to a URL."""

from __future__ import annotations

from collections.abc import Callable

from syncd.alerts.bounded import request
from syncd.alerts.model import LIMIT_S, NotDelivered, Notice
from syncd.alerts.texts import document

HEADERS = {"Content-Type": "application/json; charset=utf-8", "User-Agent": "syncd"}
SCHEMES = ("http://", "https://")


class Webhook:
    """model.Channel. url: returns the URL, read at each message; it may be secret."""

    name = "webhook"

    def __init__(self, url: Callable[[], str], *, limit_s: float = LIMIT_S) -> None:
        self._url = url
        self._limit_s = limit_s

    def send(self, notice: Notice) -> None:
        """See model.Channel. Any 2xx is success; a redirect is none."""
        url = self._url().strip()
        if not url.startswith(SCHEMES) or not url.isascii() or not url.isprintable() or " " in url:
            raise NotDelivered("the webhook's file holds no URL", hint="write one line into it: https://...")
        status, _ = request("POST", url, limit_s=self._limit_s, body=document(notice), headers=HEADERS)
        if not 200 <= status < 300:
            raise NotDelivered(f"the webhook answers with HTTP status {status}", hint="see what its server logs")
