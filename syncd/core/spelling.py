"""The spellings under which tasks and people name a file of a mirror -> readings: what they may mean. Pure.

Known without configuration: NAME/x, ./NAME/x, /app/NAME/x, /data/NAME/x, any prefix ending in NAME, the share (smb://,
backslash and UNC forms) or folder at the source, the target's own path, and a path relative to the mirror. Readings are
probed against what was last listed, never trusted.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterator, Sequence
from operator import itemgetter
from urllib.parse import unquote_to_bytes

from syncd.core.model import RelPath
from syncd.core.named import NamedTuple
from syncd.core.reasons import Reason

MAX_SPELLED = 16_384
"""Characters. The longest path that can be held has 3,500 bytes, three characters each when percent-encoded."""
MAX_READINGS = 64
"""Of one text. A spelling that names mirrors more often is nobody's path."""

_URL = re.compile(r"^(smb|cifs|sftp|file)://([^/]*)", re.IGNORECASE)
_UNC = re.compile(r"^//([^/]+)")
_DRIVE = re.compile(r"^[A-Za-z]:/")
_CONTROL = re.compile("[\x00-\x1f\x7f-\x9f]")
_SURROGATE = re.compile("[\ud800-\udfff]")
_UP = re.compile(r"(?:^|[/\\])\.\.(?:[/\\]|$)")
_ROOTS = ("app", "data")
"""Folders under which the existing workers see the collections: /app/NAME, /data/NAME."""

_RELATIVE, _WILD, _KNOWN = 0, 1, 2
_RANK = itemgetter(0)
_new = tuple.__new__
"""Half of what calling a named tuple's class costs; a resolver reads a spelling for every file that a worker opens."""


class Spellings(NamedTuple):
    """One mirror's names. target: absolute local path. share: the share and folder at the source ("" = none).

    host: the source's ("" = not known); a server form that names it is more specific than one that does not.
    """

    mirror: str
    target: str
    share: str = ""
    aliases: tuple[str, ...] = ()
    host: str = ""


class Reading(NamedTuple):
    """What a spelling may mean. rank: how specific it is: 0 a bare relative path, 1 some prefix ending in the mirror's
    name, more for a known prefix, the longer the more.
    """

    rank: int
    mirror: str
    path: RelPath


class Readings(NamedTuple):
    """All readings of one text, the most specific first. absolute: it names a place on some host.

    parts: the text's components without a server in front, and without /app or /data.
    crowded: there are more than MAX_READINGS; then some are left out.
    """

    readings: Sequence[Reading]
    absolute: bool
    parts: Sequence[str]
    crowded: bool = False


def malformed(spelled: str) -> Reason | None:
    """Say why a text cannot be the path of a file in any mirror; None when it can."""
    if len(spelled) > MAX_SPELLED:
        return Reason.NAME_TOO_LONG
    if not spelled.isprintable():
        if _CONTROL.search(spelled):
            return Reason.NAME_CONTROL
        if _SURROGATE.search(spelled):
            return Reason.NAME_UNDECODABLE
    if ".." in spelled and _UP.search(spelled):
        return Reason.PATH_MALFORMED
    return None if spelled.strip("/\\.") else Reason.PATH_MALFORMED


def variants(spelled: str) -> Iterator[str]:
    """Yield the texts that a well-formed spelling may stand for, each once: itself (backslashes are separators where
    there are no others), then backslashes turned, then percent-decoded, then in either Unicode form.
    """
    turned = spelled.replace("\\", "/")
    literal = turned if spelled.startswith("\\\\") or "/" not in spelled else spelled
    yield literal
    seen = {literal}
    for text in _further(turned):
        if text not in seen and malformed(text) is None:
            seen.add(text)
            yield text


def _further(turned: str) -> Iterator[str]:
    yield turned
    decoded = _percent_decoded(turned) if "%" in turned else turned
    yield decoded
    for text in (turned, decoded):
        if not text.isascii():
            yield unicodedata.normalize("NFC", text)
            yield unicodedata.normalize("NFD", text)


def _percent_decoded(text: str) -> str:
    try:
        return unquote_to_bytes(text).decode()
    except UnicodeDecodeError:
        return text


class _Prefix(NamedTuple):
    """What may stand in front of a mirror's paths. host: it counts on this server only ("" = on any, and locally).

    share: its first component is a share's name, which no server takes the case of. local: not in a server form.
    """

    mirror: str
    parts: tuple[str, ...]
    rank: int
    host: str = ""
    share: bool = False
    local: bool = False

    def fits(self, parts: tuple[str, ...], host: str | None) -> bool:
        """Say whether a path begins with this. Its first component has been compared."""
        if (self.host and self.host != host) or (self.local and host is not None):
            return False
        return parts[1 : len(self.parts)] == self.parts[1:]


class SpellingTable:
    """Reads spellings against a set of mirrors. Immutable."""

    def __init__(self, mirrors: Sequence[Spellings]) -> None:
        self.mirrors = tuple(mirrors)
        self._names = {mirror.mirror: None for mirror in mirrors}
        self._local: dict[str, list[_Prefix]] = {}
        self._served: dict[str, list[_Prefix]] = {}
        for prefix in (prefix for mirror in mirrors for prefix in _prefixes_of(mirror)):
            first = prefix.parts[0]
            self._served.setdefault(first.casefold() if prefix.share else first, []).append(prefix)
            if not prefix.host:
                self._local.setdefault(first, []).append(prefix)

    def read(self, text: str) -> Readings:
        """Return what one text may mean; none where it is absolute and below nothing that is known.

        Backslashes count as part of a name (variants() turns them).
        """
        host, parts, absolute = _parse(text)
        found: dict[tuple[str, str], int] = {}
        self._known(parts, host, found)
        crowded = not self._wild(parts, found)
        if host is not None and text.startswith("//"):
            self._known(_components(text), None, found)  # or a local path with one slash too many
        inside = parts
        if absolute and host is None and parts and parts[0] in _ROOTS:
            inside, absolute = parts[1:], False
        if not absolute:
            path = "/".join(inside)
            for name in self._names:
                found.setdefault((name, path), _RELATIVE)
        readings = [_new(Reading, (rank, mirror, path)) for (mirror, path), rank in found.items()]
        if len(readings) > 1:
            readings.sort(key=_RANK, reverse=True)
        return _new(Readings, (readings, absolute, inside, crowded))

    def _known(self, parts: tuple[str, ...], host: str | None, found: dict[tuple[str, str], int]) -> None:
        first = parts[0] if parts else ""
        if host is None and first not in self._local:
            return  # so it is with most
        for prefix in self._local[first] if host is None else self._served_by(first):
            if prefix.fits(parts, host):
                key = prefix.mirror, "/".join(parts[len(prefix.parts) :])
                found[key] = max(found.get(key, 0), prefix.rank)

    def _served_by(self, first: str) -> Iterator[_Prefix]:
        yield from self._served.get(first, ())
        if first.casefold() != first:
            yield from (prefix for prefix in self._served.get(first.casefold(), ()) if prefix.share)

    def _wild(self, parts: Sequence[str], found: dict[tuple[str, str], int]) -> bool:
        """Read any prefix that ends in a mirror's name; False when there are too many."""
        if self._names.keys().isdisjoint(parts):
            return True
        for at, part in enumerate(parts):
            if part in self._names:
                if len(found) >= MAX_READINGS:
                    return False
                found.setdefault((part, "/".join(parts[at + 1 :])), _WILD)
        return True


def _prefixes_of(spellings: Spellings) -> Iterator[_Prefix]:
    name, host = spellings.mirror, spellings.host.casefold()
    for prefix in ((name,), *((root, name) for root in _ROOTS)):
        yield _Prefix(name, prefix, _rank(prefix))
    target, share = _components(spellings.target), _components(spellings.share)
    if target:
        yield _Prefix(name, target, _rank(target), local=True)
    if share:
        yield _Prefix(name, share, _rank(share), share=True)
        if host:
            yield _Prefix(name, share, _rank(share) + 1, host=host, share=True)
    for alias in spellings.aliases:
        server, parts, _ = _parse(alias)
        if parts:
            yield _Prefix(name, parts, _rank(parts) + (server is not None), host=server or "", share=server is not None)


def _rank(prefix: Sequence[str]) -> int:
    return _KNOWN + 2 * len(prefix)


def _parse(text: str) -> tuple[str | None, tuple[str, ...], bool]:
    """Return (server or None, components, whether it is absolute). file:// of this host has no server."""
    if "//" in text:
        url = _URL.match(text)
        if url is not None:
            host = _host(url.group(2))
            local = url.group(1).lower() == "file" and host in ("", "localhost")
            return None if local else host, _components(text[url.end() :]), True
        unc = _UNC.match(text)
        if unc is not None:
            return _host(unc.group(1)), _components(text[unc.end() :]), True
    return None, _components(text), text.startswith("/") or (":" in text and _DRIVE.match(text) is not None)


def _host(authority: str) -> str:
    """Return the host of [user@]host[:port], in lower case."""
    place = authority.rpartition("@")[2]
    if not place.startswith("["):
        return place.partition(":")[0].casefold()
    return place[1:].partition("]")[0].casefold()


def _components(path: str) -> tuple[str, ...]:
    return tuple([part for part in path.split("/") if part and part != "."])  # a list: quicker than a generator


def candidates(spelled: str, mirrors: Sequence[Spellings]) -> list[tuple[str, RelPath]]:
    """Return what a spelling may mean, the most specific first, without probing; each (mirror, path) once.

    For people, who mean something also where a resolver refuses: there is always one for each mirror.
    """
    text = spelled.replace("\\", "/")
    read = SpellingTable(mirrors).read(text)
    found = [(reading.mirror, reading.path) for reading in read.readings]
    found += [(mirror.mirror, RelPath("/".join(read.parts))) for mirror in mirrors]
    return list(dict.fromkeys(found))
