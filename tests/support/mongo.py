"""A server that speaks MongoDB's protocol, with a login, on a free loopback port: FerretDB, or mongod where it is.

@pytest.fixture(scope="module", params=KINDS)
def mongo(request, tmp_path_factory):
    with start_mongo(request.param, tmp_path_factory.mktemp("mongo")) as server:
        yield server

The user is kept in database admin, as the deployment has it; the data goes to database gvpocr.
"""

from __future__ import annotations

import contextlib
import os
import secrets
import shutil
import signal
import subprocess
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple, Self
from urllib.parse import quote, urlencode

from pymongo import MongoClient
from pymongo.errors import PyMongoError

from tests.support.ports import free_port

DATABASE = "gvpocr"
READY_TIMEOUT_S = 30.0
STOP_TIMEOUT_S = 15.0
CALL_TIMEOUT_MS = 20_000

KINDS = ("ferretdb", *(("mongod",) if shutil.which("mongod") else ()))
"""Servers on which a test of the MongoDB side runs on this machine."""

Client = MongoClient[dict[str, Any]]


class Login(NamedTuple):
    """A user and a password, made for one test run."""

    user: str
    password: str

    @classmethod
    def random(cls) -> Self:
        """Make one whose password has to be percent-encoded in a URI."""
        return cls("gvpocr_admin", f"p@ss:/?#%&+ {secrets.token_hex(6)}")


@dataclass
class MongoServer:
    """One program and the arguments that start it again on the same port with what it had."""

    kind: str
    directory: Path
    argv: list[str]
    port: int
    login: Login
    env: Mapping[str, str] = field(default_factory=dict, repr=False)
    process: subprocess.Popen[bytes] | None = field(default=None, repr=False)

    @property
    def address(self) -> tuple[str, int]:
        return ("127.0.0.1", self.port)

    @property
    def log(self) -> str:
        return (self.directory / "log").read_text(errors="replace")

    def uri(
        self,
        *,
        port: int = 0,
        database: str = DATABASE,
        login: Login | None = None,
        auth_source: str = "admin",
        **options: str,
    ) -> str:
        """Return a connection string. port: a proxy's; auth_source "": none is named."""
        user, password = (quote(part, safe="") for part in login or self.login)
        named = ({"authSource": auth_source} if auth_source else {}) | options
        query = f"?{urlencode(named)}" if named else ""
        return f"mongodb://{user}:{password}@127.0.0.1:{port or self.port}/{database}{query}"

    @contextlib.contextmanager
    def client(self, database: str = DATABASE) -> Iterator[Any]:
        """Open a database with a client of the test's own."""
        with _dial(self.uri()) as client:
            yield client[database]

    def start(self) -> None:
        """Start it and wait until it lets the user in."""
        with (self.directory / "log").open("ab") as log:
            self.process = subprocess.Popen(
                self.argv, stdin=subprocess.DEVNULL, stdout=log, stderr=log, env={**os.environ, **self.env}
            )
        self._wait_for(self.uri())

    def stop(self) -> None:
        """End it in order; safe to repeat."""
        self._end(signal.SIGTERM)

    def kill(self) -> None:
        """End it at once."""
        self._end(signal.SIGKILL)

    def suspend(self) -> None:
        """Let it hang: connections are still made by the kernel, and nothing is answered."""
        assert self.process is not None
        self.process.send_signal(signal.SIGSTOP)

    def resume(self) -> None:
        """Let it go on."""
        assert self.process is not None
        self.process.send_signal(signal.SIGCONT)

    def forget(self, database: str = DATABASE) -> None:
        """Drop a database: MongoDB without a volume, started anew."""
        with _dial(self.uri()) as client:
            client.drop_database(database)

    def wait_until_open(self) -> None:
        """Wait until it answers somebody who does not log in (mongod before its first user)."""
        self._wait_for(f"mongodb://127.0.0.1:{self.port}/")

    def _wait_for(self, uri: str) -> None:
        deadline = time.monotonic() + READY_TIMEOUT_S
        while True:
            try:
                with _dial(uri) as client:
                    client.admin.command("ping")
                return
            except PyMongoError as error:
                if (self.process and self.process.poll() is not None) or time.monotonic() > deadline:
                    raise RuntimeError(f"{self.kind} does not come up: {error}\n{self.log[-2000:]}") from error
                time.sleep(0.05)

    def _end(self, how: signal.Signals) -> None:
        if self.process is None:
            return
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGCONT)
            self.process.send_signal(how)
            try:
                self.process.wait(STOP_TIMEOUT_S)
            except subprocess.TimeoutExpired:
                self.process.kill()
        self.process.wait(STOP_TIMEOUT_S)


@contextlib.contextmanager
def start_mongo(kind: str, base: Path) -> Iterator[MongoServer]:
    """Run a server of one of KINDS until the block ends."""
    if kind == "ferretdb":
        from tests.support.ferretdb import start_ferretdb

        with start_ferretdb(base) as server:
            yield server
    else:
        with start_mongod(base) as server:
            yield server


@contextlib.contextmanager
def start_mongod(base: Path) -> Iterator[MongoServer]:
    """Run mongod, standalone and with a root user in admin, until the block ends."""
    port, login = free_port(), Login.random()
    directory = base / f"mongod-{port}"
    (directory / "db").mkdir(parents=True)
    program = shutil.which("mongod")
    assert program is not None
    argv = [program, "--dbpath", str(directory / "db"), "--bind_ip", "127.0.0.1", "--port", str(port)]
    server = MongoServer("mongod", directory, argv, port, login)
    _make_root(server)
    server.argv = [*argv, "--auth"]
    with running(server) as started:
        yield started


@contextlib.contextmanager
def running(server: MongoServer) -> Iterator[MongoServer]:
    """Start a server and stop it when the block ends."""
    try:
        server.start()
        yield server
    finally:
        server.stop()


def _make_root(server: MongoServer) -> None:
    """Make the first user while no login is asked for."""
    with (server.directory / "log").open("ab") as log:
        server.process = subprocess.Popen(server.argv, stdin=subprocess.DEVNULL, stdout=log, stderr=log)
    try:
        server.wait_until_open()
        with _dial(f"mongodb://127.0.0.1:{server.port}/") as client:
            client.admin.command("createUser", server.login.user, pwd=server.login.password, roles=["root"])
    finally:
        server.stop()


def _dial(uri: str) -> Client:
    """Return a client of one connection that gives up soon while the server is not there."""
    return MongoClient(uri, directConnection=True, serverSelectionTimeoutMS=1_000, timeoutMS=CALL_TIMEOUT_MS)
