"""Leases of alerts in MongoDB: ports.alerting.AlertLeases. And how the jobs and the other hosts are.

sync_alerts   _id: the alert's key. host_id, host: who tells it. term: grows with every change. until: by MongoDB's
              clock; later it is free. told, alert: see AlertLease. over: it has ended; kept for a while so that nobody
              else begins it who sees the end later.

Each change is one update of one document, guarded by the term that was read: of two hosts one wins. Equality on plain
fields is all it needs, so FerretDB serves as well.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from datetime import UTC, datetime, timedelta
from typing import Any

from syncd.core.hours import Hours
from syncd.ports.alerting import AlertLease
from syncd.registry import documents as doc
from syncd.registry.link import UNHURRIED, Documents, Link, Patience, silent

ALERTS, JOBS = "sync_alerts", "bulk_jobs"
LEASE_S = 180.0
COOL_S = 600.0
LEASES_MAX = 2_000
TAKEN_AT_ONCE = 50
JOBS_MAX = 2_000
HOSTS_MAX = 1_000
ID_MAX = 200
_COUNTERS = ("job_id", "published_count", "consumed_count")


class MongoAlertLeases:
    """ports.alerting.AlertLeases on MongoDB. host_id, host: who asks. The others as Link."""

    def __init__(
        self,
        uri: Callable[[], str],
        host_id: str,
        host: str,
        *,
        where: str = "the connection string",
        warn: Callable[[str], None] = silent,
        patience: Patience = UNHURRIED,
        lease_s: float = LEASE_S,
        cool_s: float = COOL_S,
    ) -> None:
        self._link = Link(uri, where=where, warn=warn, patience=patience)
        self._me = {"host_id": host_id, "host": host}
        self._lease = timedelta(seconds=lease_s)
        self._cool = timedelta(seconds=cool_s)

    def sync(
        self, wanted: Mapping[str, Mapping[str, Any]], told: Collection[str], duty: str
    ) -> Mapping[str, AlertLease]:
        return self._link.call(lambda db: self._sync(db, wanted, told, duty))

    def release(self, keys: Collection[str]) -> None:
        def work(db: Documents) -> None:
            until = _now(db) + self._cool
            over = {"until": until, "over": True, "told": False, "alert": {}}
            db[ALERTS].update_many(self._mine_of(keys), {"$set": over, "$inc": {"term": 1}})

        self._link.call(work)

    def jobs(self) -> Collection[tuple[str, int, int]]:
        shown = {"_id": 0, **dict.fromkeys(_COUNTERS, 1)}

        def work(db: Documents) -> list[Mapping[str, Any]]:
            return list(db[JOBS].find({"status": "processing"}, shown).limit(JOBS_MAX))

        return [counted for job in self._link.call(work) if (counted := _counted(job)) is not None]

    def hosts(self) -> Collection[tuple[str, str, float, bool]]:
        others, shown = {"_id": {"$ne": self._me["host_id"]}}, {"name": 1, "at": 1, "away": 1}

        def work(db: Documents) -> list[tuple[str, str, float, bool]]:
            now = _now(db)
            found = (_host(each, now) for each in db[doc.HOSTS].find(others, shown).limit(HOSTS_MAX))
            return [host for host in found if host is not None]

        return self._link.call(work)

    def close(self) -> None:
        self._link.close()

    # --- inside one call

    def _sync(
        self, db: Documents, wanted: Mapping[str, Mapping[str, Any]], told: Collection[str], duty: str
    ) -> dict[str, AlertLease]:
        now = _now(db)
        mine = {"host_id": self._me["host_id"], "over": False}
        db[ALERTS].update_many(mine, {"$set": {"until": now + self._lease}, "$inc": {"term": 1}})
        there = {str(each["_id"]): each for each in db[ALERTS].find().limit(LEASES_MAX)}
        held = {key: _lease_of(key, each) for key, each in there.items() if self._holds(each)}
        lacking = sorted(wanted.keys() - held.keys(), key=lambda key: (key != duty, key))
        for key in lacking[:TAKEN_AT_ONCE]:  # the rest at the next call: each is an update, and a call has its deadline
            self._have(db, key, there.get(key), wanted[key], now, held)
        if duty in held:
            left = [key for key in there if key not in wanted and key not in held and self._is_free(there[key], now)]
            for key in left[:TAKEN_AT_ONCE]:
                self._inherit(db, key, there[key], now, held)
        delivered = [key for key in told if key in held and not held[key].told]
        if delivered:
            db[ALERTS].update_many(self._mine_of(delivered), {"$set": {"told": True}})
        return held

    def _have(
        self,
        db: Documents,
        key: str,
        document: Mapping[str, Any] | None,
        alert: Mapping[str, Any],
        now: datetime,
        held: dict[str, AlertLease],
    ) -> None:
        """Hold what is wanted, where that is possible."""
        if document is None:
            fields = {**self._fresh(now, alert), "term": 1}
            if db[ALERTS].update_one({"_id": key}, {"$setOnInsert": fields}, upsert=True).upserted_id is not None:
                held[key] = AlertLease(key, False, alert)
            return
        is_mine, is_over = document.get("host_id") == self._me["host_id"], document.get("over") is True
        if is_mine or self._is_free(document, now):
            told = document.get("told") is True and not is_over
            kept = document.get("alert") if told and isinstance(document.get("alert"), Mapping) else alert
            if self._take(db, key, document, {**self._fresh(now, kept or alert), "told": told}):
                held[key] = AlertLease(key, told, kept or alert, taken=not is_mine)

    def _inherit(
        self, db: Documents, key: str, document: Mapping[str, Any], now: datetime, held: dict[str, AlertLease]
    ) -> None:
        """Take what nobody wants and whose host is silent, so that its end is told; drop what needs no end."""
        if document.get("over") is True or document.get("told") is not True:
            db[ALERTS].delete_one({"_id": key, "term": document.get("term")})
        elif self._take(db, key, document, {**self._me, "until": now + self._lease}):
            held[key] = _lease_of(key, document)._replace(taken=True)

    def _take(self, db: Documents, key: str, document: Mapping[str, Any], fields: Mapping[str, Any]) -> bool:
        """Change a lease that is as it was read; False when somebody was quicker."""
        as_read = {"_id": key, "term": document.get("term"), "host_id": document.get("host_id")}
        return db[ALERTS].update_one(as_read, {"$set": fields, "$inc": {"term": 1}}).matched_count == 1

    def _mine_of(self, keys: Collection[str]) -> dict[str, Any]:
        return {"_id": {"$in": list(keys)}, "host_id": self._me["host_id"]}

    def _fresh(self, now: datetime, alert: Mapping[str, Any]) -> dict[str, Any]:
        return {**self._me, "until": now + self._lease, "told": False, "over": False, "alert": dict(alert)}

    def _holds(self, document: Mapping[str, Any]) -> bool:
        return document.get("host_id") == self._me["host_id"] and document.get("over") is not True

    def _is_free(self, document: Mapping[str, Any], now: datetime) -> bool:
        until = document.get("until")
        return not isinstance(until, datetime) or doc.aware(until) < now


def _now(db: Documents) -> datetime:
    """Return the time by MongoDB's clock, which all hosts share."""
    told = db.client.admin.command("hello").get("localTime")
    return doc.aware(told) if isinstance(told, datetime) else datetime.now(UTC)


def _lease_of(key: str, document: Mapping[str, Any]) -> AlertLease:
    alert = document.get("alert")
    return AlertLease(key, document.get("told") is True, alert if isinstance(alert, Mapping) else {})


def _counted(job: Mapping[str, Any]) -> tuple[str, int, int] | None:
    """Return a job's id and counters; None for what has no id that could be one."""
    key, published, consumed = (job.get(name) for name in _COUNTERS)
    if not isinstance(key, str) or not 0 < len(key) <= ID_MAX:
        return None
    return key, _number(published), _number(consumed)


def _host(document: Mapping[str, Any], now: datetime) -> tuple[str, str, float, bool] | None:
    """Return (id, name, silent_s, away); None for a host that does not say when it was heard of."""
    at, name = document.get("at"), document.get("name")
    if not isinstance(at, datetime):
        return None
    silent_s = max((now - doc.aware(at)).total_seconds(), 0.0)
    shown = name if isinstance(name, str) and name else str(document["_id"])
    return str(document["_id"])[:ID_MAX], shown, silent_s, _is_away(document.get("away"), now)


def _is_away(away: object, now: datetime) -> bool:
    """Say whether a host's hours of planned sleep hold now; what is none never does."""
    minute = now.hour * 60 + now.minute
    return any(_holds(hours, minute) for hours in away) if isinstance(away, list) else False


def _holds(hours: object, minute: int) -> bool:
    start, end = (hours.get("start"), hours.get("end")) if isinstance(hours, Mapping) else (None, None)
    if not isinstance(start, int) or not isinstance(end, int):
        return False
    return Hours(start, end).holds(minute)


def _number(value: object) -> int:
    return value if isinstance(value, int) and not isinstance(value, bool) else 0
