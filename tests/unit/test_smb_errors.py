"""The one table: statuses and socket errors to errors, with what must not be taken for something else."""

from __future__ import annotations

import errno
import socket

import pytest

from syncd.core import errors as core
from syncd.core.reasons import Reason
from syncd.sources.smb import errors
from syncd.sources.smb.errors import Meaning


@pytest.mark.parametrize(
    ("status", "kind"),
    [
        (0xC0000034, core.EntryGone),
        (0xC000003A, core.EntryGone),
        (0xC0000056, core.EntryGone),
        (0xC0000103, core.EntryGone),
        (0xC0000022, core.EntryDenied),
        (0xC0000011, core.EntryChanged),
        (0xC00000BA, core.EntryChanged),
        (0xC0000043, core.EntryUnreadable),
        (0xC0000054, core.EntryUnreadable),
        (0xC0000185, core.EntryUnreadable),
        (0x8000002D, core.EntryUnreadable),
        (0xC0000257, core.EntryUnreadable),
        (0xDEADBEEF, core.EntryUnreadable),
    ],
)
def test_statuses_of_entries(status: int, kind: type[core.SyncdError]) -> None:
    error = errors.entry_error(status, "a/b.jpg")
    assert type(error) is kind
    assert error.scope is core.Scope.FILE
    assert "a/b.jpg" in error.message
    assert errors.status_name(status) in error.message


def test_unknown_statuses_are_shown_as_numbers() -> None:
    assert errors.status_name(0xDEADBEEF) == "NTSTATUS 0xDEADBEEF"


@pytest.mark.parametrize(
    ("status", "meaning"),
    [
        (0xC000006D, Meaning.LOGIN_REFUSED),
        (0xC0000234, Meaning.LOGIN_REFUSED),
        (0xC0000022, Meaning.DENIED),
        (0xC00000CC, Meaning.NO_SHARE),
        (0xC0000203, Meaning.SESSION_ENDED),
        (0xC000035C, Meaning.SESSION_ENDED),
        (0xC00000C9, Meaning.SESSION_ENDED),
        (0xC000009A, Meaning.BUSY),
        (0xC0000205, Meaning.BUSY),
        (0xC000000D, Meaning.UNREADABLE),
    ],
)
def test_meanings(status: int, meaning: Meaning) -> None:
    assert errors.meaning_of(status) is meaning


def test_a_refused_login_names_user_server_and_next_command() -> None:
    error = errors.login_refused(0xC000006D, "gvpocr", "172.12.0.132:13445", "syncd secret Bhushanji")
    assert error.message == 'login refused for "gvpocr" at 172.12.0.132:13445 (STATUS_LOGON_FAILURE). Tried once.'
    assert error.hint == "syncd secret Bhushanji"
    assert error.exit_code == 12


@pytest.mark.parametrize(
    ("failure", "words"),
    [
        (ConnectionRefusedError(errno.ECONNREFUSED, "Connection refused"), "nothing listens"),
        (TimeoutError(), "timed out"),
        (OSError(errno.EHOSTUNREACH, "No route to host"), "No route to host"),
    ],
)
def test_connect_failures_say_which(failure: OSError, words: str) -> None:
    error = errors.unreachable(failure, "host:445")
    assert words in error.message
    assert error.hint
    assert error.exit_code == 10


def test_an_unknown_host_is_named() -> None:
    error = errors.unresolved(socket.gaierror(-2, "Name or service not known"), "nix")
    assert '"nix"' in error.message
    assert "Name or service not known" in error.message


def test_timed_out_entries_have_their_own_reason() -> None:
    error = errors.timed_out("x", "it broke")
    assert error.reason is Reason.TIMEOUT
    assert "it broke" in error.message
