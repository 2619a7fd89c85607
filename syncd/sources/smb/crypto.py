"""Signatures and encryption of SMB2 messages, by what was negotiated ([MS-SMB2] 3.1.4.1, 3.1.4.3, 3.1.5.1).

A message is signed with its signature field zero. Nothing here allocates more than the tag or the plain text.
"""

from __future__ import annotations

import hmac
import os
from collections.abc import Callable
from struct import Struct

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESCCM, AESGCM
from cryptography.hazmat.primitives.ciphers.algorithms import AES
from cryptography.hazmat.primitives.cmac import CMAC

from syncd.sources.smb.packets import (
    DIALECT_300,
    DIALECT_311,
    SEALED_ID,
    SIGNATURE_AT,
    TRANSFORM_SIZE,
    ProtocolError,
)

# 2.2.3.1.7 signing algorithms, 2.2.3.1.2 ciphers
HMAC_SHA256, AES_CMAC, AES_GMAC = 0, 1, 2
AES_128_CCM, AES_128_GCM, AES_256_CCM, AES_256_GCM = 1, 2, 3, 4

Buffer = bytes | bytearray | memoryview

_FROM_US = b"\0\0\0\0"
_FROM_SERVER = b"\1\0\0\0"
_ZEROS = b"\0" * 16
_SIGNATURE = Struct("16s")
_NONCE = Struct("<Q4s")


Signer = Callable[[Buffer, int], bytes]
"""Computes the signature of one of our messages, whose signature field is zero, from it and its message id."""

Verifier = Callable[[memoryview, int], bool]
"""Tells whether a reply with this message id is signed by the server. Its signature field is zero afterwards."""


def make_signer(dialect: int, algorithm: int | None, key: bytes) -> Signer:
    """Return the signer of a session. algorithm: as negotiated with 3.1.1, None when the server named none."""
    return _macs(dialect, algorithm, key)[0]


def make_verifier(dialect: int, algorithm: int | None, key: bytes) -> Verifier:
    """Return what checks the server's signatures; arguments as make_signer()."""
    mac = _macs(dialect, algorithm, key)[1]
    equal, claim, clear = hmac.compare_digest, _SIGNATURE.unpack_from, _SIGNATURE.pack_into

    def verify(message: memoryview, message_id: int) -> bool:
        (claimed,) = claim(message, SIGNATURE_AT)
        clear(message, SIGNATURE_AT, _ZEROS)
        return equal(mac(message, message_id), claimed)

    return verify


def _macs(dialect: int, algorithm: int | None, key: bytes) -> tuple[Signer, Signer]:
    """Return the functions that compute our signatures and the server's."""
    if dialect >= DIALECT_311 and algorithm is not None:
        if algorithm == AES_GMAC:
            return _gmac(key, _FROM_US), _gmac(key, _FROM_SERVER)
        mac = _cmac(key) if algorithm == AES_CMAC else _hmac(key)
    else:
        mac = _cmac(key) if dialect >= DIALECT_300 else _hmac(key)
    return mac, mac


def _gmac(key: bytes, side: bytes) -> Signer:
    encrypt, nonce = AESGCM(key).encrypt, _NONCE.pack

    def mac(message: Buffer, message_id: int) -> bytes:
        return encrypt(nonce(message_id, side), b"", message)

    return mac


def _cmac(key: bytes) -> Signer:
    fresh = CMAC(AES(key))

    def mac(message: Buffer, message_id: int) -> bytes:  # noqa: ARG001
        computing = fresh.copy()
        computing.update(message)  # type: ignore[arg-type]  # any buffer will do, its annotation says bytes
        return computing.finalize()

    return mac


def _hmac(key: bytes) -> Signer:
    def mac(message: Buffer, message_id: int) -> bytes:  # noqa: ARG001
        return hmac.digest(key, message, "sha256")[:16]

    return mac


# ProtocolId Signature Nonce OriginalMessageSize Reserved Flags SessionId (2.2.41)
_TRANSFORM = Struct("<4s16s16sIHHQ")
_AUTHENTICATED = Struct("<16sIHHQ")
_AUTHENTICATED_AT = 20
TAG_SIZE = 16


class Sealer:
    """Encrypts and decrypts whole messages of one session; nonces count up from a random start and never repeat."""

    def __init__(self, cipher: int, encrypt_key: bytes, decrypt_key: bytes, session_id: int) -> None:
        gcm = cipher in {AES_128_GCM, AES_256_GCM}
        self._nonce_size = 12 if gcm else 11
        self._encrypt = AESGCM(encrypt_key).encrypt if gcm else AESCCM(encrypt_key).encrypt
        self._decrypt = _decrypt_into(AESGCM(decrypt_key) if gcm else AESCCM(decrypt_key))
        self._session_id = session_id
        self._counter = int.from_bytes(os.urandom(self._nonce_size), "little")

    def seal(self, message: Buffer) -> bytes:
        """Return the message as a transform header and cipher text."""
        self._counter = (self._counter + 1) % (1 << (8 * self._nonce_size))
        nonce = self._counter.to_bytes(self._nonce_size, "little")
        rest = _AUTHENTICATED.pack(nonce, len(message), 0, 1, self._session_id)
        sealed = self._encrypt(nonce, message, rest)
        return b"".join((SEALED_ID, sealed[-16:], rest, sealed[:-16]))

    def open(self, buffer: memoryview, start: int, end: int, plain: memoryview) -> int:
        """Decrypt the whole frame buffer[start:end] into `plain`, which has room for it; return the text's length.

        Without a copy: the cipher wants its tag behind the text, where the next frame may begin. So the 16 bytes after
        `end`, which must be in the buffer, are borrowed for it. Raises ProtocolError when it is not the server's.
        """
        if end - start <= TRANSFORM_SIZE:
            raise ProtocolError("an encrypted reply that is too short")
        _, tag, nonce, size, _, flags, session_id = _TRANSFORM.unpack_from(buffer, start)
        text = start + TRANSFORM_SIZE
        if flags != 1 or session_id != self._session_id or size != end - text:
            raise ProtocolError("an encrypted reply with a wrong header")
        borrowed = bytes(buffer[end : end + TAG_SIZE])
        buffer[end : end + TAG_SIZE] = tag
        sealed, rest = buffer[text : end + TAG_SIZE], buffer[start + _AUTHENTICATED_AT : text]
        try:
            self._decrypt(nonce[: self._nonce_size], sealed, rest, plain[:size])
        except InvalidTag:
            raise ProtocolError("an encrypted reply that was tampered with") from None
        buffer[end : end + TAG_SIZE] = borrowed
        return int(size)


def _decrypt_into(cipher: AESGCM | AESCCM) -> Callable[[bytes, memoryview, memoryview, memoryview], object]:
    """Return the cipher's function that decrypts into a buffer; older releases of cryptography have none."""
    into: Callable[[bytes, memoryview, memoryview, memoryview], object] | None = getattr(cipher, "decrypt_into", None)
    if into is not None:
        return into

    def copied(nonce: bytes, sealed: memoryview, rest: memoryview, plain: memoryview) -> None:
        plain[:] = cipher.decrypt(nonce, sealed, rest)

    return copied
