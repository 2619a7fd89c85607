"""What the catalogue holds of one directory, unpacked only where something has changed."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from operator import eq, itemgetter
from struct import Struct

from syncd.core.model import Entry, LocalEntry, Record
from syncd.ports import HeldDirectory
from syncd.store.sql import unpack_records, without_ids

# parts of a packed record (sql.pack_record): file_id, size, mtime_ns, ctime_ns; local inode, size, mtime_ns
_PRINT = Struct(">Qqqq64x")
_LOCAL = Struct(">40xQqq32x")
_print_of = itemgetter(Entry._fields.index("file_id"), *map(Entry._fields.index, ("size", "mtime_ns", "ctime_ns")))
_local_of = itemgetter(LocalEntry._fields.index("stat"))


class HeldRows(HeldDirectory):
    """The records as they lie packed end to end, in the order of `names`.

    ids_known: False where file ids and change times in them are another server's.
    """

    __slots__ = ("_absent_runs", "_ids_known", "_names", "_packed", "_unpacked")

    def __init__(
        self,
        names: Sequence[str],
        packed: bytes,
        absent_runs: Sequence[str],
        folders: frozenset[str],
        *,
        ids_known: bool,
    ) -> None:
        super().__init__({}, folders)
        self._names = names
        self._packed = packed
        self._absent_runs = absent_runs
        self._ids_known = ids_known
        self._unpacked: dict[str, Record] | None = None

    @property
    def records(self) -> Mapping[str, Record]:
        if self._unpacked is None:
            records: Iterable[Record] = unpack_records(self._absent_runs, self._packed)
            records = records if self._ids_known else map(without_ids, records)
            self._unpacked = dict(zip(self._names, records, strict=True))
        return self._unpacked

    def are_exactly(self, files: Mapping[str, Entry], local: Mapping[str, LocalEntry]) -> bool:
        """Nothing here is a loop of Python's: a no-change run over 100,000 files asks for each of them."""
        names, packed = self._names, self._packed
        if len(names) != len(files) or not self._ids_known or any(self._absent_runs):
            return False
        try:
            listed = map(_print_of, map(files.__getitem__, names))
            here = map(_local_of, map(local.__getitem__, names))
            return all(map(eq, listed, _PRINT.iter_unpack(packed))) and all(map(eq, here, _LOCAL.iter_unpack(packed)))
        except KeyError:
            return False
