"""Checks that look at more than one key: which settings cannot stand beside each other."""

from __future__ import annotations

import os
import sys
import threading
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from syncd.config.secrets import Secret
from syncd.config.urls import SourceUrl
from syncd.config.values import shown

LOOK_S = 2.0

Mirrors = list[tuple[str, dict[str, Any]]]


def cross_checks(host: dict[str, Any], mirrors: Mirrors) -> Iterator[str]:
    """Yield every problem between keys. A table may lack keys that had a problem of their own.

    mirrors: (how messages name it, its values) for each.
    """
    yield from _equal_names(mirrors)
    yield from _nested_folders(host, mirrors)
    for where, mirror in mirrors:
        yield from (f"{where}: {problem}" for problem in (*_equal_servers(mirror), *_login(mirror)))


def _equal_names(mirrors: Mirrors) -> Iterator[str]:
    """Names and aliases are all ways to spell a mirror, so none may mean two of them."""
    names: dict[str, str] = {}
    for where, mirror in mirrors:
        name = mirror.get("name", "")
        first = names.setdefault(name.casefold(), where) if name else where
        if first != where:
            yield f"{where}: name: {shown(name)} is the name of {first} too; names must differ in more than case"
    owners = {m["name"]: where for where, m in mirrors if "name" in m}
    for where, mirror in mirrors:
        for alias in mirror.get("aliases", ()):
            owner = owners.setdefault(alias, where)
            if owner != where:
                yield f"{where}: aliases: {shown(alias)} means {owner} already"


def _nested_folders(host: dict[str, Any], mirrors: Mirrors) -> Iterator[str]:
    """Targets, the state directory and file sources must lie apart: each is written or swept on its own terms."""
    real = _real_paths(_folders(host, mirrors))
    places: list[tuple[str, str, str]] = []
    if "state_dir" in host:
        places.append(("host: state_dir", str(host["state_dir"]), real[host["state_dir"]]))
    for where, mirror in mirrors:
        if "target" not in mirror:
            continue
        target = real[mirror["target"]]
        for source in _sources(mirror):
            if source.scheme == "file" and _relation(target, real[Path(source.folder)]):
                yield f"{where}: target: {mirror['target']} and the source {source.folder} must lie apart"
        for other, path, its_real in places:
            relation = _relation(target, its_real)
            if relation:
                yield f"{where}: target: {mirror['target']} {relation} {path} ({other}); they must lie apart"
        places.append((f"{where}: target", str(mirror["target"]), target))


def _folders(host: dict[str, Any], mirrors: Mirrors) -> Iterator[Path]:
    yield from (host[key] for key in ("state_dir",) if key in host)
    for _, mirror in mirrors:
        yield from (mirror[key] for key in ("target",) if key in mirror)
        yield from (Path(source.folder) for source in _sources(mirror) if source.scheme == "file")


def _equal_servers(mirror: dict[str, Any]) -> Iterator[str]:
    """A stand-by is another server, or another folder: asking the same one twice helps nobody."""
    known: set[str] = set()
    for source in _sources(mirror):
        if source.id in known:
            yield f"fallback_sources: {shown(str(source))} is in the list twice, or is the source itself"
        known.add(source.id)


def _login(mirror: dict[str, Any]) -> Iterator[str]:
    """What each kind of source needs to log in, and what it has no use for."""
    schemes = {source.scheme for source in _sources(mirror)}
    if not schemes:
        return
    password: Secret | None = mirror.get("password")
    if mirror.get("key_file") and "sftp" not in schemes:
        yield "key_file: only sftp:// sources use it"
    if mirror.get("encrypt") and "smb" not in schemes:
        yield "encrypt: only smb:// sources use it"
    if mirror.get("auth", "negotiate") != "negotiate" and "smb" not in schemes:
        yield "auth: only smb:// sources use it"
    if password is not None and schemes == {"file"}:
        yield "password_file: file:// sources need no password"
    ticket = mirror.get("auth") == "kerberos"
    for source in _sources(mirror):
        if not source.user and (source.scheme == "sftp" or (source.scheme == "smb" and not ticket)):
            yield f"source: {shown(str(source))} names no user; write {source.scheme}://USER@{source.server}/..."
    if password is None and "smb" in schemes and not ticket:
        yield 'password_file: is missing; name one, then: syncd secret NAME (auth = "kerberos": none)'
    if password is None and not mirror.get("key_file") and "sftp" in schemes:
        yield "key_file: is missing, and password_file too: an sftp:// source needs one of them"


def mail_checks(alerts: dict[str, Any]) -> Iterator[str]:
    """What an e-mail needs to be sent, and what would show a password to a network."""
    server, user, password = (alerts.get(name) for name in ("mail_server", "mail_user", "password"))
    if alerts.get("mail_to") and "mail_server" in alerts and not server:
        yield "mail_server: is missing: mail_to needs one"
    if server and alerts.get("mail_to", "?") == ():
        yield "mail_to: is missing: it says who gets the e-mails"
    if user and not password:
        yield "password_file: is missing: mail_user logs in with it"
    if password and not user:
        yield "mail_user: is missing: it says whose the password is"
    if password and server and alerts.get("mail_tls") == "none" and not server.is_loopback:
        yield 'mail_tls: "none" would show the password to the network'


def _sources(mirror: dict[str, Any]) -> list[SourceUrl]:
    main = [mirror["source"]] if "source" in mirror else []
    return [*main, *mirror.get("fallback_sources", ())]


def _real_paths(paths: Iterable[Path]) -> dict[Path, str]:
    """Return each path without links; folded on macOS, whose file systems fold case by default.

    One on a server that has gone away stays as it is written: looking at it may never end, and commands have to.
    """
    found = {path: os.path.abspath(path) for path in paths}

    def look() -> None:
        for path in list(found):
            found[path] = os.path.realpath(path)

    looking = threading.Thread(target=look, name="real paths", daemon=True)
    looking.start()
    looking.join(LOOK_S)
    return {path: real.casefold() if sys.platform == "darwin" else real for path, real in found.copy().items()}


def _relation(one: str, other: str) -> str:
    """Say how folder `one` lies to `other`: "" when apart."""
    if one == other:
        return "is"
    if other == "/" or one.startswith(other + "/"):
        return "lies in"
    if one == "/" or other.startswith(one + "/"):
        return "contains"
    return ""
