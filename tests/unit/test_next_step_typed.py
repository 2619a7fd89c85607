"""With -c FILE the next step that is printed says it too: typed as it stands, it is about the same configuration."""

from __future__ import annotations

import argparse
import json
import shlex
import subprocess
from pathlib import Path

import pytest

from syncd.alerts import kept
from syncd.alerts.memory import Watched
from syncd.alerts.model import Rule
from syncd.alerts.rules import Condition
from syncd.cli.main import main
from syncd.client.program import typed
from syncd.core.errors import ConfigError
from syncd.core.model import Look, RelPath
from syncd.core.reasons import Reason
from syncd.core.resolution import Candidate, Resolution, State
from tests.support.cli import COMMAND
from worker_glue.cli.check import _print
from worker_glue.cli.main import main as worker_main
from worker_glue.desk.checking import Checked
from worker_glue.desk.gathering import Chosen, Gathered, Trouble, refuse_troubles

FILE = Path("/etc/my settings/c.toml")
OPTION = "-c '/etc/my settings/c.toml'"


@pytest.mark.parametrize(
    "hint",
    [
        "syncd approve --mirror b",
        "look at the share, then: syncd run-once",
        "worker-glue job 'a b' --missing",
        "make a new job: worker-glue submit 'a (1), b.pdf' --languages CODES",
        """syncd secret 'Tod'"'"'s: Scans'""",
    ],
)
def test_a_command_at_the_end_is_told_of_the_file(hint: str) -> None:
    assert typed(hint, FILE) == f"{hint} {OPTION}"
    assert typed(hint, None) == hint


@pytest.mark.parametrize(
    "hint",
    [
        "",
        "syncd -c /x init",
        "syncd --help",
        "rename it on the server",
        "syncd run   (or: syncd run-once)",
        "see what it does: syncd status; or end it: kill 12",
        "take it out of the configuration first",
        "let the user that runs syncd read it",
        "on annex: syncd service status; it's away",
    ],
)
def test_what_ends_in_no_command_stays_as_it_is(hint: str) -> None:
    assert typed(hint, FILE) == hint


def test_the_next_step_of_a_second_configuration(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "my settings.toml"
    (tmp_path / "source").mkdir()
    (tmp_path / "source" / "a.pdf").write_bytes(b"a")
    file.write_text(
        f'[host]\nstate_dir = "{tmp_path}/state"\n[[mirror]]\nname = "My Scans"\n'
        f'source = "file://{tmp_path}/source"\ntarget = "{tmp_path}/target"\n'
    )
    assert main(["-c", str(file), "status"]) == 3
    step = next(line for line in capsys.readouterr().out.splitlines() if "next: " in line).partition("next: ")[2]
    words = shlex.split(step)
    assert words == ["syncd", "run-once", "--mirror", "My Scans", "-c", str(file)]
    assert main(words[1:]) == 0


@pytest.fixture
def second(tmp_path: Path) -> Path:
    """A configuration in a folder with a space, of two mirrors that are not up to date."""
    file = tmp_path / "my settings" / "second.toml"
    (tmp_path / "source").mkdir()
    (tmp_path / "source" / "a.pdf").write_bytes(b"a")
    file.parent.mkdir()
    mirrors = "".join(
        f'[[mirror]]\nname = "{name}"\nsource = "file://{tmp_path}/source"\ntarget = "{tmp_path}/{name}"\n'
        for name in ("My Scans", "B")
    )
    file.write_text(f'[host]\nstate_dir = "{tmp_path}/state"\n{mirrors}[alerts]\ncommand = ["false"]\n')
    return file


def _syncd(*words: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([*COMMAND, *words], capture_output=True, text=True, check=False, stdin=subprocess.DEVNULL)


def _steps(said: str) -> list[list[str]]:
    """Return the words of each command that is told."""
    lines = [line for line in said.splitlines() if "syncd " in line]
    return [shlex.split(line[line.index("syncd ") :]) for line in lines]


def test_pause_says_how_to_go_on_with_what_it_paused(second: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["pause", "My Scans", "-c", str(second)]) == 0
    (words,) = _steps(capsys.readouterr().out)
    assert words == ["syncd", "resume", "My Scans", "-c", str(second)]
    assert main(words[1:]) == 0


def test_alerts_say_who_looks_with_this_configuration(second: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["alerts", "list", "-c", str(second)]) == 0
    assert _steps(capsys.readouterr().out) == [["syncd", "run", "-c", str(second)]]


def test_the_remedy_of_an_alert_names_the_configuration_unless_it_is_another_hosts(
    second: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    memory = kept.Kept(second.parent.parent / "state" / kept.FILE)
    (second.parent.parent / "state").mkdir()
    with memory.changing():
        memory.looked = 1.0
        for rule, remedy in ((Rule.MONGODB, "syncd doctor"), (Rule.HOST, "on annex: syncd service status")):
            memory.watched[rule.value] = Watched(Condition(rule.value, rule, "", "down", remedy, 0), 1.0, begun=True)
    assert main(["alerts", "list", "-c", str(second)]) == 0
    assert _steps(capsys.readouterr().out) == [
        ["syncd", "service", "status"],
        ["syncd", "doctor", "-c", str(second)],
        ["syncd", "service", "status", "-c", str(second)],
    ]


def test_announce_says_where_to_look_with_this_configuration(second: Path) -> None:
    second.write_text(second.read_text() + '[nsq]\nnsqd_tcp_address = "127.0.0.1:1"\n')
    assert _syncd("run-once", "-c", str(second)).returncode == 0
    announced = _syncd("announce", "--all", "-c", str(second))
    assert announced.returncode == 3
    assert _steps(announced.stdout) == [["syncd", "doctor", "-c", str(second)]]


def test_yes_to_one_mirror_is_no_yes_to_all(second: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert _syncd("run-once", "-c", str(second)).returncode == 0
    (second.parent.parent / "My Scans" / "a.pdf").write_bytes(b"changed here")
    assert _syncd("run-once", "-c", str(second)).returncode == 0
    assert main(["trash", "purge", "--mirror", "My Scans", "-c", str(second)]) == 2
    (words,) = _steps(capsys.readouterr().err)
    assert words == ["syncd", "trash", "purge", "--yes", "--mirror", "My Scans", "-c", str(second)]


def test_the_status_page_can_be_opened_by_what_is_said(second: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["status", "--open", "-c", str(second)]) == 2
    make, add = [line.removeprefix("  next: ") for line in capsys.readouterr().err.splitlines()[1:]]
    subprocess.run(make, shell=True, check=True)
    second.write_text(second.read_text() + add.partition(": ")[2].replace("] ", "]\n").replace(" and ", "\n") + "\n")
    assert main(["status", "--open", "-c", str(second)]) == 0
    token = capsys.readouterr().out.strip().partition("#token=")[2]
    assert (second.parent / "api-token").read_text() == token
    assert len(token) == 64


def test_the_workers_doctor_names_the_configuration_too(second: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert worker_main(["doctor", "-c", str(second)]) == 3
    steps = _steps("\n".join(line for line in capsys.readouterr().out.splitlines() if "next:" in line))
    assert ["syncd", "run", "-c", str(second)] in steps
    assert ["syncd", "service", "install", "-c", str(second)] in steps


def test_all_of_many_failures_are_shown_by_the_command_that_is_said(
    second: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    target = tmp_path / "B" / "sub"
    target.parent.mkdir()
    target.symlink_to(tmp_path)
    (tmp_path / "source" / "sub").mkdir()
    for number in range(25):
        (tmp_path / "source" / "sub" / f"{number}.pdf").write_bytes(b"b")
    done = _syncd("run-once", "--mirror", "B", "-c", str(second))
    assert done.returncode == 3
    (words,) = [words for words in _steps(done.stdout) if words[:2] == ["syncd", "runs"]]
    assert main(words[1:]) == 0
    failed = {each["path"] for each in json.loads(capsys.readouterr().out)["report"]["failures"]}
    assert {f"sub/{number}.pdf" for number in range(25)} <= failed


def _found(state: State, hint: str = "") -> Resolution:
    return Candidate("M", RelPath("a b.pdf"), Look()).answer(state, Reason.NEW, hint=hint)


@pytest.mark.parametrize(
    ("state", "said"),
    [
        (State.FETCHING, "  next: worker-glue check --fetch 'M/a b.pdf'   (or wait for syncd"),
        (State.UNAVAILABLE, "  next: syncd init\n"),
    ],
)
def test_check_names_what_was_asked_for(state: State, said: str, capsys: pytest.CaptureFixture[str]) -> None:
    checked = Checked([Chosen("M/a b.pdf", _found(state, "syncd init"))])
    _print(checked, argparse.Namespace(what=["M/a b.pdf"], config=None))
    assert said in capsys.readouterr().out


def test_a_job_that_cannot_be_made_names_what_to_look_at() -> None:
    gathered = Gathered([], [], [Trouble("M/a b", "'M/a b': not on the share", _found(State.MISSING))])
    with pytest.raises(ConfigError) as caught:
        refuse_troubles(gathered, "Nothing was submitted.")
    assert caught.value.hint == "worker-glue check 'M/a b'"
