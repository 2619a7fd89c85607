"""What starting costs: --help, status, a run that finds nothing to do; and what the imports of each are made of."""

from __future__ import annotations

import sys
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

from bench.corpora import Corpus, provide
from bench.measure import Series, run
from bench.peers import check_report, syncd_program, write_config

CORPUS = Corpus("thousand", files=1000, size=2000, folders=10)
TIMEOUT_S = 120.0
SHOWN = 8


@dataclass(frozen=True, slots=True)
class Imports:
    """Where import time goes: total, number of modules, and the packages that take most of it (their own part, ms)."""

    total_ms: float
    modules: int
    packages: dict[str, float]


def measure(folder: Path, corpora: Path, runs: int) -> tuple[dict[str, Series], dict[str, Imports]]:
    """Return the cost of each command, and the import time of each. The source is a local folder."""
    config = folder / "syncd.toml"
    source = {"name": "Bench", "source": f"file://{provide(CORPUS, corpora)}", "target": str(folder / "out")}
    write_config(config, folder / "state", source)
    once = ["-c", str(config), "run-once", "--json"]
    commands = {
        "syncd --help": ["--help"],
        "syncd status": ["-c", str(config), "status"],
        "syncd run-once, 1,000 files unchanged": once,
    }
    first = run([*syncd_program(), *once], folder, timeout_s=TIMEOUT_S)
    check_report(first.stdout.read_bytes(), CORPUS, unchanged=False)
    cost = {"python -c pass": Series([]), **{name: Series([]) for name in commands}}
    for _ in range(runs):
        cost["python -c pass"].add(run([sys.executable, "-c", "pass"], folder, timeout_s=TIMEOUT_S))
        for name, arguments in commands.items():
            cost[name].add(run([*syncd_program(), *arguments], folder, timeout_s=TIMEOUT_S))
    return cost, {name: imports(arguments, folder) for name, arguments in commands.items()}


def imports(arguments: list[str], folder: Path) -> Imports:
    """Run syncd once under -X importtime."""
    argv = [sys.executable, "-X", "importtime", "-m", "syncd", *arguments]
    sample = run(argv, folder, timeout_s=TIMEOUT_S)
    return summarise(sample.stderr.read_text(errors="replace"))


def summarise(text: str) -> Imports:
    """Add up each package's own part of what -X importtime prints: `import time: SELF_US | CUMULATIVE_US | MODULE`."""
    own: Counter[str] = Counter()
    modules = 0
    for line in text.splitlines():
        head, _, rest = line.partition("import time:")
        fields = rest.split("|")
        if not head and len(fields) == 3 and fields[0].strip().isdigit():
            own[fields[2].strip().partition(".")[0]] += int(fields[0])
            modules += 1
    largest = {name: round(us / 1000, 1) for name, us in own.most_common(SHOWN)}
    return Imports(round(own.total() / 1000, 1), modules, largest)
