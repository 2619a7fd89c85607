"""All spellings of a task's path, for tasks that no file_index tells apart (RULES section 6). Pure."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from syncd.core.spelling import Spellings, SpellingTable, malformed, variants


def aliases_of(mirrors: Sequence[Spellings]) -> Callable[[str], Sequence[str]]:
    """Return what tells under which names older workers may have noted a path: its mirror's name, and every alias.

    A bare relative path names no mirror: for one only the path itself counts, since another mirror's file may have it.
    """
    table = SpellingTable(mirrors)
    names = {each.mirror: (each.mirror, *each.aliases) for each in mirrors}

    def spelled(path: str) -> Sequence[str]:
        if malformed(path) is not None:
            return ()
        readings = [reading for text in variants(path) for reading in table.read(text).readings if reading.rank]
        found = [f"{name.rstrip('/')}/{each.path}" for each in readings for name in names[each.mirror]]
        return tuple(dict.fromkeys(found))

    return spelled
