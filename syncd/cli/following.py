"""Commands that leave their work to the daemon where one runs, and follow it."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

from syncd.core.errors import SyncdError

if TYPE_CHECKING:
    from syncd.client.api import ApiClient, Errand
    from syncd.config import Settings

LOOK_S = 0.1
FIRST_LOOK_S = 0.02
LOST_AFTER_S = 5.0


def daemon_of(settings: Settings) -> ApiClient | None:
    """Return a client of the daemon that keeps these mirrors; None where none runs."""
    from syncd.client.address import SOCKET

    if not (settings.host.state_dir / SOCKET).exists():
        return None  # the usual case without a daemon costs nothing
    from syncd.client.api import connect

    return connect(settings.host.state_dir)


def follow(client: ApiClient, kind: str, errand_id: str, show: Callable[[Mapping[str, Any]], None]) -> Errand:
    """Wait for long work in the daemon, and show how far it is.

    Raises: SyncdError when the daemon ends or forgets it: what it had done so far is done.
    """
    pause_s, heard = FIRST_LOOK_S, time.monotonic()
    while True:
        try:
            errand = client.errand(kind, errand_id)
        except SyncdError as error:
            if time.monotonic() - heard > LOST_AFTER_S:
                raise _lost(error) from error
            time.sleep(LOOK_S)
            continue
        if errand is None:
            raise SyncdError("the daemon was restarted meanwhile", hint="syncd status")
        heard = time.monotonic()
        if errand.done:
            return errand
        if errand.progress:
            show(errand.progress)
        time.sleep(pause_s)
        pause_s = min(pause_s * 2, LOOK_S)


def _lost(error: SyncdError) -> SyncdError:
    """Say that the daemon ended under way, with the exit code of what shows it."""
    lost = SyncdError(f"the daemon ended meanwhile; what it had done is done ({error.message})", hint="syncd status")
    lost.exit_code = error.exit_code
    return lost
