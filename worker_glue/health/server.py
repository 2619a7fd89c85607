"""GET /metrics and GET /healthz of `worker-glue run --metrics`. They tell no path, no text and no secret."""

from __future__ import annotations

import errno
import json
import threading
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

from syncd.client.listeners import tcp_holder
from syncd.core.errors import ConfigError
from worker_glue.health.shown import Metrics
from worker_glue.health.staff import Staff, health

AT_A_TIME = 8
REQUEST_S = 5.0
TEXT = "text/plain; version=0.0.4; charset=utf-8"


class HealthServer:
    """Serves until close(). Raises ConfigError when the address cannot be had."""

    def __init__(self, address: tuple[str, int], folder: Path, staff: Callable[[], Staff]) -> None:
        metrics = Metrics(folder, staff)

        def answer(path: str) -> tuple[int, str, bytes]:
            if path == "/metrics":
                return 200, TEXT, metrics.text()
            if path == "/healthz":
                found = health(staff())
                return 200 if found["ok"] else 503, "application/json", json.dumps(found).encode()
            return 404, "text/plain", b"there are /metrics and /healthz\n"

        try:
            self._server = _Server(address, answer)
        except OSError as error:
            raise _unusable(address, error) from error
        self._thread = threading.Thread(target=self._server.serve_forever, name="health", daemon=True)
        self._thread.start()

    @property
    def port(self) -> int:
        """The port; of use where 0 was asked for."""
        return int(self._server.server_address[1])

    def close(self) -> None:
        """End; safe to repeat."""
        self._server.shutdown()
        self._server.server_close()
        self._thread.join(REQUEST_S)


def _unusable(address: tuple[str, int], error: OSError) -> ConfigError:
    host, port = address
    where = f"cannot listen on {f'[{host}]' if ':' in host else host}:{port} (--metrics)"
    if error.errno == errno.EADDRINUSE:
        hint = "end that program, or name another port with --metrics"
        return ConfigError(f"{where}: {tcp_holder(port)} listens there", hint=hint)
    return ConfigError(f"{where}: {error.strerror or error}", hint="name an address of this machine with --metrics")


class _Server(ThreadingHTTPServer):
    """At most so many requests at a time; more are turned away."""

    daemon_threads = True
    block_on_close = False

    def __init__(self, address: tuple[str, int], answer: Callable[[str], tuple[int, str, bytes]]) -> None:
        self.answer = answer
        self._room = threading.Semaphore(AT_A_TIME)
        super().__init__(address, _Request)

    def process_request(self, request: Any, client_address: Any) -> None:
        if self._room.acquire(blocking=False):
            super().process_request(request, client_address)
        else:
            self.shutdown_request(request)

    def process_request_thread(self, request: Any, client_address: Any) -> None:
        try:
            super().process_request_thread(request, client_address)
        finally:
            self._room.release()

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Who broke off is not worth a traceback."""


class _Request(BaseHTTPRequestHandler):
    timeout = REQUEST_S
    server: _Server

    def do_GET(self) -> None:
        status, kind, body = self.server.answer(self.path.partition("?")[0])
        self.send_response(status)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002  (the library's name)
        """Nothing: probes come every few seconds."""

    def version_string(self) -> str:
        return "worker_glue"
