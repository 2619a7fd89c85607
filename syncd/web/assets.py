"""The page's files: everything in web/static, read once; a name that is not in that table is not there."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import NamedTuple

from syncd.web.answers import PAGE_HEADERS, Answer

FOLDER = Path(__file__).with_name("static")
INDEX = "index.html"
_TYPES = {
    ".css": "text/css; charset=utf-8",
    ".html": "text/html; charset=utf-8",
    ".ico": "image/x-icon",
    ".js": "text/javascript; charset=utf-8",
    ".png": "image/png",
    ".svg": "image/svg+xml",
    ".txt": "text/plain; charset=utf-8",
    ".webmanifest": "application/manifest+json",
    ".woff2": "font/woff2",
}


class Asset(NamedTuple):
    """One file of the page. tag: of its content, for If-None-Match (RFC 9110, 13.1.2)."""

    body: bytes
    content_type: str
    tag: str

    def answer(self, known_tag: str) -> Answer:
        """Return the file, or that the caller has it already."""
        headers = (*PAGE_HEADERS, ("ETag", self.tag))
        if known_tag == self.tag:
            return Answer(304, b"", self.content_type, headers)
        return Answer(200, self.body, self.content_type, headers)


def load(folder: Path = FOLDER) -> dict[str, Asset]:
    """Return the page's files by name. Files of other types, hidden ones and folders are left out."""
    found = {}
    for path in sorted(folder.iterdir()) if folder.is_dir() else ():
        if path.suffix in _TYPES and path.is_file() and not path.name.startswith("."):
            body = path.read_bytes()
            tag = f'"{hashlib.sha256(body).hexdigest()[:32]}"'
            found[path.name] = Asset(body, _TYPES[path.suffix], tag)
    return found
