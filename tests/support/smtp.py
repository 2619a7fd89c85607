"""A small SMTP server on a free loopback port: it takes mail, refuses it, asks for a login, offers STARTTLS, stalls.

with start_smtp() as server:
    server.port
    server.mails                      # [Handed(sender, to, message)]
    server.login = ("user", "password")
    server.faults["RCPT"] = b"550 no such user"
"""

from __future__ import annotations

import base64
import contextlib
import email
import email.policy
import socketserver
import ssl
import threading
import time
from collections.abc import Iterator
from email.message import EmailMessage
from pathlib import Path
from typing import NamedTuple, cast

STALL_S = 5.0


class Handed(NamedTuple):
    """One message that was handed in. secret: whether over TLS."""

    sender: str
    to: list[str]
    message: EmailMessage
    secret: bool


class SmtpServer(socketserver.ThreadingTCPServer):
    """Knobs: login, faults (command -> reply), tls, stalled; what came: mails, commands."""

    daemon_threads = True
    allow_reuse_address = True

    def __init__(self, tls: ssl.SSLContext | None = None) -> None:
        super().__init__(("127.0.0.1", 0), _Session)
        self.tls = tls
        self.login: tuple[str, str] | None = None
        self.faults: dict[str, bytes] = {}
        self.stalled = threading.Event()
        self.mails: list[Handed] = []
        self.commands: list[str] = []

    @property
    def port(self) -> int:
        return int(self.server_address[1])


class _Session(socketserver.BaseRequestHandler):
    """One client."""

    def handle(self) -> None:
        self._server = cast("SmtpServer", self.server)
        self._secret = False
        self._sender, self._to = "", list[str]()
        self._reader = self.request.makefile("rb")
        try:
            with contextlib.suppress(OSError, ValueError):
                self._talk()
        finally:
            self._reader.close()
            self.request.close()

    def _talk(self) -> None:
        if self._server.stalled.is_set():
            time.sleep(STALL_S)
            return
        self._say(b"220 ready")
        while line := self._reader.readline(2000):
            word, _, rest = line.decode("utf-8", "replace").strip().partition(" ")
            self._server.commands.append(word.upper())
            if not self._answer(word.upper(), rest):
                return

    def _answer(self, word: str, rest: str) -> bool:
        if word in self._server.faults:
            self._say(self._server.faults[word])
        elif word in ("EHLO", "HELO"):
            self._say(b"\r\n".join([b"250-here", *self._offers(), b"250 8BITMIME"]))
        elif word == "STARTTLS" and self._server.tls is not None:
            self._say(b"220 go on")
            self.request = self._server.tls.wrap_socket(self.request, server_side=True)
            self._reader, self._secret = self.request.makefile("rb"), True
        elif word == "AUTH":
            self._say(b"235 in" if self._is_right(rest) else b"535 wrong user or password")
        elif word == "MAIL":
            self._sender = rest.partition("<")[2].partition(">")[0]
            self._say(b"250 ok")
        elif word == "RCPT":
            self._to.append(rest.partition("<")[2].partition(">")[0])
            self._say(b"250 ok")
        elif word == "DATA":
            self._take()
        elif word in ("RSET", "NOOP"):
            self._say(b"250 ok")
        else:
            self._say(b"221 bye" if word == "QUIT" else b"502 not here")
            return word != "QUIT"
        return True

    def _offers(self) -> list[bytes]:
        offers = [b"250-STARTTLS"] if self._server.tls is not None and not self._secret else []
        return [*offers, *([b"250-AUTH PLAIN"] if self._server.login else [])]

    def _is_right(self, rest: str) -> bool:
        method, _, given = rest.partition(" ")
        if method.upper() != "PLAIN" or self._server.login is None:
            return False
        return base64.b64decode(given).decode().split("\0")[1:] == list(self._server.login)

    def _take(self) -> None:
        self._say(b"354 go on")
        lines = []
        while (line := self._reader.readline()) not in (b".\r\n", b""):
            lines.append(line.removeprefix(b".") if line.startswith(b"..") else line)
        message = email.message_from_bytes(b"".join(lines), policy=email.policy.default)
        self._server.mails.append(Handed(self._sender, self._to, cast("EmailMessage", message), self._secret))
        self._say(b"250 taken")

    def _say(self, line: bytes) -> None:
        self.request.sendall(line + b"\r\n")


@contextlib.contextmanager
def start_smtp(tls: ssl.SSLContext | None = None) -> Iterator[SmtpServer]:
    """Serve until the block ends."""
    with SmtpServer(tls) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True)
        thread.start()
        try:
            yield server
        finally:
            server.shutdown()
            thread.join(5)


def certificate(folder: Path) -> Path:
    """Write a certificate for localhost that signs itself, with its key in the same file; return its path."""
    from datetime import UTC, datetime, timedelta

    from cryptography import x509
    from cryptography.hazmat.primitives import hashes, serialization
    from cryptography.hazmat.primitives.asymmetric import ec
    from cryptography.x509.oid import NameOID

    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "localhost")])
    now = datetime.now(UTC)
    made = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(days=1))
        .not_valid_after(now + timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.DNSName("localhost")]), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .sign(key, hashes.SHA256())
    )
    pem = made.public_bytes(serialization.Encoding.PEM) + key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    file = folder / "localhost.pem"
    file.write_bytes(pem)
    return file
