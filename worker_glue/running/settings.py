"""The settings of a worker: the configuration file where there is one, else the environment alone (a container)."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from syncd import config
from syncd.config import Settings


def load(path: Path | None, env: Mapping[str, str]) -> Settings:
    """Return a worker's settings; no file is needed, nor a [[mirror]] in it. Raises ConfigError.

    path: the file that the command line names; else $SYNCD_CONFIG, which has to exist; else the platform's, if it does.
    """
    return config.load(path, env, for_worker=True)


def store_path(settings: Settings) -> Path:
    """Return the file of the host's store of results, which its workers share."""
    return settings.host.state_dir / "worker" / "results.db"
