"""Settings -> the channels of alerts, the leases, the memory: what the daemon and `syncd alerts` are made of."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

from syncd.alerts.kept import FILE, Kept
from syncd.alerts.model import Channel, Notice
from syncd.alerts.rules import Thresholds
from syncd.config.secrets import Secret
from syncd.config.settings import AlertSettings, MongoSettings
from syncd.core.errors import SyncdError

if TYPE_CHECKING:
    from syncd.ports.alerting import AlertLeases
    from syncd.store.state import Host


def open_channels(alerts: AlertSettings) -> list[Channel]:
    """Build the channels that are configured; nothing connects yet."""
    channels: list[Channel] = []
    if alerts.webhook:
        from syncd.alerts.webhook import Webhook

        channels.append(Webhook(_reading(alerts.webhook)))
    if alerts.command:
        from syncd.alerts.command import Command

        channels.append(Command(alerts.command))
    if alerts.mail_to and alerts.mail_server is not None:
        from syncd.alerts.mail import Mail, MailServer

        password = None if alerts.password is None else alerts.password.reveal
        server = MailServer(*alerts.mail_server, alerts.mail_tls, alerts.mail_user, password)
        channels.append(Mail(server, alerts.mail_from, alerts.mail_to))
    return channels


def _reading(webhook: str | Secret) -> Callable[[], str]:
    return webhook.reveal if isinstance(webhook, Secret) else lambda: webhook


def open_leases(mongo: MongoSettings, host: Host, warn: Callable[[str], None]) -> AlertLeases | None:
    """Build what hosts agree by; None without MongoDB. Nothing connects yet."""
    if mongo.uri is None:
        return None
    from syncd.registry.alerting import MongoAlertLeases

    return MongoAlertLeases(mongo.uri.reveal, host.id, host.name, where=mongo.uri.where, warn=warn)


def open_memory(state_dir: Path) -> Kept:
    """Read what is watched and told."""
    return Kept(state_dir / FILE)


def thresholds_of(alerts: AlertSettings) -> Thresholds:
    """Return how long what must last."""
    return Thresholds(alerts.hold_s, alerts.failing_after_s, alerts.owed_after_s, alerts.stuck_after_s)


def try_channel(channel: Channel, host: str) -> SyncdError | None:
    """Send a test message; return why it did not arrive."""
    try:
        channel.send(Notice(host, datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ"), test=True))
    except SyncdError as error:
        return error
    return None
