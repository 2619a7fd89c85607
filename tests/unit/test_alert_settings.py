"""[alerts] and away: read, checked, and never a secret in a message."""

from __future__ import annotations

import argparse
import time
from pathlib import Path

import pytest

from syncd import config
from syncd.alerts.command import Command
from syncd.alerts.kept import FILE, Kept
from syncd.alerts.mail import Mail
from syncd.alerts.memory import Watched
from syncd.alerts.model import Rule
from syncd.alerts.rules import Condition
from syncd.alerts.webhook import Webhook
from syncd.app.alarming import open_channels, thresholds_of
from syncd.cli import alerts
from syncd.config import Settings, values
from syncd.core.errors import ConfigError
from syncd.core.hours import Hours
from syncd.daemon.enrolment import away_utc

ROOT = Path(__file__).resolve().parent.parent.parent
MINIMAL = '[[mirror]]\nname = "M"\nsource = "file://./s"\ntarget = "data/M"\n'


def load(tmp_path: Path, more: str) -> Settings:
    (tmp_path / "syncd.toml").write_text(MINIMAL + more)
    return config.load(tmp_path / "syncd.toml", {"HOME": str(tmp_path)})


def problems(tmp_path: Path, more: str) -> str:
    with pytest.raises(ConfigError) as failed:
        load(tmp_path, more)
    return "\n".join(failed.value.problems)


def secret(tmp_path: Path, text: str, name: str = "secret", mode: int = 0o600) -> Path:
    path = tmp_path / name
    path.write_text(text + "\n")
    path.chmod(mode)
    return path


def test_without_the_table_nobody_is_told(tmp_path: Path) -> None:
    settings = load(tmp_path, "")
    assert not settings.alerts.wanted
    assert open_channels(settings.alerts) == []
    assert settings.host.away == ()


def test_all_channels(tmp_path: Path) -> None:
    secret(tmp_path, "hunter2")
    secret(tmp_path, "https://hooks.example.org/hunter2", "url")
    settings = load(
        tmp_path,
        '[alerts]\nwebhook_file = "url"\ncommand = ["~/bin/tell", "-x"]\nmail_to = ["a@b.org", "a@b.org"]\n'
        'mail_server = "smtp.b.org"\nmail_user = "u"\npassword_file = "secret"\nowed_after = "1h"\n',
    )
    webhook, command, mail = open_channels(settings.alerts)
    assert isinstance(webhook, Webhook)
    assert isinstance(command, Command)
    assert isinstance(mail, Mail)
    assert settings.alerts.command == (f"{tmp_path}/bin/tell", "-x")
    assert str(settings.alerts.mail_server) == "smtp.b.org:587"
    assert settings.alerts.mail_to == ("a@b.org",)
    assert settings.alerts.mail_from == "a@b.org"
    assert settings.alerts.mail_tls == "starttls"
    assert thresholds_of(settings.alerts) == (60.0, 900.0, 3600.0, 900.0)
    assert "hunter2" not in repr(settings)


@pytest.mark.parametrize(
    ("more", "said"),
    [
        ('webhok = "https://x"', 'did you mean "webhook"?'),
        ('webhook = "hooks.example.org/hunter2"', "is not a URL"),
        ('webhook = "https://u:hunter2@h/"', "webhook_file names it"),
        ('webhook = "file:///etc/passwd"', "is not a URL"),
        ('webhook = "https://hooks.example.org/T0/B0/hunter2hunter2hunter2hunter2"', "webhook_file names it"),
        ('webhook = "https://h/x?token=hunter2"', "looks as if it held a secret"),
        ('webhook = "https://h/"\nwebhook_file = "url"', "has both webhook and webhook_file"),
        ('webhook_file = "https://h/hunter2"', "name the file that holds the secret"),
        ('webhook_file = "nowhere"', "does not exist"),
        (r'webhook_file = "a\u0080\u200bb"', r"a\x80\u200bb does not exist"),
        ('webhook_file = "open"', "is open to others"),
        ('command = "rm -rf /"', "is not a list"),
        ("command = [5]", "alerts: command"),
        ('mail_to = ["a@b.org"]', "mail_server: is missing"),
        ('mail_server = "h"', "mail_to: is missing"),
        ('mail_to = ["a b"]\nmail_server = "h"', "is not an e-mail address"),
        ('mail_to = ["a@b.org\\nBcc: c@d"]\nmail_server = "h"', "has a control character"),
        ('mail_to = ["a@b.org"]\nmail_server = "h"\nmail_user = "u"', "password_file: is missing"),
        ('mail_to = ["a@b.org"]\nmail_server = "h"\npassword_file = "secret"', "mail_user: is missing"),
        ('mail_to = ["a@b.org"]\nmail_server = "h"\nmail_tls = "ssl"', 'is not one of "starttls"'),
        ('password = "hunter2"', "a secret never stands in this file"),
        ('every = "0s"', "out of range"),
        ('nsqd_http_addresses = ["x:y"]', "HOST:PORT"),
    ],
)
def test_what_is_wrong_is_named(tmp_path: Path, more: str, said: str) -> None:
    secret(tmp_path, "hunter2")
    secret(tmp_path, "https://hooks.example.org/hunter2", "url")
    secret(tmp_path, "https://hooks.example.org/hunter2", "open", 0o644)
    found = problems(tmp_path, f"[alerts]\n{more}\n")
    assert said in found
    assert "hunter2" not in found
    assert found.replace("\n", "").isprintable()


def test_a_password_goes_in_the_clear_to_this_machine_only(tmp_path: Path) -> None:
    secret(tmp_path, "hunter2")
    plain = '[alerts]\nmail_to = ["a@b.org"]\nmail_tls = "none"\nmail_user = "u"\npassword_file = "secret"\n'
    assert "would show the password" in problems(tmp_path, plain + 'mail_server = "smtp.b.org"')
    assert load(tmp_path, plain + 'mail_server = "127.0.0.1:25"').alerts.mail_tls == "none"


@pytest.mark.parametrize(
    ("text", "held", "free"),
    [
        ("22:00-07:00", ["22:00", "23:59", "00:00", "06:59"], ["07:00", "12:00", "21:59"]),
        ("12:00-13:00; 22:00-24:00", ["12:30", "22:00", "23:59"], ["00:00", "13:00", "11:59"]),
        ("", [], ["00:00", "12:00"]),
    ],
)
def test_hours(text: str, held: list[str], free: list[str]) -> None:
    found = values.hours(text)

    def holds(at: str) -> bool:
        hour, minute = map(int, at.split(":"))
        return any(hours.holds(hour * 60 + minute) for hours in found)

    assert all(holds(at) for at in held)
    assert not any(holds(at) for at in free)


@pytest.mark.parametrize(
    "text", ["22:00", "22-7", "25:00-07:00", "22:60-07:00", "07:00-07:00", "22:00-07:00;", 5, True]
)
def test_what_is_no_hours(text: object) -> None:
    with pytest.raises(ValueError, match="are no hours"):
        values.hours(text)


def test_away_is_read(tmp_path: Path) -> None:
    assert "are no hours" in problems(tmp_path, '[host]\naway = "by night"\n')
    assert load(tmp_path, '[host]\naway = "22:00-07:00"\n').host.away == (Hours(22 * 60, 7 * 60),)


@pytest.mark.parametrize(("zone", "utc"), [("UTC", (1320, 420)), ("Asia/Kolkata", (990, 90))])
def test_away_is_told_to_other_hosts_in_utc(tmp_path: Path, zone: str, utc: tuple[int, int]) -> None:
    host = load(tmp_path, f'[host]\ntimezone = "{zone}"\naway = "22:00-07:00"\n').host
    assert away_utc(host) == [utc]


def test_the_document_has_a_line_for_each_rule() -> None:
    page = (ROOT / "docs" / "alerts.md").read_text(encoding="utf-8")
    from syncd.alerts.model import SEVERITY

    for rule in Rule:
        assert f"| `{rule.value}` | {SEVERITY[rule]} |" in page


@pytest.mark.parametrize(
    ("every", "age_s", "late"),
    [("30s", 100, False), ("30s", 200, True), ("1h", 3_500, False), ("1h", 8_000, True)],
)
def test_a_list_that_nobody_keeps_current_says_so(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], every: str, age_s: float, late: bool
) -> None:
    settings = load(tmp_path, f'[host]\nstate_dir = "state"\n[alerts]\ncommand = ["true"]\nevery = "{every}"\n')
    settings.host.state_dir.mkdir()
    memory = Kept(settings.host.state_dir / FILE)
    with memory.changing():
        memory.looked = time.time() - age_s
        condition = Condition("mongodb", Rule.MONGODB, "", "MongoDB cannot be reached", "syncd doctor", 0)
        memory.watched = {"mongodb": Watched(condition, 1.0, begun=True)}
    assert alerts.run(argparse.Namespace(action="list", json=False, config=None), settings) == 0
    out = capsys.readouterr().out
    assert "1 alert, looked at" in out
    assert ("no daemon looks now" in out) == late
