"""One backend a source: its server, a tree behind it, and edits made on the server's own side."""

from __future__ import annotations

import contextlib
import hashlib
import os
import shutil
import sys
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator
from pathlib import Path

from syncd.ports import Source
from syncd.sources.failover import FailoverSource, Server, Standing
from syncd.sources.local import LocalSource
from syncd.sources.memory import Fault, MemorySource
from tests.support.smbd import SmbServer
from tests.support.sshd import SshServer, write_key

SECOND_NS = 1_000_000_000
NOBODY = 65_534


class Backend(ABC):
    """A tree that is edited as its owner would, and sources that look at it.

    tick_ns: resolution of the mtimes that the source tells. has_ids: it tells file ids. shows_links: links and FIFOs
    are listed as Kind.OTHER (Samba resolves links itself and shows a FIFO as an empty file).
    """

    name = ""
    tick_ns = 1
    has_ids = True
    shows_links = True
    has_secret = True

    def __init__(self) -> None:
        self._opened: list[Source] = []

    def source(self) -> Source:
        """Return a source of the tree; it is closed at the end of the test."""
        return self._keep(self._make())

    def source_of_missing_root(self) -> Source:
        return self._keep(self._make_without_root())

    def source_with_wrong_secret(self) -> Source:
        return self._keep(self._make_with_wrong_secret())

    def _keep(self, source: Source) -> Source:
        self._opened.append(source)
        return source

    def close(self) -> None:
        for source in self._opened:
            source.close()

    @abstractmethod
    def _make(self) -> Source: ...

    @abstractmethod
    def _make_without_root(self) -> Source: ...

    @abstractmethod
    def _make_with_wrong_secret(self) -> Source: ...

    @abstractmethod
    def refused_logins(self) -> int:
        """How many logins the server has refused so far."""

    @abstractmethod
    def put(self, path: str, content: bytes, mtime_ns: int | None = None) -> None: ...

    @abstractmethod
    def mkdir(self, path: str) -> None: ...

    @abstractmethod
    def remove(self, path: str) -> None:
        """Remove a file, or a folder with all that is in it."""

    @abstractmethod
    def rename(self, old: str, new: str) -> None: ...

    @abstractmethod
    def link(self, path: str, target: str) -> None:
        """Make a symbolic link."""

    @abstractmethod
    def fifo(self, path: str) -> None: ...

    @abstractmethod
    def undecodable(self, directory: str) -> bool:
        """Put a name into `directory` that is not UTF-8; False where the server would hide it from us."""

    @abstractmethod
    def denied(self, path: str) -> contextlib.AbstractContextManager[None]:
        """Make a file or folder unreadable for the source, as long as the context lasts."""

    @abstractmethod
    def hash(self) -> str:
        """Return one digest over all names, types, contents and mtimes of the tree."""

    def open_files(self) -> list[str]:
        """Return what is open below the tree at the moment, by us or by the server."""
        return []


class MemoryBackend(Backend):
    name = "memory"
    has_secret = True

    def __init__(self) -> None:
        super().__init__()
        self.tree = MemorySource()

    def _make(self) -> Source:
        return self.tree

    def _make_without_root(self) -> Source:
        source = MemorySource()
        source.remove("")
        return source

    def _make_with_wrong_secret(self) -> Source:
        self.tree.refuse_login = True
        return self.tree

    def refused_logins(self) -> int:
        return self.tree.refused_logins

    def put(self, path: str, content: bytes, mtime_ns: int | None = None) -> None:
        self.tree.put(path, content, mtime_ns)

    def mkdir(self, path: str) -> None:
        self.tree.mkdir(path)

    def remove(self, path: str) -> None:
        self.tree.remove(path)

    def rename(self, old: str, new: str) -> None:
        self.tree.rename(old, new)

    def link(self, path: str, target: str) -> None:
        with contextlib.suppress(KeyError):
            self.tree.remove(path)
        self.tree.put_other(path)

    def fifo(self, path: str) -> None:
        self.link(path, "")

    def undecodable(self, directory: str) -> bool:
        self.tree.fault(directory, Fault.UNDECODABLE)
        return True

    @contextlib.contextmanager
    def denied(self, path: str) -> Iterator[None]:
        self.tree.fault(path, Fault.DENIED)
        yield
        self.tree.heal()

    def hash(self) -> str:
        tree = sorted((path, content, self.tree.fingerprint(path)) for path, content in self.tree.tree().items())
        return hashlib.sha256(repr(tree).encode()).hexdigest()


class StandByBackend(MemoryBackend):
    """The tree is a stand-by's, asked because the main server is down."""

    has_ids = False

    def _make(self) -> Source:
        return self._over(super()._make())

    def _make_without_root(self) -> Source:
        return self._over(super()._make_without_root(), super()._make_without_root())

    def _make_with_wrong_secret(self) -> Source:
        return self._over(super()._make_with_wrong_secret())

    @staticmethod
    def _over(stand_by: Source, main: Source | None = None) -> Source:
        down = MemorySource()
        down.down = True
        first = main or down
        servers = [Server("main", "main", lambda: first), Server("stand-by", "stand-by", lambda: stand_by)]
        return FailoverSource(servers, Standing())


class DiskBackend(Backend):
    """A backend whose tree is a folder of this machine."""

    def __init__(self, root: Path) -> None:
        super().__init__()
        self.root = root
        root.mkdir(mode=0o755)

    def put(self, path: str, content: bytes, mtime_ns: int | None = None) -> None:
        """Write in place: the file keeps its inode, as with an editor that does not replace."""
        target = self.root / path
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(content)
        if mtime_ns is not None:
            os.utime(target, ns=(mtime_ns, mtime_ns))

    def mkdir(self, path: str) -> None:
        (self.root / path).mkdir(parents=True, exist_ok=True)

    def remove(self, path: str) -> None:
        target = self.root / path
        shutil.rmtree(target) if target.is_dir() and not target.is_symlink() else target.unlink()

    def rename(self, old: str, new: str) -> None:
        (self.root / old).replace(self.root / new)

    def link(self, path: str, target: str) -> None:
        (self.root / path).unlink(missing_ok=True)
        (self.root / path).symlink_to(target)

    def fifo(self, path: str) -> None:
        (self.root / path).unlink(missing_ok=True)
        os.mkfifo(self.root / path)

    def undecodable(self, directory: str) -> bool:
        os.close(os.open(os.fsencode(self.root / directory) + b"/bad-\xff\xfe.jpg", os.O_CREAT | os.O_WRONLY, 0o644))
        return True

    @contextlib.contextmanager
    def denied(self, path: str) -> Iterator[None]:
        target = self.root / path
        mode = target.stat().st_mode
        target.chmod(0)
        try:
            yield
        finally:
            target.chmod(mode)

    def hash(self) -> str:
        digest = hashlib.sha256()
        for folder, folders, files in os.walk(os.fsencode(self.root)):
            folders.sort()
            for name in sorted(folders + files):
                path = os.path.join(folder, name)
                found = os.lstat(path)
                digest.update(repr((path, found.st_mode, found.st_size, found.st_mtime_ns, found.st_ino)).encode())
                if os.path.isfile(path) and not os.path.islink(path):
                    digest.update(Path(os.fsdecode(path)).read_bytes())
        return digest.hexdigest()

    def open_files(self) -> list[str]:
        found = []
        for link in Path("/proc").glob("[0-9]*/fd/*") if sys.platform == "linux" else ():
            with contextlib.suppress(OSError):
                target = link.readlink()
                if target.is_relative_to(self.root):
                    found.append(f"{link} -> {target}")
        return found


class LocalBackend(DiskBackend):
    name = "local"
    has_secret = False

    def _make(self) -> Source:
        return LocalSource(self.root)

    def _make_without_root(self) -> Source:
        return LocalSource(self.root / "not-there")

    def _make_with_wrong_secret(self) -> Source:
        raise NotImplementedError

    def refused_logins(self) -> int:
        return 0

    @contextlib.contextmanager
    def denied(self, path: str) -> Iterator[None]:
        """Modes deny root nothing, so as root be somebody else meanwhile."""
        with super().denied(path):
            root = os.geteuid() == 0
            if root:
                os.seteuid(NOBODY)
            try:
                yield
            finally:
                if root:
                    os.seteuid(0)


class SftpBackend(DiskBackend):
    name = "sftp"
    tick_ns = SECOND_NS
    has_ids = False

    def __init__(self, root: Path, server: SshServer) -> None:
        super().__init__(root)
        self.server = server

    def _build(self, folder: Path, key_file: Path) -> Source:
        from syncd.sources.sftp import SftpSource

        return SftpSource(
            host=self.server.host,
            port=self.server.port,
            username=self.server.username,
            folder=str(folder),
            key_file=key_file,
            password=None,
            known_hosts_file=self.server.known_hosts_file,
        )

    def _make(self) -> Source:
        return self._build(self.root, self.server.key_file)

    def _make_without_root(self) -> Source:
        return self._build(self.root / "not-there", self.server.key_file)

    def _make_with_wrong_secret(self) -> Source:
        write_key(self.root.parent / "wrong-key")
        return self._build(self.root, self.root.parent / "wrong-key")

    def refused_logins(self) -> int:
        return self.server.log.count("Failed publickey for")


class SmbBackend(DiskBackend):
    name = "smb"
    tick_ns = 100
    shows_links = False

    def __init__(self, root: Path, server: SmbServer) -> None:
        super().__init__(root)
        self.server = server

    def _build(self, folder: str, password: Callable[[], str]) -> Source:
        from syncd.sources.smb.source import SmbSource

        return SmbSource(
            host=self.server.host,
            port=self.server.port,
            share=self.server.share,
            folder=folder,
            username=self.server.username,
            password=password,
        )

    def _make(self) -> Source:
        return self._build(self.root.name, lambda: self.server.password)

    def _make_without_root(self) -> Source:
        return self._build(f"{self.root.name}/not-there", lambda: self.server.password)

    def _make_with_wrong_secret(self) -> Source:
        return self._build(self.root.name, lambda: self.server.password[::-1])

    def refused_logins(self) -> int:
        return self.server.log.count("FAILED with error NT_STATUS_WRONG_PASSWORD")

    def undecodable(self, directory: str) -> bool:
        return False
