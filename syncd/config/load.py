"""Find the configuration file, read it, and report every problem in it at once."""

from __future__ import annotations

import os
import sys
import tomllib
from collections.abc import Mapping
from pathlib import Path
from shlex import quote
from typing import Any

from syncd.config import values
from syncd.config.check import cross_checks, mail_checks
from syncd.config.keys import ALERTS, API, HOST, HOSTS, MIRROR, MISPLACED, MONGO, NSQ, REQUIRED, WORKER, Key
from syncd.config.readers import Place
from syncd.config.secrets import Secret, is_handed_over, is_mounted
from syncd.config.settings import (
    AlertSettings,
    ApiSettings,
    HostSettings,
    MirrorSettings,
    MongoSettings,
    NsqSettings,
    RemoteSettings,
    Settings,
    WorkerSettings,
)
from syncd.core.errors import ConfigError

_TOP = ("host", "mirror", "nsq", "mongo", "api", "worker", "alerts", "hosts")
Table = dict[str, Any]


def expanded(path: str | Path) -> Path:
    """Return a path with ~ and ~USER in their place. Raises ConfigError where that folder is not known."""
    try:
        return Path(path).expanduser()
    except RuntimeError:
        raise ConfigError(
            f"{path} starts in a home folder that is not known here", hint="name it by its whole path"
        ) from None


def default_path(env: Mapping[str, str]) -> Path:
    """Return where the configuration is when nobody says: $SYNCD_CONFIG, else the platform's folder."""
    named = env.get("SYNCD_CONFIG")
    if named:
        return expanded(named).absolute()
    home = Path(env.get("HOME") or Path.home())
    if sys.platform == "darwin":
        return home / "Library" / "Application Support" / "syncd" / "config.toml"
    folder = env.get("XDG_CONFIG_HOME", "")
    # XDG base directory specification: a relative value is to be ignored
    return (Path(folder) if folder.startswith("/") else home / ".config") / "syncd" / "config.toml"


def default_state_dir(env: Mapping[str, str]) -> Path:
    """Return the state directory when the file names none: $XDG_STATE_HOME/syncd or ~/.local/state/syncd."""
    folder = env.get("XDG_STATE_HOME", "")
    home = Path(env.get("HOME") or Path.home())
    return (Path(folder) if folder.startswith("/") else home / ".local" / "state") / "syncd"


def load(
    path: Path | None = None,
    env: Mapping[str, str] | None = None,
    *,
    check_secrets: bool = True,
    for_worker: bool = False,
) -> Settings:
    """Return the settings of a configuration file (None: the one at default_path()).

    The deployment's MONGO_URI, NSQD_ADDRESS, NSQLOOKUPD_ADDRESSES and WORKER_ID in `env` win over the file.
    check_secrets False: secret files may be missing or open to others (for `syncd secret`, which puts that right).
    for_worker: an OCR worker's, which needs no [[mirror]], no mirror's secret, and no file where nobody names one.
    Raises: ConfigError with every problem, each naming the file, the table and the key.
    """
    env = os.environ if env is None else env
    file = default_path(env) if path is None else path.expanduser().absolute()
    named = path is not None or bool(env.get("SYNCD_CONFIG"))
    raw = {} if for_worker and not named and not os.path.lexists(file) else _read(file)
    return _Loader(file, env, check_secrets=check_secrets, for_worker=for_worker).settings(raw)


def _read(file: Path) -> Table:
    try:
        content = file.read_bytes()
    except FileNotFoundError:
        raise ConfigError(f"there is no configuration file at {file}", hint=_init_hint(file)) from None
    except OSError as error:
        raise ConfigError(f"{file} cannot be read: {error.strerror}", hint="name another file with -c FILE") from error
    try:
        return tomllib.loads(content.decode("utf-8-sig"))
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        raise _broken(file, f"{file}: line {line} is not UTF-8 text") from None
    except tomllib.TOMLDecodeError as error:
        raise _broken(file, f"{file}: not valid TOML: {error}") from None


def _broken(file: Path, problem: str) -> ConfigError:
    return ConfigError(f"the configuration {file} cannot be read", problems=[problem])


def _init_hint(file: Path) -> str:
    return "syncd init" if file == default_path(os.environ) else f"syncd -c {quote(str(file))} init"


class _Loader:
    """One load: collects problems while it reads table after table; values with problems are left out."""

    def __init__(self, file: Path, env: Mapping[str, str], *, check_secrets: bool, for_worker: bool) -> None:
        self.file = file
        self.check_secrets = check_secrets
        self.for_worker = for_worker
        self.env = env
        self.place = Place(file.parent, env)
        self.problems: list[str] = []
        self.hint = ""

    def settings(self, raw: Table) -> Settings:
        self._unknown("", raw, _TOP)
        host = self._table("host", raw.get("host", {}), HOST)
        if host.get("state_dir") is None:
            host["state_dir"] = default_state_dir(self.env)
        mirrors = self._mirrors(raw.get("mirror"))
        nsq = self._nsq(raw.get("nsq", {}))
        mongo = self._mongo(raw.get("mongo", {}))
        api = self._api(raw.get("api", {}))
        worker = self._worker(raw.get("worker", {}), [m.get("name") for _, m in mirrors])
        remotes = self._remotes(raw.get("hosts", {}))
        alerts = self._alerts(raw.get("alerts", {}))
        self.problems += [f"{self.file}: {problem}" for problem in cross_checks(host, mirrors)]
        if self.problems:
            from syncd.core.shown import printable  # start-up time: only for a wrong file

            self.problems = [printable(problem) for problem in self.problems]
            count = "1 problem" if len(self.problems) == 1 else f"{len(self.problems)} problems"
            raise ConfigError(f"the configuration {self.file} has {count}", problems=self.problems, hint=self.hint)
        return Settings(
            path=self.file,
            host=HostSettings(**host),
            mirrors=tuple(MirrorSettings(**table) for _, table in mirrors),
            nsq=NsqSettings(**nsq),
            mongo=MongoSettings(**mongo),
            api=ApiSettings(**api),
            worker=WorkerSettings(**worker),
            alerts=AlertSettings(**alerts),
            hosts=tuple(RemoteSettings(**table) for table in remotes),
        )

    def _problem(self, where: str, key: str, what: str) -> None:
        self.problems.append(": ".join(part for part in (str(self.file), where, key, what) if part))

    def _unknown(self, where: str, raw: Table, known: tuple[str, ...]) -> None:
        for key in raw:
            if where.startswith("hosts.") and key in ("user", "username", "host", "port"):
                self._problem(where, "", f"unknown key {values.shown(key)}; it belongs into ssh: USER@HOST:PORT")
            elif key not in known:
                self._problem(where, "", _unknown_key(key, known, is_table=not where))

    def _table(self, where: str, raw: object, keys: tuple[Key, ...], extra: tuple[str, ...] = ()) -> Table:
        """Read one table by its keys; what has a problem is missing from the result."""
        if not isinstance(raw, dict):
            self._problem(where, "", f"{values.shown(raw)} is not a table; write [{where}] above its keys")
            raw = {}
        self._unknown(where, raw, (*(key.name for key in keys), *extra))
        found: Table = {}
        for key in keys:
            given = raw.get(key.name, key.default)
            if given is REQUIRED:
                self._problem(where, key.name, "is missing")
            elif given is None:
                found[key.name] = None
            else:
                try:
                    found[key.name] = key.read(given, self.place)
                except ValueError as error:
                    self._problem(where, key.name, str(error))
        return found

    def _mirrors(self, raw: object) -> list[tuple[str, Table]]:
        if raw is None or raw == []:
            if self.for_worker:
                return []
            self._problem("", "", "has no [[mirror]] table: nothing would be mirrored")
            return []
        if isinstance(raw, dict):
            self._problem("mirror", "", "write [[mirror]] with two brackets: there may be several")
            raw = [raw]
        if not isinstance(raw, list):
            self._problem("mirror", "", f"{values.shown(raw)} is not a table; write [[mirror]] above its keys")
            return []
        return [self._mirror(number, table) for number, table in enumerate(raw)]

    def _mirror(self, number: int, raw: object) -> tuple[str, Table]:
        name = raw.get("name") if isinstance(raw, dict) else None
        where = f"mirror[{number}] {values.shown(name)}" if isinstance(name, str) else f"mirror[{number}]"
        table = self._table(where, raw, MIRROR)
        if isinstance(raw, dict) and "every" in raw and "cron" in raw:
            self._problem(where, "", "has both every and cron; keep one of them")
        every = table.pop("every", None)
        table["every_s"] = None if table.get("cron") else every
        if "settle" in table:
            table["settle_s"] = table.pop("settle")
        if table.get("min_free", "") is None:
            table["min_free"] = values.MinFree(0.05, values.GIB)
        if table.get("known_hosts_file", "") is None:
            table["known_hosts_file"] = self.place.base / "known_hosts"
        known = len(self.problems)
        table["password"] = self._secret(where, table, "password_file", "password_env")
        if len(self.problems) > known and name:
            self._name_secret(name, table["password"])
        if table.get("key_file"):
            self._check_secret(where, "key_file", Secret(path=table["key_file"]))
        return where, table

    def _name_secret(self, mirror: object, secret: Secret | None) -> None:
        """Name the command that writes a password, where its file is missing and not a container's."""
        path = secret.path if secret is not None else None
        if not self.hint and path is not None and not os.path.lexists(path) and not is_mounted(path):
            named = f"syncd -c {quote(str(self.file))}" if self.file != default_path(self.env) else "syncd"
            self.hint = f"{named} secret {quote(str(mirror))}"

    def _secret(self, where: str, table: Table, file_key: str, env_key: str) -> Secret | None:
        """Turn a pair of keys into one Secret; both set, or a secret that cannot be read, is a problem."""
        path, variable = table.pop(file_key, None), table.pop(env_key, None)
        if path and variable:
            self._problem(where, "", f"has both {file_key} and {env_key}; keep one of them")
        if path:
            return self._check_secret(where, file_key, Secret(path=path))
        if variable:
            return self._check_secret(where, env_key, Secret(variable=variable, env=self.env))
        return None

    def _check_secret(self, where: str, key: str, secret: Secret) -> Secret:
        # what systemd hands over is there for the service alone: its absence is no problem of other commands
        elsewhere = secret.path is not None and is_handed_over(secret.path) and "CREDENTIALS_DIRECTORY" not in self.env
        needed = self.check_secrets and not (self.for_worker and where.startswith("mirror["))
        wrong = secret.problem() if needed and not elsewhere else ""
        if wrong:
            self._problem(where, key, wrong)
        return secret

    def _from_env(self, variable: str, default_port: int) -> tuple[values.Address, ...] | None:
        """Read a comma-separated list of addresses from the environment; None when it is not set."""
        given = self.env.get(variable, "").strip()
        if not given:
            return None
        try:
            return values.addresses([part for part in given.split(",") if part.strip()], default_port)
        except ValueError as error:
            self.problems.append(f"${variable}: {error}")
            return ()

    def _nsq(self, raw: object) -> Table:
        table = self._table("nsq", raw, NSQ)
        nsqd = self._from_env("NSQD_ADDRESS", 4150)
        lookupd = self._from_env("NSQLOOKUPD_ADDRESSES", 4161)
        in_file = table.pop("nsqd_tcp_address", None)
        table["nsqd"] = (in_file or ()) if nsqd is None else nsqd
        listed = table.pop("lookupd_http_addresses", ())
        table["lookupd"] = listed if lookupd is None else lookupd
        if not table["nsqd"] and table.get("announce") == "nsq":
            table["announce"] = "local"
        return table

    def _mongo(self, raw: object) -> Table:
        table = self._table("mongo", raw, MONGO)
        if self.env.get("MONGO_URI", "").strip():
            table.pop("uri_file", None)
            table.pop("uri_env", None)
            table["uri"] = Secret(variable="MONGO_URI", env=self.env)
        else:
            table["uri"] = self._secret("mongo", table, "uri_file", "uri_env")
        return table

    def _api(self, raw: object) -> Table:
        table = self._table("api", raw, API)
        path = table.pop("token_file", None)
        table["token"] = self._check_secret("api", "token_file", Secret(path=path)) if path else None
        if table.get("listen") and not path:
            self._problem("api", "token_file", "is missing: TCP is answered to the bearer of a token only")
        return table

    def _worker(self, raw: object, names: list[str | None]) -> Table:
        table = self._table("worker", raw, WORKER, extra=("engine",))
        given = raw.get("engine", "tesseract") if isinstance(raw, dict) else "tesseract"
        table["engine"], table["engines"] = self._engine(given)
        for name in table.get("mounts", {}):
            if name not in names and (names or not self.for_worker):
                known = tuple(n for n in names if n)
                self._problem("worker.mounts", "", f"{values.shown(name)} is no mirror{_nearest(name, known)}")
        for name in ("missing_grace", "wait_for_source"):
            table[f"{name}_s"] = table.pop(name, None)
        worker_id = self.env.get("WORKER_ID", "").strip()
        # deployments are seen whose compose file leaves "${HOSTNAME}" as it is: no id at all
        table["id"] = worker_id if worker_id and "$" not in worker_id else None
        return table

    def _remotes(self, raw: object) -> list[Table]:
        """Read the [hosts.NAME] tables. Their secrets are not looked at: a mirror goes on without them."""
        if not isinstance(raw, dict):
            self._problem("hosts", "", f"{values.shown(raw)} is not a table; write [hosts.NAME] above its keys")
            return []
        found = []
        for name, given in raw.items():
            where = f"hosts.{name if name.replace('-', '').replace('_', '').isalnum() else values.shown(name)}"
            table = self._table(where, given, HOSTS)
            self._check_remote(where, name, table)
            path = table.pop("password_file", None)
            user, address = table.pop("ssh", ("", None))
            paths = {key: table.get(key) or "" for key in ("config", "compose_dir")}
            secret = Secret(path=path) if path else None
            found.append(table | paths | {"name": name, "user": user, "address": address, "password": secret})
        return found

    def _check_remote(self, where: str, name: str, table: Table) -> None:
        try:
            values.name(name, "host")
        except ValueError as error:
            self._problem(where, "", str(error))
        if not table.get("key_file", "") and not table.get("password_file", ""):
            self._problem(where, "key_file", "is missing, and password_file too: one of them is needed")
        is_compose = table.get("kind") == "compose"
        if is_compose and table.get("compose_dir", "") is None:
            self._problem(where, "compose_dir", 'is missing: kind = "compose" needs it')
        if table.get("compose_dir") and not is_compose:
            self._problem(where, "compose_dir", 'only kind = "compose" uses it')
        for key in ("command", "config"):
            if is_compose and (table.get(key) or "").startswith("~"):
                self._problem(where, key, "lies in the container, where there is no home; write an absolute path")

    def _alerts(self, raw: object) -> Table:
        table = self._table("alerts", raw, ALERTS)
        url, secret = table.pop("webhook", "") or None, self._secret("alerts", table, "webhook_file", "")
        if url and secret:
            self._problem("alerts", "", "has both webhook and webhook_file; keep one of them")
        table["webhook"] = secret or url
        table["password"] = self._secret("alerts", table, "password_file", "password_env")
        table["nsqd_http"] = table.pop("nsqd_http_addresses", ())
        for name in ("every", "hold", "failing_after", "owed_after", "stuck_after"):
            table[f"{name}_s"] = table.pop(name, None)
        self.problems += [f"{self.file}: alerts: {problem}" for problem in mail_checks(table)]
        table["mail_from"] = table.get("mail_from") or next(iter(table.get("mail_to") or ()), "")
        return table

    def _engine(self, given: object) -> tuple[str, dict[str, dict[str, object]]]:
        """Return (engine, tables): `engine = NAME`, or tables [worker.engine.NAME] and perhaps `name`."""
        if isinstance(given, dict):
            tables = {name: table for name, table in given.items() if isinstance(table, dict)}
            for key in given.keys() - tables.keys() - {"name"}:
                self._problem("worker.engine", "", _unknown_key(key, ("name",)))
            given = given.get("name", next(iter(tables)) if len(tables) == 1 else "")
            if given == "":
                self._problem("worker.engine", "name", "is missing: it says which of the engines to use")
                return "", tables
        else:
            tables = {}
        try:
            return values.text(given), tables
        except ValueError as error:
            self._problem("worker", "engine", str(error))
            return "", tables


def _unknown_key(key: str, known: tuple[str, ...], *, is_table: bool = False) -> str:
    """Say that a key is unknown, and what was probably meant."""
    if not is_table and key in MISPLACED:
        return f"unknown key {values.shown(key)}; {MISPLACED[key]}"
    return f"unknown {'table' if is_table else 'key'} {values.shown(key)}{_nearest(key, known)}"


def _nearest(word: str, known: tuple[str, ...]) -> str:
    """Return "; did you mean ...?" for the nearest known word, else "; known are ..."."""
    import difflib  # start-up time: only for a wrong file

    near = difflib.get_close_matches(word.lower(), known, n=1, cutoff=0.6)
    if near:
        return f"; did you mean {values.shown(near[0])}?"
    return f"; known are {', '.join(known)}" if known else ""
