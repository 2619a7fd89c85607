"""After a refused login nothing is tried until the secret changes, a person asks for a run, or an hour has passed."""

from __future__ import annotations

import hashlib
import hmac
import secrets
import threading
import time
from collections.abc import Callable

from syncd.core.errors import SourceAuthFailed, StandByRefused, SyncdError

REFUSED_FOR_S = 3_600.0


class Logins:
    """Remembers one mirror's last refusal. Thread-safe. reveal: the secret as it is now; None where there is none."""

    def __init__(self, reveal: Callable[[], str] | None, clock: Callable[[], float] = time.monotonic) -> None:
        self._reveal = reveal
        self._clock = clock
        self._key = secrets.token_bytes(16)
        self._lock = threading.Lock()
        self._refusal: tuple[SourceAuthFailed, bytes, float] | None = None

    def check(self) -> None:
        """Raise the last refusal as long as trying again would be the same."""
        with self._lock:
            if self._refusal is None:
                return
            error, secret, at = self._refusal
            if self._clock() - at < REFUSED_FOR_S and hmac.compare_digest(secret, self._fingerprint()):
                raise SourceAuthFailed(error.message, hint=error.hint)
            self._refusal = None

    @property
    def refused(self) -> bool:
        """Whether check() would raise."""
        try:
            self.check()
        except SourceAuthFailed:
            return True
        return False

    def note(self, error: SyncdError | None) -> None:
        """Remember a refusal; other errors, and none, say nothing about the login. A stand-by's is remembered apart."""
        if isinstance(error, SourceAuthFailed) and not isinstance(error, StandByRefused):
            with self._lock:
                if self._refusal is None:
                    self._refusal = (error, self._fingerprint(), self._clock())

    def forgive(self) -> None:
        """A person asked for a run: try again."""
        with self._lock:
            self._refusal = None

    def _fingerprint(self) -> bytes:
        """Tell one secret from another without keeping it."""
        try:
            secret = self._reveal() if self._reveal is not None else ""
        except SyncdError as error:
            secret = f"\0{error.message}"
        return hashlib.blake2b(secret.encode(), key=self._key).digest()
