"""What goes wrong with one host. None of it stops the others: the command's exit code is the worst of all hosts'."""

from __future__ import annotations

from collections.abc import Iterable

from syncd.core.errors import SyncdError
from syncd.core.reasons import Reason

SEVERITY = (0, 3, 13, 14, 11, 15, 10, 12, 2, 1)
"""Exit codes, the better ones first: a host that cannot be asked may hide anything."""


class RemoteError(SyncdError):
    """One host did not do what it was asked to. kind: the word for it in JSON."""

    exit_code = 3
    kind = "failed"


class HostUnreachable(RemoteError):
    """No connection, or no answer in time."""

    transient = True
    exit_code = 10
    kind = "unreachable"
    reason = Reason.TIMEOUT


class HostRefused(RemoteError):
    """The login was refused, the key cannot be used, or the host's own key is not the known one. Tried once."""

    exit_code = 12
    kind = "refused"
    reason = Reason.AUTH_FAILED


class HostUnfit(RemoteError):
    """What the configuration says of this host is not so: no such program, folder or service there."""

    exit_code = 2
    kind = "unfit"
    reason = Reason.CONFIG


def worst(codes: Iterable[int]) -> int:
    """Return the worst of the exit codes of several hosts; an unknown one counts as a bug."""
    return max((code if code in SEVERITY else 1 for code in codes), key=SEVERITY.index, default=0)
