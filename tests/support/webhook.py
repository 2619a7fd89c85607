"""A real HTTP server that takes alerts: slow, silent, dripping, or with any status.

with start_webhook() as server:
    server.url
    server.status = 500
    server.slow_s = 3
    server.notices                    # the JSON of every request, whatever was answered
"""

from __future__ import annotations

import contextlib
import json
import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, cast


class WebhookServer(ThreadingHTTPServer):
    """Knobs: status, location, slow_s, drip_s (a byte of the answer so often); what came: notices, accepted."""

    daemon_threads = True
    block_on_close = False

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Request)
        self.status, self.location = 200, ""
        self.slow_s = self.drip_s = 0.0
        self.notices: list[dict[str, Any]] = []
        self.accepted: list[dict[str, Any]] = []
        self.paths: list[str] = []

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}/hooks/s3cret-part?key=s3cret"

    def told(self, kind: str) -> list[str]:
        """Return the keys that have `begun` or `ended`, of all messages that were accepted."""
        return [alert["key"] for notice in self.accepted for alert in notice[kind]]


class _Request(BaseHTTPRequestHandler):
    def do_POST(self) -> None:
        server = cast("WebhookServer", self.server)
        notice = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        server.notices.append(notice)
        server.paths.append(self.path)
        time.sleep(server.slow_s)
        if server.drip_s:
            for byte in b"HTTP/1.1 200 OK\r\n" + b"X-Slow: yes\r\n" * 50:
                self.wfile.write(bytes([byte]))
                self.wfile.flush()
                time.sleep(server.drip_s)
        if 200 <= server.status < 300:
            server.accepted.append(notice)
        self.send_response(server.status)
        if server.location:
            self.send_header("Location", server.location)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def handle(self) -> None:
        with contextlib.suppress(OSError):
            super().handle()

    def log_message(self, *_: Any) -> None:
        """Nothing is to be read on the screen."""


@contextlib.contextmanager
def start_webhook() -> Iterator[WebhookServer]:
    """Serve until the block ends."""
    server = WebhookServer()
    thread = threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True)
    thread.start()
    try:
        yield server
    finally:
        server.shutdown()
        server.server_close()
        thread.join(5)
