"""Bytes before facts: the order of system calls of a run, as strace sees it (RULES section 3, a group).

For every staged file: its last write, then a sync of it, then the intents' transaction, then link and rename, then a
sync of the folder it went into, then the transaction with its record.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import NamedTuple

from tests.crash.scenario import NEW, Scenario
from tests.crash.test_faults_at_syscalls import strace

CALLS = "write,pwrite64,fsync,fdatasync,syncfs,renameat,renameat2,rename,linkat"


class Call(NamedTuple):
    """One finished call: its name, the paths behind its descriptors, the quoted names, all in order."""

    name: str
    paths: list[str]
    names: list[str]


def trace(scenario: Scenario, log: Path) -> list[Call]:
    done = strace(scenario, "-y", "-s", "300", "-o", str(log), "-e", f"trace={CALLS}")
    assert done.returncode == 0, done.stderr.decode()
    calls, unfinished = [], dict[str, str]()
    for line in log.read_text(errors="replace").splitlines():
        thread, _, rest = line.partition(" ")
        if rest.rstrip().endswith("<unfinished ...>"):
            unfinished[thread] = rest.rstrip().removesuffix("<unfinished ...>")
            continue
        resumed = re.match(r"\s*<\.\.\. (\w+) resumed>(.*)", rest)
        if resumed:
            rest = unfinished.pop(thread) + resumed.group(2)
        found = re.match(r"\s*(\w+)\((.*)\)\s+= 0|\s*(write|pwrite64)\((.*)\)\s+= \d+", rest)
        if found:
            name, arguments = found.group(1) or found.group(3), found.group(2) or found.group(4)
            names = re.findall(r'"((?:[^"\\]|\\.)*)"', arguments)
            calls.append(Call(name, re.findall(r"\d+<([^>]*)>", arguments), names))
    return calls


def first(calls: list[Call], start: int, wanted: str, folder: str) -> int:
    """Return where after `start` a sync of this path (or of its whole file system) comes first."""
    for at in range(start + 1, len(calls)):
        call = calls[at]
        if call.name == "syncfs" or (call.name in wanted.split() and call.paths[:1] == [folder]):
            return at
    raise AssertionError(f"no {wanted} of {folder} after call {start}")


def test_every_promoted_file_is_synced_declared_renamed_its_folder_synced_and_then_recorded(tmp_path: Path) -> None:
    scenario = Scenario(tmp_path)
    calls = trace(scenario, tmp_path / "log")
    staging = str(scenario.target / ".syncd/staging")
    log = str(scenario.base / "state/catalogue.db-wal")
    promoted = 0
    for at, call in enumerate(calls):
        if call.name != "renameat" or call.paths[0] != staging or call.names[1] == "manifest.jsonl":
            continue
        promoted += 1
        staged = f"{staging}/{call.names[0]}"
        written = max((n for n in range(at) if calls[n].name == "write" and calls[n].paths == [staged]), default=-1)
        synced = first(calls, written, "fsync fdatasync", staged)
        declared = first(calls, synced, "fdatasync fsync", log)
        assert written < synced < declared < at, call
        folder_synced = first(calls, at, "fsync", call.paths[1])
        recorded = first(calls, folder_synced, "fdatasync fsync", log)
        between = [n for n in range(at, folder_synced) if calls[n].name == "pwrite64" and calls[n].paths == [log]]
        assert not between, "a transaction was written between the rename and the sync of its folder"
        assert recorded > folder_synced
    assert promoted == sum(1 for path in NEW if path not in ("eng-typed/letter 2.pdf", "hin-typed/kept.JPG")) - 1


def test_a_replaced_file_is_linked_into_the_trash_before_it_is_renamed_over(tmp_path: Path) -> None:
    scenario = Scenario(tmp_path)
    calls = trace(scenario, tmp_path / "log")
    (linked,) = [n for n, call in enumerate(calls) if call.name == "linkat"]
    folder, trash = calls[linked].paths
    assert folder == str(scenario.target / "eng-typed")
    assert trash.startswith(str(scenario.target / ".syncd/trash/"))
    renamed = next(n for n, call in enumerate(calls) if call.name == "renameat" and call.paths[1] == folder)
    assert linked < renamed
    assert first(calls, renamed, "fsync", trash) < first(
        calls, renamed, "fdatasync", str(scenario.base / "state/catalogue.db-wal")
    )
