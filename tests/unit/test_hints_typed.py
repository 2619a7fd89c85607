"""The next command that an error names can be typed as it stands, and reaches the mirror it is about alone."""

from __future__ import annotations

import errno
import shlex
from pathlib import Path

import pytest

from syncd.config.load import load
from syncd.core.errors import ConfigError, SourceVanished, TargetForeign, TargetMissing
from syncd.core.model import Look, RelPath
from syncd.core.reasons import Reason, hint_for
from syncd.core.resolution import Candidate, State
from syncd.engine.why import Known
from syncd.sources.local import LocalSource
from syncd.store.mirror import DiskMirror
from syncd.store.state import StateDirectory

NAME = "Tod's Scans"


def test_a_mirrors_name_is_one_word_of_the_command() -> None:
    known = Known(NAME, RelPath("x"), "/t", None, None, "", None, None, "", [])
    words = shlex.split(known.next.rpartition(": ")[2])
    assert words == ["syncd", "run-once", "--mirror", NAME]
    held = Candidate(NAME, RelPath("x"), Look()).answer(State.UNAVAILABLE, Reason.AUTH_FAILED)
    assert shlex.split(held.hint) == ["syncd", "secret", NAME]


def test_a_name_that_is_not_known_stays_to_be_filled_in() -> None:
    assert hint_for(Reason.TARGET_FOREIGN) == "syncd run-once --take-over --mirror NAME"


def test_starting_over_is_offered_for_the_target_that_is_gone_alone(tmp_path: Path) -> None:
    with pytest.raises(TargetMissing) as caught:
        DiskMirror.open(tmp_path / "t", mirror_name=NAME, mirror_uid="u", host_id="h", host_name="n", known=True)
    command = caught.value.hint.rpartition(": ")[2]
    assert shlex.split(command) == ["syncd", "run-once", "--new-target", "--mirror", NAME]


def test_taking_over_is_offered_for_the_target_that_is_anothers_alone(tmp_path: Path) -> None:
    DiskMirror.open(tmp_path / "t", mirror_name=NAME, mirror_uid="u", host_id="h", host_name="n", known=False).close()
    with pytest.raises(TargetForeign) as caught:
        DiskMirror.open(tmp_path / "t", mirror_name=NAME, mirror_uid="u", host_id="i", host_name="m", known=False)
    assert shlex.split(caught.value.hint) == ["syncd", "run-once", "--take-over", "--mirror", NAME]


def test_a_source_in_a_folder_with_a_space_can_be_looked_for(tmp_path: Path) -> None:
    missing = tmp_path / "my share"
    with pytest.raises(SourceVanished) as caught:
        LocalSource(missing).check()
    assert shlex.split(caught.value.hint.partition("? ")[2]) == ["ls", "-ld", str(missing)]


def test_a_state_directory_with_a_space_can_be_given_away(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = tmp_path / "my state"

    def refuse(*_: object, **__: object) -> None:
        raise PermissionError(errno.EACCES, "Permission denied")

    monkeypatch.setattr(Path, "mkdir", refuse)
    with pytest.raises(ConfigError) as caught:
        StateDirectory.open(folder, create=True)
    command = caught.value.hint.partition("write there: ")[2].partition(" (")[0]
    assert shlex.split(command)[-1] == str(folder)


def test_a_configuration_in_a_folder_with_a_space_can_be_made(tmp_path: Path) -> None:
    file = tmp_path / "my settings" / "config.toml"
    with pytest.raises(ConfigError) as caught:
        load(file, {"HOME": str(tmp_path)})
    assert shlex.split(caught.value.hint) == ["syncd", "-c", str(file), "init"]
