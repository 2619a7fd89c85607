"""What is known of one path, in one statement: a resolver asks this for every file that a worker opens."""

from __future__ import annotations

import json

from syncd.core.model import Look, RelPath, Unheld
from syncd.core.paths import parents
from syncd.core.reasons import Reason
from syncd.store.sql import Reader, unpack_record, unreadable

# One row, in one step: sqlite3 gives up Python's GIL around each, and waits for it beside a busy thread (see
# sql.in_batches). By name, since a mirror that is forgotten and begun again has another key.
_HELD = """
SELECT m.listed_at, r.packed, r.absent_run,
       EXISTS (SELECT 1 FROM approvals AS a WHERE a.mirror_id = m.id AND a.path = ?4
                                            AND a.approved = 0 AND a.action = 'replace')
FROM mirrors AS m
JOIN directories AS d ON d.mirror_id = m.id AND d.path = ?2
JOIN records AS r ON r.directory_id = d.id AND r.name = ?3
WHERE m.name = ?1 AND NOT EXISTS (SELECT 1 FROM unheld AS u WHERE u.mirror_id = m.id AND u.path = ?4)"""
_LOOK = """
SELECT m.listed_at, r.packed, r.absent_run, u.reason, u.detail, u.size, u.mtime_ns, u.attempts, u.since,
       r.packed IS NOT NULL AND EXISTS (SELECT 1 FROM approvals AS a WHERE a.mirror_id = m.id AND a.path = ?4
                                        AND a.approved = 0 AND a.action = 'replace'),
       r.packed IS NULL AND EXISTS (SELECT 1 FROM directories AS f WHERE f.mirror_id = m.id AND f.path = ?4)
FROM mirrors AS m
LEFT JOIN directories AS d ON d.mirror_id = m.id AND d.path = ?2
LEFT JOIN records AS r ON r.directory_id = d.id AND r.name = ?3
LEFT JOIN unheld AS u ON u.mirror_id = m.id AND u.path = ?4
WHERE m.name = ?1"""
_ABOVE = """
SELECT u.path, u.reason, u.detail, u.size, u.mtime_ns, u.attempts, u.since
FROM mirrors AS m CROSS JOIN unheld AS u ON u.mirror_id = m.id AND u.path IN (SELECT value FROM json_each(?2))
WHERE m.name = ?1 ORDER BY u.path DESC LIMIT 1"""

_NOTHING = Look()
_new = tuple.__new__


class Looks:
    """The look-ups of a mirror's catalogue, mixed in. _looks: the reader to ask."""

    name: str
    _looks: Reader

    def look_up(self, path: RelPath) -> Look:
        """Return what is known of a path; nothing where the mirror is not known. Raises CatalogueError."""
        directory, _, name = path.rpartition("/")
        asked = self.name, directory, name, path
        held = self._looks.rows(_HELD, asked)
        if held:  # as almost all files are that are asked for: two thirds of what the whole answer takes
            ((listed_at, packed, absent_run, held_back),) = held
            return _new(Look, (listed_at, unpack_record(packed, absent_run), None, bool(held_back), False))
        rows = self._looks.rows(_LOOK, asked)
        if not rows:
            return _NOTHING
        listed_at, packed, absent_run, reason, detail, size, mtime_ns, attempts, since, held_back, folder = rows[0]
        record = None if packed is None else unpack_record(packed, absent_run)
        unheld = None if reason is None else Unheld(path, _reason(reason), detail, size, mtime_ns, attempts, since)
        return Look(listed_at, record, unheld, bool(held_back), bool(folder))

    def fault_above(self, path: RelPath) -> Unheld | None:
        """Return why the deepest folder above a path that was not listed was not; None when all were."""
        row = self._looks.row(_ABOVE, (self.name, json.dumps(["", *parents(path)])))
        if row is None:
            return None
        above, reason, *rest = row
        return Unheld(RelPath(above), _reason(reason), *rest)


def _reason(code: str) -> Reason:
    try:
        return Reason(code)
    except ValueError as error:
        raise unreadable(error) from error
