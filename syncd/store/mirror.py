"""The mirror on disk (ports.Mirror): stage, sync, promote, retire, all by folder handles, no link followed."""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import cast

from syncd.core import paths
from syncd.core.errors import LocalIOError, TargetUnusable
from syncd.core.model import LocalEntry, LocalStat, Partial, RelPath
from syncd.core.reasons import Reason, hint_for
from syncd.ports import Room, Staged, Traits, Trashed
from syncd.store import owner as ownership
from syncd.store.disk_errors import translate, translated
from syncd.store.durable import Syncer
from syncd.store.handles import Handles, looks_for_names
from syncd.store.looking import Looker
from syncd.store.manifest import read_manifest, replace_manifest
from syncd.store.owner import PINS, STAGING, TRASH, Claim, Owner
from syncd.store.pins import Pins
from syncd.store.probe import assume_traits, file_system_of, has_inodes
from syncd.store.staging import StagedFile, Staging, may_keep_open, need_durable
from syncd.store.trash import Trash, list_trash

_STAYS = frozenset({errno.ENOTEMPTY, errno.EEXIST, errno.EBUSY})


class _Writing:
    """What only a target opened for writing has."""

    def __init__(
        self, root: int, state: int, parts: dict[str, int], file_system: str, hard_links: bool, looker: Looker
    ) -> None:
        self.state = state
        self.syncer = Syncer(root, file_system)
        self.handles = Handles(root, self.syncer)
        self.staging_folder = parts[STAGING]
        self.staging = Staging(parts[STAGING], self.syncer, may_keep_open())
        self.trash = Trash(parts[TRASH], state, self.staging, self.syncer, hard_links=hard_links)
        self.pins = Pins(parts[PINS], root, looker, hard_links=hard_links)
        self.is_there = looks_for_names(self.staging_folder, file_system)


class DiskMirror:
    """One mirror's target folder. Built by open() and peek().

    What changes final names is for one thread at a time; stage(), purge(), pins and all that only looks are for any.
    """

    def __init__(
        self, root: int, state: int, parts: dict[str, int], owner: Owner, traits: Traits, closing: ExitStack
    ) -> None:
        self.owner = owner
        self.traits = traits
        self._state = state
        self._parts = parts
        self._looker = Looker(root, inodes=has_inodes(file_system_of(root)))
        self._closing = closing
        self._opened: _Writing | None = None

    # -- opening

    @classmethod
    def open(
        cls,
        target: Path,
        *,
        mirror_uid: str,
        mirror_name: str,
        host_id: str,
        host_name: str,
        known: bool,
        new_target: bool = False,
        take_over: bool = False,
    ) -> DiskMirror:
        """Open a target for writing; on a first run make it, and make it ours.

        known: the catalogue has used this target before; then nothing that is missing is made. Where the catalogue was
        lost (known=False) a target that carries our host id and our mirror's name is ours: `owner` has its mirror_uid.
        new_target: start over on an empty or replaced target. take_over: make another's target ours.
        Raises: TargetMissing, TargetForeign, TargetUnsafe (13), TargetUnusable (2), DiskFull, LocalIOError.
        """
        claim = Claim(mirror_uid, mirror_name, host_id, host_name, known, new_target, take_over)
        with ExitStack() as stack:
            root = ownership.open_target(target, claim, create=True)
            assert root is not None  # noqa: S101 - create=True opens or raises
            stack.callback(os.close, root)
            found = ownership.open_state(target, root, claim, create=True)
            assert found is not None  # noqa: S101 - create=True opens or raises
            state, owner = found
            stack.callback(os.close, state)
            parts = ownership.open_parts(target, state, create=True)
            for descriptor in parts.values():
                stack.callback(os.close, descriptor)
            for where, folder in ((target, root), (target / ".syncd", state)):
                ownership.refuse_unwritable(where, folder)
            for name in (STAGING, TRASH):
                ownership.refuse_unwritable(target / ".syncd" / name, parts[name])
            owner = ownership.with_traits(root, state, parts[STAGING], owner)
            traits = owner.traits or assume_traits(root, owner.file_system)
            mirror = cls(root, state, parts, owner, traits, stack.pop_all())
        mirror._opened = _Writing(root, state, parts, owner.file_system, traits.hard_links, mirror._looker)
        return mirror

    @classmethod
    def peek(
        cls,
        target: Path,
        *,
        mirror_uid: str,
        mirror_name: str,
        host_id: str,
        host_name: str = "",
        known: bool,
        new_target: bool = False,
        take_over: bool = False,
    ) -> DiskMirror | None:
        """Open a target to look at it (dry runs): creates and writes nothing, raises what open() raises.

        None when the target does not exist yet. Traits are those on record, else a guess.
        """
        claim = Claim(mirror_uid, mirror_name, host_id, host_name, known, new_target, take_over)
        with ExitStack() as stack:
            root = ownership.open_target(target, claim, create=False)
            if root is None:
                return None
            stack.callback(os.close, root)
            found = ownership.open_state(target, root, claim, create=False)
            state, owner = found if found is not None else (-1, claim.as_owner())
            parts: dict[str, int] = {}
            if found is not None:
                stack.callback(os.close, state)
                parts = ownership.open_parts(target, state, create=False)
                for descriptor in parts.values():
                    stack.callback(os.close, descriptor)
            traits = owner.traits or assume_traits(root, file_system_of(root))
            return cls(root, state, parts, owner, traits, stack.pop_all())

    def close(self) -> None:
        """Close all handles; safe to repeat."""
        opened, self._opened = self._opened, None
        if opened is not None:
            opened.handles.release_all(durable=False)
            opened.trash.handles.release_all(durable=False)
        self._closing.close()

    @property
    def _writing(self) -> _Writing:
        if self._opened is None:
            raise TargetUnusable("this target was opened to look at it, or is closed: nothing can be written")
        return self._opened

    # -- looking

    def list_local(self, directory: RelPath) -> dict[str, LocalEntry] | None:
        """Return what lies in one local directory by lstat, `.syncd` at the root left out; None if it is not there."""
        return self._looker.list(directory)

    def stat_local(self, path: RelPath) -> LocalEntry | None:
        """Return one name's lstat; None if it, or a folder above it, is not there."""
        return self._looker.stat(path)

    def stat_open(self, path: RelPath) -> LocalStat | None:
        """Open a file without following links and return its descriptor's stat; None when it is not there.

        Raises: PathUnsafe, LocalIOError (it may not be read, or is no regular file).
        """
        return self._looker.stat_open(path)

    def hash_local(
        self, path: RelPath, *, past_page_cache: bool = False, durable: bool = False
    ) -> tuple[str, LocalStat]:
        """Return SHA-256 and stat of a regular file; durable: sync it and the folders above it first."""
        return self._looker.hash(path, past_page_cache=past_page_cache, durable=durable)

    def read_small(self, path: RelPath, limit: int = 4 << 20) -> bytes:
        """Return the contents of a local file, at most `limit` bytes."""
        return self._looker.read(path, limit)

    def room(self) -> Room:
        """Return the space on the mirror's file system."""
        return self._looker.room()

    # -- staging

    def stage(self) -> Staged:
        """Open a new staged file under a short name of our own. Any thread."""
        return self._writing.staging.stage()

    def resume(self, partial: Partial) -> Staged | None:
        """Re-open a partial for appending if its prefix still hashes right; None, and it is gone, when not."""
        return self._writing.staging.resume(partial)

    def staged_digest(self, name: str) -> str | None:
        """Return the SHA-256 of a file left in staging, None when it is not there."""
        return self._writing.staging.digest(name)

    def sync(self, staged: Sequence[Staged]) -> None:
        """Make all sealed files durable, or raise; after an error none of them can be promoted any more."""
        self._writing.staging.sync(cast("Sequence[StagedFile]", staged))

    def sweep_staging(self, keep: Iterable[str]) -> int:
        """Remove everything from staging but `keep` and what this process is receiving; return how many."""
        return self._writing.staging.sweep(keep)

    # -- changing final names

    def promote(self, staged: Staged | str, path: RelPath, *, batch: str) -> LocalStat:
        """Move a synced staged file (or, in recovery, its name) to its place; what lay there goes to the trash."""
        writing = self._writing
        if isinstance(staged, str):
            name, size = staged, self._recovered_size(staged)
        else:
            need_durable(staged)  # type: ignore[arg-type]  # it is what stage() or resume() gave
            name, size = staged.name, staged.size
        try:
            try:
                status = self._put_in_place(writing, name, path, batch)
            except FileNotFoundError:
                # somebody removed the open folder: walk (and make) it again, once; a lost staged file fails again
                writing.handles.forget(path.rpartition("/")[0])
                status = self._put_in_place(writing, name, path, batch)
        except OSError as error:
            raise translate(error, "put in place", path) from error
        if status.st_size != size or not stat.S_ISREG(status.st_mode):
            raise LocalIOError(f"{path} was replaced by somebody else just now", hint=hint_for(Reason.LOCAL_IO))
        writing.staging.let_go(name)
        return self._looker.local(status)

    def _put_in_place(self, writing: _Writing, staged: str, path: RelPath, batch: str) -> os.stat_result:
        directory, _, name = path.rpartition("/")
        folder = writing.handles.make_to_change(directory)
        if writing.is_there(name, folder):
            self._clear(writing, folder, path, batch)
        os.rename(staged, name, src_dir_fd=writing.staging_folder, dst_dir_fd=folder)
        return os.stat(name, dir_fd=folder, follow_symlinks=False)

    @staticmethod
    def _clear(writing: _Writing, folder: int, path: RelPath, batch: str) -> None:
        """Have a place ready to be renamed over. Raises OSError (ENOTEMPTY: PathCollision)."""
        name = paths.split(path)[1]
        try:
            there = os.stat(name, dir_fd=folder, follow_symlinks=False)
        except FileNotFoundError:
            return  # somebody removed it just now
        if stat.S_ISDIR(there.st_mode):
            os.rmdir(name, dir_fd=folder)
            writing.handles.forget(path)
        else:
            writing.trash.link_in(folder, name, path, batch)

    def _recovered_size(self, staged: str) -> int:
        with translated("recover", staged):
            if paths.refuse_name(staged) is not None:
                raise LocalIOError(f"{paths.printable(staged)} is no staged file")
            status = os.stat(staged, dir_fd=self._writing.staging_folder, follow_symlinks=False)
        if not stat.S_ISREG(status.st_mode):
            raise LocalIOError(f"the staged file {staged} is no regular file")
        return status.st_size

    def retire(self, path: RelPath, expected: LocalStat, *, batch: str) -> bool:
        """Move a file to the trash if its stat is `expected`; else leave it and return False. Safe to repeat."""
        return self._to_trash(path, batch, expected)

    def set_aside(self, path: RelPath, *, batch: str) -> bool:
        """Move whatever file lies there (not a folder) to the trash; False when nothing does."""
        return self._to_trash(path, batch, None)

    def _to_trash(self, path: RelPath, batch: str, expected: LocalStat | None) -> bool:
        writing = self._writing
        directory, name = paths.split(path)
        with translated("move to the trash", path):
            found = self._find(writing, directory, name)
            if found is None:
                return False
            folder, status = found
            if stat.S_ISDIR(status.st_mode) or (expected is not None and not self._is(status, expected)):
                return False
            writing.trash.move_in(folder, name, path, batch)
            writing.handles.touch(directory)
        return True

    def move(self, old: RelPath, new: RelPath, expected: LocalStat) -> bool:
        """Rename a held file inside the mirror if its stat is `expected` and nothing lies at `new`; else False.

        Where the file system folds names, two spellings of one file count as nothing lying there.
        """
        writing = self._writing
        old_directory, old_name = paths.split(old)
        new_directory, new_name = paths.split(new)
        with translated("move", old):
            found = self._find(writing, old_directory, old_name)
            if found is None or not self._is(found[1], expected):
                return False
            source, status = found
            target = writing.handles.make(new_directory)
            try:
                there = os.stat(new_name, dir_fd=target, follow_symlinks=False)
            except FileNotFoundError:
                there = None
            respell = there is not None and self._is_respelling(there, status)
            if there is not None and not respell:
                return False
            writing.handles.touch(old_directory)
            writing.handles.touch(new_directory)
            os.rename(old_name, new_name, src_dir_fd=source, dst_dir_fd=target)
            if respell and new_name not in os.listdir(target):
                # rename(2) does nothing between two names of one file, and some folding file systems mean these two
                aside = writing.staging.reserve("respell-")
                os.rename(old_name, aside, src_dir_fd=source, dst_dir_fd=writing.staging_folder)
                os.rename(aside, new_name, src_dir_fd=writing.staging_folder, dst_dir_fd=target)
                writing.staging.let_go(aside)
        return True

    def _is_respelling(self, there: os.stat_result, status: os.stat_result) -> bool:
        folds = self.traits.folds_case or self.traits.folds_unicode
        return folds and os.path.samestat(there, status) and status.st_nlink == 1

    def _find(self, writing: _Writing, directory: RelPath, name: str) -> tuple[int, os.stat_result] | None:
        writing.handles.trim()
        folder = writing.handles.find(directory)
        if folder is None:
            return None
        try:
            return folder, os.stat(name, dir_fd=folder, follow_symlinks=False)
        except FileNotFoundError:
            return None

    def _is(self, status: os.stat_result, expected: LocalStat) -> bool:
        return stat.S_ISREG(status.st_mode) and self._looker.local(status) == expected

    # -- folders

    def make_directory(self, path: RelPath) -> None:
        """Create a folder and its parents (0755 less umask); safe to repeat."""
        writing = self._writing
        with translated("create the folder", path):
            writing.handles.trim()
            writing.handles.make(path)

    def remove_directory(self, path: RelPath) -> bool:
        """Remove a folder if it is empty; True when it is not there afterwards."""
        writing = self._writing
        directory, name = paths.split(path)
        with translated("remove the folder", path):
            found = self._find(writing, directory, name) if name else None
            if found is None:
                return bool(name)
            folder, status = found
            if not stat.S_ISDIR(status.st_mode):
                return False
            try:
                os.rmdir(name, dir_fd=folder)
            except OSError as error:
                if error.errno in _STAYS:
                    return False
                raise
            writing.handles.forget(path)
            writing.handles.touch(directory)
        return True

    def touch(self, path: RelPath) -> None:
        """Have the next sync_directories() make the folder of `path`, and all above it, durable."""
        writing = self._writing
        with translated("look at", path):
            writing.handles.trim()
            writing.handles.touch_chain(paths.split(path)[0])

    def sync_directories(self) -> None:
        """Make every promote, retire, move, make and remove since the last call durable; the trash's folders first."""
        writing = self._writing
        durable = False
        try:
            trash, trash_closed = writing.trash.handles.unsynced()
            mirror, mirror_closed = writing.handles.unsynced()
            writing.syncer.folders(trash + mirror, closed=trash_closed or mirror_closed)
            durable = True
        except OSError as error:
            raise translate(error, "sync the folders of the mirror") from error
        finally:
            writing.trash.handles.release_all(durable=durable)
            writing.handles.release_all(durable=durable)

    # -- the trash

    def trash(self) -> Iterator[Trashed]:
        """List the trash, oldest batch first."""
        if TRASH in self._parts:
            yield from list_trash(self._parts[TRASH])

    def restore(self, trashed: Trashed, to: str) -> str:
        """Copy one trashed file to `to`/its path (outside .syncd), never over an existing file; return where it is."""
        return self._writing.trash.restore(trashed, to)

    def purge(self, batch: str) -> int:
        """Remove one batch of the trash; return the bytes freed."""
        return self._writing.trash.purge(batch)

    # -- pins

    def pin(
        self, path: RelPath, expected: LocalStat, sha256: str, name: str, floor: Callable[[int], int]
    ) -> LocalStat | None:
        """Pin a file in `.syncd/pins/name` if its stat is `expected`; return the pin's stat, None when it is not."""
        return self._writing.pins.pin(path, expected, sha256, name, floor)

    def pin_stat(self, name: str, path: RelPath) -> LocalStat | None:
        """Return the stat of a pin's file; None when the pin is gone."""
        return self._writing.pins.stat(name, path)

    def pin_names(self) -> list[str]:
        """Return the names of all pins."""
        return self._writing.pins.names()

    def unpin(self, name: str) -> None:
        """Remove one pin; safe to repeat."""
        self._writing.pins.remove(name)

    # -- the manifest

    def write_manifest(self, lines: Iterable[bytes]) -> None:
        """Replace `.syncd/manifest.jsonl` atomically and durably."""
        writing = self._writing
        replace_manifest(writing.state, writing.staging_folder, writing.staging, lines)

    def read_manifest(self) -> Iterator[bytes]:
        """Return the lines of the manifest (none when there is none)."""
        if self._state >= 0:
            yield from read_manifest(self._state)
