"""A stand-in for Google Cloud Vision on loopback: v1/images:annotate, in the form of the service's REST reference.

with VisionStub() as stub:                     # every page that is not blank says "Hello world"
    stub.script.append(503)                    # the next answer: an HTTP status, or an error of one image
    stub.requests                              # what was asked, JSON

Answers have the form of the service's: fullTextAnnotation with pages, blocks, paragraphs, words, symbols;
zeros are left out, as Google's JSON does. A blank image gets the empty answer that the service gives.
"""

from __future__ import annotations

import base64
import http.server
import io
import json
import os
import threading
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Self

from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import rsa
from PIL import Image

STATUS = {400: "INVALID_ARGUMENT", 401: "UNAUTHENTICATED", 403: "PERMISSION_DENIED", 429: "RESOURCE_EXHAUSTED",
          500: "INTERNAL", 503: "UNAVAILABLE"}  # fmt: skip


class VisionStub:
    """Listens on a free port. script: for each request to come a status (int), {"code", "message"}, "silence",
    "nonsense" or "nothing"; after it all is well. lines: what every page that is not blank says."""

    def __init__(self, lines: Sequence[str] = ("Hello world",), language: str = "en") -> None:
        self.script: list[object] = []
        self.requests: list[dict[str, Any]] = []
        self.tokens: list[str] = []
        self.images: list[Image.Image] = []
        self.lines = lines
        self.language = language
        self._server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), _handler(self))
        self._server.daemon_threads = True
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.05,), daemon=True)

    @property
    def endpoint(self) -> str:
        return f"http://127.0.0.1:{self._server.server_port}"

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_error: object) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()

    def answer(self, image: Image.Image) -> dict[str, Any]:
        """Return the response for one image."""
        low, high = image.convert("L").getextrema()
        if high - low < 50:
            return {}
        return {"fullTextAnnotation": annotation(self.lines, image.size, self.language)}


def annotation(lines: Sequence[str], size: tuple[int, int], language: str) -> dict[str, Any]:
    """Return the annotation of a page: one block a line, words side by side from the left edge."""
    height = size[1] // (len(lines) + 1)
    return {
        "pages": [
            {
                "property": {"detectedLanguages": [{"languageCode": language, "confidence": 0.98}]},
                "width": size[0],
                "height": size[1],
                "blocks": [_block(line, number * height, size[0], height) for number, line in enumerate(lines)],
                "confidence": 0.97,
            }
        ],
        "text": "".join(line + "\n" for line in lines),
    }


def _block(line: str, top: int, width: int, height: int) -> dict[str, Any]:
    words = line.split()
    step = width // len(words)
    paragraph = [
        {
            "boundingBox": _box(number * step, top, step - 5, height - 5),
            "symbols": [{"text": character, "confidence": 0.99} for character in word],
            "confidence": 0.96,
        }
        for number, word in enumerate(words)
    ]
    box = _box(0, top, width, height)
    return {"boundingBox": box, "blockType": "TEXT", "paragraphs": [{"boundingBox": box, "words": paragraph}]}


def _box(x: int, y: int, width: int, height: int) -> dict[str, Any]:
    corners = [(x, y), (x + width, y), (x + width, y + height), (x, y + height)]
    return {"vertices": [{k: v for k, v in (("x", left), ("y", top)) if v} for left, top in corners]}


def _handler(stub: VisionStub) -> type[http.server.BaseHTTPRequestHandler]:
    class Handler(http.server.BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_POST(self) -> None:
            request = json.loads(self.rfile.read(int(self.headers["content-length"])))
            stub.requests.append(request)
            stub.tokens.append(self.headers.get("authorization", ""))
            if self.path.partition("?")[0] != "/v1/images:annotate":
                return self._send(404, {"error": {"code": 404, "message": "no such method", "status": "NOT_FOUND"}})
            scripted = stub.script.pop(0) if stub.script else None
            if scripted == "silence":
                time.sleep(1.5)
                self.close_connection = True
                return None
            if scripted == "nonsense":
                return self._send(200, "<html>")
            if scripted == "nothing":
                return self._send(200, {})
            if isinstance(scripted, int):
                error = {"code": scripted, "message": f"refused with {scripted}", "status": STATUS[scripted]}
                return self._send(scripted, {"error": error})
            if scripted is not None:
                return self._send(200, {"responses": [{"error": scripted}]})
            image = Image.open(io.BytesIO(base64.b64decode(request["requests"][0]["image"]["content"])))
            stub.images.append(image)
            return self._send(200, {"responses": [stub.answer(image)]})

        def _send(self, status: int, answer: object) -> None:
            body = (answer if isinstance(answer, str) else json.dumps(answer)).encode()
            self.send_response(status)
            self.send_header("Content-Type", "application/json; charset=UTF-8")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_args: object) -> None:
            pass

    return Handler


def write_key(path: Path, mode: int = 0o600) -> Path:
    """Write a service account's key as the console gives it, made up but for a private key that can sign."""
    private = rsa.generate_private_key(public_exponent=65537, key_size=2048).private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    key = {
        "type": "service_account",
        "project_id": "a-project",
        "private_key_id": "0123",
        "private_key": private.decode(),
        "client_email": "ocr@a-project.iam.gserviceaccount.com",
        "client_id": "1",
        "token_uri": "http://127.0.0.1:9/token",
    }
    path.write_text(json.dumps(key, indent=2) + "\n")
    os.chmod(path, mode)
    return path
