"""`python -m bench`: measure, and print the table."""

from __future__ import annotations

import argparse
import compileall
import contextlib
import json
import os
import platform
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import syncd
from bench import announcing, api, daemon, million, proxies, resolving, saving, startup, tasks
from bench.measure import BenchError
from bench.peers import rclone_program
from bench.row import Bench, say
from bench.servers import Servers
from bench.table import Results
from bench.workloads import WORKLOADS, Workload, quick
from tests.support.smbd import have_smbd

SHARED_MEMORY = Path("/dev/shm")
LONG_PATH = 40
"""The paths of smbd's sockets have to stay below 108 bytes."""
RUNS = 5
OTHERS = ("million", "startup", "api", "resolve", "announce", "latency", "ensure", "idle", "tasks", "saving", "proxy")


def main() -> int:
    """Measure what was asked for; exit code 1 when something that was measured did not do its work."""
    given = _arguments()
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # so that everything we started ends with us
    if not have_smbd():
        print("error: the benchmark needs smbd (Debian package samba)", file=sys.stderr)
        return 2
    compileall.compile_dir(Path(syncd.__file__).parent, quiet=1)  # as pip does when it installs
    results = Results(machine=_machine())
    code = 0
    with _folders(given) as (corpora, base, output, disk), Servers(corpora, base) as servers:
        bench = Bench(servers, output, disk, given.runs)
        results.machine |= {"output": _kind(output), "output on disk": _kind(disk), "runs": str(given.runs)}
        for name in given.only:
            try:
                _measure(name, bench, results, given, corpora, output, disk)
            except BenchError as error:
                code = 1
                results.skipped[name] = str(error)
                say(f"{name}: {error}")
            except KeyboardInterrupt:
                code = 130
                results.skipped[name] = "interrupted, with all rows after it"
                break
    print(json.dumps(results.as_json(), indent=2) if given.json else results.as_markdown())
    return code


def _arguments() -> argparse.Namespace:
    names = [workload.name for workload in WORKLOADS] + list(OTHERS)
    parser = argparse.ArgumentParser(prog="bench", description=__doc__, epilog=f"rows: {', '.join(names)}")
    parser.add_argument("--only", metavar="NAME", action="append", choices=names, help="this row only (repeatable)")
    parser.add_argument("--runs", metavar="N", type=int, help=f"runs of each contestant (default {RUNS})")
    parser.add_argument("--quick", action="store_true", help="small numbers, one run: does it all work?")
    parser.add_argument("--json", action="store_true", help="print one JSON object instead of tables")
    parser.add_argument("--tmpfs", metavar="DIR", type=Path, help="for output that is not on disk (default /dev/shm)")
    parser.add_argument("--disk", metavar="DIR", type=Path, help="for rows with output on disk (default: temp folder)")
    parser.add_argument("--corpora", metavar="DIR", type=Path, help="keep the corpora there, and use them again")
    given = parser.parse_args()
    given.runs = max(1, given.runs or (1 if given.quick else RUNS))
    given.only = given.only or names
    return given


@contextlib.contextmanager
def _folders(given: argparse.Namespace) -> Iterator[tuple[Path, Path, Path, Path]]:
    """Make the folders for corpora, servers, output and output on disk; all but named corpora go at the end."""
    system = Path(tempfile.gettempdir())
    short = system if len(str(system)) < LONG_PATH else Path("/tmp")
    tmpfs = given.tmpfs or (SHARED_MEMORY if SHARED_MEMORY.is_dir() else system)
    with contextlib.ExitStack() as stack:

        def fresh(parent: Path) -> Path:
            # ignore_cleanup_errors: what cannot be removed must not cost an hour's figures
            made = tempfile.TemporaryDirectory(prefix="syncd-bench-", dir=parent, ignore_cleanup_errors=True)
            return Path(stack.enter_context(made))

        corpora = given.corpora.resolve() if given.corpora else fresh(system)
        corpora.mkdir(parents=True, exist_ok=True)
        yield corpora, fresh(short), fresh(tmpfs), fresh(given.disk or system)


def _measure(
    name: str,
    bench: Bench,
    results: Results,
    given: argparse.Namespace,
    corpora: Path,
    output: Path,
    disk: Path,
) -> None:
    """Measure one row, or one of OTHERS, into `results`."""
    if name == "million":
        results.million_files = million.QUICK_FILES if given.quick else million.FILES
        with tempfile.TemporaryDirectory(dir=output) as folder:
            results.million = million.measure(Path(folder), results.million_files)
    elif name == "startup":
        with tempfile.TemporaryDirectory(dir=output) as folder:
            results.startup, results.imports = startup.measure(Path(folder), corpora, given.runs)
    elif name == "api":
        with tempfile.TemporaryDirectory(dir=output) as folder:
            results.api = api.measure(Path(folder), api.QUICK_CALLS if given.quick else api.CALLS)
    elif name == "resolve":
        counts = (resolving.QUICK_FILES, resolving.QUICK_CALLS) if given.quick else (resolving.FILES, resolving.CALLS)
        with tempfile.TemporaryDirectory(dir=output) as folder:
            results.resolved_files, results.resolved = counts[0], resolving.measure(Path(folder), *counts)
    elif name == "announce":
        count = announcing.QUICK_ANNOUNCEMENTS if given.quick else announcing.ANNOUNCEMENTS
        for kind in dict.fromkeys((output, disk)):
            with tempfile.TemporaryDirectory(dir=kind) as folder:
                results.announced[_kind(kind)] = announcing.measure(Path(folder), given.runs, count)
    elif name == "tasks":
        with tempfile.TemporaryDirectory(dir=output) as folder:
            results.tasks = tasks.measure(Path(folder), tasks.QUICK_TASKS if given.quick else tasks.TASKS)
    elif name == "saving":
        with tempfile.TemporaryDirectory(dir=output) as folder:
            results.saved = saving.measure(Path(folder), saving.QUICK_POINTS if given.quick else saving.POINTS)
    elif name == "proxy":
        with tempfile.TemporaryDirectory(dir=output) as folder:
            amounts = proxies.QUICK if given.quick else proxies.FULL
            results.proxied = proxies.measure(Path(folder), given.runs, amounts)
    elif name in ("latency", "ensure", "idle"):
        _measure_daemon(name, results, given, corpora, output, disk)
    else:
        workload = _workload(name, given)
        if workload.on_disk and _kind(disk) == "tmpfs":
            results.skipped[name] = f"{disk.parent} is no disk; name a folder on one with --disk"
            return
        results.rows.append(bench.measure(workload))


def _measure_daemon(
    name: str, results: Results, given: argparse.Namespace, servers: Path, output: Path, disk: Path
) -> None:
    """Measure a row about `syncd run`. servers: a folder for its servers' files."""
    if name == "latency":
        with tempfile.TemporaryDirectory(dir=output) as folder:
            changes = daemon.QUICK_CHANGES if given.quick else daemon.CHANGES
            results.quantiles |= daemon.measure_latency(Path(folder), changes)
    elif name == "idle":
        files, seconds = (
            (daemon.QUICK_IDLE_FILES, daemon.QUICK_IDLE_S) if given.quick else (daemon.IDLE_FILES, daemon.IDLE_S)
        )
        with tempfile.TemporaryDirectory(dir=servers) as folder, tempfile.TemporaryDirectory(dir=output) as target:
            results.idle = daemon.measure_idle(Path(folder), Path(target), files, seconds)
    else:
        files, wishes = (
            (daemon.QUICK_RUN_FILES, daemon.QUICK_WISHES) if given.quick else (daemon.RUN_FILES, daemon.WISHES)
        )
        for kind in dict.fromkeys((output, disk)):
            with tempfile.TemporaryDirectory(dir=servers) as folder, tempfile.TemporaryDirectory(dir=kind) as target:
                found = daemon.measure_ensure(Path(folder), Path(target), files, wishes)
                results.quantiles[f"1 MB on demand during a run, target on {_kind(kind)}"] = found


def _workload(name: str, given: argparse.Namespace) -> Workload:
    (found,) = (workload for workload in WORKLOADS if workload.name == name)
    return quick(found) if given.quick else found


def _machine() -> dict[str, str]:
    """Return what the figures depend on."""
    facts = {
        "system": f"{platform.system()} {platform.release()}, {os.cpu_count()} CPUs",
        "python": platform.python_version(),
        "server": f"smbd {_version(['smbd', '--version'])}, signing mandatory, loopback",
    }
    if rclone_program():
        facts["rclone"] = _version([rclone_program(), "version"])
    return facts


def _version(argv: list[str]) -> str:
    path = os.environ.get("PATH", os.defpath) + os.pathsep + "/usr/sbin"
    done = subprocess.run(
        argv, capture_output=True, text=True, check=True, timeout=30, env={**os.environ, "PATH": path}
    )
    return done.stdout.splitlines()[0].split()[-1]


def _kind(folder: Path) -> str:
    """Return the type of the file system a folder is on, as Linux names it; "unknown" elsewhere."""
    best, kind = "", "unknown"
    with contextlib.suppress(OSError):
        for line in Path("/proc/self/mounts").read_text().splitlines():
            _, mount, each, *_ = line.split()
            if folder.is_relative_to(mount) and len(mount) >= len(best):
                best, kind = mount, each
    return kind


if __name__ == "__main__":
    sys.exit(main())
