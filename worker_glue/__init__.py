"""worker_glue: turns the server path in an OCR task into a verified local file.

    with worker_glue.local_file("Bhushanji/hin-typed/x.JPG", wait_s=120) as path:
        text = ocr(path)

Importing it loads nothing heavy; what a call needs is imported by the call. docs/worker-library.md tells the rest.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO

if TYPE_CHECKING:
    from syncd.core.resolution import Resolution, State
    from worker_glue.errors import FileMissing, FileNotReady, FileRefused, LeaseLost
    from worker_glue.nsq import Watch
    from worker_glue.ports import Hold
    from worker_glue.resolver import Resolver
    from worker_glue.resolver.forms import Spelled

__all__ = ["FileMissing", "FileNotReady", "FileRefused", "LeaseLost", "Resolution", "Resolver", "State", "ensure",
           "lease", "local_file", "open", "prefetch", "resolve", "watch"]  # fmt: skip

_ELSEWHERE = {
    "FileMissing": "worker_glue.errors",
    "FileNotReady": "worker_glue.errors",
    "FileRefused": "worker_glue.errors",
    "LeaseLost": "worker_glue.errors",
    "Resolution": "syncd.core.resolution",
    "Resolver": "worker_glue.resolver",
    "State": "syncd.core.resolution",
}


def __getattr__(name: str) -> Any:
    if name not in _ELSEWHERE:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    import importlib

    found = getattr(importlib.import_module(_ELSEWHERE[name]), name)
    globals()[name] = found
    return found


def resolve(path: Spelled) -> Resolution:
    """Say what a server path means and how its file is, now. Nothing is fetched, and nothing raised for how it is.

        found = worker_glue.resolve("/app/Bhushanji/hin-typed/x.JPG")
        if found.state == "ready":
            use(found.local_path, found.sha256)

    READY is a snapshot: use local_file(), open() or lease() where the file must not change meanwhile.
    """
    return _default().resolve(path)


def ensure(path: Spelled, timeout_s: float = 60.0) -> Resolution:
    """Have a file fetched ahead of everything else; how it is at the latest after timeout_s."""
    return _default().ensure(path, timeout_s)


def lease(path: Spelled, ttl_s: float = 300.0, *, wait_s: float = 0.0) -> AbstractContextManager[Hold]:
    """Give a version of a file that stays as it is for the length of a block; renew() it before ttl_s are over.

    Raises: FileMissing, FileRefused, FileNotReady; LeaseLost at the end when the bytes did not stay.
    """
    return _default().lease(path, ttl_s, wait_s=wait_s)


def local_file(path: Spelled, wait_s: float = 0.0) -> AbstractContextManager[Path]:
    """Give the local path of a verified file that stays as it is for the length of a block, fetched first if need be.

    Raises: FileMissing (a FileNotFoundError), FileRefused (a PermissionError), FileNotReady (a TimeoutError);
            LeaseLost at the end when the bytes did not stay.
    """
    return _default().local_file(path, wait_s)


def open(path: Spelled, mode: str = "rb", *, wait_s: float = 0.0) -> BinaryIO:  # noqa: A001 (as a file is opened)
    """Open a verified file for reading. Raises: FileMissing, FileRefused, FileNotReady."""
    return _default().open(path, mode, wait_s=wait_s)


def prefetch(paths: Iterable[Spelled]) -> int:
    """Have files brought in the background, and return at once: how many of them are ready already."""
    return _default().prefetch(paths)


def _default() -> Resolver:
    from worker_glue.resolver import default

    return default()


def watch(
    channel: str,
    *,
    topic: str | None = None,
    nsqd: Sequence[tuple[str, int]] | None = None,
    lookupd: Sequence[tuple[str, int]] | None = None,
    address_map: Mapping[str, tuple[str, int]] | None = None,
    allow_direct: bool = False,
    say: Callable[[str], None] | None = None,
) -> Watch:
    """Follow the announcements on NSQ: what becomes ready, is updated or removed on every host.

        with worker_glue.watch("my-indexer") as events:
            for event in events:           # FileReady v1, as a dict
                print(event["event"], event["server_path"], event["sha256"])

    Each announcement comes at least once and, while the program runs, only once; of one file never an older state after
    a newer one. It counts as read when the next one is asked for. Ends with stop(), from any thread.

    channel: each channel gets everything, its readers share it, and it keeps what nobody reads; NAME#ephemeral goes
             with its last reader.
    topic:   None: as configured, else file_sync_ready.
    nsqd:    read from these. lookupd: ask these (HTTP) for more. Neither: as $NSQD_ADDRESS and $NSQLOOKUPD_ADDRESSES or
             the configuration say.
    address_map, allow_direct: as in the configuration; with nsqd given, lookupd's addresses are dialled only if mapped.
    say:     told in a sentence what hinders (default: the log); repeats are left out.
    Raises:  ConfigError when there is nothing to read from.
    """
    return _default().watch(
        channel,
        topic=topic,
        nsqd=nsqd,
        lookupd=lookupd,
        address_map=address_map,
        allow_direct=allow_direct,
        say=say,
    )
