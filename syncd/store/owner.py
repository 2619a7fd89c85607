"""Whose a target is (`.syncd/owner`), and whether it may be opened: an unplugged disk is not an empty mirror."""

from __future__ import annotations

import errno
import json
import os
import stat
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path
from shlex import quote

from syncd.core.errors import TargetForeign, TargetMissing, TargetUnsafe, TargetUnusable
from syncd.core.named import NamedTuple
from syncd.core.paths import STATE_FOLDER, printable
from syncd.core.reasons import Reason, hint_for
from syncd.ports import Traits
from syncd.store.disk_errors import translated
from syncd.store.durable import sync_descriptor
from syncd.store.handles import CREATE, FOLDER, READ
from syncd.store.probe import file_system_of, probe_traits

OWNER = "owner"
STAGING = "staging"
TRASH = "trash"
PINS = "pins"
MANIFEST = "manifest.jsonl"

_VERSION = 1
_TRAITS = ("folds_case", "folds_unicode", "hard_links")
_MAX_OWNER_BYTES = 64 << 10
_MODES = {STAGING: 0o700, TRASH: 0o700, PINS: 0o755}
_UNSAFE_HINT = "look at what put it there; move it away, then: syncd run-once"
_PARENTS_OF_MOUNTS = (("Volumes",), ("media",), ("mnt",), ("run", "media"))
_PARENTS_OF_USERS_MOUNTS = (("media",), ("run", "media"))


class Owner(NamedTuple):
    """What `.syncd/owner` says. mirror, host: names, for people; created_at: UTC, ISO 8601."""

    mirror_uid: str
    mirror: str
    host_id: str
    host: str
    created_at: str
    version: int = _VERSION
    file_system: str = ""
    traits: Traits | None = None


class Claim(NamedTuple):
    """Who wants to use a target, and what the operator allowed. known: the catalogue has used this target before."""

    mirror_uid: str
    mirror: str
    host_id: str
    host: str
    known: bool
    new_target: bool = False
    take_over: bool = False

    def owns(self, owner: Owner) -> bool:
        """Say whether a target is ours; where the catalogue was lost (or starts over), the mirror's name decides."""
        if owner.host_id != self.host_id:
            return False
        same_name = owner.mirror == self.mirror and (not self.known or self.new_target)
        return owner.mirror_uid == self.mirror_uid or same_name

    def as_owner(self) -> Owner:
        """Return what is written into a target that becomes ours."""
        now = datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
        return Owner(self.mirror_uid, self.mirror, self.host_id, self.host, now)


def open_target(target: Path, claim: Claim, *, create: bool) -> int | None:
    """Open the target's folder, made on a first run; None when it is not there and `create` is False.

    Links above the target, and the target being one, are the user's choice and followed.
    Raises: TargetMissing, TargetUnusable.
    """
    real = Path(os.path.realpath(target))
    try:
        return _open_folder(real)
    except FileNotFoundError:
        if claim.known and not claim.new_target:
            raise TargetMissing(
                f"the target {target} is not on disk", hint=hint_for(Reason.TARGET_MISSING, mirror=claim.mirror)
            ) from None
    except OSError as error:
        raise _unusable(target, error) from error
    try:
        _refuse_mount_point(real)
        if not create:
            return None
        _make_folders(real)
        return _open_folder(real)
    except OSError as error:
        raise _unusable(target, error) from error


def open_state(target: Path, root: int, claim: Claim, *, create: bool) -> tuple[int, Owner] | None:
    """Open `.syncd`, see whose it is, and (create) make it ours where that is allowed.

    Returns its descriptor and its owner as it is or would be; None when there is none and `create` is False.
    Raises: TargetMissing, TargetForeign, TargetUnsafe, TargetUnusable, LocalIOError, DiskFull.
    """
    state = _open_part(target, root, STATE_FOLDER)
    if state is None:
        _refuse_emptied(target, claim)
        if not create:
            return None
        refuse_unwritable(target, root)
        with translated("create", f"{target}/{STATE_FOLDER}"):
            os.mkdir(STATE_FOLDER, 0o755, dir_fd=root)
            sync_descriptor(root)
        state = _open_part(target, root, STATE_FOLDER)
        if state is None:
            raise TargetMissing(
                f"{target}/{STATE_FOLDER} vanished", hint=hint_for(Reason.TARGET_MISSING, mirror=claim.mirror)
            )
    try:
        owner = _read_owner(target, state, claim)
        if owner is None:
            _refuse_emptied(target, claim)
        if owner is None or not claim.owns(owner) or (claim.known and owner.mirror_uid != claim.mirror_uid):
            owner = claim.as_owner()
            if create:
                refuse_unwritable(target / STATE_FOLDER, state)
                write_owner(state, owner)
    except BaseException:
        os.close(state)
        raise
    return state, owner


def open_parts(target: Path, state: int, *, create: bool) -> dict[str, int]:
    """Open staging, trash and pins (made where they are not there and `create` is True).

    Raises: TargetUnsafe when one of them, or the manifest, is a link or of the wrong kind.
    """
    _refuse_odd_file(target, state, MANIFEST)
    opened: dict[str, int] = {}
    try:
        for name, mode in _MODES.items():
            part = _open_part(target, state, name)
            if part is None and create:
                with translated("create", f"{target}/{STATE_FOLDER}/{name}"):
                    os.mkdir(name, mode, dir_fd=state)
                    sync_descriptor(state)
                part = _open_part(target, state, name)
            if part is not None:
                opened[name] = part
    except BaseException:
        for descriptor in opened.values():
            os.close(descriptor)
        raise
    return opened


def refuse_unwritable(where: Path, folder: int) -> None:
    """Raise TargetUnusable where nothing could be written into an open folder."""
    if os.fstatvfs(folder).f_flag & os.ST_RDONLY:
        raise TargetUnusable(f"{where} lies on a read-only file system", hint="mount it writable, or choose another")
    if not os.access(".", os.W_OK | os.X_OK, dir_fd=folder, effective_ids=os.access in os.supports_effective_ids):
        raise TargetUnusable(f"{where} may not be written by this user", hint=f"chown -R $(id -u) {quote(str(where))}")


def with_traits(root: int, state: int, staging: int, owner: Owner) -> Owner:
    """Return the owner with the traits of the file system that the target lies on now; probed only when that is new."""
    file_system = file_system_of(root)
    if owner.traits is not None and owner.file_system == file_system:
        return owner
    with translated("probe the target"):
        owner = owner._replace(file_system=file_system, traits=probe_traits(staging))
    write_owner(state, owner)
    return owner


def write_owner(state: int, owner: Owner) -> None:
    """Replace the owner file durably. Raises DiskFull, LocalIOError, TargetUnusable."""
    temporary = f"{OWNER}-{os.urandom(8).hex()}"
    traits = {name: getattr(owner.traits, name) for name in _TRAITS} if owner.traits is not None else None
    text = json.dumps(owner._asdict() | {"traits": traits}, indent=1, ensure_ascii=False).encode() + b"\n"
    with translated("write", f"{STATE_FOLDER}/{OWNER}"):
        try:
            descriptor = os.open(temporary, CREATE, 0o644, dir_fd=state)
            with open(descriptor, "wb", buffering=0) as file:
                if file.write(text) != len(text):
                    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
                sync_descriptor(descriptor)
            os.rename(temporary, OWNER, src_dir_fd=state, dst_dir_fd=state)
        except BaseException:
            with suppress(OSError):
                os.unlink(temporary, dir_fd=state)
            raise
        sync_descriptor(state)


def _read_owner(target: Path, state: int, claim: Claim) -> Owner | None:
    """Return the owner, None when there is no file. Raises TargetForeign unless it may be taken over."""
    _refuse_odd_file(target, state, OWNER)
    with translated("read", f"{STATE_FOLDER}/{OWNER}"):
        try:
            descriptor = os.open(OWNER, READ, dir_fd=state)
        except FileNotFoundError:
            return None
        with open(descriptor, "rb") as file:
            text = file.read(_MAX_OWNER_BYTES)
    try:
        owner = _parse(text)
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError) as error:
        if claim.take_over:
            return claim.as_owner()._replace(mirror_uid="", host_id="")
        raise TargetForeign(
            f"{target}/{STATE_FOLDER}/{OWNER} cannot be read, so whose the target is is not known ({error})",
            hint=hint_for(Reason.TARGET_FOREIGN, mirror=claim.mirror),
        ) from error
    if not claim.owns(owner) and not claim.take_over:
        raise TargetForeign(
            f"the target {target} belongs to the mirror {_shown(owner.mirror)} of the host {_shown(owner.host)}",
            hint=hint_for(Reason.TARGET_FOREIGN, mirror=claim.mirror),
        )
    return owner


def _parse(text: bytes) -> Owner:
    found = json.loads(text)
    traits = found.get("traits")
    owner = Owner(
        mirror_uid=found["mirror_uid"],
        mirror=found["mirror"],
        host_id=found["host_id"],
        host=found["host"],
        created_at=found["created_at"],
        version=found["version"],
        file_system=found.get("file_system", ""),
        traits=Traits(**{name: traits[name] is True for name in _TRAITS}) if traits else None,
    )
    if not all(isinstance(part, str) for part in (owner.mirror_uid, owner.mirror, owner.host_id, owner.host)):
        raise TypeError("no strings")
    if owner.version != _VERSION:
        raise ValueError(f"version {owner.version!r}")
    return owner


def _shown(name: str) -> str:
    return f'"{printable(name)}"'


def _refuse_emptied(target: Path, claim: Claim) -> None:
    if claim.known and not claim.new_target:
        raise TargetMissing(
            f"the target {target} has no {STATE_FOLDER}/{OWNER} any more: another disk, or none, is mounted there",
            hint=hint_for(Reason.TARGET_MISSING, mirror=claim.mirror),
        )


def _open_folder(path: Path) -> int:
    return os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)


def _open_part(target: Path, folder: int, name: str) -> int | None:
    """Open one of our own folders, None when it is not there. Raises TargetUnsafe, TargetUnusable."""
    try:
        return os.open(name, FOLDER, dir_fd=folder)
    except FileNotFoundError:
        return None
    except OSError as error:
        if error.errno in (errno.ELOOP, errno.ENOTDIR):
            raise TargetUnsafe(f"{name} of the target {target} is a link or no folder", hint=_UNSAFE_HINT) from error
        raise _unusable(target / name, error) from error


def _refuse_odd_file(target: Path, state: int, name: str) -> None:
    try:
        mode = os.stat(name, dir_fd=state, follow_symlinks=False).st_mode
    except FileNotFoundError:
        return
    if not stat.S_ISREG(mode):
        raise TargetUnsafe(f"{target}/{STATE_FOLDER}/{name} is a link or no regular file", hint=_UNSAFE_HINT)


def _unusable(target: Path, error: OSError) -> TargetUnusable:
    hints = {
        errno.ENOTDIR: "choose a folder as target",
        errno.ELOOP: "its symbolic links lead in a circle",
        errno.EROFS: "mount it writable, or choose another target",
    }
    hint = hints.get(error.errno or 0, "let this user write there, or choose another target")
    return TargetUnusable(f"the target {target} cannot be used: {error.strerror or error}", hint=hint)


def _refuse_mount_point(target: Path) -> None:
    """Raise TargetMissing where making `target` would make a folder that only a mount may make."""
    for folder in _missing(target):
        above = folder.parent
        users = above.parts[1:-1] in _PARENTS_OF_USERS_MOUNTS and not above.is_mount()
        if above.parts[1:] in _PARENTS_OF_MOUNTS or users:
            raise TargetMissing(
                f"the target {target} is not on disk, and {folder} is where a disk is mounted",
                hint=f"mount the disk at {folder}, or choose another target",
            )


def _missing(path: Path) -> list[Path]:
    """Return the folders that are not there, the topmost first."""
    missing = []
    while not path.exists():
        missing.append(path)
        path = path.parent
    return missing[::-1]


def _make_folders(path: Path) -> None:
    """Make a folder and its parents, each durable in its own. Raises OSError."""
    for folder in _missing(path):
        with suppress(FileExistsError):
            folder.mkdir(mode=0o755)
        above = _open_folder(folder.parent)
        try:
            sync_descriptor(above)
        finally:
            os.close(above)
