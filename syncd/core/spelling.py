"""The spellings under which tasks and people name a file of a mirror -> (mirror, path) candidates. Pure.

Known without configuration: NAME/x, ./NAME/x, /app/NAME/x, /data/NAME/x, any prefix ending in NAME, smb:// and
backslash forms, the target's own path, and a path relative to the mirror. Candidates are probed, never trusted.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import NamedTuple

from syncd.core.model import RelPath

_SERVER = re.compile(r"^(?:(?:smb|sftp|file):)?//[^/]*", re.IGNORECASE)
"""smb://HOST and \\\\HOST: what stands before the share."""


class Spellings(NamedTuple):
    """One mirror's names. target: absolute local path. share: the share and folder at the source ("" = none)."""

    mirror: str
    target: str
    share: str = ""
    aliases: tuple[str, ...] = ()


def candidates(spelled: str, mirrors: Sequence[Spellings]) -> list[tuple[str, RelPath]]:
    """Return what a spelling may mean, the most specific first; each (mirror, path) once."""
    path = _SERVER.sub("", spelled.replace("\\", "/"))
    parts = [part for part in path.split("/") if part not in ("", ".")]
    found: list[tuple[int, str, RelPath]] = []
    for mirror in mirrors:
        for known in (mirror.target, mirror.share, *mirror.aliases):
            prefix = [part for part in known.split("/") if part not in ("", ".")]
            if prefix and parts[: len(prefix)] == prefix:
                found.append((len(prefix) + 1, mirror.mirror, RelPath("/".join(parts[len(prefix) :]))))
        found += [
            (1, mirror.mirror, RelPath("/".join(parts[at + 1 :])))
            for at, part in enumerate(parts)
            if part == mirror.mirror
        ]
        found.append((0, mirror.mirror, RelPath("/".join(parts))))
    found.sort(key=lambda candidate: -candidate[0])
    return list(dict.fromkeys((mirror, rel) for _, mirror, rel in found))
