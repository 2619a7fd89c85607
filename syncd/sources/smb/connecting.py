"""From a server and a share to a Link, or to one error that says which hop failed and what to try."""

from __future__ import annotations

import socket
import time
from collections.abc import Callable

from syncd.core.errors import SourceAuthFailed, SourceError, SourceUnavailable, SourceVanished
from syncd.sources.smb import packets
from syncd.sources.smb.errors import Meaning, meaning_of
from syncd.sources.smb.limits import SmbLimits
from syncd.sources.smb.session import Attempt, Hop, Link, Server, SetupFailed
from syncd.sources.smb.transport import OLD_HINT, wait_for

_SMB1_LOOK_S = 3.0


class Establish:
    """One attempt to reach a share; abort() ends it from another thread. login_refused: the reason why it failed."""

    def __init__(self, server: Server, share: str, limits: SmbLimits, shares: Callable[[], list[str]]) -> None:
        self._server = server
        self._share = share
        self._shares = shares
        self.login_refused = False
        self._attempt = Attempt(server, share, limits)

    def abort(self) -> None:
        """Make run() fail soon."""
        self._attempt.abort()

    def run(self) -> Link:
        """Return the link. Raises SourceUnavailable or SourceAuthFailed."""
        try:
            return self._attempt.run()
        except SetupFailed as failed:
            error = explained(failed, self._attempt, self._server)
            self.login_refused = failed.hop is Hop.LOGIN and isinstance(error, SourceAuthFailed)
            if failed.hop is Hop.SHARE and failed.status and meaning_of(failed.status) is Meaning.NO_SHARE:
                error = self._no_share(error)
            raise error from failed

    def _no_share(self, error: SourceError) -> SourceError:
        """Say which shares there are; one that is on offer and cannot be used has lost its folder (Samba)."""
        names = self._shares()
        if self._share.casefold() in {name.casefold() for name in names}:
            text = f'the folder behind the share "{self._share}" at {self._server.where} is not there'
            return SourceVanished(text, hint="check the share's path on the server")
        if names:
            error.hint = f"the server offers: {', '.join(names)}; put one of them into the mirror's source"
        return error


def explained(failed: SetupFailed, attempt: Attempt, server: Server) -> SourceError:
    """Return the error of a failed set-up; a server that hung up without a word is asked whether it speaks SMB1."""
    if failed.hop is Hop.NEGOTIATE and attempt.closed_early and speaks_smb1(server):
        text = f"{server.where} speaks only SMB1, which is not safe to use"
        return SourceUnavailable(text, hint=OLD_HINT)
    return failed.error


def speaks_smb1(server: Server) -> bool:
    """Return whether a server that hung up on SMB2 answers an SMB1 negotiate; False when that cannot be told."""
    until = time.monotonic() + _SMB1_LOOK_S
    try:
        with socket.create_connection((server.host, server.port), timeout=_SMB1_LOOK_S) as sock:
            sock.sendall(packets.SMB1_NEGOTIATE)
            answer = b""
            while len(answer) < 8 and wait_for(sock, until - time.monotonic()):
                piece = sock.recv(8 - len(answer))
                if not piece:
                    break
                answer += piece
    except OSError:
        return False
    return answer[4:8] == packets.SMB1_ID
