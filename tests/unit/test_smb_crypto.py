"""Signatures and encryption against published vectors and against an independent implementation."""

from __future__ import annotations

import hashlib
import hmac
import os
import struct

import pytest
from Cryptodome.Cipher import AES

from syncd.sources.smb import crypto
from syncd.sources.smb.packets import ProtocolError

KEY = bytes.fromhex("2b7e151628aed2a6abf7158809cf4f3c")


def test_cmac_is_that_of_rfc_4493() -> None:
    sign = crypto.make_signer(0x0300, None, KEY)
    assert sign(b"", 1) == bytes.fromhex("bb1d6929e95937287fa37d129b756746")
    message = bytes.fromhex("6bc1bee22e409f96e93d7e117393172a")
    assert sign(memoryview(message), 2) == bytes.fromhex("070a16b46b4d4144f79bdd9dd04a287c")


def other_gmac(message: bytes, message_id: int, tail: bytes) -> bytes:
    other = AES.new(KEY, AES.MODE_GCM, nonce=message_id.to_bytes(8, "little") + tail)
    other.update(message)
    return other.digest()


def test_gmac_takes_message_id_and_direction_as_nonce() -> None:
    message = os.urandom(123)
    sign = crypto.make_signer(0x0311, crypto.AES_GMAC, KEY)
    assert sign(message, 0x0102030405) == other_gmac(message, 0x0102030405, b"\0\0\0\0")
    reply = bytearray(message)
    reply[48:64] = bytes(16)
    reply[48:64] = other_gmac(bytes(reply), 9, b"\1\0\0\0")
    assert crypto.make_verifier(0x0311, crypto.AES_GMAC, KEY)(memoryview(reply), 9)


def test_hmac_is_cut_to_sixteen_bytes() -> None:
    message = b"x" * 100
    wanted = hmac.new(KEY, message, hashlib.sha256).digest()[:16]
    assert crypto.make_signer(0x0210, None, KEY)(message, 1) == wanted
    assert crypto.make_signer(0x0311, crypto.HMAC_SHA256, KEY)(message, 1) == wanted


def test_311_without_a_signing_context_means_cmac() -> None:
    cmac = crypto.make_signer(0x0300, None, KEY)
    assert crypto.make_signer(0x0311, None, KEY)(b"abc", 1) == cmac(b"abc", 1)


def signed(message: bytes, algorithm: int, message_id: int) -> bytearray:
    """A reply as a server signs it."""
    plain = bytearray(message)
    plain[48:64] = bytes(16)
    if algorithm == crypto.AES_GMAC:
        signature = other_gmac(bytes(plain), message_id, b"\1\0\0\0")
    else:
        signature = crypto.make_signer(0x0311, algorithm, KEY)(plain, message_id)
    plain[48:64] = signature
    return plain


@pytest.mark.parametrize("algorithm", [crypto.HMAC_SHA256, crypto.AES_CMAC, crypto.AES_GMAC])
def test_the_servers_signature_is_accepted_and_no_other(algorithm: int) -> None:
    verify = crypto.make_verifier(0x0311, algorithm, KEY)
    good = signed(os.urandom(200), algorithm, 7)
    assert verify(memoryview(bytearray(good)), 7)
    for at in (0, 47, 48, 63, 64, 199):
        bad = bytearray(good)
        bad[at] ^= 1
        assert not verify(memoryview(bad), 7)


def test_gmac_signature_is_bound_to_message_id_and_side() -> None:
    verify = crypto.make_verifier(0x0311, crypto.AES_GMAC, KEY)
    assert not verify(memoryview(signed(bytes(100), crypto.AES_GMAC, 7)), 8)
    ours = bytearray(100)
    ours[48:64] = crypto.make_signer(0x0311, crypto.AES_GMAC, KEY)(bytes(100), 7)
    assert not verify(memoryview(ours), 7)


CIPHERS = {
    crypto.AES_128_CCM: (16, 11, AES.MODE_CCM),
    crypto.AES_128_GCM: (16, 12, AES.MODE_GCM),
    crypto.AES_256_CCM: (32, 11, AES.MODE_CCM),
    crypto.AES_256_GCM: (32, 12, AES.MODE_GCM),
}


@pytest.mark.parametrize("cipher", CIPHERS)
def test_sealed_messages_are_what_another_implementation_reads(cipher: int) -> None:
    size, nonce_size, mode = CIPHERS[cipher]
    ours, theirs = os.urandom(size), os.urandom(size)
    sealer = crypto.Sealer(cipher, ours, theirs, 0x1122)
    message = os.urandom(500)
    sealed = sealer.seal(message)
    assert sealed[:4] == b"\xfdSMB"
    assert struct.unpack_from("<IHHQ", sealed, 36) == (500, 0, 1, 0x1122)
    other = AES.new(ours, mode, nonce=sealed[20 : 20 + nonce_size])
    other.update(sealed[20:52])
    assert other.decrypt_and_verify(sealed[52:], sealed[4:20]) == message


def opened(sealer: crypto.Sealer, frame: bytes | bytearray) -> bytes:
    buffer, plain = memoryview(bytearray(frame) + bytes(crypto.TAG_SIZE)), memoryview(bytearray(len(frame)))
    return bytes(plain[: sealer.open(buffer, 0, len(frame), plain)])


@pytest.mark.parametrize("cipher", CIPHERS)
def test_sealed_replies_are_opened_only_when_untouched(cipher: int) -> None:
    key = os.urandom(CIPHERS[cipher][0])
    sealed = crypto.Sealer(cipher, key, key, 5).seal(b"a reply of the server")
    opener = crypto.Sealer(cipher, key, key, 5)
    assert opened(opener, sealed) == b"a reply of the server"
    for at in range(4, len(sealed)):
        bad = bytearray(sealed)
        bad[at] ^= 0x40
        with pytest.raises(ProtocolError):
            opened(opener, bad)
    for cut in (0, 4, 51, 52, len(sealed) - 1):
        with pytest.raises(ProtocolError):
            opened(opener, sealed[:cut])


def test_a_frame_is_opened_where_it_lies_and_its_neighbours_stay_as_they_are() -> None:
    key = os.urandom(16)
    sealed = crypto.Sealer(crypto.AES_128_GCM, key, key, 5).seal(b"a reply")
    buffer = bytearray(b"before" + sealed + b"the next frame begins here")
    plain = memoryview(bytearray(64))
    size = crypto.Sealer(crypto.AES_128_GCM, key, key, 5).open(memoryview(buffer), 6, 6 + len(sealed), plain)
    assert bytes(plain[:size]) == b"a reply"
    assert buffer == b"before" + sealed + b"the next frame begins here"


def test_without_decrypt_into_the_text_is_copied() -> None:
    class Older:
        def __init__(self, key: bytes) -> None:
            self.decrypt = crypto.AESGCM(key).decrypt

    key, nonce = os.urandom(16), os.urandom(12)
    sealed = crypto.AESGCM(key).encrypt(nonce, b"a reply", b"rest")
    plain = memoryview(bytearray(7))
    crypto._decrypt_into(Older(key))(nonce, memoryview(sealed), memoryview(b"rest"), plain)  # type: ignore[arg-type]
    assert bytes(plain) == b"a reply"


def test_nonces_never_repeat() -> None:
    sealer = crypto.Sealer(crypto.AES_128_GCM, KEY, KEY, 1)
    assert len({sealer.seal(b"x")[20:36] for _ in range(1000)}) == 1000
