"""Whom to ask: what the environment and the configuration say. Nothing is connected."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from syncd.client.address import SOCKET, VARIABLE, Address, SocketAddress, in_environment
from syncd.core.errors import ConfigError, SyncdError

if TYPE_CHECKING:
    from syncd.config.settings import Settings

MOUNTS_VARIABLE = "SYNCD_MOUNTS"
_MOUNTS_HINT = f'{MOUNTS_VARIABLE}="NAME=/app/NAME,OTHER=/app/OTHER"'
UNCONFIGURED = ConfigError(
    "nothing says where the files are",
    hint=f"set {VARIABLE} (and SYNCD_API_TOKEN_FILE), or {_MOUNTS_HINT}, or write a configuration: syncd init",
)


class Where(NamedTuple):
    """Whom to ask. address: the daemon's. mounts: mirror -> the folder in which this process sees it.

    troubles: what of it cannot be used.
    """

    address: Address | None
    settings: Settings | None
    mounts: Mapping[str, str]
    troubles: tuple[SyncdError, ...] = ()


def look_around(config: Path | None, env: Mapping[str, str]) -> Where:
    """Return whom to ask. config: the configuration file, which need not be there. Never raises for what is wrong."""
    troubles: list[SyncdError] = []
    address: Address | None = None
    settings: Settings | None = None
    mounts: dict[str, str] = {}
    try:
        settings = _settings(config, env)
    except SyncdError as error:
        troubles.append(error)
    if settings is not None:
        address = SocketAddress(settings.host.state_dir / SOCKET)
        mounts |= settings.worker.mounts
    try:
        address = in_environment(env) or address
    except SyncdError as error:
        troubles.append(error)
    try:
        mounts |= read_mounts(env.get(MOUNTS_VARIABLE, ""))
    except SyncdError as error:
        troubles.append(error)
    if address is None and settings is None and not mounts and not troubles:
        troubles.append(UNCONFIGURED)
    return Where(address, settings, mounts, tuple(troubles))


def config_file(config: Path | None, env: Mapping[str, str]) -> Path:
    """Return where the configuration would be."""
    from syncd.config.load import default_path

    return default_path(env) if config is None else config.expanduser().absolute()


def _settings(config: Path | None, env: Mapping[str, str]) -> Settings | None:
    """Return what the configuration says; None where there is none. Raises ConfigError."""
    file = config_file(config, env)
    if not file.exists():
        return None
    from syncd.config.load import load

    return load(file, env, check_secrets=False, for_worker=True)


def read_mounts(text: str) -> dict[str, str]:
    """Return what SYNCD_MOUNTS says. Raises ConfigError."""
    mounts: dict[str, str] = {}
    for part in filter(None, (part.strip() for part in text.split(","))):
        name, equals, path = (piece.strip() for piece in part.partition("="))
        if not name or not equals or not path.startswith("/") or "\0" in path:
            problem = f"{MOUNTS_VARIABLE} cannot be used: {part[:200]!r} is not NAME=/absolute/path"
            raise ConfigError(problem, problems=[problem], hint=_MOUNTS_HINT)
        mounts[name] = path.rstrip("/") or "/"
    return mounts
