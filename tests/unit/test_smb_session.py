"""What the hand-over relies on in smbprotocol: exactly this version, and each of these attributes."""

from __future__ import annotations

import importlib.metadata
import inspect
import subprocess
import sys
import uuid

import pytest
from smbprotocol.connection import Connection
from smbprotocol.exceptions import SMBAuthenticationError, SMBException, SMBResponseException
from smbprotocol.session import Session
from smbprotocol.tree import TreeConnect

from syncd.core.errors import SourceUnavailable
from syncd.sources.smb import session
from syncd.sources.smb.limits import SmbLimits

CONNECTION = (
    "transport", "_t_worker", "sequence_window", "dialect", "cipher_id", "signing_algorithm_id",
    "supports_multi_credit", "max_read_size", "max_transact_size", "outstanding_requests",
)  # fmt: skip
SESSION = ("session_id", "encrypt_data", "encryption_key", "decryption_key", "signing_key")
TREE = ("tree_connect_id", "is_dfs_share", "encrypt_data")


def test_the_version_is_the_one_that_was_read() -> None:
    assert importlib.metadata.version("smbprotocol") == "1.17.0"


def test_every_attribute_that_is_used_is_there() -> None:
    connection = Connection(uuid.uuid4(), "host", 445, require_signing=True)
    logged_in = Session(connection, "u", "p", require_encryption=False, auth_protocol="negotiate")
    tree = TreeConnect(logged_in, "\\\\host\\share")
    for thing, names in ((connection, CONNECTION), (logged_in, SESSION), (tree, TREE)):
        assert [name for name in names if not hasattr(thing, name)] == []
    assert set(connection.sequence_window) == {"low", "high"}


def test_every_call_that_is_made_is_there() -> None:
    assert "timeout" in inspect.signature(Connection.connect).parameters
    assert list(inspect.signature(Connection.echo).parameters)[1:4] == ["sid", "timeout", "credit_request"]
    assert "require_secure_negotiate" in inspect.signature(TreeConnect.connect).parameters
    assert {"username", "password", "require_encryption", "auth_protocol"} <= set(inspect.signature(Session).parameters)
    assert issubclass(SMBResponseException, SMBException)
    assert issubclass(SMBAuthenticationError, SMBException)
    assert isinstance(SMBResponseException.status, property)
    assert '"encryption is required"' in inspect.getsource(session)
    assert "SMB encryption is required but" in inspect.getsource(Session.connect)


def test_the_reader_thread_ends_by_an_empty_answer() -> None:
    source = inspect.getsource(Connection._process_message_thread)
    assert "self.transport.recv(self._receive_timeout)" in source
    assert "if not b_msg:\n                    return" in source


def test_requests_may_be_added_while_its_reader_walks_over_them() -> None:
    requests = session._Requests({1: "one"})
    for _ in requests.values():
        requests[2] = "two"
    assert list(requests.values()) == ["one", "two"]


def test_its_loggers_are_silent() -> None:
    code = (
        "import logging, syncd.sources.smb.session\n"
        "logging.getLogger('smbprotocol.connection').error('x'); logging.getLogger('spnego.gss').error('y')"
    )
    done = subprocess.run([sys.executable, "-c", code], check=True, timeout=60, capture_output=True)
    assert done.stderr == done.stdout == b""


def test_its_login_library_does_not_load_what_smb_never_uses_and_others_still_can() -> None:
    code = (
        "import sys, syncd.sources.smb.session\n"
        "assert not {'ssl', 'cryptography.x509', 'logging.config', 'spnego._credssp'} & {*sys.modules}\n"
        "import logging.config, spnego._credssp\n"
        "assert logging.config.dictConfig.__module__ == 'logging.config'\n"
        "assert issubclass(spnego._credssp.CredSSPProxy, spnego.ContextProxy)"
    )
    done = subprocess.run([sys.executable, "-c", code], check=False, timeout=60, capture_output=True)
    assert done.stderr == b""


@pytest.mark.parametrize("module", ["syncd.core.model", "syncd.ports", "syncd.sources", "syncd.sources.smb"])
def test_nothing_else_imports_it(module: str) -> None:
    code = f"import sys, {module}; sys.exit('smbprotocol' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False, timeout=60).returncode == 0


def test_names_that_cannot_be_resolved_are_told_in_time() -> None:
    for host in ("no-such-host.invalid", "a" * 70 + ".invalid", ""):
        with pytest.raises(session.SetupFailed) as caught:
            session.Attempt(session.Server(host or "\u0000", 445, "u"), "s", SmbLimits(resolve_s=10)).run()
        assert caught.value.hop is session.Hop.NAME
        assert isinstance(caught.value.error, SourceUnavailable)


def test_addresses_are_written_as_urls_do() -> None:
    assert session.Server("::1", 445, "u").where == "[::1]:445"
    assert session.Server("h", 1, "u").where == "h:1"


def test_a_server_never_shows_its_password() -> None:
    secret = "s3cret-value"
    assert secret not in repr(session.Server("h", 1, "u", password=lambda: secret))
