"""What a client of the API raises.

SyncdError
|- ApiUnreachable   RUN 10 transient: nobody answers there, or not in time, or not as the API does
|- ApiRefused       what the daemon said, with its reason and exit code
|- ConfigError      what the daemon said about the request itself; or the address or token file here cannot be used
"""

from __future__ import annotations

from syncd.core.errors import Scope, SyncdError
from syncd.core.reasons import Reason


class ApiUnreachable(SyncdError):
    """The daemon does not answer. It may be starting: asking again may help."""

    scope = Scope.RUN
    transient = True
    exit_code = 10
    reason = Reason.SOURCE_UNAVAILABLE


class ApiRefused(SyncdError):
    """The daemon answered with an error. status: HTTP's; exit_code and transient as the daemon has them."""

    def __init__(
        self, message: str, *, status: int, exit_code: int, transient: bool, hint: str, reason: Reason | None
    ) -> None:
        super().__init__(message, hint=hint, reason=reason)
        self.status = status
        self.exit_code = exit_code
        self.transient = transient
