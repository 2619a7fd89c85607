"""Where the traceback of a bug goes: a file in the state directory, or stderr. Secrets are taken out."""

from __future__ import annotations

import os
import sys
import time
import traceback
from collections.abc import Mapping
from pathlib import Path

from syncd.config.secrets import redact

_KEPT_FILES = 10


def keep_traceback(error: Exception, state_dir: Path | None, env: Mapping[str, str]) -> str:
    """Write the traceback; return the next step, which says where it is.

    With SYNCD_DEBUG=1, or when there is no state directory to write to, it goes to stderr. Never raises OSError.
    """
    text = redact("".join(traceback.format_exception(error)))
    if env.get("SYNCD_DEBUG") != "1" and state_dir is not None and state_dir.is_dir():
        path = state_dir / f"crash-{time.strftime('%Y%m%dT%H%M%SZ', time.gmtime())}-{os.getpid()}.txt"
        try:
            with open(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w", encoding="utf-8") as file:
                file.write(text)
            _drop_old(state_dir)
        except OSError as failed:
            print(f"({path} cannot be written: {failed.strerror})", file=sys.stderr)
        else:
            return f"send {path} to the developers"
    print(text, file=sys.stderr, end="")
    return "send the lines above to the developers"


def _drop_old(state_dir: Path) -> None:
    """Keep the newest crash files: a bug in a loop must not fill the disk."""
    for path in sorted(state_dir.glob("crash-*.txt"))[:-_KEPT_FILES]:
        path.unlink(missing_ok=True)
