"""A connection to MongoDB that several threads share: made when needed, given up at a failure, never waited for long.

The secret is read at each connection.
"""

from __future__ import annotations

import hashlib
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, NamedTuple, TypeVar
from urllib.parse import quote

import pymongo
from pymongo import MongoClient
from pymongo.database import Database
from pymongo.errors import PyMongoError
from pymongo.uri_parser import parse_uri

from syncd.core.errors import ConfigError
from syncd.core.mongo_uri import DATABASE, MongoUri, driver_options, lacks_auth_source, read
from worker_glue.errors import JobsAway, JobsRefused
from worker_glue.jobs.errors import is_broken, is_login_refused, translated

T = TypeVar("T")
Documents = Database[dict[str, Any]]
_Client = MongoClient[dict[str, Any]]

APP_NAME = "worker-glue"
REFUSED_FOR_S = 3_600.0
"""A refused login is not tried again for so long, unless the secret changes (RULES section 7)."""
POOL_MAX = 4


class Patience(NamedTuple):
    """How long one call may take, in seconds. connect_s: to connect and log in; call_s: what follows."""

    connect_s: float = 5.0
    call_s: float = 10.0


UNHURRIED = Patience()


def silent(_warning: str) -> None:
    """Take a warning, and do nothing."""


class _Session:
    """One client, and how many calls use it now: closed when it was given up and nobody uses it any more."""

    def __init__(self, client: _Client, place: str, database: str) -> None:
        self.client = client
        self.place = place
        self.documents: Documents = client[database]  # made once: the driver takes its time for each
        self.users = 0
        self.over = False
        self.served = False


class Link:
    """Runs calls against the URI's database, from any thread.

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
        self._session: _Session | None = None
        self._connecting = threading.Lock()
        self._lock = threading.Lock()
        self._refused: tuple[str, float, JobsRefused] | None = None
        self._failed: tuple[int, JobsAway | JobsRefused] | None = None
        self._tries = 0
        self._users_in_admin = ""
        self._closed = False
        self.connections = 0

    @property
    def place(self) -> str:
        """HOST:PORT, "?" while there is no connection."""
        session = self._session
        return "?" if session is None else session.place

    def call(self, work: Callable[[Documents], T]) -> T:
        """Return work(database); connects first where there is no connection.

        work is run once more where a connection that has served before breaks (a proxy was restarted, a machine slept):
        repeating it has to be harmless. Each run takes at most the time to connect twice (once by another thread) and
        the time of a call.
        Raises: JobsAway, JobsRefused.
        """
        return self._call(work, last=False)

    def _call(self, work: Callable[[Documents], T], last: bool) -> T:
        with self._in_use() as session:
            served = session.served
            try:
                return self._run(session, work)
            except JobsAway as error:
                self._give_up(session)
                if last or not served or not is_broken(error.__cause__):
                    raise
        return self._call(work, last=True)

    def _run(self, session: _Session, work: Callable[[Documents], T]) -> T:
        try:
            with translated(session.place), pymongo.timeout(self._patience.call_s):
                result = work(session.documents)
        except JobsRefused as error:
            if not _by_login(error):
                raise
            # a further connection of the pool is not let in: the next call reads the secret, and then it is a verdict
            raise JobsAway(error.message, hint=error.hint) from error.__cause__
        session.served = True
        return result

    def close(self) -> None:
        """End the connection for good; calls that are under way come to their end. Safe to repeat, from any thread."""
        with self._lock:
            self._closed = True
            session = self._session
        if session is not None:
            self._give_up(session)

    # --- sessions

    @contextmanager
    def _in_use(self) -> Iterator[_Session]:
        session = self._enter()
        try:
            yield session
        finally:
            with self._lock:
                session.users -= 1
                unused = session.over and not session.users
            if unused:
                session.client.close()

    def _enter(self) -> _Session:
        """Return the session, this call counted among its users."""
        before = self._tries
        if (session := self._taken()) is not None:
            return session
        with self._connecting:
            if (session := self._taken()) is not None:
                return session
            if self._failed is not None and self._failed[0] > before:
                raise _again(self._failed[1])  # it failed while this one waited: once is enough
            self._tries += 1
            try:
                session = self._connect()
            except (JobsAway, JobsRefused) as error:
                self._failed = self._tries, error
                raise
            with self._lock:
                closed = self._closed
                self._session = None if closed else session
                session.users = 1
                session.over = closed
        return session

    def _taken(self) -> _Session | None:
        with self._lock:
            if self._closed:
                raise JobsAway("the connection to MongoDB was closed")
            if self._session is not None:
                self._session.users += 1
            return self._session

    def _give_up(self, session: _Session) -> None:
        """Have the next call connect anew."""
        with self._lock:
            if self._session is session:
                self._session = None
            unused = not session.over and not session.users
            session.over = True
        if unused:
            session.client.close()

    # --- connecting

    def _connect(self) -> _Session:
        try:
            text = self._uri()
        except ConfigError as error:
            raise JobsRefused("; ".join(error.problems) or error.message, hint=error.hint) from error
        uri = self._usable(text)
        seal = hashlib.sha256(text.encode(errors="surrogatepass")).hexdigest()
        if self._refused is not None and self._refused[0] == seal and time.monotonic() < self._refused[1]:
            raise _again(self._refused[2])
        try:
            client = self._log_in_somewhere(uri, seal)
        except JobsRefused as error:
            if _by_login(error):
                self._refused = seal, time.monotonic() + REFUSED_FOR_S, error
            raise
        self.connections += 1
        return _Session(client, uri.place, uri.database or DATABASE)

    def _usable(self, text: str) -> MongoUri:
        """Read the URI. Raises JobsRefused, naming everything that is wrong, without the password."""
        uri, troubles = read(text)
        fatal = [trouble for trouble in troubles if trouble.fatal]
        if uri is None or fatal:
            seen, hint = "; ".join(each.seen for each in fatal), "\n".join(each.todo for each in fatal)
        elif wrong := [name for name, value in uri.options if not _is_option(name, value)]:
            seen, hint = f"the driver does not take its option {', '.join(wrong)}", "remove or correct it"
        else:
            return uri
        raise JobsRefused(f"the MongoDB URI in {self._where} cannot be used: {seen}", hint=hint)

    def _log_in_somewhere(self, uri: MongoUri, seal: str) -> _Client:
        """Log in as the URI says; where it does not say in which database the user is kept, once more in admin."""
        if self._users_in_admin == seal:
            return self._log_in(uri.with_option("authSource", "admin"))
        try:
            return self._log_in(uri)
        except JobsRefused as refused:
            if not (lacks_auth_source(uri) and _by_login(refused)):
                raise
            client = self._log_in(uri.with_option("authSource", "admin"), f'"{uri.database}" and ')
        self._users_in_admin = seal
        self._warn(
            f'MongoDB at {uri.place} refuses "{uri.user}" in database "{uri.database}" and accepts it in "admin":'
            f" add authSource=admin to {self._where}"
        )
        return client

    def _log_in(self, uri: MongoUri, before: str = "") -> _Client:
        """Connect and log in, once. before: where that was tried already, for the message. Raises as call()."""
        try:
            with translated(uri.place), pymongo.timeout(self._patience.connect_s):
                client: _Client = MongoClient(
                    uri.usable, **driver_options(uri, APP_NAME, pool=POOL_MAX, **self._patience._asdict())
                )
                try:
                    client[uri.database or DATABASE].command("ping")
                except BaseException:
                    client.close()
                    raise
                return client
        except JobsRefused as error:
            if not is_login_refused(error.__cause__):
                raise
            tried = f'{before}"{uri.auth_source or uri.database or "admin"}"'
            raise JobsRefused(
                f'MongoDB at {uri.place}: login refused for "{uri.user}" in database {tried}',
                hint=f"correct user, password or authSource in {self._where}",
            ) from error.__cause__


def _by_login(error: JobsRefused) -> bool:
    return is_login_refused(error.__cause__)


def _is_option(name: str, value: str) -> bool:
    """Say whether the driver takes this option; one that it does not know it would show in a warning."""
    try:
        parse_uri(f"mongodb://u:p@localhost/?{quote(name)}={quote(value, safe=',:')}", warn=False)
    except (PyMongoError, ValueError, TypeError, OSError):
        return False
    return True


def _again(error: JobsAway | JobsRefused) -> JobsAway | JobsRefused:
    """Return the same error anew: one that is raised twice would carry the first one's traceback."""
    return type(error)(error.message, hint=error.hint)
