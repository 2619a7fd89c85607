"""Lists of nsqds and nsqlookupds before both doctors: each address has a line of its own, whatever the others do."""

from __future__ import annotations

import contextlib
import socket
import time
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import pytest

from syncd import config
from syncd.config import Settings
from syncd.core.dialling import host_port
from syncd.doctor import checks as syncds
from syncd.doctor.examine import examine
from tests.support.nsqd import LookupdServer, NsqdServer, start_lookupd, start_nsqd
from worker_glue.doctor import nsq as worker
from worker_glue.doctor.checks import Check, Level, group

PACE = syncds.Pace(resolve_s=2, connect_s=2, answer_s=1, whole_s=30)
DEAD = "127.0.0.1:1"


class Queue(NamedTuple):
    """One nsqd and one nsqlookupd that are well, and a port that takes connections and never answers."""

    nsqd: NsqdServer
    lookupd: LookupdServer
    silent: str

    @property
    def nsqds(self) -> tuple[str, ...]:
        return DEAD, self.silent, host_port(self.nsqd.address)

    @property
    def lookupds(self) -> tuple[str, ...]:
        return DEAD, self.silent, f"127.0.0.1:{self.lookupd.http_port}"


@pytest.fixture(scope="module")
def queue(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Queue]:
    base = tmp_path_factory.mktemp("nsq")
    with (
        start_lookupd(base) as lookupd,
        start_nsqd(base, lookupd=lookupd) as nsqd,
        socket.create_server(("127.0.0.1", 0), backlog=64) as listener,
    ):
        deadline = time.monotonic() + 20
        while not lookupd.http("/nodes")["producers"]:
            assert time.monotonic() < deadline
            time.sleep(0.02)
        yield Queue(nsqd, lookupd, f"127.0.0.1:{listener.getsockname()[1]}")


@pytest.fixture(autouse=True)
def soon(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(worker, "ANSWER_S", 1.0)


def settings(folder: Path, nsqds: tuple[str, ...], lookupds: tuple[str, ...]) -> Settings:
    (folder / "share").mkdir()
    nsq = f"nsqd_tcp_address = {list(nsqds)}\nlookupd_http_addresses = {list(lookupds)}\n"
    file = folder / "config.toml"
    file.write_text(f'[[mirror]]\nname = "B"\nsource = "file://./share"\ntarget = "data"\n[nsq]\n{nsq}')
    return config.load(file, {"HOME": str(folder)})


def statuses(found: list[Check]) -> list[tuple[str, Level]]:
    return [(check.name, check.status) for check in found]


def test_syncd_doctor_has_a_group_for_each_address(queue: Queue, tmp_path: Path) -> None:
    env = {"HOME": str(tmp_path)}
    groups = list(examine(settings(tmp_path, queue.nsqds, queue.lookupds), env, "syncd", PACE))
    for about, addresses in (("nsqd", queue.nsqds), ("nsqlookupd", queue.lookupds)):
        found = [each for each in groups if each.about == about]
        assert [each.title.split(",")[0] for each in found] == [f"{about} {address}" for address in addresses]
        failed = [[check.name for check in each.checks if check.status is syncds.Level.FAIL] for each in found]
        assert failed == [["port"], ["protocol"], []]
        assert "nothing listens" in str(found[0].checks)
        assert all(check.todo for each in found for check in each.checks if check.status is syncds.Level.FAIL)


def test_the_workers_doctor_has_a_line_for_each_nsqd(queue: Queue, tmp_path: Path) -> None:
    found = list(worker.nsqd_checks(settings(tmp_path, queue.nsqds, ()).nsq))
    assert [check.status for check in found] == [Level.FAIL, Level.FAIL, Level.OK]
    assert [check.seen.split(" ")[0].rstrip(":") for check in found] == list(queue.nsqds)
    assert all(check.todo for check in found[:2])


def test_the_workers_doctor_has_a_line_for_each_nsqlookupd(queue: Queue, tmp_path: Path) -> None:
    found = list(worker.lookupd_checks(settings(tmp_path, queue.nsqds, queue.lookupds).nsq))
    assert statuses(found) == [
        ("nsqlookupd", Level.FAIL),
        ("nsqlookupd", Level.FAIL),
        ("nsqlookupd", Level.OK),
        ("tasks", Level.OK),
        ("mapping", Level.OK),
    ]
    for check, address in zip(found, (*queue.lookupds, queue.lookupds[-1], queue.nsqds[-1]), strict=True):
        assert address in check.seen


def test_an_nsqd_that_only_nsqlookupd_knows_is_greeted(queue: Queue, tmp_path: Path) -> None:
    """Nothing is configured to lead to it, so nothing else would tell that it cannot be reached."""
    nsq = settings(tmp_path, (), queue.lookupds[-1:]).nsq
    (mapping,) = [check for check in worker.lookupd_checks(nsq) if check.name == "mapping"]
    assert mapping.status is Level.OK
    assert mapping.seen.startswith(f"as it is: {queue.nsqds[-1]} is nsqd 1.3.0")
    queue.nsqd.suspend()
    try:
        (mapping,) = [check for check in worker.lookupd_checks(nsq) if check.name == "mapping"]
    finally:
        queue.nsqd.resume()
    assert mapping.status is Level.FAIL
    assert f'address_map = {{ "{queue.nsqds[-1]}" = "127.0.0.1:{queue.nsqd.tcp_port}" }}' in mapping.todo


def test_a_dozen_that_hang_keep_none_that_is_well_from_being_seen(queue: Queue, tmp_path: Path) -> None:
    with contextlib.ExitStack() as stack:
        silent = [stack.enter_context(socket.create_server(("127.0.0.1", 0))) for _ in range(12)]
        nsqds = (*(host_port(each.getsockname()) for each in silent), queue.nsqds[-1])
        nsq = settings(tmp_path, nsqds, ()).nsq
        found = group("nsqd", "nsqd", lambda: worker.nsqd_checks(nsq), limit_s=6.0)
    assert [check.status for check in found.checks] == [Level.FAIL] * 12 + [Level.OK]
