"""The typed settings: what the rest of the program sees of the configuration. Frozen; never holds a secret itself.

Durations are seconds (`_s`), sizes bytes, fractions 0 to 1, paths absolute.
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import tzinfo
from pathlib import Path
from typing import TypedDict

from syncd.config.cron import Cron
from syncd.config.secrets import Secret
from syncd.config.urls import SourceUrl
from syncd.config.values import Address, MinFree, Rate
from syncd.core.hours import Hours
from syncd.core.named import NamedTuple


class HostSettings(NamedTuple):
    """[host]. name None: this host's name, fixed at first start. timezone: an IANA name, or "local".

    away: when it sleeps by plan. keep_awake: it is held awake while there is work in hand.
    """

    name: str | None
    state_dir: Path
    timezone: str
    away: tuple[Hours, ...] = ()
    keep_awake: bool = False

    def zone(self) -> tzinfo | None:
        """Return the time zone for cron, windows and screens; None is the machine's own, as datetime takes it."""
        if self.timezone == "local":
            return None
        from zoneinfo import ZoneInfo  # start-up time: most commands print no local time

        return ZoneInfo(self.timezone)


class SmbLogin(TypedDict):
    """Where and as whom to log in at an SMB server. password: asked at each login; None for Kerberos tickets."""

    host: str
    port: int
    username: str
    domain: str
    password: Callable[[], str] | None
    encrypt: bool
    auth: str


class SftpLogin(TypedDict):
    """Where and as whom to log in at an SFTP server. password: with key_file, the key's passphrase."""

    host: str
    port: int
    username: str
    key_file: Path | None
    password: Callable[[], str] | None
    known_hosts_file: Path


class MirrorSettings(NamedTuple):
    """One [[mirror]]. Exactly one of every_s and cron is set (every_s unless the file has cron)."""

    name: str
    source: SourceUrl
    fallback_sources: tuple[SourceUrl, ...]
    target: Path
    password: Secret | None
    key_file: Path | None
    known_hosts_file: Path
    auth: str
    encrypt: bool
    every_s: float | None
    cron: Cron | None
    aliases: tuple[str, ...]
    include: tuple[str, ...]
    exclude: tuple[str, ...]
    priority: tuple[str, ...]
    marker: str | None
    settle_s: float
    max_retire: float
    trash_days: int
    min_free: MinFree
    rate: Rate
    connections: int
    verify_days: int
    trust_checksums: bool

    @property
    def sources(self) -> tuple[SourceUrl, ...]:
        """The source and its stand-bys, in the order in which they are tried."""
        return (self.source, *self.fallback_sources)

    @property
    def reveal_password(self) -> Callable[[], str] | None:
        """What reads the password, None where none is configured."""
        return self.password.reveal if self.password is not None else None

    def smb_login(self, url: SourceUrl) -> SmbLogin:
        """Return the login at one of the mirror's servers, an SMB server."""
        return SmbLogin(
            host=url.host,
            port=url.port,
            username=url.user,
            domain=url.domain,
            password=self.reveal_password,
            encrypt=self.encrypt,
            auth=self.auth,
        )

    def sftp_login(self, url: SourceUrl) -> SftpLogin:
        """Return the login at one of the mirror's servers, an SFTP server."""
        return SftpLogin(
            host=url.host,
            port=url.port,
            username=url.user,
            key_file=self.key_file,
            password=self.reveal_password,
            known_hosts_file=self.known_hosts_file,
        )


class NsqSettings(NamedTuple):
    """[nsq]. announce is "local" when no nsqd is configured. address_map: what nsqlookupd says -> what to dial."""

    nsqd: tuple[Address, ...]
    lookupd: tuple[Address, ...]
    topic: str
    announce: str
    address_map: dict[str, Address]
    allow_direct: bool
    prefetch_tasks: bool
    task_topic: str


class MongoSettings(NamedTuple):
    """[mongo]. uri None: results stay in the embedded store."""

    uri: Secret | None
    registry: bool
    registry_files: bool


class ApiSettings(NamedTuple):
    """[api]. listen None: only the Unix socket."""

    listen: Address | None
    token: Secret | None
    allowed_hosts: tuple[str, ...]


class WorkerSettings(NamedTuple):
    """[worker]. id None: made from the host's name. engines: the [worker.engine.NAME] tables, as they are."""

    id: str | None
    workers: int
    engine: str
    engines: dict[str, dict[str, object]]
    missing_grace_s: float
    wait_for_source_s: float
    exclusive: bool
    providers: dict[str, str]
    mounts: dict[str, str]


class RemoteSettings(NamedTuple):
    """One [hosts.NAME]: another host, reached over SSH. Its secrets are looked at when it is asked for, not at load.

    command, config and compose_dir are paths there, "~/" is the login's home; config "" is the usual one.
    """

    name: str
    user: str
    address: Address
    key_file: Path | None
    password: Secret | None
    known_hosts_file: Path
    kind: str
    service: str
    command: str
    config: str
    compose_dir: str


class AlertSettings(NamedTuple):
    """[alerts]. webhook: the URL, or the secret that holds it. The password goes with mail_user."""

    webhook: str | Secret | None
    command: tuple[str, ...]
    mail_to: tuple[str, ...]
    mail_from: str
    mail_server: Address | None
    mail_tls: str
    mail_user: str | None
    password: Secret | None
    every_s: float
    hold_s: float
    failing_after_s: float
    owed_after_s: float
    stuck_after_s: float
    nsqd_http: tuple[Address, ...]

    @property
    def wanted(self) -> bool:
        """Whether anybody is to be told."""
        return bool(self.webhook or self.command or self.mail_to)


class Settings(NamedTuple):
    """The whole configuration; `path` is the file it came from."""

    path: Path
    host: HostSettings
    mirrors: tuple[MirrorSettings, ...]
    nsq: NsqSettings
    mongo: MongoSettings
    api: ApiSettings
    worker: WorkerSettings
    alerts: AlertSettings
    hosts: tuple[RemoteSettings, ...] = ()

    def mirror(self, name: str) -> MirrorSettings | None:
        """Return the mirror of that name."""
        return next((m for m in self.mirrors if m.name == name), None)
