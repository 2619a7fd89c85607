"""What stands behind a HintSource in its contract: a tree, and the ways in which others edit it."""

from __future__ import annotations

import contextlib
import sys
from abc import ABC, abstractmethod
from pathlib import Path
from typing import Any

from syncd.ports import HintSource
from syncd.sources.local_watching import LocalWatch
from syncd.sources.memory import MemorySource
from syncd.sources.memory_watching import MemoryWatch
from tests.support.smbd import SmbServer


class HintBackend(ABC):
    """A tree with the folders a, b and a/deep.

    everywhere: changes are told in folders that nobody focused on, too. connects: there is a connection to lose.
    """

    name = ""
    everywhere = True
    connects = True

    def __init__(self) -> None:
        self._made: list[HintSource] = []

    def watch(self) -> HintSource:
        """Return a new watch of the tree; it is closed at the end of the test."""
        self._made.append(self._watch())
        return self._made[-1]

    def close(self) -> None:
        for each in self._made:
            each.close()

    @abstractmethod
    def _watch(self) -> HintSource: ...

    @abstractmethod
    def put(self, path: str, content: bytes = b"x") -> None: ...

    @abstractmethod
    def mkdir(self, path: str) -> None: ...

    @abstractmethod
    def remove(self, path: str) -> None:
        """Remove a file or an empty folder."""

    @abstractmethod
    def rename(self, old: str, new: str) -> None: ...

    def lose(self) -> None:
        """Break all connections."""
        raise NotImplementedError

    def watch_with_wrong_secret(self) -> HintSource:
        raise NotImplementedError

    def refused_logins(self) -> int:
        raise NotImplementedError

    def open_files(self) -> list[str]:
        """Return what is open below the tree at the moment."""
        return []


class MemoryHints(HintBackend):
    name = "memory"

    def __init__(self) -> None:
        super().__init__()
        self.tree = MemorySource()
        for folder in ("a/deep", "b"):
            self.tree.mkdir(folder)

    def _watch(self) -> HintSource:
        return MemoryWatch(self.tree)

    def put(self, path: str, content: bytes = b"x") -> None:
        self.tree.put(path, content)

    def mkdir(self, path: str) -> None:
        self.tree.mkdir(path)

    def remove(self, path: str) -> None:
        self.tree.remove(path)

    def rename(self, old: str, new: str) -> None:
        self.tree.rename(old, new)

    def lose(self) -> None:
        for each in self._made:
            assert isinstance(each, MemoryWatch)
            each.lose()

    def watch_with_wrong_secret(self) -> HintSource:
        self.tree.refuse_login = True
        return self.watch()

    def refused_logins(self) -> int:
        return self.tree.refused_logins


class DiskHints(HintBackend):
    """The tree is a folder of this machine, and edited there."""

    def __init__(self, root: Path) -> None:
        super().__init__()
        self.root = root
        for folder in ("a/deep", "b"):
            (root / folder).mkdir(parents=True)

    def put(self, path: str, content: bytes = b"x") -> None:
        (self.root / path).write_bytes(content)

    def mkdir(self, path: str) -> None:
        (self.root / path).mkdir()

    def remove(self, path: str) -> None:
        place = self.root / path
        place.rmdir() if place.is_dir() else place.unlink()

    def rename(self, old: str, new: str) -> None:
        (self.root / old).rename(self.root / new)


class LocalHints(DiskHints):
    name = "local"
    connects = False

    def _watch(self) -> HintSource:
        return LocalWatch(self.root)

    def open_files(self) -> list[str]:
        found = []
        for link in Path("/proc/self/fd").iterdir() if sys.platform == "linux" else ():
            with contextlib.suppress(OSError):
                if link.readlink().is_relative_to(self.root):
                    found.append(str(link.readlink()))
        return found


class SmbServerHints(DiskHints):
    """A share, edited on the server's own side."""

    name = "smb, changed on the server"
    everywhere = False

    def __init__(self, root: Path, server: SmbServer) -> None:
        super().__init__(root)
        self.server = server

    def _build(self, password: str) -> HintSource:
        from syncd.sources.smb.source import SmbSource

        return SmbSource(
            host=self.server.host,
            port=self.server.port,
            share=self.server.share,
            folder=self.root.name,
            username=self.server.username,
            password=lambda: password,
        ).watcher()

    def _watch(self) -> HintSource:
        return self._build(self.server.password)

    def lose(self) -> None:
        self.server.drop_connections()

    def watch_with_wrong_secret(self) -> HintSource:
        self._made.append(self._build(self.server.password[::-1]))
        return self._made[-1]

    def refused_logins(self) -> int:
        return self.server.log.count("FAILED with error NT_STATUS_WRONG_PASSWORD")

    def open_files(self) -> list[str]:
        return [path for path in self.server.open_files() if Path(path).is_relative_to(self.root)]


class SmbHints(SmbServerHints):
    """A share, edited over SMB by another client."""

    name = "smb, changed over SMB"
    everywhere = True

    def __init__(self, root: Path, server: SmbServer) -> None:
        super().__init__(root, server)
        self._client: Any = None

    def close(self) -> None:
        super().close()
        self._hang_up()

    def _hang_up(self) -> None:
        """Close the socket; a logoff would fail where the server dropped the connection, and leave it open."""
        client, self._client = self._client, None
        if client is not None:
            client.getSMBServer()._NetBIOSSession.close()

    def _call(self, name: str, *arguments: Any) -> None:
        from impacket.smbconnection import SMBConnection

        for last in (False, True):
            try:
                if self._client is None:
                    host, port = self.server.host, self.server.port
                    self._client = SMBConnection(host, host, sess_port=port, timeout=20)
                    self._client.login(self.server.username, self.server.password)
                getattr(self._client, name)(self.server.share, *arguments)
            except Exception:
                self._hang_up()
                if last:
                    raise
            else:
                return

    def _place(self, path: str) -> str:
        return f"{self.root.name}/{path}".replace("/", "\\")

    def put(self, path: str, content: bytes = b"x") -> None:
        self._call("putFile", self._place(path), lambda size, left=[content]: left.pop() if left else b"")

    def mkdir(self, path: str) -> None:
        self._call("createDirectory", self._place(path))

    def remove(self, path: str) -> None:
        is_folder = (self.root / path).is_dir()
        self._call("deleteDirectory" if is_folder else "deleteFile", self._place(path))

    def rename(self, old: str, new: str) -> None:
        self._call("rename", self._place(old), self._place(new))
