"""Changes in the mirror itself: what a person or a program does to held files is noticed within seconds."""

from __future__ import annotations

import threading
from pathlib import Path

from syncd.watching.following import Following, Pace, Tell, Unwatchable

_PACE = Pace(quiet_s=0.3, longest_s=1.0, most=10_000)
_END_S = 2.0


class MirrorWatch:
    """Watches a target, `.syncd` left out, and tells of changed paths in it: of our own writes too.

    A path may be a file or a folder with all below it; None stands for anything: told first, once watching has begun,
    and whenever changes were missed. A target that is removed, unplugged or replaced ends the watch, which keeps no
    file system from being unmounted; start() begins anew. tell() is called by a thread of the watch's own; it returns
    at once and does not raise.
    """

    def __init__(self, target: Path, tell: Tell) -> None:
        self._target = target
        self._tell = tell
        self._lock = threading.Lock()
        self._following: Following | None = None
        self._thread: threading.Thread | None = None

    @property
    def state(self) -> str:
        """ "on", "off: why" or "partly: why", as ports.HintSource has it."""
        return self._following.state if self._following is not None else "off: not begun"

    def start(self) -> None:
        """Watch, if that is not done already; returns at once, and never raises: state says how it goes."""
        with self._lock:
            if self._following is not None and self._following.running:
                return
            self._following = following = Following(self._target, self._tell, _PACE, folders=False)
            following.running = True  # from now on, not only once the thread gets to it
            self._thread = threading.Thread(target=_run, args=(following,), name="mirror-watch", daemon=True)
            self._thread.start()

    def close(self) -> None:
        """End the watch; safe to repeat. Nothing is told afterwards."""
        with self._lock:
            following, thread = self._following, self._thread
        if following is None or thread is None:
            return
        following.close()
        if thread is not threading.current_thread():
            thread.join(_END_S)


def _run(following: Following) -> None:
    try:
        following.run()
    except Unwatchable:
        return  # following.state says why
