"""Checks of a mirror's target: is it there and ours, what does its file system do, is there room. Writes nothing."""

from __future__ import annotations

import os
from pathlib import Path
from shlex import quote

from syncd.client.file_systems import is_layer
from syncd.config import MirrorSettings
from syncd.core.errors import SyncdError
from syncd.core.paths import STATE_FOLDER
from syncd.doctor.checks import Check, fail, failed, ok, size, warn
from syncd.ports import Room, Traits
from syncd.store.mirror import DiskMirror
from syncd.store.owner import OWNER, Owner
from syncd.store.probe import file_system_of, is_network_file_system
from syncd.store.reading import open_readonly
from syncd.store.state import StateDirectory


class Target:
    """One mirror's target. After checks(), `traits` and `room` are known where they can be known."""

    def __init__(self, mirror: MirrorSettings, state_dir: Path) -> None:
        self._mirror = mirror
        self._path = mirror.target
        self._state_dir = state_dir
        self.traits: Traits | None = None
        self._room_left: int | None = None
        self._held_bytes = 0

    @property
    def room(self) -> int | None:
        """How many bytes all that is mirrored may take: what is held, and what may still be written."""
        return None if self._room_left is None else self._room_left + self._held_bytes

    def checks(self) -> list[Check]:
        """Look at the target."""
        try:
            opened = self._peek()
            if opened is None:
                return self._of_missing()
            try:
                self.traits = opened.traits
                checks = [self._of_folder(), self._file_system(opened.owner), *self._names(opened.owner)]
                return [*checks, *self._space(opened.room())]
            finally:
                opened.close()
        except SyncdError as error:
            return [failed("target", error)]
        except OSError as error:
            return [fail("target", f"{self._path} cannot be looked at: {error.strerror}", "look at the disk")]

    def _peek(self) -> DiskMirror | None:
        """Open the target as a run would, but only to look at it. Raises SyncdError with what a run would say."""
        uid, known, host = "", False, None
        try:
            state = StateDirectory.open(self._state_dir, create=False)
            host = state.known_host()
            with open_readonly(state.catalogue) as catalogue:
                facts = catalogue.mirror(self._mirror.name)
                uid, known = facts.uid, bool(facts.target) and facts.target == str(self._path)
                self._held_bytes = facts.totals().bytes
        except SyncdError:
            pass  # the state has a check of its own; without it the owner file alone says whose the target is
        return DiskMirror.peek(
            self._path,
            mirror_uid=uid,
            mirror_name=self._mirror.name,
            host_id=host.id if host is not None else "",
            known=known,
        )

    def _of_missing(self) -> list[Check]:
        above = next(parent for parent in self._path.parents if parent.exists())
        if not above.is_dir():
            return [fail("target", f"{self._path} cannot be made: {above} is no folder", "choose another target")]
        if not os.access(above, os.W_OK | os.X_OK):
            seen = f"{self._path} is not there, and {above} may not be written by this user"
            return [fail("target", seen, "let this user write there, or choose another target")]
        found = os.statvfs(above)
        checks = [ok("target", f"{self._path} is not there yet; the first run makes it"), self._file_system(None)]
        return checks + self._space(_room_of(found))

    def _of_folder(self) -> Check:
        found = os.statvfs(self._path)
        if found.f_flag & os.ST_RDONLY:
            return fail("target", f"{self._path} lies on a read-only file system", "mount it writable")
        for folder in (self._path, self._path / STATE_FOLDER):
            if folder.exists() and not os.access(folder, os.W_OK | os.X_OK):
                return fail(
                    "target", f"{folder} may not be written by this user", f"chown -R $(id -u) {quote(str(self._path))}"
                )
        if not (self._path / STATE_FOLDER / OWNER).exists():
            return ok("target", f"{self._path} is there; the first run makes it a mirror")
        return ok("target", f"{self._path} is there, and is this mirror's")

    def _file_system(self, owner: Owner | None) -> Check:
        network = is_network_file_system(self._path)
        kind = network or file_system_of(self._path) or "unknown type"
        if network:
            seen = f"{kind}, which is shared over a network: slow to verify, and a power cut may lose what it confirmed"
            return warn("file system", seen, "choose a target on a local disk")
        if is_layer(kind):
            seen = f"{kind}, a container's own layer: the files go with the container, and are fetched again"
            return warn("file system", seen, "mount a volume or a folder of the host there")
        if owner is not None and owner.file_system not in ("", kind):
            seen = f"{kind} (local); it was {owner.file_system} when the mirror was made: is it the right disk?"
            return warn("file system", seen, f"look at what is mounted: df {quote(str(self._path))}")
        return ok("file system", f"{kind} (local)")

    def _names(self, owner: Owner) -> list[Check]:
        traits = self.traits
        assert traits is not None  # noqa: S101 (checks() sets it)
        basis = "probed" if owner.traits is not None else "by its type; the first run probes it"
        folds = [
            word for word, folded in (("case", traits.folds_case), ("Unicode form", traits.folds_unicode)) if folded
        ]
        if folds:
            seen = (
                f"names that differ in {' or '.join(folds)} only are one file here ({basis}): of such twins one is kept"
            )
        else:
            seen = f"case and Unicode form of names are kept apart ({basis})"
        links = ok("hard links", f"possible ({basis})")
        if not traits.hard_links:
            links = warn("hard links", f"not possible ({basis}): replaced and leased files are copied instead")
        return [ok("names here", seen), links]

    def _space(self, room: Room) -> list[Check]:
        floor = self._mirror.min_free.floor(room.total_bytes)
        self._room_left = max(room.free_bytes - floor, 0)
        seen = f"{size(room.free_bytes)} of {size(room.total_bytes)} free, floor {size(floor)}"
        if room.free_bytes <= floor:
            return [fail("free space", f"{seen}: nothing more is fetched", "free some space, or lower min_free")]
        if room.total_inodes and not room.free_inodes:
            return [fail("free space", f"{seen}, but no inodes are left", "remove files there: inodes are used up")]
        return [ok("free space", seen)]


def _room_of(found: os.statvfs_result) -> Room:
    unit = found.f_frsize
    return Room(found.f_bavail * unit, found.f_blocks * unit, found.f_favail, found.f_files)
