"""`worker-glue run --wait-for-config`: with a wrong configuration it stays up, says each problem once, and goes on."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

PATIENCE_S = 30.0
NO_NSQD = "[host]\nstate_dir = '{state}'\n"
COMMAND = [sys.executable, "-c", "from worker_glue.cli.main import main; raise SystemExit(main())"]


def _until(true: Callable[[], bool]) -> None:
    deadline = time.monotonic() + PATIENCE_S
    while not true():
        assert time.monotonic() < deadline
        time.sleep(0.05)


def test_each_problem_is_said_once_and_a_better_configuration_is_taken_up(tmp_path: Path) -> None:
    config, log = tmp_path / "syncd.toml", tmp_path / "log"
    config.write_text("[hosst]\n")
    env = {key: value for key, value in os.environ.items() if not key.startswith(("NSQ", "MONGO", "SYNCD_", "WORKER_"))}
    argv = [*COMMAND, "-c", str(config), "run", "--workers", "1", "--wait-for-config"]
    with log.open("wb") as out, subprocess.Popen(argv, env=env, stdout=out, stderr=out) as process:
        try:
            _until(lambda: "hosst" in log.read_text())
            assert "host" in log.read_text().splitlines()[-1]
            config.write_text(NO_NSQD.format(state=tmp_path / "state"))
            _until(lambda: "no nsqd to read from" in log.read_text())
            assert process.poll() is None
            time.sleep(3)  # another look, or none: nothing more is said
            assert log.read_text().count("config.unusable") == 2
            new = tmp_path / "new.toml"
            new.write_text(NO_NSQD.format(state=tmp_path / "state") + "[nsq]\nnsqd_tcp_address = '127.0.0.1:1'\n")
            new.replace(config)
            _until(lambda: "worker.started" in log.read_text())
        finally:
            process.terminate()
    assert process.returncode == 0


def test_without_it_a_wrong_configuration_ends_with_2(tmp_path: Path) -> None:
    config = tmp_path / "syncd.toml"
    config.write_text("[hosst]\n")
    done = subprocess.run([*COMMAND, "-c", str(config), "run"], capture_output=True, text=True, check=False, timeout=60)
    assert done.returncode == 2
    assert 'unknown table "hosst"; did you mean "host"?' in done.stderr
