"""smbprotocol, imported without what its login library loads for others: a quarter of the start of `run-once`.

pyspnego imports CredSSP (a login that SMB does not have; with it X.509 and TLS) and logging.config (for a log file of
its own) before anybody asks for them. No session of ours uses either.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from types import ModuleType

_STAND_INS = {"spnego._credssp": "CredSSPProxy", "logging.config": "dictConfig"}
_OWN_LOG = "PYSPNEGO_LOG_CFG"


@contextmanager
def _light() -> Iterator[None]:
    """Have pyspnego imported with empty modules in their place; whoever imports them later gets the real ones."""
    names = _STAND_INS.keys() - sys.modules.keys()
    if "spnego" in sys.modules or _OWN_LOG in os.environ:
        names = set()
    for name in names:
        stand_in = ModuleType(name)
        setattr(stand_in, _STAND_INS[name], type("StandIn", (), {}))
        sys.modules[name] = stand_in
    try:
        yield
    finally:
        for name in names:
            del sys.modules[name]


with _light():
    from smbprotocol.connection import Connection
    from smbprotocol.exceptions import SMBAuthenticationError, SMBException, SMBResponseException
    from smbprotocol.session import Session
    from smbprotocol.tree import TreeConnect

__all__ = ["Connection", "SMBAuthenticationError", "SMBException", "SMBResponseException", "Session", "TreeConnect"]
