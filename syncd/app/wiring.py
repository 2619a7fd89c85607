"""Settings -> sources and rules: which adapter serves which URL."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from shlex import quote
from typing import TYPE_CHECKING

from syncd.config.settings import MirrorSettings, MongoSettings, NsqSettings
from syncd.config.urls import SourceUrl
from syncd.core.filters import Filters
from syncd.core.guard import Caps
from syncd.core.model import RelPath
from syncd.engine.rules import MirrorRules
from syncd.ports import HintSource, Publisher, Registry, Source

if TYPE_CHECKING:
    from syncd.publish.nsq import TaskPeek
    from syncd.sources.smb.source import SmbSource


def open_source(settings: MirrorSettings) -> Source:
    """Build the source of a mirror; nothing connects yet. Only the adapter that is needed is imported."""
    return _open_source(settings, settings.source)


def _smb(settings: MirrorSettings, url: SourceUrl) -> SmbSource:
    from syncd.sources.smb.source import SmbSource

    return SmbSource(
        **settings.smb_login(url),
        share=url.share,
        folder=url.folder.strip("/"),
        connections=settings.connections,
        secret_hint=f"syncd secret {quote(settings.name)}",
    )


def _open_source(settings: MirrorSettings, url: SourceUrl) -> Source:
    match url.scheme:
        case "smb":
            return _smb(settings, url)
        case "sftp":
            from syncd.sources.sftp import SftpSource

            return SftpSource(
                **settings.sftp_login(url),
                folder=url.folder,
                connections=settings.connections,
                secret_hint=f"syncd secret {quote(settings.name)}",
            )
        case _:
            from syncd.sources.local import LocalSource

            return LocalSource(Path(url.folder))


def open_hints(settings: MirrorSettings) -> HintSource | None:
    """Build what tells of changes at the source; None where the protocol has no such thing (SFTP)."""
    match settings.source.scheme:
        case "smb":
            return _smb(settings, settings.source).watcher()
        case "file":
            from syncd.sources.local_watching import LocalWatch
            from syncd.store.probe import is_network_file_system

            return LocalWatch(Path(settings.source.folder), is_network_file_system)
        case _:
            return None


def open_publisher(nsq: NsqSettings) -> Publisher:
    """Build what takes announcements: nsqd, or the embedded spool. Nothing connects yet."""
    if nsq.announce == "nsq" and nsq.nsqd:
        from syncd.publish.nsq import NsqPublisher

        return NsqPublisher([(address.host, address.port) for address in nsq.nsqd])
    from syncd.publish.spool import SpoolPublisher

    return SpoolPublisher()


def open_registry(mongo: MongoSettings, warn: Callable[[str], None]) -> Registry | None:
    """Build the registry; None where it is off or there is no MongoDB. Nothing connects yet."""
    if mongo.uri is None or not mongo.registry:
        return None
    from syncd.registry.mongo import MongoRegistry

    return MongoRegistry(mongo.uri.reveal, where=mongo.uri.where, warn=warn)


def open_task_peek(nsq: NsqSettings, host_id: str, seen: Callable[[str], None]) -> TaskPeek | None:
    """Build what looks ahead at the queue of tasks; None where it is off or there is no nsqd."""
    if not (nsq.prefetch_tasks and nsq.nsqd and nsq.announce == "nsq"):
        return None
    from syncd.publish.nsq import TaskPeek

    return TaskPeek([(address.host, address.port) for address in nsq.nsqd], nsq.task_topic, host_id, seen)


def rules_of(settings: MirrorSettings) -> MirrorRules:
    """Turn one mirror's settings into the engine's rules."""
    return MirrorRules(
        name=settings.name,
        source_id=settings.source.id,
        filters=Filters(settings.include, settings.exclude),
        caps=Caps(settings.max_retire),
        settle_s=settings.settle_s,
        trash_days=settings.trash_days,
        floor=settings.min_free.floor,
        rank=_ranking(settings.priority),
        marker=settings.marker or "",
    )


def _ranking(priority: Sequence[str]) -> Callable[[RelPath], int]:
    """Return the fetch order of `priority`: the first pattern that matches, then everything else."""
    if not priority:
        return lambda path: 0 * len(path)
    from pathspec import GitIgnoreSpec

    specs = [GitIgnoreSpec.from_lines([pattern]) for pattern in priority]
    return lambda path: next((n for n, spec in enumerate(specs) if spec.match_file(path)), len(specs))
