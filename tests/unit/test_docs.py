"""The documents say what the program does: generated ones are up to date, and commands that README names exist."""

from __future__ import annotations

import importlib.util
import re
from pathlib import Path

import pytest

from syncd.cli.main import VERBS

ROOT = Path(__file__).resolve().parent.parent.parent


def documents() -> dict[str, str]:
    spec = importlib.util.spec_from_file_location("make_docs", ROOT / "scripts" / "make_docs.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    found: dict[str, str] = module.documents()
    return found


def test_generated_documents_are_up_to_date() -> None:
    for name, text in documents().items():
        assert (ROOT / name).read_text(encoding="utf-8") == text, f"{name} is old; run: python3 dev.py fmt"


@pytest.mark.parametrize(
    "name", ["README.md", "systemd/README.md", "launchd/README.md", "docs/service.md", "config.example.toml"]
)
def test_commands_in_documents_exist(name: str) -> None:
    text = (ROOT / name).read_text(encoding="utf-8")
    code = re.findall(r"```(.*?)```|`([^`]+)`|(Try it:[^\n]*)", text, re.DOTALL)
    shown = set(re.findall(r"\bsyncd (?:-c \S+ )?([a-z][a-z-]*)", "\n".join("".join(parts) for parts in code)))
    assert shown
    assert shown <= set(VERBS)


def test_links_in_documents_lead_somewhere() -> None:
    for page in [ROOT / "README.md", *(ROOT / "docs").rglob("*.md")]:
        for target in re.findall(r"\]\(([^)#:]+)\)", page.read_text(encoding="utf-8")):
            assert (page.parent / target).exists(), f"{page}: {target}"
