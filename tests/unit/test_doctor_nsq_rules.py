"""What nsqlookupd announces against what is dialled, and topics by their channels: rules and texts, no server."""

from __future__ import annotations

import struct
from datetime import UTC, datetime
from pathlib import Path

import pytest

from syncd import config
from syncd.config.settings import NsqSettings
from syncd.config.values import Address
from syncd.doctor import clock
from syncd.doctor.checks import Level, Pace
from syncd.doctor.dial import millis
from syncd.doctor.lookupd import NODES, Node, check_channels, check_nodes, nodes_of, route
from syncd.doctor.strangers import Kind, recognise

SAID, PROXY = Address("172.12.0.132", 4150), Address("127.0.0.1", 4150)
QUICK = Pace(resolve_s=1, connect_s=1, answer_s=0.2)


def nsq(folder: Path, lines: str) -> NsqSettings:
    (folder / "c.toml").write_text(f'[[mirror]]\nname = "B"\nsource = "file://./s"\ntarget = "t"\n[nsq]\n{lines}\n')
    return config.load(folder / "c.toml", {"HOME": str(folder)}).nsq


@pytest.mark.parametrize(
    ("lines", "dialled"),
    [
        ('nsqd_tcp_address = "127.0.0.1:4150"', None),
        ('nsqd_tcp_address = "127.0.0.1:4150"\nallow_direct = true', SAID),
        ('nsqd_tcp_address = ["127.0.0.1:4150", "172.12.0.132:4150"]', SAID),
        ('nsqd_tcp_address = "127.0.0.1:4150"\naddress_map = { "172.12.0.132:4150" = "127.0.0.1:4150" }', PROXY),
        ('nsqd_tcp_address = "127.0.0.1:4150"\naddress_map = { "*:4150" = "127.0.0.1:4150" }', PROXY),
        ('nsqd_tcp_address = "127.0.0.1:4150"\naddress_map = { "*:4151" = "127.0.0.1:4150" }', None),
        ("", SAID),
        ('address_map = { "172.12.0.132:4150" = "127.0.0.1:4150" }', PROXY),
    ],
)
def test_what_is_dialled_for_an_announced_address(tmp_path: Path, lines: str, dialled: Address | None) -> None:
    assert route(SAID, nsq(tmp_path, lines)) == dialled


def test_the_line_for_the_deployment_is_exact(tmp_path: Path) -> None:
    (check,) = check_nodes([Node(SAID, "gvpocr")], nsq(tmp_path, 'nsqd_tcp_address = "127.0.0.1:4150"'), QUICK)
    assert check.status is Level.WARN
    assert check.todo == 'in [nsq]: address_map = { "172.12.0.132:4150" = "127.0.0.1:4150" }'
    assert "172.12.0.132:4150 (gvpocr)" in check.seen


def test_the_line_keeps_what_is_mapped_already_and_names_all_that_is_not(tmp_path: Path) -> None:
    settings = nsq(
        tmp_path,
        'nsqd_tcp_address = ["127.0.0.1:4150", "127.0.0.1:5150"]\naddress_map = { "10.0.0.1:4150" = "127.0.0.1:4150" }',
    )
    nodes = [Node(Address("10.0.0.2", 5150), ""), Node(Address("fe80::1", 4150), "")]
    (check,) = check_nodes(nodes, settings, QUICK)
    line = (
        'address_map = { "10.0.0.1:4150" = "127.0.0.1:4150", "10.0.0.2:5150" = "127.0.0.1:5150", '
        '"[fe80::1]:4150" = "127.0.0.1:4150" }'
    )
    assert check.todo == f"in [nsq]: {line}; see which of your proxies leads to which nsqd"
    assert nsq(tmp_path, line).address_map["[fe80::1]:4150"] == PROXY


def test_a_crowd_is_looked_at_in_part(tmp_path: Path) -> None:
    nodes = [Node(Address("127.0.0.1", 1), str(n)) for n in range(NODES + 3)]
    checks = check_nodes(nodes, nsq(tmp_path, ""), QUICK)
    assert [check.status for check in checks] == [Level.FAIL] * NODES + [Level.OK]
    assert checks[-1].seen == "3 more nsqds, not looked at"


def test_only_addresses_are_taken_from_what_is_announced() -> None:
    good = {"broadcast_address": "h", "tcp_port": 4150, "hostname": "x\x1b[31m"}
    odd: list[object] = [None, {}, {"broadcast_address": "h"}, {"broadcast_address": "", "tcp_port": 1}, 7]
    odd += [{"broadcast_address": "h", "tcp_port": port} for port in (0, 70000, "4150")]
    (node,) = nodes_of([*odd, good, good])
    assert node.address == Address("h", 4150)
    assert "\x1b" not in node.hostname


def test_a_topic_is_judged_by_its_channels() -> None:
    nobody = check_channels("file_sync_ready", [])
    assert nobody.status is Level.WARN
    assert "for ever" in nobody.seen
    assert "syncd events --nsq NAME" in nobody.todo
    assert 'announce = "local"' in nobody.todo
    assert check_channels("t", ["b", "a"]).seen == "t is read by a, b"
    assert check_channels("t", ["b#ephemeral", "a"]).seen == "t is read by a, b#ephemeral"
    assert "once these readers are gone" in check_channels("t", ["b#ephemeral"]).seen


@pytest.mark.parametrize(
    ("said", "kind"),
    [
        (b"SSH-2.0-OpenSSH_9.2p1 Debian\r\n", Kind.SSH),
        (b"HTTP/1.1 200 OK\r\n\r\nhello", Kind.HTTP),
        (b"HTTP/1.1 200 OK\r\n\r\n{}", Kind.HTTP),
        (b'HTTP/1.0 200 OK\r\n\r\n{"version":"1.2.1"}', Kind.LOOKUPD_HTTP),
        (b'HTTP/1.0 200 OK\r\n\r\n{"version":"1.2.1","tcp_port":4150}', Kind.NSQD_HTTP),
        (b"HTTP/1.0 200 OK\r\n\r\nIt looks like you are trying to access MongoDB over HTTP", Kind.MONGODB),
        (struct.pack(">ii", 18, 1) + b"E_BAD_PROTOCOL", Kind.NSQD),
        (struct.pack(">ii", 18, 1), Kind.NSQD),
        (struct.pack(">i", 14) + b"E_BAD_PROTOCOL", Kind.LOOKUPD),
        (struct.pack("<iiiiI", 300, 9, 0x51, 2013, 0) + b"\0" * 40, Kind.MONGODB),
        (b"\0\0\0\x40\xfeSMB\x40\0", Kind.SMB),
        (b"\x15\x03\x01\0\x02\x02\x46", Kind.TLS),
        (b"220 mail\r\n", Kind.OTHER),
        (b"\xff\x00\x1b[2J", Kind.OTHER),
        (b"HTTP/1.1 200 OK\r\n\r\n[" + b"[" * 5000, Kind.HTTP),
    ],
)
def test_services_are_told_by_their_first_words(said: bytes, kind: Kind) -> None:
    found = recognise(said)
    assert found.kind is kind
    assert str(found).isprintable()


def test_clocks_are_compared_with_the_middle_of_the_question() -> None:
    told = datetime(2026, 1, 1, 0, 0, 10, tzinfo=UTC)
    at = told.timestamp()
    assert clock.offset_of(told, at - 5, at - 3) == 4
    assert clock.offset_of_date("Thu, 01 Jan 2026 00:00:10 GMT", at, at + 1) == 0
    assert clock.offset_of_date("yesterday", at, at) is None
    assert clock.offset_of_date("", at, at) is None
    assert clock.compare(1.9, "its").status is Level.OK
    assert clock.compare(-2.1, "its").status is Level.WARN
    assert "2.1 s behind ours" in clock.compare(-2.1, "its").seen


@pytest.mark.parametrize(("seconds", "shown"), [(0.00008, "0.08 ms"), (0.0012, "1.2 ms"), (0.14, "140 ms")])
def test_round_trips_are_readable(seconds: float, shown: str) -> None:
    assert millis(seconds) == shown
