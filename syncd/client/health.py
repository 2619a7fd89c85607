"""`python -m syncd.client.health`: whether the daemon that SYNCD_API names is well, for a container's health check.

Prints nothing when it is; else one line for each problem. Exit code 0 when it is well, 1 when not or not there, 2 when
SYNCD_API cannot be used.
"""

from __future__ import annotations

import os
import sys

from syncd.client.api import from_environment
from syncd.core.errors import ConfigError, SyncdError

WITHIN_S = 5.0


def main() -> int:
    """Ask once, within WITHIN_S."""
    try:
        client = from_environment(os.environ)
        if client is None:
            raise ConfigError("SYNCD_API is not set", problems=["SYNCD_API is not set"])
        with client:
            answer = client.health(WITHIN_S)
    except ConfigError as error:
        print("\n".join(error.problems), file=sys.stderr)
        return 2
    except SyncdError as error:
        print(error.message, file=sys.stderr)
        return 1
    for problem in answer.get("problems", ()):
        print(problem)
    return 0 if answer.get("ok") is True else 1


if __name__ == "__main__":
    sys.exit(main())
