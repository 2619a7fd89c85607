"""The documents say what the program does: generated ones are up to date, links lead somewhere, files are there."""

from __future__ import annotations

import importlib.util
import re
import tomllib
import xml.etree.ElementTree as ET
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support import markdown
from tests.support.markdown import ROOT

FOLDERS = "bench|deploy|docs|launchd|requirements|scripts|syncd|systemd|tests|worker_glue"
FILE = re.compile(rf"^(?:{FOLDERS})/[\w./*-]*$|^[\w.-]+\.(?:py|sh|lock)$")
TEST = re.compile(r"^test_\w+$")
SVG = "{http://www.w3.org/2000/svg}"


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


def test_links_and_anchors_lead_somewhere() -> None:
    lost = [f"{page.relative_to(ROOT)}: {target}" for page, target in _links() if not _is_there(page, target)]
    assert not lost, "\n".join(lost)


def _links() -> Iterator[tuple[Path, str]]:
    for page in markdown.pages():
        for target in markdown.links(page.read_text(encoding="utf-8")):
            yield page, target


def _is_there(page: Path, target: str) -> bool:
    name, _, anchor = target.partition("#")
    to = (page.parent / name).resolve() if name else page
    if not to.exists() or not to.is_relative_to(ROOT):
        return False
    return not anchor or anchor in markdown.anchors(to.read_text(encoding="utf-8"))


def test_every_page_is_linked_to() -> None:
    """From the index, step by step: nobody finds a page that is not."""
    reached, ahead = set[Path](), [ROOT / "docs" / "README.md"]
    while ahead:
        page = ahead.pop()
        if page.suffix == ".md" and page not in reached:
            reached.add(page)
            targets = (target.partition("#")[0] for target in markdown.links(page.read_text(encoding="utf-8")))
            ahead += [_page_of((page.parent / target).resolve()) for target in targets if target]
    assert {str(page.relative_to(ROOT)) for page in set(markdown.pages()) - reached} == {"README.md"}


def _page_of(target: Path) -> Path:
    return target / "README.md" if target.is_dir() and (target / "README.md").exists() else target


def test_files_and_tests_that_are_named_exist() -> None:
    tests = {
        name for path in (ROOT / "tests").rglob("*.py") for name in re.findall(r"def (test_\w+)", path.read_text())
    }
    lost = []
    for page in markdown.pages():
        text = page.read_text(encoding="utf-8")
        for code in markdown.code_in_lines(text):
            if TEST.match(code) and code not in tests and not list(ROOT.glob(f"tests/*/{code}.py")):
                lost.append(f"{page.relative_to(ROOT)}: there is no test {code}")
            if FILE.match(code) and not _found(page, code) and f"```python {code}\n" not in text:
                lost.append(f"{page.relative_to(ROOT)}: there is no file {code}")
    assert not lost, "\n".join(lost)


def _found(page: Path, name: str) -> bool:
    return any(list(base.glob(name.rstrip("/"))) for base in (ROOT, page.parent))


def test_the_packages_of_the_architecture_are_those_that_are_there() -> None:
    text = (ROOT / "docs" / "architecture.md").read_text(encoding="utf-8")
    for package in ("syncd", "worker_glue"):
        folders = {path.parent.name for path in (ROOT / package).glob("*/*.py")}
        assert folders == {name for name in folders if re.search(rf"\b{name}/", text)}, package


def test_the_layers_of_the_architecture_are_those_that_are_checked() -> None:
    contracts = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["importlinter"]["contracts"]
    layers = [layer.split(" | ") for layer in next(each["layers"] for each in contracts if each["type"] == "layers")]
    checked = [{name.removeprefix("syncd.") for name in layer} for layer in layers]
    page = (ROOT / "docs" / "architecture.md").read_text(encoding="utf-8")
    block = next(block.text for block in markdown.blocks(page) if block.text.startswith("syncd/cli/"))
    shown = [set(re.findall(r"(\w+)/(?=\s|$)", line)) for line in block.splitlines()]
    modules = {path.stem for path in (ROOT / "syncd").glob("*.py")}  # single files have no folder to show
    assert shown == [layer - modules for layer in checked]


@pytest.mark.parametrize("path", sorted((ROOT / "docs").rglob("*.svg")), ids=lambda path: path.name)
def test_pictures_say_what_they_show_to_who_cannot_see_them(path: Path) -> None:
    drawing = ET.fromstring(path.read_text(encoding="utf-8"))
    assert drawing.get("role") == "img"
    assert len(drawing.findtext(f"{SVG}desc") or "") > 100
    assert "prefers-color-scheme: dark" in (drawing.findtext(f"{SVG}style") or "")
    for page in markdown.pages():
        for alt in re.findall(rf"!\[([^\]]*)\]\({path.name}\)", page.read_text(encoding="utf-8")):
            assert len(alt) > 100, page
