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
from syncd.remote.commands import MARK
from syncd.remote.connecting import SETUP_S, connect, translated
from syncd.remote.errors import RemoteError
from syncd.sources.sftp.ssh import ended_by, left_s

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
                raise RemoteError(f"{self.remote.address} answers with more than {OUT_BYTES >> 20} MiB; given up")
            pieces.append(piece)

        code, err = self.stream(line, keep, timeout_s, feed=feed)
        return Ran(code, b"".join(pieces).decode("utf-8", "replace"), err)

    def stream(
        self, line: str, each: Callable[[bytes], None], timeout_s: float | None, *, feed: bytes = b""
    ) -> tuple[int | None, str]:
        """Run a command line and hand on what it says as it comes; return (exit code, the end of its stderr).

        timeout_s None: for as long as it runs. What comes before commands.MARK is left out; where that never comes it
        counts as stderr. Raises: as run(), and what `each` raises.
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

    def converse(self, line: str, prompt: str, timeout_s: float) -> Conversation:
        """Run a command line there at a terminal, until it asks (its words end with `prompt`) or ends.

        Raises: as run().
        """
        transport = self._connected()
        deadline = time.monotonic() + timeout_s
        with translated(self.remote), ended_by(deadline, transport):
            channel = transport.open_session(timeout=left_s(deadline))
            channel.get_pty(term="dumb")
            channel.exec_command(line)
            conversation = Conversation(self.remote, transport, channel)
            conversation.listen(prompt)
            return conversation

    def _connected(self) -> paramiko.Transport:
        if self._transport is None:
            self._transport = connect(self.remote, time.monotonic() + SETUP_S)
        return self._transport

    def _is_up(self) -> bool:
        return self._transport is not None and self._transport.is_active()

    def _read(self, channel: paramiko.Channel, each: Callable[[bytes], None]) -> tuple[int | None, str]:
        complaints, marked = _Tail(channel), _Marked(each)
        while piece := channel.recv(_PIECE):
            marked.add(piece)
        code = channel.recv_exit_status()
        if code == -1 and not self._is_up():
            raise EOFError("it was lost before the command ended")
        channel.close()
        return (None if code == -1 else code), complaints.text() + marked.unmarked


class Conversation:
    """A command at a terminal there, that has asked or has ended. `said`: what it said so far; `asks`: it waits."""

    def __init__(self, remote: RemoteSettings, transport: paramiko.Transport, channel: paramiko.Channel) -> None:
        self._remote = remote
        self._transport = transport
        self._channel = channel
        self._raw = b""
        self.asks = False

    @property
    def said(self) -> str:
        text = self._raw.decode("utf-8", "replace").replace("\r\n", "\n")
        _, mark, after = text.partition(f"{MARK}\n")
        return after if mark else text

    def listen(self, prompt: str) -> None:
        """Read on until the command asks or ends."""
        while not self.asks and (piece := self._channel.recv(_PIECE)):
            self._raw += piece
            if len(self._raw) > OUT_BYTES:
                raise RemoteError(f"{self._remote.address} says more than {OUT_BYTES >> 20} MiB; given up")
            self.asks = bool(prompt) and self._raw.endswith(prompt.encode())

    def answer(self, text: str, timeout_s: float) -> Ran:
        """Answer the question ("" = there was none) and return how the command ended; out is what it said after it."""
        with translated(self._remote), ended_by(time.monotonic() + timeout_s, self._transport):
            heard = len(self._raw)
            if text:
                self._channel.sendall(text.encode() + b"\n")
            self.asks = False
            self.listen("")
            code = self._channel.recv_exit_status()
            if code == -1 and not self._transport.is_active():
                raise EOFError("it was lost before the command ended")
            later = self._raw[heard:].decode("utf-8", "replace").replace("\r\n", "\n")
            return Ran(None if code == -1 else code, later, self.said)


class _Marked:
    """Hands on what comes after the mark."""

    def __init__(self, each: Callable[[bytes], None]) -> None:
        self._each = each
        self._begun = False
        self._before = b""

    @property
    def unmarked(self) -> str:
        """What was said without a mark."""
        return "" if self._begun else self._before.decode("utf-8", "replace")

    def add(self, piece: bytes) -> None:
        if self._begun:
            self._each(piece)
            return
        before, mark, after = (self._before + piece).partition(f"{MARK}\n".encode())
        self._begun = bool(mark)
        self._before = before[-ERR_BYTES:]
        if after:
            self._each(after)


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
