"""The benchmark of proxies does its work through the deployment's own, and leaves none of them running."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from bench import proxies
from bench.measure import BenchError
from bench.table import Results
from tests.support.require import require

ROOT = Path(__file__).resolve().parent.parent.parent
TINY = proxies.Amounts(messages=20, connections=2, bytes=1 << 20)


@pytest.fixture(autouse=True)
def programs() -> None:
    for name in ("socat", "haproxy"):
        require(name, name)


def left_running(folder: Path) -> list[str]:
    """Return the command lines of processes with this folder in their environment, as what a test started has it."""
    found = []
    for process in Path("/proc").glob("[0-9]*"):
        try:
            if str(folder).encode() in (process / "environ").read_bytes():
                found.append((process / "cmdline").read_text())
        except OSError:
            continue
    return found


def test_each_way_is_measured_and_nothing_is_left(tmp_path: Path) -> None:
    require("smbd", "samba")
    argv = [sys.executable, "-m", "bench", "--quick", "--only", "proxy", "--json", "--tmpfs", str(tmp_path)]
    done = subprocess.run(
        argv,
        cwd=ROOT,
        env={**os.environ, "TMPDIR": str(tmp_path)},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
        timeout=110,
    )
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    assert not found["skipped"]
    assert list(found["proxied"]) == ["no proxy", "socat", "socat twice", "HAProxy"]
    for name, cost in found["proxied"].items():
        assert (cost["messages"], cost["connections"], len(cost["transfers_s"])) == (100, 10, 1)
        assert 0 < cost["message_p50_ms"] <= cost["message_p99_ms"]
        assert 0 < cost["connection_p50_ms"] <= cost["connection_p99_ms"]
        assert cost["mib_per_s"] > 0
        assert (cost["proxy_cpu_s_per_gib"] > 0) == (name != "no proxy")
    assert left_running(tmp_path) == []
    assert list(tmp_path.iterdir()) == []


def test_the_table_has_a_line_for_each_way(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("STARTED_BY", str(tmp_path))
    running: list[str] = []
    fetch = proxies._fetch
    monkeypatch.setattr(proxies, "_fetch", lambda *a: running.extend(left_running(tmp_path)) or fetch(*a))
    costs = proxies.measure(tmp_path, 2, TINY)
    assert {len(cost.messages_s) for cost in costs.values()} == {40}
    lines = Results(proxied=costs).as_markdown().splitlines()
    assert [line.split("|")[1].strip() for line in lines[-4:]] == list(costs)
    assert {line.partition("\0")[0].rpartition("/")[2] for line in running} == {"nsqd", "socat", "haproxy"}
    assert left_running(tmp_path) == []


def test_what_does_not_come_through_is_no_figure(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(proxies, "_publish", lambda _: None)
    with pytest.raises(BenchError, match="0 of 80 messages arrived"):
        proxies.measure(tmp_path, 1, TINY)
    monkeypatch.undo()
    monkeypatch.setattr(proxies, "_fetch", lambda way, size, fetch=proxies._fetch: fetch(way, size + 1))
    with pytest.raises(BenchError, match="1 of 1,048,577 bytes did not come"):
        proxies.measure(tmp_path, 1, TINY)


def test_a_program_that_is_not_there_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(proxies.shutil, "which", lambda *_, **__: None)
    with pytest.raises(BenchError, match="socat is not installed"):
        proxies.measure(tmp_path, 1, TINY)
