"""Hop by hop to a MongoDB server, for `syncd doctor`: hello, login, ping, collections, write concern. Writes nothing.

A login is tried once: nothing here retries, and a connection that was refused is not used again.
"""

from __future__ import annotations

import time
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from datetime import UTC, datetime
from enum import Enum
from typing import Any, NamedTuple, Self

from bson.errors import BSONError
from pymongo import MongoClient, WriteConcern
from pymongo.errors import (
    AutoReconnect,
    ConfigurationError,
    InvalidName,
    NetworkTimeout,
    OperationFailure,
    PyMongoError,
    ServerSelectionTimeoutError,
    WriteConcernError,
    WTimeoutError,
)
from pymongo.uri_parser import parse_uri

from syncd.core.errors import SyncdError

APP_NAME = "syncd-doctor"
PINGS = 5
WRITE_WAIT_MS = 2000
PROBED_COLLECTIONS = ("sync_hosts", "bulk_jobs")
"""Where a write that matches nothing is tried, if they are there: making a collection would be a write."""

_AUTHENTICATION_FAILED, _UNAUTHORIZED = 18, 13
_NEVER_MS = 600_000
_NOBODY = "syncd-doctor: matches nothing"


class Fault(Enum):
    """Why a hop failed."""

    SILENT = "silent"
    BROKEN = "broken"
    LOGIN = "login"
    DENIED = "denied"
    CONCERN = "concern"
    UNUSABLE = "unusable"
    OTHER = "other"


class ProbeFailed(SyncdError):
    """One hop to MongoDB failed; `fault` says why. The message holds no secret."""

    def __init__(self, message: str, fault: Fault) -> None:
        super().__init__(message)
        self.fault = fault


class Server(NamedTuple):
    """What a server says of itself before any login.

    set_name, me, members: of a replica set, else empty. clock_offset_s: its clock minus ours, None when it tells none.
    """

    version: str
    writable: bool
    set_name: str
    me: str
    members: tuple[str, ...]
    clock_offset_s: float | None


class Probe:
    """One server as one user. Every call ends within about `limit_s` seconds.

    uri: as a client would use it, with a host list of one; database: where syncd and the workers keep theirs.
    """

    def __init__(self, uri: str, database: str, limit_s: float) -> None:
        self._uri = uri
        self._database = database
        self._limit_ms = max(int(limit_s * 1000), 100)
        self._client: MongoClient[dict[str, Any]] | None = None

    def hello(self) -> Server:
        """Ask who it is, without a login. Raises ProbeFailed."""
        with _translated(), _quietly(), self._anonymous() as client:
            asked = time.time()
            told = client.admin.command("hello")
            now = (asked + time.time()) / 2
            version = told.get("version") or client.admin.command("buildInfo").get("version", "")
        clock = told.get("localTime")
        return Server(
            version=str(version),
            writable=bool(told.get("isWritablePrimary", told.get("ismaster", True))),
            set_name=str(told.get("setName", "")),
            me=str(told.get("me", "")),
            members=tuple(str(member) for member in told.get("hosts", ())),
            clock_offset_s=_aware(clock).timestamp() - now if isinstance(clock, datetime) else None,
        )

    def log_in(self, auth_source: str = "") -> None:
        """Log in, once. auth_source: instead of the URI's. Raises ProbeFailed."""
        self.close()
        options = self._options() | ({"authSource": auth_source} if auth_source else {})
        with _translated(), _quietly():
            self._client = MongoClient(self._uri, **options)
            self._client.admin.command("ping")

    def ping(self) -> float:
        """Return the shortest round trip of some, in seconds, on the connection that is logged in."""
        took = []
        with _translated():
            for _ in range(PINGS):
                started = time.perf_counter()
                self._logged_in.admin.command("ping")
                took.append(time.perf_counter() - started)
        return min(took)

    def collections(self) -> list[str]:
        """Return the names of the database's collections."""
        with _translated():
            return sorted(self._logged_in[self._database].list_collection_names())

    def acknowledges(self, collection: str) -> None:
        """Have a write that matches nothing acknowledged by a majority's journal, as results and heartbeats are.

        Raises: ProbeFailed, with DENIED when this user may not write there and CONCERN when nobody can promise that.
        """
        concern = WriteConcern(w="majority", j=True, wtimeout=WRITE_WAIT_MS)
        with _translated():
            place = self._logged_in[self._database].get_collection(collection, write_concern=concern)
            place.update_one({"_id": _NOBODY}, {"$set": {"probed": True}})

    def close(self) -> None:
        """Close the connections; safe to repeat."""
        if self._client is not None:
            self._client.close()
            self._client = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    @property
    def _logged_in(self) -> MongoClient[dict[str, Any]]:
        assert self._client is not None  # noqa: S101 (log_in() comes first)
        return self._client

    def _anonymous(self) -> MongoClient[dict[str, Any]]:
        """Return a client that dials the same server, with the URI's transport security and without its login."""
        parsed = parse_uri(self._uri, warn=True)
        host, port = parsed["nodelist"][0]
        given: dict[str, Any] = {
            name: value for name, value in parsed["options"].items() if name.lower().startswith(("tls", "ssl"))
        }
        return MongoClient(host, port, **self._options(), **given)

    def _options(self) -> dict[str, Any]:
        """Return options that keep a client to one server, one connection and one attempt."""
        return {
            "appname": APP_NAME,
            "directConnection": True,
            "maxPoolSize": 1,
            "retryReads": False,
            "retryWrites": False,
            "heartbeatFrequencyMS": _NEVER_MS,
            "serverMonitoringMode": "poll",
            "serverSelectionTimeoutMS": self._limit_ms,
            "connectTimeoutMS": self._limit_ms,
            "timeoutMS": self._limit_ms,
        }


@contextmanager
def _quietly() -> Iterator[None]:
    """Keep what pymongo warns of in a URI to itself: it is judged elsewhere, and may show what is secret."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


@contextmanager
def _translated() -> Iterator[None]:
    """Turn pymongo's errors into ProbeFailed. Their own texts may hold addresses, never a password."""
    try:
        yield
    except (WriteConcernError, WTimeoutError) as error:
        raise ProbeFailed(_said(error), Fault.CONCERN) from error
    except OperationFailure as error:
        faults = {_AUTHENTICATION_FAILED: Fault.LOGIN, _UNAUTHORIZED: Fault.DENIED}
        raise ProbeFailed(_said(error), faults.get(error.code or 0, Fault.OTHER)) from error
    except (ServerSelectionTimeoutError, NetworkTimeout) as error:
        raise ProbeFailed("no answer in time", Fault.SILENT) from error
    except AutoReconnect as error:
        raise ProbeFailed("the connection breaks", Fault.BROKEN) from error
    except (ConfigurationError, InvalidName) as error:
        raise ProbeFailed(str(error), Fault.UNUSABLE) from error
    except (PyMongoError, BSONError, OSError) as error:
        raise ProbeFailed(f"{type(error).__name__}: {error}", Fault.OTHER) from error


def _said(error: OperationFailure) -> str:
    """Return what the server said, without the reply that pymongo adds."""
    told = error.details.get("errmsg") if isinstance(error.details, Mapping) else None
    return f"{told or error}".partition(", full error:")[0] + (f" (code {error.code})" if error.code else "")


def _aware(clock: datetime) -> datetime:
    return clock if clock.tzinfo is not None else clock.replace(tzinfo=UTC)
