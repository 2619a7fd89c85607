"""Hop by hop to MongoDB: the URI's form, name, port, greeting, login, round trip, database, write concern."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import TypeVar
from urllib.parse import quote, quote_plus

from syncd.config import Secret, Settings
from syncd.core.errors import ConfigError
from syncd.core.mongo_uri import DATABASE, DEFAULT_PORT, MongoUri, corrected, lacks_auth_source, read
from syncd.core.paths import printable
from syncd.core.shown import counted
from syncd.doctor import clock
from syncd.doctor.checks import Check, Pace, fail, ok, skipped, warn
from syncd.doctor.dial import Peer, Stopped, connect_time, millis, reach
from syncd.doctor.strangers import Kind, identify
from syncd.registry.probe import PROBED_COLLECTIONS, Fault, Probe, ProbeFailed, Server

_T = TypeVar("_T")

HOPS = ("URI", "name", "port", "protocol", "login", "ping", "database", "write concern")
MEMBERS = 5
_BEHIND = "if this is a proxy, see whether the MongoDB behind it is up; else check {setting}"


def add_hops(settings: Settings, secret: Secret, pace: Pace, told: list[Check]) -> None:
    """Try each hop; a login is tried once, and once more with authSource=admin where nothing names a source."""
    try:
        text = secret.reveal()
    except ConfigError:
        told += skipped(HOPS, "the URI cannot be read (see this host)")
        return
    setting = f"the URI in {secret.where}"
    uri, checks = check_uri(text, setting)
    told += checks
    if uri is not None:
        try:
            _Hops(uri, settings, setting, pace, told).go()
        except Stopped as stopped:
            told.append(stopped.check)
    stopped_at = told[-1].name
    told += skipped([name for name in HOPS if name not in {check.name for check in told}], f"{stopped_at} failed")


def check_uri(text: str, setting: str) -> tuple[MongoUri | None, list[Check]]:
    """Judge the form of a URI; what is wrong is named, and the corrected form shown, both without the password."""
    uri, troubles = read(text)
    if uri is None:
        return None, [fail("URI", trouble.seen, f"in {setting}: {trouble.todo}") for trouble in troubles]
    if not troubles:
        return uri, [ok("URI", uri.shown)]
    checks = [(fail if each.fatal else warn)("URI", each.seen, each.todo) for each in troubles]
    whole = f"{checks[-1].todo}; in all, {setting} is to read {corrected(uri).shown}, with the password for ***"
    return uri, [*checks[:-1], replace(checks[-1], todo=whole)]


def check_members(server: Server, uri: MongoUri, dialled: Callable[[str], bool]) -> Check:
    """Judge a replica set whose members' names a driver would go on to."""
    name = "replica set"
    lost = [printable(member) for member in server.members[:MEMBERS] if not dialled(member)]
    seen = f'"{printable(server.set_name)}", of {", ".join(printable(member) for member in server.members[:MEMBERS])}'
    if not lost:
        return ok(name, seen)
    seen += f"; from here {', '.join(lost)} cannot be dialled"
    if uri.option("directConnection").lower() == "true":
        return ok(name, f"{seen}, and with directConnection=true need not be")
    return warn(name, f"{seen}, where a driver goes on to without directConnection=true", "add directConnection=true")


def without_password(text: str, uri: MongoUri) -> str:
    """Return a text with the URI's password replaced, as it is and in the forms a driver may show."""
    secret = uri.password or ""
    for form in sorted(
        {secret, quote(secret, safe=""), quote(secret), quote_plus(secret), repr(secret)[1:-1]}, key=len, reverse=True
    ):
        text = text.replace(form, "***") if form else text
    return text


class _Hops:
    """The hops to one server, in order. Each adds its checks, and raises Stopped when the next cannot be tried."""

    def __init__(self, uri: MongoUri, settings: Settings, setting: str, pace: Pace, told: list[Check]) -> None:
        self._uri = uri
        self._settings = settings
        self._peer = Peer(uri.host[0].strip("[]"), uri.host[1], setting)
        self._pace = pace
        self._told = told
        self._database = uri.database or DATABASE

    def go(self) -> None:
        """Try them all. Raises Stopped."""
        reach(self._peer, self._pace, self._told).socket.close()
        one_server = self._uri._replace(hosts=self._uri.hosts[:1])
        with Probe(one_server.usable, self._database, self._pace.answer_s) as probe:
            server = self._hello(probe)
            self._told += self._of_server(server)
            self._told.append(self._log_in(probe))
            self._told.append(self._ping(probe))
            self._told += self._stores(probe)

    def _hello(self, probe: Probe) -> Server:
        try:
            return probe.hello()
        except ProbeFailed as error:
            raise Stopped(self._wrong(error)) from error

    def _wrong(self, error: ProbeFailed) -> Check:
        where, setting = self._peer.where, self._peer.setting
        if error.fault is Fault.UNUSABLE:
            return fail("protocol", f"the URI cannot be used: {self._clean(error.message)}", f"correct {setting}")
        found = identify(self._peer.host, self._peer.port)
        match found.kind:
            case Kind.CLOSES:
                seen = f"{where} takes the connection and closes it without a word: so does a proxy that cannot go on"
                return fail("protocol", seen, _BEHIND.format(setting=setting))
            case Kind.SILENT:
                seen = f"{where} takes the connection and says nothing: so does a proxy to a host that is away"
                return fail("protocol", seen, _BEHIND.format(setting=setting))
            case Kind.MONGODB | Kind.TLS:
                seen = f"MongoDB at {where} does not greet: {self._clean(error.message)}"
                return fail("protocol", seen, f"see whether it wants TLS (tls=true in {setting}), and its own log")
            case _:
                todo = f"check the port in {setting}: MongoDB's is {DEFAULT_PORT} by default"
                return fail("protocol", f"{where} is not MongoDB but {found}", todo)

    def _of_server(self, server: Server) -> list[Check]:
        checks = [ok("protocol", f"MongoDB {printable(server.version[:20])} answers")]
        if not server.writable:
            seen = f"{self._peer.where} is not the primary of its replica set, and takes no writes"
            checks.append(fail("replica set", seen, f"name the primary in {self._peer.setting}"))
        elif server.set_name:
            checks.append(check_members(server, self._uri, self._dialled))
        if server.clock_offset_s is not None:
            checks.append(clock.compare(server.clock_offset_s, "MongoDB's"))
        return checks

    def _dialled(self, member: str) -> bool:
        host, _, port = member.rpartition(":")
        return port.isdigit() and connect_time(host.strip("[]"), int(port), self._pace) is not None

    # -- login

    def _log_in(self, probe: Probe) -> Check:
        """Log in once; where the URI does not say in which database users are, once more with admin."""
        try:
            probe.log_in()
        except ProbeFailed as error:
            if error.fault is not Fault.LOGIN:
                raise Stopped(fail("login", self._clean(error.message), f"check {self._peer.setting}")) from error
            return self._log_in_at_admin(probe, error)
        if not self._uri.user:
            return ok("login", "none: the URI names no user")
        self._settle_auth_source()
        return ok("login", f'logged in as "{printable(self._uri.user)}"')

    def _log_in_at_admin(self, probe: Probe, refused: ProbeFailed) -> Check:
        user, setting = printable(self._uri.user), self._peer.setting
        if not lacks_auth_source(self._uri):
            seen = f'login refused for "{user}" ({self._clean(refused.message)}). Tried once.'
            raise Stopped(fail("login", seen, f"correct user, password or authSource in {setting}")) from refused
        try:
            probe.log_in(auth_source="admin")
        except ProbeFailed as error:
            seen = (
                f'login refused for "{user}" by database "{self._database}" and by "admin" '
                f"({self._clean(error.message)}). Tried once each."
            )
            raise Stopped(fail("login", seen, f"correct user or password in {setting}")) from error
        seen = f'login refused for "{user}" by database "{self._database}", and accepted with authSource=admin'
        return warn("login", seen, f"let {setting} read {corrected(self._uri).shown}, with the password for ***")

    def _settle_auth_source(self) -> None:
        """Take back the warning of a missing authSource: the login worked without."""
        self._told[:] = [check for check in self._told if not check.seen.startswith("authSource is missing")]
        if not any(check.name == "URI" for check in self._told):
            self._told.insert(0, ok("URI", self._uri.shown))

    # -- what follows the login

    def _ping(self, probe: Probe) -> Check:
        took = self._tried("ping", probe.ping)
        direct = self._direct()
        return ok("ping", f"round trip {millis(took)}{direct}")

    def _direct(self) -> str:
        """Return how far the same port of a source's server is, where that is reached without our proxy."""
        hosts = {url.host.strip("[]"): None for each in self._settings.mirrors for url in each.sources if url.host}
        for host in list(hosts)[:2]:
            if host != self._peer.host:
                took = connect_time(host, self._peer.port, replace(self._pace, resolve_s=2, connect_s=2))
                if took is not None:
                    return f", direct to {Peer(host, self._peer.port, '').where} {millis(took)}"
        return ""

    def _stores(self, probe: Probe) -> list[Check]:
        there = self._tried("database", probe.collections)
        seen = f'"{self._database}" has {counted(len(there), "collection")}'
        if not there:
            seen = f'"{self._database}" is empty: new, or another name is meant'
        probed = next((name for name in PROBED_COLLECTIONS if name in there), "")
        return [ok("database", seen), self._concern(probe, probed)]

    def _concern(self, probe: Probe, collection: str) -> Check:
        """See whether a majority's journal can be promised, without a write."""
        name = "write concern"
        if not collection:
            known = " or ".join(PROBED_COLLECTIONS)
            return ok(name, f"majority and journal are asked for; to be tried once there is a {known}")
        try:
            probe.acknowledges(collection)
        except ProbeFailed as error:
            said = self._clean(error.message)
            if error.fault is Fault.DENIED:
                seen = f'"{printable(self._uri.user)}" may not write into {self._database}.{collection} ({said})'
                return fail(name, seen, f"grant readWrite on {self._database}: db.grantRolesToUser")
            return fail(name, f"majority and journal are not acknowledged: {said}", "look at the replica set's members")
        return ok(name, f"majority and journal are acknowledged ({self._database}.{collection}; nothing was written)")

    def _tried(self, name: str, work: Callable[[], _T]) -> _T:
        try:
            return work()
        except ProbeFailed as error:
            said = self._clean(error.message)
            if error.fault is Fault.DENIED:
                who = f'"{printable(self._uri.user)}" may not' if self._uri.user else "without a login one may not"
                todo = f"name a user that has readWrite on {self._database} in {self._peer.setting}"
                raise Stopped(fail(name, f"{who} look into {self._database} ({said})", todo)) from error
            raise Stopped(fail(name, said, _BEHIND.format(setting=self._peer.setting))) from error

    def _clean(self, message: str) -> str:
        """Return a server's or the driver's words, without the password, whatever form it takes in them."""
        return printable(without_password(message, self._uri))[:300]
