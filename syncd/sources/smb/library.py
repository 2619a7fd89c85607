"""smbprotocol, imported without what it and its login library load for others: a third of the start of `run-once`.

pyspnego imports CredSSP (a login that SMB does not have; with it X.509 and TLS), logging.config (for a log file of its
own) and the Kerberos messages that its command line prints; smbprotocol imports what opens files. Both name a backend
to cryptography, which has not looked at it since 3.1, and whose making loads elliptic curves and RSA. No session of
ours uses any of it.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from types import ModuleType

from cryptography.hazmat import backends

_STAND_INS = {
    "spnego._credssp": "CredSSPProxy",
    "spnego._kerberos": "KerberosV5Msg",
    "smbprotocol.open": "Open",
    "logging.config": "dictConfig",
}
_OWN_LOG = "PYSPNEGO_LOG_CFG"


def _no_backend() -> None:
    """Answer in place of cryptography's default_backend()."""


@contextmanager
def _light() -> Iterator[None]:
    """Have both imported with empty modules in their place; whoever imports them later gets the real ones."""
    names = _STAND_INS.keys() - sys.modules.keys()
    if not {"spnego", "smbprotocol"}.isdisjoint(sys.modules) or _OWN_LOG in os.environ:
        names = set()
    for name in names:
        stand_in = ModuleType(name)
        setattr(stand_in, _STAND_INS[name], type("StandIn", (), {}))
        sys.modules[name] = stand_in
    made, backends.default_backend = backends.default_backend, _no_backend
    try:
        yield
    finally:
        backends.default_backend = made
        for name in names:
            del sys.modules[name]


with _light():
    from smbprotocol.connection import Connection
    from smbprotocol.exceptions import SMBAuthenticationError, SMBException, SMBResponseException
    from smbprotocol.session import Session
    from smbprotocol.tree import TreeConnect

__all__ = ["Connection", "SMBAuthenticationError", "SMBException", "SMBResponseException", "Session", "TreeConnect"]
