"""From what an operator names, folders and files, to the files that OCR tasks are made of.

A listing says which names there may be; how each of them is, the resolver says. So a file that lies in the mirror
without being on the share is no task, and one that is on its way is.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from shlex import quote
from typing import NamedTuple

from syncd.core.errors import ConfigError
from syncd.core.reasons import MEANING, Reason
from syncd.core.resolution import Resolution, State
from worker_glue.desk.ports import Listing, Paths, Tell, quiet

QUEUED = (".jpg", ".jpeg", ".png", ".bmp", ".gif", ".tiff", ".webp", ".pdf")
"""What the server's folder scan queues, in any case (CONTRACTS section 4)."""

TWICE_SHOWN = 20
_ELSEWHERE = frozenset({State.MISSING, State.NO_MIRROR})
_NO_TASK = frozenset({State.REFUSED, State.AMBIGUOUS, State.MISSING, State.NO_MIRROR})


class Chosen(NamedTuple):
    """One file. path: as a task spells it; found: how it is."""

    path: str
    found: Resolution


class Trouble(NamedTuple):
    """A name that came to no file. why: in one line, with what may be meant. found: how it is; None: it is no document
    (an empty folder, another type).
    """

    word: str
    why: str
    found: Resolution | None = None


class Gathered(NamedTuple):
    """What the names came to. files: what can be had now or later, in a stable order, each once.

    left_out: what can never be had. twice: (path, two of the words) of files that more than one word named.
    """

    files: Sequence[Chosen]
    left_out: Sequence[Chosen]
    troubles: Sequence[Trouble]
    twice: Sequence[tuple[str, str, str]] = ()


def queued(path: str) -> bool:
    """Say whether a file of this name is one that OCR gets; `._x.jpg` is no document, whatever the scan thinks."""
    name = path.rpartition("/")[2]
    return name.lower().endswith(QUEUED) and not name.startswith("._")


def locate(spelled: str, paths: Paths) -> Resolution:
    """Say what an operator's word means: a path as tasks spell it, else one on this machine inside a mirror."""
    found = paths.resolve(spelled)
    if found.state not in _ELSEWHERE and found.reason is not Reason.OUTSIDE:
        return found
    local = os.path.abspath(os.path.expanduser(spelled))
    for place in dict.fromkeys((local, os.path.realpath(local))):
        if os.path.lexists(place) and place != spelled:
            again = paths.resolve(place)
            if again.state not in _ELSEWHERE and again.reason is not Reason.OUTSIDE:
                return again
    return found


def is_folder(found: Resolution) -> bool:
    """Say whether a path turned out to be a folder of a mirror."""
    return found.reason is Reason.FOLDER and bool(found.mirror)


def gather(words: Sequence[str], paths: Paths, listing: Listing, tell: Tell = quiet) -> Gathered:
    """Return the files that the words name, word by word, those of a folder by path."""
    files: dict[str, Chosen] = {}
    left_out: dict[str, Chosen] = {}
    troubles: list[Trouble] = []
    by: dict[str, str] = {}
    twice: dict[str, tuple[str, str, str]] = {}
    for word in words:
        found = locate(word, paths)
        if is_folder(found):
            inside = _inside(found.mirror, found.path, paths, listing, tell)
            if not inside:
                why = f"{word!r}: no file that OCR reads is in this folder ({' '.join(QUEUED)})"
                troubles.append(Trouble(word, why))
        elif found.state in _NO_TASK or not found.server_path or _is_doubtful(found):
            troubles.append(Trouble(word, _why(word, found), found))
            continue
        elif not queued(found.server_path):
            why = f"{word!r}: not a file that the server queues ({' '.join(QUEUED)}, not ._*)"
            troubles.append(Trouble(word, why))
            continue
        else:
            inside = [Chosen(found.server_path, found)]
        for each in inside:
            kind = left_out if each.found.state in _NO_TASK else files
            if kind.setdefault(each.path, each) is not each:
                twice.setdefault(each.path, (each.path, by[each.path], word))
            by.setdefault(each.path, word)
    return Gathered(tuple(files.values()), tuple(left_out.values()), tuple(troubles), tuple(twice.values()))


def _inside(mirror: str, folder: str, paths: Paths, listing: Listing, tell: Tell) -> list[Chosen]:
    """Return a folder's files, by path. What is not on the share (a stranger's file in the mirror) is left out."""
    names = sorted({path for path in listing.files(mirror, folder) if queued(path)})
    inside = []
    for count, name in enumerate(names, 1):
        path = f"{mirror}/{name}"
        found = paths.resolve(path)
        tell("resolve", count, len(names))
        if found.state is not State.MISSING and not is_folder(found) and not _is_strangers(found):
            inside.append(Chosen(path, found))
    return inside


def _is_doubtful(found: Resolution) -> bool:
    """Say whether nobody can tell if there is such a file at all."""
    return found.reason is Reason.NEVER_LISTED or (found.state is State.UNAVAILABLE and not found.listed_at)


def _is_strangers(found: Resolution) -> bool:
    """Say whether a name in a mirror's folder is in no manifest, where the manifest is all that is known."""
    return found.reason is Reason.SOURCE_UNAVAILABLE and _is_doubtful(found)


def _why(word: str, found: Resolution) -> str:
    """Say in one line why a path means no file that can be had, and what may be meant."""
    match found.state:
        case State.MISSING:
            as_of = f", as of {found.listed_at}" if found.listed_at else ""
            near = f"; near: {', '.join(found.near)}" if found.near else ""
            return f"{word!r}: not on the share{as_of}{near}"
        case State.AMBIGUOUS:
            return f"{word!r}: may mean {' or '.join(found.candidates)}"
        case State.NO_MIRROR:
            return f"{word!r}: of no collection that is mirrored here"
        case _:
            return f"{word!r}: {meaning(found)}{f' ({found.hint})' if found.hint else ''}"


def meaning(found: Resolution) -> str:
    """Return why a path is not ready, for people."""
    return found.state.value if found.reason is None else MEANING[found.reason][0]


def refuse_twice(gathered: Gathered, doing: str) -> None:
    """Raise for files that more than one word named: a job has one entry a path. Raises: ConfigError."""
    if not gathered.twice:
        return
    problems = [f"{path!r}: by {first!r} and by {second!r}" for path, first, second in gathered.twice[:TWICE_SHOWN]]
    if len(gathered.twice) > TWICE_SHOWN:
        problems.append(f"and {len(gathered.twice) - TWICE_SHOWN} more")
    count = "a file is" if len(gathered.twice) == 1 else f"{len(gathered.twice)} files are"
    raise ConfigError(
        f"{count} named twice, and a job has one entry a file. {doing}",
        problems=problems,
        hint="name each file or folder once, and none that lies in another",
    )


def refuse_troubles(gathered: Gathered, doing: str) -> None:
    """Raise for names that mean nothing, and for names that came to no file at all. Raises: ConfigError."""
    if gathered.troubles:
        problems = [each.why for each in gathered.troubles]
        message = problems[0] if len(problems) == 1 else f"{len(problems)} names are wrong"
        more = problems if len(problems) > 1 else ()
        first = gathered.troubles[0]
        hint = first.found.hint if first.found is not None and first.found.state is State.UNAVAILABLE else ""
        raise ConfigError(f"{message}. {doing}", problems=more, hint=hint or f"worker-glue check {quote(first.word)}")
    if not gathered.files:
        refused = f"; {len(gathered.left_out)} can never be had" if gathered.left_out else ""
        raise ConfigError(f"there is no file to read{refused}. {doing}", hint="worker-glue check FOLDER")
