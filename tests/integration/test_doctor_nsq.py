"""`syncd doctor` against a real nsqd and nsqlookupd, through real socat: what is well, and what can be wrong."""

from __future__ import annotations

import contextlib
import socket
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import pytest

from syncd import config
from syncd.doctor.checks import Check, Group, Level, Pace
from syncd.doctor.examine import examine
from tests.support.faultproxy import FaultProxy
from tests.support.nsqd import LookupdServer, NsqdServer, start_lookupd, start_nsqd
from tests.support.ports import free_port
from tests.support.socat import start_socat

QUICK = Pace(resolve_s=2, connect_s=2, answer_s=1, whole_s=30)
PATIENT = Pace(resolve_s=5, connect_s=5, answer_s=10, whole_s=45)


@dataclass
class Queue:
    """nsqd as the deployment has it: it announces an address that nobody here can dial, and a proxy leads to it."""

    nsqd: NsqdServer
    lookupd: LookupdServer
    proxy: str
    lookup: str

    @property
    def announced(self) -> str:
        return f"127.0.0.9:{self.nsqd.tcp_port}"


@pytest.fixture(scope="module")
def queue(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Queue]:
    base = tmp_path_factory.mktemp("nsq")
    with (
        start_lookupd(base) as lookupd,
        start_nsqd(base, lookupd=lookupd, broadcast="127.0.0.9") as nsqd,
        start_socat(nsqd.tcp_port) as proxy,
        start_socat(lookupd.http_port) as lookup,
    ):
        until(lambda: lookupd.http("/nodes")["producers"] != [])
        yield Queue(nsqd, lookupd, f"127.0.0.1:{proxy}", f"127.0.0.1:{lookup}")


def until(true: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 20
    while not true():
        assert time.monotonic() < deadline
        time.sleep(0.02)


def look(folder: Path, nsq: str = "", env: Mapping[str, str] = {}, pace: Pace = PATIENT) -> dict[str, Group]:
    """Return the groups that are no mirror's by what they are about (of the same kind: the last)."""
    (folder / "share").mkdir(exist_ok=True)
    file = folder / "config.toml"
    file.write_text(f'[[mirror]]\nname = "B"\nsource = "file://./share"\ntarget = "data"\n[nsq]\n{nsq}\n')
    env = {"HOME": str(folder), **env}
    return {group.about: group for group in examine(config.load(file, env), env, "syncd", pace)}


def of(group: Group, name: str) -> Check:
    """Return the gravest check of that name."""
    found = [check for check in group.checks if check.name == name]
    return sorted(found, key=lambda check: list(Level).index(check.status))[-1]


def failed(group: Group) -> list[str]:
    return [check.name for check in group.checks if check.status is Level.FAIL]


@contextlib.contextmanager
def answering(
    greeting: bytes = b"", answer: bytes = b"", host: str = "127.0.0.1", port: int = 0
) -> Iterator[list[int]]:
    """Run a server that says `greeting`, and `answer` to whatever it is told; yields [its port, connections so far]."""
    listener = socket.create_server((host, port))
    counted = [listener.getsockname()[1], 0]

    def serve() -> None:
        while True:
            try:
                end, _ = listener.accept()
            except OSError:
                return
            counted[1] += 1
            with end, contextlib.suppress(OSError):
                end.settimeout(5)
                end.sendall(greeting)
                if end.recv(4096):
                    end.sendall(answer)

    thread = threading.Thread(target=serve, name="answering", daemon=True)
    thread.start()
    try:
        yield counted
    finally:
        with contextlib.suppress(OSError):
            listener.shutdown(socket.SHUT_RDWR)
        listener.close()
        thread.join(10)


# --- nsqd ------------------------------------------------------------------------------------------------------------


def test_every_hop_to_an_nsqd_behind_a_proxy(queue: Queue, tmp_path: Path) -> None:
    group = look(tmp_path, f'nsqd_tcp_address = "{queue.proxy}"')["nsqd"]
    assert [(check.name, check.status) for check in group.checks] == [
        ("name", Level.OK),
        ("port", Level.OK),
        ("protocol", Level.OK),
    ]
    assert of(group, "protocol").seen.startswith("nsqd 1.3.0 answers, round trip ")
    assert group.title == f"nsqd {queue.proxy}, from nsqd_tcp_address in [nsq]"


def test_the_environment_is_named_where_it_wins(queue: Queue, tmp_path: Path) -> None:
    env = {"NSQD_ADDRESS": f"127.0.0.1:{free_port()}", "NSQLOOKUPD_ADDRESSES": f"http://{queue.lookup}"}
    groups = look(tmp_path, f'nsqd_tcp_address = "{queue.proxy}"', env)
    assert groups["nsqd"].title.endswith("from the environment's NSQD_ADDRESS")
    assert groups["nsqlookupd"].title.endswith("from the environment's NSQLOOKUPD_ADDRESSES")
    assert failed(groups["nsqd"]) == ["port"]
    assert "the environment's NSQD_ADDRESS" in of(groups["nsqd"], "port").todo
    assert of(groups["nsqd"], "protocol").seen == "not tried: port failed"


def test_the_http_port_is_recognised_and_the_right_one_named(queue: Queue, tmp_path: Path) -> None:
    group = look(tmp_path, f'nsqd_tcp_address = "127.0.0.1:{queue.nsqd.http_port}"')["nsqd"]
    check = of(group, "protocol")
    assert check.status is Level.FAIL
    assert f"127.0.0.1:{queue.nsqd.http_port} is nsqd's HTTP port (version 1.3.0)" in check.seen
    assert check.todo == f'say "127.0.0.1:{queue.nsqd.tcp_port}" in nsqd_tcp_address in [nsq]'


@pytest.mark.parametrize("port", ["tcp_port", "http_port"])
def test_nsqlookupd_in_the_place_of_nsqd_is_named(queue: Queue, tmp_path: Path, port: str) -> None:
    check = of(look(tmp_path, f'nsqd_tcp_address = "127.0.0.1:{getattr(queue.lookupd, port)}"')["nsqd"], "protocol")
    assert check.status is Level.FAIL
    assert "nsqlookupd's" in check.seen
    assert "lookupd_http_addresses" in check.todo


@pytest.mark.parametrize(
    ("greeting", "answer", "named"),
    [
        (b"SSH-2.0-OpenSSH_9.2p1\r\n", b"", "an SSH server (SSH-2.0-OpenSSH_9.2p1)"),
        (b"", b"HTTP/1.1 400 Bad Request\r\n\r\n", 'an HTTP server (it says "HTTP/1.1 400 Bad Request")'),
        (b"220 mail.example ESMTP\r\n", b"", 'another kind of server (it says "220 mail.example ESMTP")'),
        (b"", b"HTTP/1.0 200 OK\r\n\r\nIt looks like you are trying to access MongoDB over HTTP", "a MongoDB server"),
        (b"", b"\x15\x03\x01\x00\x02\x02\x46", "a server that speaks TLS only"),
    ],
)
def test_another_service_on_the_port_is_named(tmp_path: Path, greeting: bytes, answer: bytes, named: str) -> None:
    with answering(greeting, answer) as server:
        check = of(look(tmp_path, f'nsqd_tcp_address = "127.0.0.1:{server[0]}"', pace=QUICK)["nsqd"], "protocol")
    assert check.status is Level.FAIL
    assert check.seen == f"127.0.0.1:{server[0]} is not nsqd but {named}"
    assert "4150" in check.todo


def test_a_proxy_to_a_dead_nsqd_is_told_from_a_dead_proxy(tmp_path: Path) -> None:
    with start_socat(free_port()) as proxy:
        group = look(tmp_path, f'nsqd_tcp_address = "127.0.0.1:{proxy}"', pace=QUICK)["nsqd"]
    assert of(group, "port").status is Level.OK
    assert "closes it without a word: so does a proxy that cannot go on" in of(group, "protocol").seen
    assert "see whether the nsqd behind it is up" in of(group, "protocol").todo


def test_a_proxy_into_a_black_hole_ends_in_time(queue: Queue, tmp_path: Path) -> None:
    with FaultProxy(queue.nsqd.address) as proxy:
        proxy.stall()
        started = time.monotonic()
        group = look(tmp_path, f'nsqd_tcp_address = "127.0.0.1:{proxy.port}"', pace=QUICK)["nsqd"]
    assert time.monotonic() - started < 20
    assert "says nothing: so does a proxy to a host that is away" in of(group, "protocol").seen


def test_an_error_frame_is_told(tmp_path: Path) -> None:
    text = b"E_AUTH_FIRST"
    with answering(b"", (len(text) + 4).to_bytes(4, "big") + (1).to_bytes(4, "big") + text) as server:
        check = of(look(tmp_path, f'nsqd_tcp_address = "127.0.0.1:{server[0]}"', pace=QUICK)["nsqd"], "protocol")
    assert check.status is Level.FAIL
    assert check.seen


# --- nsqlookupd ------------------------------------------------------------------------------------------------------


def settings(queue: Queue, more: str = "") -> str:
    return f'nsqd_tcp_address = "{queue.proxy}"\nlookupd_http_addresses = ["{queue.lookup}"]\n{more}'


def test_an_announced_address_that_nothing_maps_is_shown_with_the_line_that_maps_it_and_not_dialled(
    queue: Queue, tmp_path: Path
) -> None:
    with answering(host="127.0.0.9", port=queue.nsqd.tcp_port) as trap:
        group = look(tmp_path, settings(queue))["nsqlookupd"]
    assert trap[1] == 0
    check = of(group, "announced")
    assert check.status is Level.WARN
    assert f"nsqlookupd announces {queue.announced}" in check.seen
    assert check.todo == f'in [nsq]: address_map = {{ "{queue.announced}" = "{queue.proxy}" }}'
    # the line is the cure
    group = look(tmp_path, settings(queue, check.todo.removeprefix("in [nsq]: ")))["nsqlookupd"]
    assert of(group, "announced").status is Level.OK


@pytest.mark.parametrize("exact", [True, False])
def test_a_mapped_address_is_dialled_as_what_it_is_mapped_to(queue: Queue, tmp_path: Path, exact: bool) -> None:
    said = queue.announced if exact else f"*:{queue.nsqd.tcp_port}"
    group = look(tmp_path, settings(queue, f'address_map = {{ "{said}" = "{queue.proxy}" }}'))["nsqlookupd"]
    assert failed(group) == []
    check = of(group, "announced")
    assert check.seen.startswith(f"{queue.announced} -> {queue.proxy}: nsqd 1.3.0, round trip ")
    assert "direct" not in check.seen
    assert of(group, "protocol").seen.startswith("nsqlookupd 1.3.0 answers, round trip ")
    assert of(group, "clock").status is Level.OK


def test_the_way_through_the_proxy_is_compared_with_the_direct_one(queue: Queue, tmp_path: Path) -> None:
    with answering(host="127.0.0.9", port=queue.nsqd.tcp_port):
        group = look(tmp_path, settings(queue, f'address_map = {{ "{queue.announced}" = "{queue.proxy}" }}'))
    assert ", direct " in of(group["nsqlookupd"], "announced").seen


def test_a_map_to_where_nobody_listens_fails(queue: Queue, tmp_path: Path) -> None:
    dead = f"127.0.0.1:{free_port()}"
    group = look(tmp_path, settings(queue, f'address_map = {{ "{queue.announced}" = "{dead}" }}'))["nsqlookupd"]
    check = of(group, "announced")
    assert check.status is Level.FAIL
    assert check.seen.startswith(f"{queue.announced} -> {dead}: nothing listens")
    assert "address_map" in check.todo


def test_without_an_nsqd_of_our_own_the_announced_one_is_dialled(queue: Queue, tmp_path: Path) -> None:
    group = look(tmp_path, f'lookupd_http_addresses = ["{queue.lookup}"]')["nsqlookupd"]
    check = of(group, "announced")
    assert (check.status, queue.announced in check.seen) == (Level.FAIL, True)
    line = f'address_map = {{ "{queue.announced}" = "127.0.0.1:{queue.nsqd.tcp_port}" }}'
    assert check.todo == f"name a proxy to it that can be dialled from here; in [nsq]: {line}"


def test_a_topic_that_nobody_reads_is_a_warning_with_the_remedy(queue: Queue, tmp_path: Path) -> None:
    mapped = f'address_map = {{ "{queue.announced}" = "{queue.proxy}" }}\ntopic = "ready"\n'
    assert of_topic(look(tmp_path, settings(queue, mapped)), "ready").seen == (
        "ready is not there yet; the first announcement makes it"
    )
    queue.nsqd.http("/topic/create?topic=ready", b"")
    until(lambda: "ready" in queue.lookupd.http("/topics")["topics"])
    check = of_topic(look(tmp_path, settings(queue, mapped)), "ready")
    assert check.status is Level.WARN
    assert "for ever" in check.seen
    assert "syncd events --nsq NAME" in check.todo
    assert 'announce = "local"' in check.todo
    queue.nsqd.make_channel("ready", "ocr")
    until(lambda: queue.lookupd.http("/channels?topic=ready")["channels"] != [])
    assert of_topic(look(tmp_path, settings(queue, mapped)), "ready").seen == "ready is read by ocr"
    local = look(tmp_path, settings(queue, mapped + 'announce = "local"'))["nsqlookupd"]
    assert not [check for check in local.checks if check.name == "topic"]


def of_topic(groups: dict[str, Group], topic: str) -> Check:
    return next(check for check in groups["nsqlookupd"].checks if check.seen.startswith(topic + " "))


@pytest.mark.parametrize(("port", "named"), [("tcp_port", "nsqd"), ("http_port", "nsqd's HTTP port")])
def test_nsqd_in_the_place_of_nsqlookupd_is_named(queue: Queue, tmp_path: Path, port: str, named: str) -> None:
    number = getattr(queue.nsqd, port)
    group = look(tmp_path, f'lookupd_http_addresses = ["127.0.0.1:{number}"]', pace=QUICK)["nsqlookupd"]
    check = of(group, "protocol")
    assert check.status is Level.FAIL
    assert named in check.seen
    assert "4161" in check.todo


def test_a_silent_nsqlookupd_ends_in_time(queue: Queue, tmp_path: Path) -> None:
    with FaultProxy(("127.0.0.1", queue.lookupd.http_port)) as proxy:
        proxy.stall()
        group = look(tmp_path, f'lookupd_http_addresses = ["127.0.0.1:{proxy.port}"]', pace=QUICK)["nsqlookupd"]
    assert failed(group) == ["protocol"]
    assert "no answer within" in of(group, "protocol").seen
    assert of(group, "announced").seen == "not tried: protocol failed"


def test_a_clock_that_is_off_is_told(tmp_path: Path) -> None:
    page = b'{"version": "1.3.0", "producers": []}'
    head = b"HTTP/1.0 200 OK\r\nDate: Tue, 01 Jan 2030 00:00:00 GMT\r\nContent-Length: %d\r\n\r\n" % len(page)
    with answering(b"", head + page) as server:
        group = look(tmp_path, f'lookupd_http_addresses = ["127.0.0.1:{server[0]}"]')["nsqlookupd"]
    assert of(group, "clock").status is Level.WARN
    assert "NTP" in of(group, "clock").todo
    assert of(group, "announced").seen == "nsqlookupd knows of no nsqd"
