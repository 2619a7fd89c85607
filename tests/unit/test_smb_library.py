"""What smbprotocol is imported without, and that a login does not ask for it."""

from __future__ import annotations

import subprocess
import sys

LOADED = """
import sys
from syncd.sources.smb.library import Session
from spnego._ntlm_raw.crypto import rc4init
rc4init(b"k" * 16).update(b"text")
Session._smb3kdf(None, b"k" * 16, b"label", b"context")
print({*sys.modules} & {"cryptography.hazmat.backends.openssl", "spnego._kerberos", "smbprotocol.open"})
"""
REAL = """
import syncd.sources.smb.library
from cryptography.hazmat.backends import default_backend
from smbprotocol.open import Open
from spnego._kerberos import KerberosV5Msg
print(default_backend().name, hasattr(Open, "create"), hasattr(KerberosV5Msg, "unpack"))
"""


def _said(code: str) -> str:
    done = subprocess.run([sys.executable, "-c", code], check=True, timeout=60, capture_output=True, text=True)
    return done.stdout.strip()


def test_keys_are_derived_without_what_only_certificates_need() -> None:
    assert _said(LOADED) == "set()"


def test_others_still_get_the_real_modules() -> None:
    assert _said(REAL) == "openssl True True"
