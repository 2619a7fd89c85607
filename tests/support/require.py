"""What a test does when a server it needs is not installed: skip loudly by hand, fail in CI."""

from __future__ import annotations

import os
import shutil
import sys
from pathlib import Path

import pytest


def require(program: str, package: str) -> str:
    """Return the path of `program`; without it skip this test, or fail it where env CI is "true".

    Looked for on PATH, beside the running interpreter (programs that come as wheels) and in the sbin folders, which an
    ordinary user's PATH leaves out. package: what to install, named in the message.
    """
    folders = [os.environ.get("PATH", os.defpath), str(Path(sys.executable).parent), "/usr/local/sbin:/usr/sbin:/sbin"]
    found = shutil.which(program, path=os.pathsep.join(folders))
    if found is not None:
        return found
    message = f"{program} is not installed (package {package})"
    if os.environ.get("CI") == "true":
        pytest.fail(message, pytrace=False)
    pytest.skip(message)
