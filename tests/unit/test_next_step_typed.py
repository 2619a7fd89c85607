"""With -c FILE the next step that is printed says it too: typed as it stands, it is about the same configuration."""

from __future__ import annotations

import argparse
import shlex
from pathlib import Path

import pytest

from syncd.cli.main import main
from syncd.client.program import typed
from syncd.core.errors import ConfigError
from syncd.core.model import Look, RelPath
from syncd.core.reasons import Reason
from syncd.core.resolution import Candidate, Resolution, State
from worker_glue.cli.check import _print
from worker_glue.desk.checking import Checked
from worker_glue.desk.gathering import Chosen, Gathered, Trouble, refuse_troubles

FILE = Path("/etc/my settings/c.toml")
OPTION = "-c '/etc/my settings/c.toml'"


@pytest.mark.parametrize(
    "hint",
    ["syncd approve --mirror b", "look at the share, then: syncd run-once", "worker-glue job 'a b' --missing"],
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
