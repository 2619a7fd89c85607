"""Intents as the catalogue keeps them: the groups of a commit, each one row, as JSON."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Sequence
from typing import Any

from syncd.core.model import Fingerprint, Intent, IntentKind, RelPath
from syncd.store.sql import Row

_quoted = json.encoder.encode_basestring_ascii
_NO_PATH = '""'


def pack_group(intents: Sequence[Intent]) -> tuple[str, str]:
    """Return a group as it is kept: the ids that it is looked up by, and what it declares."""
    return _ids(intents), f"[{', '.join(map(_plain, intents))}]"


def unpack_group(row: Row) -> list[Intent]:
    """Return what the row of a group declares. Raises ValueError or TypeError where pack_group() did not make it."""
    (declared,) = row
    return [_intent(plain) for plain in json.loads(declared)]


def close_intents(db: sqlite3.Connection, mirror_id: int, closes: Sequence[Intent]) -> None:
    """Remove closed intents: whole groups, as a rule; else what is left of a group stays."""
    if db.execute("DELETE FROM intents WHERE mirror_id = ? AND ids = ?", (mirror_id, _ids(closes))).rowcount:
        return
    closed = {intent.id for intent in closes}
    groups = db.execute("SELECT seq, declared FROM intents WHERE mirror_id = ?", (mirror_id,)).fetchall()
    for seq, declared in groups:
        left = [plain for plain in json.loads(declared) if plain[0] not in closed]
        if left:
            row = _ids(left), json.dumps(left), seq
            db.execute("UPDATE intents SET ids = ?, declared = ? WHERE seq = ?", row)
        else:
            db.execute("DELETE FROM intents WHERE seq = ?", (seq,))


def _ids(intents: Sequence[Sequence[Any]]) -> str:
    """Return the ids of a group as it is looked up by them: JSON, as ids are plain ASCII."""
    return '["' + '", "'.join([intent[0] for intent in intents]) + '"]'


def _plain(intent: Intent) -> str:
    """Return an intent as JSON: several times faster than json.dumps, and this runs for every file.

    Only paths need escapes: ids, names in staging and digests are of our own making, and plain ASCII.
    """
    number, kind, path, sha256, fingerprint, staged, from_path = intent
    return (
        f'["{number}", "{kind}", {_quoted(path)}, "{sha256}", [{", ".join(map(str, fingerprint))}], '
        f'"{staged}", {_quoted(from_path) if from_path else _NO_PATH}]'
    )


def _intent(plain: Sequence[Any]) -> Intent:
    identity, kind, path, sha256, fingerprint, staged, from_path = plain
    return Intent(
        identity, IntentKind(kind), RelPath(path), sha256, Fingerprint(*fingerprint), staged, RelPath(from_path)
    )
