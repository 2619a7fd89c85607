"""The channels against real receivers: an HTTP server, programs, an SMTP server; all of them also at their worst."""

from __future__ import annotations

import json
import ssl
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from syncd.alerts.command import Command
from syncd.alerts.mail import Mail, MailServer
from syncd.alerts.model import Alert, NotDelivered, Notice, Rule
from syncd.alerts.webhook import Webhook
from tests.support.ports import free_port
from tests.support.smtp import SmtpServer, certificate, start_smtp
from tests.support.webhook import WebhookServer, start_webhook

LIMIT_S = 1.0
PATIENCE_S = 20.0
ALERT = Alert(
    "halted पत्र", Rule.HALTED, "पत्र", "पत्र is halted: 214 of 412 files gone", "syncd approve", "2026-01-01T00:00:00Z"
)
BEGUN = Notice("tod-mac", "2026-01-01T00:05:00Z", begun=(ALERT,))
MANY = Notice("tod-mac", "2026-01-01T00:05:00Z", begun=tuple(ALERT._replace(key=f"k{n}") for n in range(500)))


@pytest.fixture
def hook() -> Iterator[WebhookServer]:
    with start_webhook() as server:
        yield server


@pytest.fixture
def smtp() -> Iterator[SmtpServer]:
    with start_smtp() as server:
        yield server


def refused(channel: Webhook | Command | Mail, notice: Notice = BEGUN) -> str:
    """Return why a message is not delivered."""
    began = time.monotonic()
    with pytest.raises(NotDelivered) as failed:
        channel.send(notice)
    assert time.monotonic() - began < PATIENCE_S, "it is bounded"
    assert failed.value.hint, "it says what to do next"
    assert "alerts test" not in failed.value.hint, "which is what was done"
    return f"{failed.value.message} {failed.value.hint}"


# --- webhook


def test_a_webhook_gets_the_message_as_json(hook: WebhookServer) -> None:
    Webhook(lambda: hook.url + "\n", limit_s=PATIENCE_S).send(BEGUN)
    (told,) = hook.accepted
    assert told["v"] == 1
    assert told["host"] == "tod-mac"
    assert told["begun"] == [ALERT.as_json()]
    assert told["ended"] == []
    assert "BEGUN critical: पत्र is halted" in told["text"]
    assert hook.paths == ["/hooks/s3cret-part?key=s3cret"]


@pytest.mark.parametrize("status", [500, 503, 404, 401, 302])
def test_a_webhook_that_answers_no_2xx_has_not_taken_it(hook: WebhookServer, status: int) -> None:
    hook.status, hook.location = status, "http://127.0.0.1:9/elsewhere"
    said = refused(Webhook(lambda: hook.url, limit_s=PATIENCE_S))
    assert f"HTTP status {status}" in said
    assert "s3cret" not in said
    assert len(hook.notices) == 1, "no second try of its own, and no redirect is followed"


@pytest.mark.parametrize("knob", ["slow_s", "drip_s"])
def test_a_webhook_that_is_slow_is_left_in_time(hook: WebhookServer, knob: str) -> None:
    setattr(hook, knob, 30.0 if knob == "slow_s" else 0.2)
    said = refused(Webhook(lambda: hook.url, limit_s=LIMIT_S))
    assert "no answer within 1 s" in said
    assert "s3cret" not in said


def test_a_webhook_that_is_down(hook: WebhookServer) -> None:
    said = refused(Webhook(lambda: f"http://127.0.0.1:{free_port()}/s3cret", limit_s=LIMIT_S))
    assert "connection refused" in said
    assert "s3cret" not in said


@pytest.mark.parametrize(
    "url", ["", "ftp://h/s3cret", "s3cret", "http://h/ s3cret", "http://h/\r\nX: s3cret", "http://é/"]
)
def test_what_is_no_url_is_not_dialled_and_not_repeated(url: str) -> None:
    said = refused(Webhook(lambda: url, limit_s=LIMIT_S))
    assert "s3cret" not in said


def test_a_webhook_over_tls_whose_certificate_nobody_signed_is_refused(hook: WebhookServer, tmp_path: Path) -> None:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate(tmp_path))
    hook.socket = context.wrap_socket(hook.socket, server_side=True)
    said = refused(Webhook(lambda: hook.url.replace("http://127.0.0.1", "https://localhost"), limit_s=PATIENCE_S))
    assert "self-signed certificate" in said
    assert hook.notices == []


# --- command


def program(tmp_path: Path, body: str) -> str:
    path = tmp_path / "tell me"
    path.write_text(f"#!{sys.executable}\nimport json, os, sys, time\n{body}\n")
    path.chmod(0o755)
    return str(path)


def test_a_command_gets_json_and_text_and_none_of_our_secrets(tmp_path: Path) -> None:
    seen = tmp_path / "seen"
    body = f"json.dump([sys.argv[1:], json.load(sys.stdin), dict(os.environ)], open({str(seen)!r}, 'w'))"
    env = {"PATH": "/usr/bin:/bin", "HOME": "/home/x", "SMB_PASSWORD": "hunter2", "MONGO_URI": "mongodb://u:hunter2@h"}
    Command([program(tmp_path, body), "$(touch x)", "; ls", "a b"], env, limit_s=PATIENCE_S).send(BEGUN)
    words, told, environment = json.loads(seen.read_text())
    assert words == ["$(touch x)", "; ls", "a b"], "no shell has seen them"
    assert told["begun"] == [ALERT.as_json()]
    assert environment["SYNCD_ALERT_KIND"] == "begun"
    assert environment["SYNCD_ALERT_HOST"] == "tod-mac"
    assert "पत्र is halted" in environment["SYNCD_ALERT_TEXT"]
    assert "hunter2" not in json.dumps(environment)


def test_a_command_that_fails(tmp_path: Path) -> None:
    assert "exit code 3" in refused(Command([program(tmp_path, "raise SystemExit(3)")], limit_s=PATIENCE_S))
    assert "no such file" in refused(Command([str(tmp_path / "nothing")]))
    assert "permission denied" in refused(Command([str(tmp_path)]))


def test_a_command_that_does_not_end_is_ended_with_what_it_started(tmp_path: Path) -> None:
    mark = tmp_path / "mark"
    body = f"""
if os.fork() == 0:
    time.sleep(1.6)
    open({str(mark)!r}, "w").close()
time.sleep(60)"""
    assert "not done within 1 s" in refused(Command([program(tmp_path, body)], limit_s=LIMIT_S))
    time.sleep(1.5)
    assert not mark.exists()


def test_a_command_need_not_read_its_input(tmp_path: Path) -> None:
    Command([program(tmp_path, "os.close(0)")], limit_s=PATIENCE_S).send(MANY)


# --- e-mail


def mail(server: SmtpServer, tls: str = "none", limit_s: float = PATIENCE_S, **login: object) -> Mail:
    reached = MailServer("localhost", server.port, tls, **login)  # type: ignore[arg-type]
    return Mail(reached, "syncd@example.org", ["a@example.org", "b@example.org"], limit_s=limit_s)


def test_a_mail_arrives(smtp: SmtpServer) -> None:
    mail(smtp).send(BEGUN)
    (handed,) = smtp.mails
    assert handed.sender == "syncd@example.org"
    assert handed.to == ["a@example.org", "b@example.org"]
    assert handed.message["Subject"] == "syncd tod-mac: पत्र is halted: 214 of 412 files gone"
    assert handed.message["Auto-Submitted"] == "auto-generated"
    assert "next: syncd approve" in handed.message.get_content()


def test_many_alerts_are_one_mail_of_bounded_length(smtp: SmtpServer) -> None:
    mail(smtp).send(MANY)
    (handed,) = smtp.mails
    assert "(and 499 more)" in handed.message["Subject"]
    assert "480 more begun" in handed.message.get_content()


def test_a_login_goes_over_tls_to_a_server_whose_certificate_is_right(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = certificate(tmp_path)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(file)
    with start_smtp(context) as server:
        server.login = ("syncd", "hunter2")
        right = mail(server, "starttls", user="syncd", password=lambda: "hunter2")
        assert "self-signed certificate" in refused(right)
        assert "AUTH" not in server.commands
        monkeypatch.setenv("SSL_CERT_FILE", str(file))
        right.send(BEGUN)
        assert [handed.secret for handed in server.mails] == [True]
        said = refused(mail(server, "starttls", user="syncd", password=lambda: "wr0ng"))
        assert "login is refused (code 535)" in said
        assert "wr0ng" not in said


def test_no_password_is_sent_where_starttls_is_not_offered(smtp: SmtpServer) -> None:
    smtp.login = ("syncd", "hunter2")
    assert "does not offer" in refused(mail(smtp, "starttls", user="syncd", password=lambda: "hunter2"))
    assert "AUTH" not in smtp.commands
    assert smtp.mails == []


def test_a_password_that_no_login_can_carry_is_said_and_not_repeated(smtp: SmtpServer) -> None:
    smtp.login = ("syncd", "hünter2")
    said = refused(mail(smtp, user="syncd", password=lambda: "hünter2"))
    assert "plain ASCII" in said
    assert "nter2" not in said
    assert "AUTH" not in smtp.commands


@pytest.mark.parametrize(
    ("command", "reply", "said"),
    [
        ("RCPT", b"550 no such user", "none of the addresses"),
        ("MAIL", b"550 not you", "sender"),
        ("DATA", b"554 no", "does not take the message (code 554)"),
    ],
)
def test_a_server_that_refuses(smtp: SmtpServer, command: str, reply: bytes, said: str) -> None:
    smtp.faults[command] = reply
    assert said in refused(mail(smtp))


def test_a_server_that_says_nothing_is_left_in_time(smtp: SmtpServer) -> None:
    smtp.stalled.set()
    assert "no answer within 1 s" in refused(mail(smtp, limit_s=LIMIT_S))


def test_a_server_that_is_down() -> None:
    down = Mail(MailServer("127.0.0.1", free_port(), "none"), "s@example.org", ["a@example.org"], limit_s=LIMIT_S)
    assert "connection refused" in refused(down)
