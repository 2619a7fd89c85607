"""The address of a source: smb://, sftp:// and file:// URLs as typed values."""

from __future__ import annotations

import re
from pathlib import Path

from syncd.config.values import shown
from syncd.core.named import NamedTuple

DEFAULT_PORTS = {"smb": 445, "sftp": 22}

_ESCAPE = re.compile(rb"%([0-9A-Fa-f]{2})")
_BAD_ESCAPE = re.compile(r"%(?![0-9A-Fa-f]{2})")
_HOST = re.compile(r"[A-Za-z0-9_.-]+|\[[0-9A-Fa-f:.%a-z]+\]", re.ASCII)


class SourceUrl(NamedTuple):
    """Where the originals are. Percent-escapes are decoded; there is never a password in it.

    smb:  share and, below it, folder ("" is the share's root, parts between "/"); domain is "" when none was given.
    sftp: folder is the absolute path on the server.
    file: folder is the absolute local path.
    """

    scheme: str
    folder: str
    user: str = ""
    domain: str = ""
    host: str = ""
    port: int = 0
    share: str = ""

    @property
    def server(self) -> str:
        """HOST:PORT as messages show it; "" for file."""
        if not self.host:
            return ""
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"

    @property
    def id(self) -> str:
        """Name this source whatever the user is: fingerprints are kept per id."""
        path = "/".join(part for part in (self.share.casefold(), self.folder.strip("/")) if part)
        return f"{self.scheme}://{self.server.casefold()}/{path}"

    def __str__(self) -> str:
        """Return the URL for people (not escaped)."""
        if self.scheme == "file":
            return f"file://{self.folder}"
        login = f"{self.domain};{self.user}" if self.domain else self.user
        path = "/".join(part for part in (self.share, self.folder.lstrip("/")) if part)
        return f"{self.scheme}://{login + '@' if login else ''}{self.server}/{path}"


def source_url(value: object, base: Path) -> SourceUrl:
    """Read a source's URL; `file://./x` and `file://../x` are relative to the folder `base`.

    Raises: ValueError that says what is wrong and how to write it; a password in the URL is refused unread.
    """
    if not isinstance(value, str) or not value:
        raise ValueError(f"{shown(value)} is not a source; write it like {_EXAMPLE}")
    if value.startswith("\\\\"):
        raise ValueError(f"{shown(value)}: write a share like {_EXAMPLE}")
    scheme, mark, rest = value.partition("://")
    scheme = scheme.lower()
    if not mark or scheme not in ("smb", "sftp", "file"):
        raise ValueError(f"{shown(value)} is not a source; write it like {_EXAMPLE}")
    if scheme == "file":
        return SourceUrl("file", _local_folder(value, rest, base))
    return _remote(value, scheme, rest)


_EXAMPLE = '"smb://USER@HOST:PORT/SHARE/FOLDER", "sftp://USER@HOST:PORT/PATH" or "file:///PATH"'


def _remote(value: str, scheme: str, rest: str) -> SourceUrl:
    at = rest.find("/")
    if "@" in rest and 0 <= at < rest.index("@") and ":" in rest[:at]:
        at = rest.find("/", rest.rindex("@"))  # a "/" inside of a raw password: refuse it as a password
    authority, path = (rest, "") if at < 0 else (rest[:at], rest[at:])
    login, mark, place = authority.rpartition("@")
    if ":" in login or "%3a" in login.lower():
        raise ValueError(f"{shown(value)} has a password in it; take it out and name its file with password_file")
    if "?" in path or "#" in path:
        raise ValueError(f"{shown(value)} has ? or # in it; in a path write them as %3F and %23")
    host, port = _host_and_port(value, scheme, place)
    domain, _, user = _decoded(login).rpartition(";")
    if mark and not user:
        raise ValueError(f"{shown(value)} has no user before the @")
    decoded = _decoded(path)
    if scheme == "sftp":
        return SourceUrl(scheme, _sftp_path(value, decoded), user, domain, host, port)
    parts = _parts(value, decoded)
    if not parts:
        raise ValueError(f"{shown(value)} names no share; write it like {_EXAMPLE}")
    return SourceUrl(scheme, "/".join(parts[1:]), user, domain, host, port, parts[0])


def _host_and_port(value: str, scheme: str, place: str) -> tuple[str, int]:
    host, colon, port = place.rpartition(":")
    if not colon or place.endswith("]"):
        host, port = place, str(DEFAULT_PORTS[scheme])
    if not _HOST.fullmatch(host):
        raise ValueError(f"{shown(value)} has no valid host; write it like {_EXAMPLE}")
    if not (port.isascii() and port.isdigit() and 1 <= int(port) <= 65535):
        raise ValueError(f"{shown(value)} has an invalid port {shown(port)}; from 1 to 65535 is allowed")
    return host.strip("[]").replace("%25", "%"), int(port)  # RFC 6874: the zone of a link-local address


def _parts(value: str, path: str) -> list[str]:
    if "\\" in path:
        raise ValueError(f"{shown(value)} has a backslash in it; write / between folders")
    parts = [part for part in path.split("/") if part]
    if "." in parts or ".." in parts:
        raise ValueError(f"{shown(value)} has a . or .. in its path; name the folder itself")
    return parts


def _sftp_path(value: str, path: str) -> str:
    if not path:
        raise ValueError(f"{shown(value)} names no folder; write it like {_EXAMPLE}")
    return "/" + "/".join(_parts(value, path))


def _local_folder(value: str, rest: str, base: Path) -> str:
    path = _decoded(rest.removeprefix("localhost") if rest.startswith("localhost/") else rest)
    if path in (".", "..") or path.startswith(("./", "../")):
        return str((base / path).resolve())
    if not path.startswith("/"):
        raise ValueError(
            f'{shown(value)} is no local path; write "file:///PATH", or "file://./PATH" for one beside this file'
        )
    return str(Path(path).resolve())


def _decoded(path: str) -> str:
    if _BAD_ESCAPE.search(path):
        raise ValueError(f"{shown(path)} has a % that is no escape; write it as %25")
    try:
        decoded = _ESCAPE.sub(lambda m: bytes([int(m[1], 16)]), path.encode()).decode()
    except UnicodeDecodeError:
        raise ValueError(f"{shown(path)} has escapes that are not UTF-8") from None
    if any(ord(c) < 32 or ord(c) == 127 for c in decoded):
        raise ValueError(f"{shown(path)} has a control character in it")
    return decoded
