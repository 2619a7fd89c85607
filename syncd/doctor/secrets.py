"""Secrets: whether their files are closed to others, and keeping what is in them out of everything that is shown."""

from __future__ import annotations

import json
import re
import stat
import tomllib
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any
from urllib.parse import quote, quote_plus, unquote

from syncd.config import MirrorSettings, Secret, Settings
from syncd.config.keys import TABLES
from syncd.config.readers import Place
from syncd.config.secrets import is_mounted, redact
from syncd.config.settings import RemoteSettings
from syncd.config.values import password_in
from syncd.core.errors import ConfigError
from syncd.core.mongo_uri import read
from syncd.doctor.checks import Check, Level, fail, ok

HIDDEN = "***"

_SHORTEST = 4
_LIMIT_BYTES = 64 * 1024
_URL_LOGIN = re.compile(r"://([^\s\"'@/]*?):([^\s\"']*)@")
_FILES = frozenset({"password_file", "key_file", "uri_file", "token_file", "webhook_file", "credentials_file"})
_VARIABLES = frozenset({"password_env", "uri_env"})
_VARIABLE = re.compile(r"[A-Za-z_][A-Za-z0-9_]*", re.ASCII)
_NAMES = re.compile(r"pass|secret|token|uri$|api_?key|private", re.IGNORECASE)
_KNOWN_KEYS = {key.name for keys in TABLES.values() for key in keys}


def check_mirror(mirror: MirrorSettings, replace_hint: str) -> list[Check]:
    """Look at the secrets of one mirror: password and key file. replace_hint: how to write a missing password."""
    checks = []
    if mirror.password is not None:
        checks.append(_check("password", mirror.password, replace_hint))
    if mirror.key_file is not None:
        checks.append(_check("key file", Secret(path=mirror.key_file)))
    return checks


def check_host(settings: Settings) -> list[Check]:
    """Look at the secrets that belong to no mirror."""
    alerts = settings.alerts
    named = (
        ("MongoDB URI", settings.mongo.uri),
        ("API token", settings.api.token),
        ("alert webhook", alerts.webhook if isinstance(alerts.webhook, Secret) else None),
        ("mail password", alerts.password),
    )
    checks = [_check(name, secret) for name, secret in named if secret is not None]
    return checks + [_of_far_host(host.name, secret) for host in settings.hosts for secret in _secrets_of(host)]


def _secrets_of(host: RemoteSettings) -> Iterator[Secret]:
    if host.key_file is not None:
        yield Secret(path=host.key_file)
    if host.password is not None:
        yield host.password


def _of_far_host(name: str, secret: Secret) -> Check:
    """Look at what `syncd remote` logs in with: mirrors go on without it."""
    check = _check(f"host {name}", secret)
    return replace(check, status=Level.WARN) if check.status is Level.FAIL else check


def _check(name: str, secret: Secret, replace_hint: str = "") -> Check:
    """Look at one secret. It is read as a connection would read it; what is in it is not kept here."""
    try:
        secret.reveal()
    except ConfigError as error:
        seen, _, remedy = error.message.partition("; ")
        if "does not exist" in seen and not is_mounted(secret.path):
            remedy = replace_hint or remedy
        return fail(name, seen, remedy.removeprefix("run: ") or f"put the secret into {secret.where}")
    if secret.path is None:
        return ok(name, f"in the environment variable {secret.variable}")
    return ok(name, f"{secret.path} (mode {stat.S_IMODE(secret.path.stat().st_mode):04o})")


class Scrubber:
    """Takes every secret that can be reached from a configuration out of a text. Reading them is the only way."""

    def __init__(self, file: Path, env: Mapping[str, str]) -> None:
        """Collect what must not be shown: contents of secret files, variables, passwords written where none belong.

        Nothing is raised for a file that cannot be read: what it holds cannot be shown either.
        """
        found = {value for value in (*_of_environment(env), *_of_file(file, env)) if len(value) >= _SHORTEST}
        forms = {form for value in found for form in _forms(value)}
        self._found = sorted(forms, key=len, reverse=True)

    def clean(self, text: str) -> str:
        """Return the text with every secret replaced by three stars, logins in URLs too."""
        text = redact(text)
        for value in self._found:
            text = text.replace(value, HIDDEN)
        return _URL_LOGIN.sub(rf"://\1:{HIDDEN}@", text)

    def clean_all(self, value: Any) -> Any:
        """Return lists, tables and texts with every secret replaced; keys and numbers stay as they are."""
        if isinstance(value, str):
            return self.clean(value)
        if isinstance(value, dict):
            return {key: self.clean_all(each) for key, each in value.items()}
        if isinstance(value, list | tuple):
            return [self.clean_all(each) for each in value]
        return value


def _of_environment(env: Mapping[str, str]) -> Iterator[str]:
    yield env.get("MONGO_URI", "")
    yield from _mongo_passwords(env.get("MONGO_URI", ""))
    for value in env.values():
        yield from _url_passwords(value)


def _of_file(file: Path, env: Mapping[str, str]) -> Iterator[str]:
    try:
        text = file.read_bytes().decode("utf-8-sig", "replace")
    except OSError:
        return
    yield from _url_passwords(text)
    with suppress(tomllib.TOMLDecodeError):
        yield from _of_table(tomllib.loads(text), Place(file.parent, env))


def _of_table(table: Mapping[str, Any], place: Place) -> Iterator[str]:
    for key, value in table.items():
        for each in value if isinstance(value, list) else [value]:
            if isinstance(each, dict):
                yield from _of_table(each, place)
            elif isinstance(each, str):
                yield from _of_key(key, each, place)


def _of_key(key: str, value: str, place: Place) -> Iterator[str]:
    yield password_in(value)  # a URL may be so badly written that it is none
    if key in _FILES:
        yield from [value] if "://" in value else _contents(place.path(value or "."))
    elif key in _VARIABLES:
        yield place.env.get(value, "")
        yield from _mongo_passwords(place.env.get(value, ""))
        yield "" if _VARIABLE.fullmatch(value) else value  # the secret itself, where its variable's name belongs
    elif key not in _KNOWN_KEYS and _NAMES.search(key):
        yield value


def _contents(path: Path) -> Iterator[str]:
    """Yield what a secret file holds, whole and line by line (a private key has many)."""
    try:
        with path.open("rb") as file:
            text = file.read(_LIMIT_BYTES).decode("utf-8", "replace")
    except OSError:
        return
    yield text.strip()
    yield from (line.strip() for line in text.splitlines() if not line.startswith("-----"))
    yield from _url_passwords(text)
    yield from _mongo_passwords(text)


def _url_passwords(text: str) -> Iterator[str]:
    for match in _URL_LOGIN.finditer(text):
        yield match[2]


def _mongo_passwords(text: str) -> Iterator[str]:
    """Yield the password of a MongoDB URI, also of one that is not escaped as it should be."""
    if "mongo" in text:
        uri, _ = read(text)
        yield uri.password or "" if uri is not None else ""


def _forms(value: str) -> set[str]:
    """Return how a text may stand in others: as it is, escaped for URLs, Python and JSON, unescaped."""
    escaped = {json.dumps(value)[1:-1], json.dumps(value, ensure_ascii=False)[1:-1], repr(value)[1:-1]}
    return {value, quote(value, safe=""), quote(value), quote_plus(value), unquote(value)} | escaped
