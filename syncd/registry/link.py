"""One connection to MongoDB, as the registry uses it: made when needed, given up at any failure, never waited for long.

The secret is read at each connection.
"""

from __future__ import annotations

import hashlib
import threading
import time
from collections.abc import Callable
from concurrent.futures import Future, InvalidStateError
from contextlib import suppress
from typing import Any, NamedTuple, TypeVar
from urllib.parse import quote

import pymongo
from pymongo import MongoClient
from pymongo.database import Database
from pymongo.errors import PyMongoError
from pymongo.uri_parser import parse_uri

from syncd.core.mongo_uri import DATABASE, MongoUri, driver_options, lacks_auth_source, read
from syncd.registry.errors import RegistryAway, RegistryRefused, RegistryUnusable, translated

T = TypeVar("T")
Documents = Database[dict[str, Any]]
_Client = MongoClient[dict[str, Any]]

APP_NAME = "syncd"
REFUSED_FOR_S = 3_600.0
"""A refused login is not tried again for so long, unless the secret changes."""
GOODBYE_S = 0.5


class Patience(NamedTuple):
    """How long one call may take, in seconds. connect_s: to connect and log in; call_s: what follows."""

    connect_s: float = 5.0
    call_s: float = 8.0


UNHURRIED = Patience()


def silent(_warning: str) -> None:
    """Take a warning, and do nothing."""


class Link:
    """Runs one call at a time against the URI's database, in a thread of its own that nobody waits for beyond close().

    uri: returns the connection string. where: says where that is kept, for messages. warn: is told once what works but
    should be corrected.
    """

    def __init__(
        self,
        uri: Callable[[], str],
        *,
        where: str = "the connection string",
        warn: Callable[[str], None] = silent,
        patience: Patience = UNHURRIED,
    ) -> None:
        self._uri = uri
        self._where = where
        self._warn = warn
        self._patience = patience
        self._client: _Client | None = None
        self._database = DATABASE
        self._place = "?"
        self._users_in_admin = ""
        self._refused: tuple[str, float, RegistryRefused] | None = None
        self._lock = threading.Lock()
        self._waiting: Future[Any] | None = None
        self._closed = False
        self.connections = 0

    @property
    def where(self) -> str:
        """Where the connection string is kept."""
        return self._where

    @property
    def database(self) -> str:
        """The database in use, as far as known."""
        return self._database

    @property
    def place(self) -> str:
        """HOST:PORT, "?" before the first call."""
        return self._place

    def call(self, work: Callable[[Documents], T]) -> T:
        """Return work(database); connects first where there is no connection.

        A call that close() interrupts is left to its thread, which ends by its deadline.
        Raises: the errors of registry.errors; what the secret's reader raises.
        """
        outcome: Future[T] = Future()
        with self._lock:
            if self._closed:
                raise RegistryAway("the registry was closed")
            self._waiting = outcome
        threading.Thread(target=self._run, args=(work, outcome), name="registry-call", daemon=True).start()
        return outcome.result()

    def close(self) -> None:
        """End the connection for good; a call that waits ends now. Safe to repeat, from any thread."""
        with self._lock:
            self._closed = True
            waiting, self._waiting = self._waiting, None
        if waiting is not None:
            with suppress(InvalidStateError):
                waiting.set_exception(RegistryAway("the registry was closed"))
        client = self._detach()
        if client is not None:  # it says good-bye to the server, which may not be there any more
            closing = threading.Thread(target=client.close, name="registry-close", daemon=True)
            closing.start()
            closing.join(GOODBYE_S)

    def _run(self, work: Callable[[Documents], T], outcome: Future[T]) -> None:
        spent: _Client | None = None
        with suppress(InvalidStateError):  # close() was quicker
            try:
                result = self._attempt(work)
            except BaseException as error:  # noqa: BLE001  (it is raised where the call waits)
                spent = self._detach()
                outcome.set_exception(error)
            else:
                outcome.set_result(result)
        if self._closed:
            spent = self._detach() or spent
        if spent is not None:
            spent.close()

    def _attempt(self, work: Callable[[Documents], T]) -> T:
        client = self._client or self._connect()
        with translated(lambda: self._place), pymongo.timeout(self._patience.call_s):
            return work(client[self._database])

    def _detach(self) -> _Client | None:
        """Take the client out of use, to be closed by somebody who may wait."""
        client, self._client = self._client, None
        return client

    # --- connecting

    def _connect(self) -> _Client:
        text = self._uri()
        uri = self._usable(text)
        seal = hashlib.sha256(text.encode(errors="surrogatepass")).hexdigest()
        if self._refused is not None and self._refused[0] == seal and time.monotonic() < self._refused[1]:
            raise _again(self._refused[2])
        try:
            client = self._log_in_somewhere(uri, seal)
        except RegistryRefused as error:
            self._refused = seal, time.monotonic() + REFUSED_FOR_S, error
            raise
        self.connections += 1
        self._client = client
        return client

    def _usable(self, text: str) -> MongoUri:
        """Read the URI. Raises RegistryUnusable, naming everything that is wrong, without the password."""
        uri, troubles = read(text)
        fatal = [trouble for trouble in troubles if trouble.fatal]
        if uri is None or fatal:
            seen = "; ".join(trouble.seen for trouble in fatal)
            raise RegistryUnusable(
                f"the MongoDB URI in {self._where} cannot be used: {seen}", hint="\n".join(each.todo for each in fatal)
            )
        self._place = uri.place
        self._database = uri.database or DATABASE
        wrong = [name for name, value in uri.options if not _is_option(name, value)]
        if wrong:
            said = f"the driver does not take its option {', '.join(wrong)}"
            raise RegistryUnusable(
                f"the MongoDB URI in {self._where} cannot be used: {said}", hint="remove or correct it"
            )
        return uri

    def _log_in_somewhere(self, uri: MongoUri, seal: str) -> _Client:
        """Log in as the URI says; where it does not say in which database the user is kept, once more in admin."""
        if self._users_in_admin == seal:
            return self._log_in(uri.with_option("authSource", "admin"))
        try:
            return self._log_in(uri)
        except RegistryRefused as refused:
            if not lacks_auth_source(uri):
                raise
            client = self._log_in(uri.with_option("authSource", "admin"), refused)
        self._users_in_admin = seal
        self._warn(
            f'MongoDB at {self._place} refuses "{uri.user}" in database "{self._database}" and accepts it in "admin":'
            f" add authSource=admin to {self._where}"
        )
        return client

    def _log_in(self, uri: MongoUri, before: RegistryRefused | None = None) -> _Client:
        """Connect and log in, once. before: what was said in another database. Raises as call()."""
        try:
            with translated(lambda: self._place), pymongo.timeout(self._patience.connect_s):
                client: _Client = MongoClient(
                    uri.usable, **driver_options(uri, APP_NAME, pool=1, **self._patience._asdict())
                )
                try:
                    client[self._database].command("ping")
                except BaseException:
                    client.close()
                    raise
                return client
        except RegistryRefused as error:
            tried = f'"{uri.auth_source or uri.database}"' + (f' and "{uri.database}"' if before is not None else "")
            raise RegistryRefused(
                f'MongoDB at {self._place}: login refused for "{uri.user}" in database {tried}. Tried once.',
                hint=f"correct user, password or authSource in {self._where}",
            ) from error


def _is_option(name: str, value: str) -> bool:
    """Say whether the driver takes this option; one that it does not know it would show in a warning."""
    try:
        parse_uri(f"mongodb://u:p@localhost/?{quote(name)}={quote(value, safe=',:')}", warn=False)
    except (PyMongoError, ValueError, TypeError, OSError):
        return False
    return True


def _again(refused: RegistryRefused) -> RegistryRefused:
    """Return the same error anew: one that is raised twice would carry the first one's traceback."""
    return RegistryRefused(refused.message, hint=refused.hint)
