"""A channel: each message by e-mail, over SMTP (RFC 5321), with STARTTLS (RFC 3207) unless told otherwise."""

from __future__ import annotations

import socket
from collections.abc import Callable, Sequence
from email.message import EmailMessage
from email.utils import formatdate, make_msgid
from typing import TYPE_CHECKING, NamedTuple

from syncd.alerts.bounded import closed_after, said_of
from syncd.alerts.model import LIMIT_S, NotDelivered, Notice
from syncd.alerts.texts import subject, text

if TYPE_CHECKING:
    import smtplib
    import ssl


class MailServer(NamedTuple):
    """Where mail is handed in. tls: "starttls", "tls" or "none". user None: nobody logs in."""

    host: str
    port: int
    tls: str = "starttls"
    user: str | None = None
    password: Callable[[], str] | None = None


class Mail:
    """model.Channel."""

    name = "mail"

    def __init__(self, server: MailServer, sender: str, to: Sequence[str], *, limit_s: float = LIMIT_S) -> None:
        self._server = server
        self._sender = sender
        self._to = list(to)
        self._limit_s = limit_s

    def send(self, notice: Notice) -> None:
        """See model.Channel. Where some of the addresses are refused, that is told, and the others have it."""
        password = None if self._server.password is None else self._server.password()
        message = self._message(notice)
        place = f"{self._server.host}:{self._server.port}"
        refused = self._hand_in(message, password, place)
        if refused:
            raise NotDelivered(f"{place} does not take mail for {', '.join(sorted(refused))}", hint="see mail_to")

    def _message(self, notice: Notice) -> EmailMessage:
        message = EmailMessage()
        message["From"] = self._sender
        message["To"] = ", ".join(self._to)
        message["Subject"] = " ".join(subject(notice).split())
        message["Date"] = formatdate(localtime=False)
        message["Message-ID"] = make_msgid(domain=self._sender.partition("@")[2] or "localhost")
        message["Auto-Submitted"] = "auto-generated"  # RFC 3834: no vacation notes back
        message.set_content(text(notice).encode("utf-8", "backslashreplace").decode())
        return message

    def _hand_in(self, message: EmailMessage, password: str | None, place: str) -> set[str]:
        """Send it; return who was refused."""
        import smtplib

        session = self._session()
        try:
            with said_of(place, self._limit_s), closed_after(self._limit_s, lambda: session.sock):
                return self._talk(session, message, password)
        except NotDelivered as error:
            if isinstance(error.__cause__, smtplib.SMTPException):
                raise NotDelivered(f"{place}: {_said(error.__cause__)}", hint=_HINT) from error.__cause__
            raise
        finally:
            session.close()

    def _session(self) -> smtplib.SMTP:
        import smtplib

        name = "localhost" if not (own := socket.gethostname()).isascii() else own
        session: smtplib.SMTP
        if self._server.tls == "tls":
            session = smtplib.SMTP_SSL(timeout=self._limit_s, context=_tls(), local_hostname=name)
        else:
            session = smtplib.SMTP(timeout=self._limit_s, local_hostname=name)
        # its constructor would set this too, and connect at once: before anybody could close it in time
        session._host = self._server.host  # type: ignore[attr-defined]  # noqa: SLF001
        return session

    def _talk(self, session: smtplib.SMTP, message: EmailMessage, password: str | None) -> set[str]:
        import smtplib

        code, said = session.connect(self._server.host, self._server.port)
        if code != 220:
            raise smtplib.SMTPConnectError(code, said)
        session.ehlo_or_helo_if_needed()
        if self._server.tls == "starttls":
            session.starttls(context=_tls())  # raises where it is not offered: nothing goes on in the clear
            session.ehlo()
        if self._server.user is not None and password is not None:
            if not (self._server.user + password).isascii():  # smtplib knows no other, and would repeat it in its error
                raise NotDelivered("mail_user and its password are to be plain ASCII for a login", hint=_HINT)
            session.login(self._server.user, password)
        return set(session.send_message(message))


_HINT = "correct mail_server, mail_tls, mail_user or the password"


def _tls() -> ssl.SSLContext:
    import ssl

    return ssl.create_default_context()


def _said(error: Exception) -> str:
    """Return what the server said, without anything of ours that it repeats."""
    code = getattr(error, "smtp_code", 0)
    kinds = {
        "SMTPAuthenticationError": "the login is refused",
        "SMTPNotSupportedError": "it does not offer what is asked for (STARTTLS, or a login)",
        "SMTPRecipientsRefused": "it takes mail for none of the addresses",
        "SMTPSenderRefused": "it does not take mail from this sender",
        "SMTPServerDisconnected": "the connection breaks",
    }
    said = kinds.get(type(error).__name__, "it does not take the message")
    return f"{said} (code {code})" if code else said
