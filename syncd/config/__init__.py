"""Typed settings from a TOML file and the environment; every problem reported at once; secrets by reference."""

from __future__ import annotations

from syncd.config.cron import Cron
from syncd.config.load import default_path, expanded, load
from syncd.config.secrets import Secret, redact
from syncd.config.settings import (
    AlertSettings,
    ApiSettings,
    HostSettings,
    MirrorSettings,
    MongoSettings,
    NsqSettings,
    RemoteSettings,
    Settings,
    WorkerSettings,
)
from syncd.config.urls import SourceUrl
from syncd.config.values import Address, MinFree, Rate

__all__ = [
    "Address",
    "AlertSettings",
    "ApiSettings",
    "Cron",
    "HostSettings",
    "MinFree",
    "MirrorSettings",
    "MongoSettings",
    "NsqSettings",
    "Rate",
    "RemoteSettings",
    "Secret",
    "Settings",
    "SourceUrl",
    "WorkerSettings",
    "default_path",
    "expanded",
    "load",
    "redact",
]
