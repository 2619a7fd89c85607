"""Run one command line on another host: what it said and how it ended, within a deadline and bounded in size."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from types import TracebackType
from typing import Self

import paramiko

from syncd.config import RemoteSettings
from syncd.remote.answers import Ran
from syncd.remote.connecting import SETUP_S, connect, ended_by, left_s, translated, where
from syncd.remote.errors import HostUnreachable, RemoteError

OUT_BYTES = 16 << 20
ERR_BYTES = 64 << 10
_PIECE = 32 << 10


class Host:
    """One host; connects when first needed. For one thread; close() may come from another."""

    def __init__(self, remote: RemoteSettings) -> None:
        self.remote = remote
        self._transport: paramiko.Transport | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, _kind: type[BaseException] | None, _e: BaseException | None, _t: TracebackType | None) -> None:
        self.close()

    def close(self) -> None:
        """End the connection; safe to repeat."""
        if self._transport is not None:
            self._transport.close()

    def run(self, line: str, timeout_s: float, *, feed: bytes = b"") -> Ran:
        """Run a command line there, give it `feed` on stdin, and return how it ended, whatever that is.

        timeout_s: from now to its end, not counting the login; then the connection is closed. Whether the command goes
        on there is not known.
        Raises: HostUnreachable, HostRefused; RemoteError when it says more than OUT_BYTES.
        """
        pieces: list[bytes] = []
        size = 0

        def keep(piece: bytes) -> None:
            nonlocal size
            size += len(piece)
            if size > OUT_BYTES:
                raise RemoteError(f"{where(self.remote)} answers with more than {OUT_BYTES >> 20} MiB; given up")
            pieces.append(piece)

        code, err = self.stream(line, keep, timeout_s, feed=feed)
        return Ran(code, b"".join(pieces).decode("utf-8", "replace"), err)

    def stream(
        self, line: str, each: Callable[[bytes], None], timeout_s: float | None, *, feed: bytes = b""
    ) -> tuple[int | None, str]:
        """Run a command line and hand on what it says as it comes; return (exit code, the end of its stderr).

        timeout_s None: for as long as it runs. Raises: as run(), and what `each` raises.
        """
        transport = self._connected()
        deadline = time.monotonic() + (SETUP_S if timeout_s is None else timeout_s)
        with translated(self.remote):
            with ended_by(deadline, transport):
                channel = transport.open_session(timeout=left_s(deadline))
                channel.exec_command(line)
                if feed:
                    channel.sendall(feed)
                if timeout_s is not None:
                    channel.shutdown_write()
                    return self._read(channel, each)
            return self._read(channel, each)

    def put(self, content: bytes, path: str, timeout_s: float) -> None:
        """Write a file there, with SFTP. path: there, absolute or relative to the home. Raises: as run()."""
        transport = self._connected()
        deadline = time.monotonic() + timeout_s
        with translated(self.remote), ended_by(deadline, transport):
            session = paramiko.SFTPClient.from_transport(transport)
            if session is None:
                raise HostUnreachable(f"{where(self.remote)} opens no SFTP session")
            with session, session.open(path, "wb") as file:
                file.set_pipelined()
                file.write(content)

    def _connected(self) -> paramiko.Transport:
        if self._transport is None:
            self._transport = connect(self.remote, time.monotonic() + SETUP_S)
        return self._transport

    def _is_up(self) -> bool:
        return self._transport is not None and self._transport.is_active()

    def _read(self, channel: paramiko.Channel, each: Callable[[bytes], None]) -> tuple[int | None, str]:
        complaints = _Tail(channel)
        while piece := channel.recv(_PIECE):
            each(piece)
        code = channel.recv_exit_status()
        if code == -1 and not self._is_up():
            raise EOFError("it was lost before the command ended")
        channel.close()
        return (None if code == -1 else code), complaints.text()


class _Tail:
    """Reads stderr beside stdout, so that neither fills up; keeps its end."""

    def __init__(self, channel: paramiko.Channel) -> None:
        self._kept = b""
        self._thread = threading.Thread(target=self._read, args=(channel,), name="remote stderr", daemon=True)
        self._thread.start()

    def _read(self, channel: paramiko.Channel) -> None:
        while piece := channel.recv_stderr(_PIECE):
            self._kept = (self._kept + piece)[-ERR_BYTES:]

    def text(self) -> str:
        self._thread.join(1.0)
        return self._kept.decode("utf-8", "replace")
