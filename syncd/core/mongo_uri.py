"""A MongoDB connection string as people write it: what is wrong with it, and how it should read, without its password.

Pure text; nothing is looked up. Drivers refuse a wrong one whole ("invalid URI") or, worse, read it as something else.
Source: the MongoDB connection string specification; RFC 3986, section 3.2.1.
"""

from __future__ import annotations

import re
from typing import Any, NamedTuple
from urllib.parse import quote, unquote

DEFAULT_PORT = 27017
DATABASE = "gvpocr"
"""The deployment's database, for a URI that names none."""

_HIDDEN = "***"
_MONITOR_EVERY_MS = 60_000
_SCHEME = re.compile(r"([A-Za-z][A-Za-z0-9+.-]*)://")
_PLACEHOLDER = re.compile(r"\$\{?[A-Za-z_]\w*\}?|<[A-Za-z_-]+>")
_BAD_ESCAPE = re.compile(r"%(?![0-9A-Fa-f]{2})")
_HOST = re.compile(r"(\[[0-9A-Fa-f:.%]+\]|[A-Za-z0-9_.-]+)(?::([0-9]{1,5}))?")
_RESERVED = '@:/?#[]%" '
_SECRET_OPTIONS = re.compile(r"pass|token|propert|secret", re.IGNORECASE)
_DATABASE_BYTES_MAX, _NOT_IN_DATABASE = 63, '/\\. "$*<>:|?\0'
"""https://www.mongodb.com/docs/manual/reference/limits/, "Naming Restrictions" """
_NAMES = {" ": "space", '"': "quotation mark"}


class Trouble(NamedTuple):
    """One thing wrong with the string: what, what to do, and whether a driver refuses the string because of it."""

    seen: str
    todo: str
    fatal: bool = True


class MongoUri(NamedTuple):
    """The parts. user: "" without a login; password: decoded, None when there is none. options: in order, decoded."""

    user: str
    password: str | None
    hosts: tuple[tuple[str, int], ...]
    database: str
    options: tuple[tuple[str, str], ...]

    def __repr__(self) -> str:
        return f"MongoUri({self.shown})"

    @property
    def host(self) -> tuple[str, int]:
        """The first server: the only one that is dialled."""
        return self.hosts[0]

    @property
    def auth_source(self) -> str:
        """Where the URI says that the user is kept; "" when it does not."""
        return self.option("authSource")

    @property
    def place(self) -> str:
        """HOST:PORT, several parted by commas."""
        return ",".join(f"{host}:{port}" for host, port in self.hosts)

    def option(self, name: str) -> str:
        """Return an option's value (names in any case), "" when it is not given."""
        return next((value for key, value in self.options if key.lower() == name.lower()), "")

    def with_option(self, name: str, value: str) -> MongoUri:
        """Return the same with an option set."""
        kept = tuple((key, old) for key, old in self.options if key.lower() != name.lower())
        return self._replace(options=(*kept, (name, value)))

    @property
    def shown(self) -> str:
        """The string for people: whole, but for what is secret."""
        options = [(key, _HIDDEN if _SECRET_OPTIONS.search(key) else value) for key, value in self.options]
        return self._written(_HIDDEN, options)

    @property
    def usable(self) -> str:
        """The string for a driver, with its password."""
        return self._written(quote(self.password or "", safe=""), list(self.options))

    def _written(self, password: str, options: list[tuple[str, str]]) -> str:
        secret = f":{password}" if self.password is not None else ""
        login = f"{quote(self.user, safe='')}{secret}@" if self.user else ""
        told = "&".join(f"{key}={value if value == _HIDDEN else quote(value, safe=',:')}" for key, value in options)
        return f"mongodb://{login}{self.place}/{quote(self.database, safe='')}{'?' if told else ''}{told}"


def driver_options(uri: MongoUri, name: str, *, pool: int, connect_s: float, call_s: float) -> dict[str, Any]:
    """Return pymongo's options for a client that never waits for long; name: as the server's log shows it.

    Behind a proxy the driver must not learn the server's own names, so the one host of the URI is dialled directly
    unless the URI names a replica set (or several hosts).
    """
    direct = len(uri.hosts) == 1 and not uri.option("replicaSet") and not uri.option("directConnection")
    connect_ms, call_ms = int(connect_s * 1000), int(call_s * 1000)
    return {
        "appname": name,
        "tz_aware": True,
        "w": "majority",
        "journal": True,
        "maxPoolSize": pool,
        "retryReads": False,
        "retryWrites": False,
        "serverMonitoringMode": "poll",
        "heartbeatFrequencyMS": _MONITOR_EVERY_MS,
        "serverSelectionTimeoutMS": connect_ms,
        "connectTimeoutMS": connect_ms,
        "timeoutMS": call_ms,
        "socketTimeoutMS": call_ms,  # the driver's good-bye knows no timeoutMS
        **({"directConnection": True} if direct else {}),
    }


def read(text: str) -> tuple[MongoUri | None, list[Trouble]]:
    """Return the parts as they are meant (None when that cannot be told), and everything that is wrong."""
    troubles = _wrapping(text)
    text = text.strip().strip("\"'").strip()
    scheme, rest = _scheme(text, troubles)
    if scheme == "mongodb+srv":
        return None, troubles
    login, rest = _split_login(rest)
    servers, slash, rest = rest.partition("/")
    database, _, options = rest.partition("?")
    if not slash and "?" in servers:
        servers, _, options = servers.partition("?")
        troubles.append(Trouble("there is no / before the ?", "write HOST:PORT/DATABASE?OPTIONS"))
    hosts = _hosts(servers, troubles)
    user, password = _login(login, troubles)
    if not hosts:
        return None, troubles
    uri = MongoUri(user, password, tuple(hosts), unquote(database), tuple(_options(options, troubles)))
    return uri, troubles + _meaning(uri)


def _wrapping(text: str) -> list[Trouble]:
    if text == text.strip() and text[:1] not in ('"', "'"):
        return []
    return [Trouble("blanks or quotation marks stand around it", "keep nothing but the URI, on one line")]


def _scheme(text: str, troubles: list[Trouble]) -> tuple[str, str]:
    found = _SCHEME.match(text)
    scheme = found[1].lower() if found is not None else ""
    if scheme == "mongodb+srv":
        seen = "mongodb+srv:// asks the DNS for servers, and goes round every proxy"
        troubles.append(Trouble(seen, f"name the server: mongodb://USER:PASSWORD@HOST:{DEFAULT_PORT}/{DATABASE}"))
    elif scheme != "mongodb":
        seen = f'it begins with "{found[0]}"' if found is not None else "it does not begin with mongodb://"
        troubles.append(Trouble(seen, f"write mongodb://USER:PASSWORD@HOST:{DEFAULT_PORT}/{DATABASE}"))
    return scheme, text[found.end() :] if found is not None else text


def _split_login(rest: str) -> tuple[str | None, str]:
    """Split at the last "@": what stands before belongs to the login, reserved or not, and is never shown."""
    login, at, servers = rest.rpartition("@")
    return login if at else None, servers


def _login(login: str | None, troubles: list[Trouble]) -> tuple[str, str | None]:
    if login is None:
        return "", None
    user, _, password = login.partition(":")
    if not user or not password:
        seen = f"the {'password' if user else 'user'} is empty before the @"
        troubles.append(Trouble(seen, "write mongodb://USER:PASSWORD@HOST", fatal=not user))
    for what, word in (("user", user), ("password", password)):
        if _PLACEHOLDER.fullmatch(word):
            # not repeated: it may be the password after all
            seen = f"the {what} looks like a placeholder (${{NAME}}, <name>) that was never filled in"
            troubles.append(Trouble(seen, "write the value itself, or see what fills it in", fatal=False))
        raw = [c for c in _RESERVED if c != "%" and c in word]
        if raw:
            signs = ", ".join(f"{_NAMES.get(c, c)} as {quote(c, safe='')}" for c in raw)
            named = " ".join(_NAMES.get(c, c) for c in raw)
            troubles.append(Trouble(f"the {what} has a raw {named} in it", f"escape it: write {signs}"))
        if _BAD_ESCAPE.search(word):
            troubles.append(Trouble(f"the {what} has a raw % in it", "escape it: write % as %25"))
        elif "+" in word:
            seen = f"the {what} has a raw + in it, which some drivers read as a space"
            troubles.append(Trouble(seen, "escape it: write + as %2B", fatal=False))
    return _decoded(user), _decoded(password) if password else None


def _decoded(word: str) -> str:
    """Return what was meant: escapes are taken for such only where every % begins one."""
    return word if _BAD_ESCAPE.search(word) else unquote(word)


def _hosts(servers: str, troubles: list[Trouble]) -> list[tuple[str, int]]:
    found = []
    for server in servers.split(","):
        match = _HOST.fullmatch(server)
        port = int(match[2] or DEFAULT_PORT) if match is not None else 0
        if match is None or not 0 < port < 1 << 16:
            # what cannot be read may be a part of the password: it is not repeated
            troubles.append(Trouble("no HOST:PORT can be made out in it", "write mongodb://USER:PASSWORD@HOST:27017/"))
            return []
        found.append((match[1], port))
    return found


def _options(text: str, troubles: list[Trouble]) -> list[tuple[str, str]]:
    found: dict[str, tuple[str, str]] = {}
    for part in re.split("[&;]", text) if text else ():
        key, equals, value = part.partition("=")
        if not key or not equals:
            troubles.append(Trouble("an option has no value", "write options as ?NAME=VALUE&NAME=VALUE"))
        elif key.lower() in found:
            troubles.append(Trouble(f"{key} is given twice", "keep one of them", fatal=False))
        else:
            found[key.lower()] = (key, unquote(value))
    return list(found.values())


def _meaning(uri: MongoUri) -> list[Trouble]:
    """Judge what the string says, once it can be read."""
    found = []
    if lacks_auth_source(uri):
        seen = (
            f'authSource is missing: the login is looked up in database "{uri.database}"; most servers keep it in admin'
        )
        found.append(Trouble(seen, "add authSource=admin", fatal=False))
    if not uri.database:
        found.append(Trouble(f"it names no database; {DATABASE} is used", f"write /{DATABASE} after the port", False))
    if len(uri.database.encode()) > _DATABASE_BYTES_MAX or any(c in uri.database for c in _NOT_IN_DATABASE):
        seen = "what stands after the port cannot be the name of a database"
        found.append(Trouble(seen, f"write /{DATABASE} there, and options behind a ?"))
    if len(uri.hosts) > 1:
        refused = uri.option("directConnection").lower() == "true"
        seen = f"it names {len(uri.hosts)} servers; behind a proxy there is one, and only the first is looked at"
        found.append(Trouble(seen, "name one server", fatal=refused))
    return found


def lacks_auth_source(uri: MongoUri) -> bool:
    """Say whether the login is looked up in the database of the data, since nothing names another."""
    external = uri.option("authMechanism").upper() in ("GSSAPI", "MONGODB-X509", "MONGODB-AWS", "MONGODB-OIDC")
    return bool(uri.user) and not external and not uri.auth_source and uri.database not in ("", "admin")


def corrected(uri: MongoUri) -> MongoUri:
    """Return it as it should read for this deployment, behind a proxy."""
    better = uri._replace(hosts=uri.hosts[:1], database=uri.database or DATABASE)
    if uri.user and not uri.auth_source:
        better = better.with_option("authSource", "admin")
    return better if uri.option("directConnection") else better.with_option("directConnection", "true")
