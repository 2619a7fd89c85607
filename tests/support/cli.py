"""`syncd` as a process, over a configuration that a test writes."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

COMMAND = [sys.executable, "-c", "from syncd.cli.main import main; raise SystemExit(main())"]
TIMEOUT_S = 100


@dataclass
class Done:
    """One command's end."""

    code: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        return json.loads(self.out)


class Syncd:
    """One host: a configuration file, a state directory, commands."""

    def __init__(self, base: Path) -> None:
        self.base = base
        self.state = base / "state"
        self.config = base / "syncd.toml"
        self._mirrors: list[str] = []

    def add_mirror(
        self, name: str, source: str, target: Path, password_file: Path | None = None, extra: str = ""
    ) -> None:
        secret = f'password_file = "{password_file}"\n' if password_file else ""
        self._mirrors.append(
            f'[[mirror]]\nname = "{name}"\nsource = "{source}"\ntarget = "{target}"\n{secret}{extra}\n'
        )
        self.config.write_text(f'[host]\nstate_dir = "{self.state}"\n' + "".join(self._mirrors))

    def __call__(self, *words: str, timeout_s: float = TIMEOUT_S) -> Done:
        done = subprocess.run(
            [*COMMAND, "-c", str(self.config), *words],
            capture_output=True,
            timeout=timeout_s,
            check=False,
            stdin=subprocess.DEVNULL,
            env={**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])},
        )
        return Done(done.returncode, done.stdout.decode(), done.stderr.decode())

    def run_once(self, *words: str) -> Done:
        return self("run-once", "--json", *words)
