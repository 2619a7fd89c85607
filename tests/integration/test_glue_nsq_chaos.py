"""Random faults under a stream of messages: each is passed on at least once, and nothing is left behind."""

from __future__ import annotations

import contextlib
import os
import queue
import random
import threading
import time
from pathlib import Path

import pytest

from syncd.core.errors import PublishFailed
from tests.support.consuming import PATIENCE, WORKERS, Taking, settled, until
from tests.support.nsqd import NsqdServer, start_nsqd
from tests.support.ports import free_port
from tests.support.socat import start_socat
from worker_glue.nsq import Producer, Waits, Where
from worker_glue.ports import Delivery

EXHAUSTIVE = os.environ.get("SYNCD_EXHAUSTIVE") == "1"
MESSAGES, FAULTS = (20_000, 60) if EXHAUSTIVE else (1_500, 4)
SEEDS = range(5) if EXHAUSTIVE else [int(os.environ.get("SYNCD_SEED", "7"))]
OPTIONS = {"msg-timeout": "3s", "max-msg-timeout": "20s"}


class Passing:
    """Passes messages on from one topic to another: published first, then finished; some are requeued now and then."""

    def __init__(self, where: Where, chance: random.Random) -> None:
        self._chance = chance
        self._producer = Producer(where.nsqd, waits=Waits(1.0, 1.0))
        self._consumer = Taking(where, "in", in_flight=50)
        self._ended = threading.Event()
        self._threads = [threading.Thread(target=self._work, daemon=True) for _ in range(3)]
        for thread in self._threads:
            thread.start()

    def _work(self) -> None:
        while not self._ended.is_set():
            with contextlib.suppress(queue.Empty):
                self._pass_on(self._consumer.next(within_s=0.1))

    def close(self) -> None:
        self._ended.set()
        for thread in self._threads:
            thread.join(10)
        self._consumer.close()
        self._producer.close()

    def _pass_on(self, delivery: Delivery) -> None:
        luck = self._chance.random()
        if luck < 0.05:
            delivery.requeue(self._chance.choice([0, 0.05]))
            return
        if luck < 0.1:
            delivery.touch()
        try:
            self._producer.publish("out", delivery.body)
        except PublishFailed:
            delivery.requeue(0.1)
        else:
            delivery.finish()


@pytest.mark.timeout(600 if EXHAUSTIVE else 120)
@pytest.mark.parametrize("seed", SEEDS)
def test_each_message_is_passed_on_at_least_once(seed: int, tmp_path: Path) -> None:
    chance = random.Random(seed)
    print(f"seed {seed}")
    bodies = {b"%d" % n for n in range(MESSAGES)}
    port = free_port()
    with start_nsqd(tmp_path, options=OPTIONS) as nsqd:
        for topic in ("in", "out"):
            nsqd.make_channel(topic, WORKERS)
        nsqd.restart()
        nsqd.http("/mpub?topic=in", b"\n".join(sorted(bodies)))
        with contextlib.ExitStack() as proxy:
            proxy.enter_context(start_socat(nsqd.tcp_port, port))
            passing = Passing(Where([("127.0.0.1", port)]), chance)
            try:
                for _ in range(FAULTS):
                    time.sleep(chance.uniform(0.02, 0.4))
                    break_something(chance, nsqd, proxy, port)
                until(lambda: settled(nsqd, "in"), within_s=200 if EXHAUSTIVE else 60)
            finally:
                passing.close()
        assert set(nsqd.take_all("out", WORKERS)) == bodies
        assert settled(nsqd, "in")


def break_something(chance: random.Random, nsqd: NsqdServer, proxy: contextlib.ExitStack, port: int) -> None:
    match chance.choice(["cut", "restart", "hang"]):
        case "cut":
            proxy.close()
            time.sleep(chance.uniform(0, 0.3))
            proxy.enter_context(start_socat(nsqd.tcp_port, port))
        case "restart":
            nsqd.restart()
        case _:
            nsqd.suspend()
            time.sleep(chance.uniform(0.1, 1.2 * PATIENCE.silence_s))
            nsqd.resume()
