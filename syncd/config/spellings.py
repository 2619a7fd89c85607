"""Settings of a mirror -> the names under which its files are known."""

from __future__ import annotations

from syncd.config.settings import MirrorSettings
from syncd.core.spelling import Spellings


def spellings_of(settings: MirrorSettings) -> Spellings:
    """Return the names under which a mirror's files are known."""
    url = settings.source
    share = "/".join(part for part in (url.share, url.folder.strip("/")) if part)
    return Spellings(settings.name, str(settings.target), share, settings.aliases, url.host)
