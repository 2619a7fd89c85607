"""Commands, options and settings that the documents show are those that there are."""

from __future__ import annotations

import argparse
import contextlib
import importlib.util
import io
import re
import sys
import tomllib
from collections.abc import Callable, Iterator, Sequence
from functools import cache
from pathlib import Path
from typing import Any

import pytest

from syncd import config
from syncd.cli import main as syncd
from syncd.core.errors import ConfigError
from tests.support import markdown
from tests.support.markdown import ROOT
from worker_glue.cli import main as worker_glue

PROGRAMS: dict[str, Any] = {"syncd": syncd, "worker-glue": worker_glue}
SHELL = ("", "sh", "console")
AHEAD = re.compile(r"^(?:sudo|docker|kubectl|podman|\$)$|=")
VARIABLE = re.compile(r"\b(?:SYNCD|NSQD|NSQLOOKUPD|MONGO|WORKER)_[A-Z_]+\b")
NUMBERS = ("N", "S", "SECONDS")
OTHERS = {"chrome_lens", "engine", "whole_documents", "colour", "name"}
"""What looks like a setting, and is a provider, a table, or an attribute of an engine."""
MIRROR = {"name": "Bhushanji", "source": "smb://gvpocr@172.12.0.132:13445/gvpocr-bhushanji", "target": "/srv/Bhushanji"}
MIRROR |= {"password_file": "~/.config/syncd/Bhushanji.password"}


def _pages() -> list[Path]:
    return [path for path in markdown.pages() if path.name != "CHANGELOG.md"]


def _name(path: Path) -> str:
    return str(path.relative_to(ROOT))


@pytest.fixture(scope="module", params=_pages(), ids=_name)
def page(request: pytest.FixtureRequest) -> Path:
    found: Path = request.param
    return found


def shown(page: Path) -> Iterator[tuple[list[str], bool]]:
    """Yield the words of each command, and whether it is whole: in a block, and not only mentioned in a sentence."""
    text = page.read_text(encoding="utf-8")
    for block in markdown.blocks(text):
        if block.language in SHELL:
            yield from ((words, True) for words in markdown.commands(block.text))
    for code in markdown.code_in_lines(text):
        yield from ((words, False) for words in markdown.commands(code))


def ours(words: Sequence[str]) -> Iterator[tuple[str, list[str]]]:
    """Yield (program, its arguments) of a command that runs one of ours, itself or inside of a container."""
    for number, word in enumerate(words):
        before, rest = words[:number], list(words[number + 1 :])
        program = word.rpartition("/")[2]
        if program not in PROGRAMS or (before and not AHEAD.search(before[0])) or "build" in before:
            continue
        if rest and (rest[0] in PROGRAMS[program].VERBS or rest[0] in ("-c", "--help") or not before):
            yield program, rest
            return


def complaint(parse: Callable[[list[str]], object], words: list[str]) -> str:
    """Return what a parser has against the words; "" for nothing."""
    said = io.StringIO()
    try:
        with contextlib.redirect_stderr(said), contextlib.redirect_stdout(io.StringIO()):
            parse(words)
    except SystemExit as stop:
        return said.getvalue().strip().partition("error: ")[2] if stop.code else ""
    return ""


def test_commands_of_syncd_and_worker_glue_parse(page: Path) -> None:
    wrong = []
    for words, whole in shown(page):
        for program, arguments in ours(words):
            said = _refused(program, arguments, whole=whole)
            if said:
                wrong.append(f"{' '.join(words)}\n    {said}")
    assert not wrong, "\n".join(wrong)


def _refused(program: str, words: list[str], *, whole: bool) -> str:
    if words[:1] == ["-c"]:
        words = words[2:]
    if not words or words[0] in ("COMMAND", "...", "--help", "--version"):
        return ""
    verb, *rest = words
    if verb not in PROGRAMS[program].VERBS:
        return f"there is no verb {verb}"
    if not rest and not whole:
        return ""
    parser: argparse.ArgumentParser = PROGRAMS[program].load_verb(verb)[0]
    said = complaint(parser.parse_args, [_filled(word.strip("[]")) for word in rest if word != "..."])
    lacking = "are required" in said or "expected " in said
    return "" if lacking and not whole else said


def _filled(word: str) -> str:
    """Return a word with a number for what stands for one."""
    return "1" if word in NUMBERS else "1%" if word == "N%" else "1h" if word == "TIME" else word


def test_commands_of_a_developer_parse(page: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for words, _ in shown(page):
        if words[:2] == ["python3", "dev.py"]:
            _try_dev(words[2:])
        elif words[1:3] == ["-m", "bench"]:
            _try_bench(words[3:], monkeypatch)
        elif words[:1] == ["make"]:
            assert re.search(rf"^\.PHONY:.*\b{words[1]}\b", (ROOT / "Makefile").read_text(), re.MULTILINE), words
        elif words[:2] == ["sh", "install.sh"]:
            for option in words[2:]:
                assert f"{option})" in (ROOT / "install.sh").read_text(), option


def _try_dev(words: list[str]) -> None:
    command, *rest = words
    assert command == "--help" or command in _module("dev.py").COMMANDS, words
    if command == "test":
        for path in rest:
            assert path.startswith("-") or (ROOT / path).exists(), path
    if command == "bench":
        _try_bench(rest, pytest.MonkeyPatch())


def _try_bench(words: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    from bench import __main__ as bench

    with monkeypatch.context() as patched:
        patched.setattr(sys, "argv", ["bench", *("small" if word == "ROW" else word for word in words)])
        assert not complaint(lambda _: bench._arguments(), []), words


def _module(name: str) -> Any:
    spec = importlib.util.spec_from_file_location(name.partition(".")[0], ROOT / name)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_variables_of_the_environment_are_read_somewhere(page: Path) -> None:
    named = set(VARIABLE.findall(page.read_text(encoding="utf-8")))
    assert sorted(named - _variables()) == []


@cache
def _variables() -> frozenset[str]:
    """Return the variables that are read: by the programs, and by the deployment's own files."""
    code = [path for package in ("syncd", "worker_glue") for path in (ROOT / package).rglob("*.py")]
    deployed = [path for path in (ROOT / "deploy").rglob("*") if path.suffix in (".yaml", ".cfg")]
    return frozenset(name for path in [*code, *deployed] for name in VARIABLE.findall(path.read_text(encoding="utf-8")))


def test_calls_of_the_api_are_those_that_are_described(page: Path) -> None:
    text = (ROOT / "docs" / "api.md").read_text(encoding="utf-8")
    described = {re.sub(r"/[A-Z]+$", "/", path) for path in re.findall(r"`(?:[A-Z]+) (/[\w./-]*)", text)}
    for words, _ in shown(page):
        for url in words[1:] if words[:1] == ["curl"] else ():
            found = re.match(r"http://(?:localhost|127\.0\.0\.1)(?::\d+)?(/[^?]*)", url)
            if found:
                assert found[1] in described or found[1].rpartition("/")[0] + "/" in described, url


def test_settings_pass_the_check_of_the_configuration(page: Path, tmp_path: Path) -> None:
    for block in markdown.blocks(page.read_text(encoding="utf-8")):
        if block.language == "toml":
            problems = _problems(tomllib.loads(block.text), block.text, tmp_path / "config.toml")
            assert not problems, f"{page.name}:{block.line}: {problems}"


def _problems(given: dict[str, Any], text: str, file: Path) -> Sequence[str]:
    """Return what is wrong with a fragment once it is completed by a mirror; secrets need not be there."""
    if "project" in given:  # of a package
        return []
    file.write_text(text if "mirror" in given else f"{text}\n{_completion()}", encoding="utf-8")
    try:
        config.load(file, {"HOME": str(file.parent)}, check_secrets=False)
    except ConfigError as error:
        return error.problems or [error.message]
    return []


def _completion() -> str:
    return "[[mirror]]\n" + "".join(f'{key} = "{value}"\n' for key, value in MIRROR.items())


def test_settings_that_are_named_in_sentences_are_keys(page: Path) -> None:
    """`key = value` in a line is a key of some table (other programs' keys have blanks in them)."""
    known = {key.name for keys in config.keys.TABLES.values() for key in keys}
    text = page.read_text(encoding="utf-8")
    for code in markdown.code_in_lines(text):
        found = re.fullmatch(r"([a-z_]+) = (.+)", code)
        if found:
            assert found[1] in known | OTHERS, code
