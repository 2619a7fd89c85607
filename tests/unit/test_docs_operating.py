"""docs/operating.md: every reason, exit code, alert and check of the program stands in it."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml

from syncd.alerts.model import Rule
from syncd.cli.frame import EXITS
from syncd.core.reasons import Reason
from tests.support.markdown import ROOT
from worker_glue.cli.frame import EXITS as WORKER_EXITS

PAGE = (ROOT / "docs" / "operating.md").read_text(encoding="utf-8")
MAKERS = {"ok", "warn", "fail", "failed", "skipped", "Check", "_check"}
NAMES = ("name", "hop", "named", "HOPS", "SHARED_HOPS", "_HOPS", "_LISTINGS")
NO_CHECKS = {
    "": "the argument's default",
    "tcp": "the adapter's own word for port",
    "negotiate": "the same, for protocol",
    "root": "the same, for folder",
    "checks": "an errand that broke off; the line says so itself",
}


def section(title: str) -> str:
    """Return what stands below a heading."""
    found = re.search(rf"^## {re.escape(title)}\n(.*?)(?=^## |\Z)", PAGE, re.MULTILINE | re.DOTALL)
    assert found is not None, title
    return found[1]


def test_every_reason_is_there() -> None:
    assert [reason for reason in Reason if f"`{reason}`" not in section("Reasons")] == []


def test_every_exit_code_is_there() -> None:
    text = section("Exit codes")
    assert [code for code in {*EXITS, *WORKER_EXITS} if f"\n| {code} |" not in text] == []


def test_every_alert_is_there() -> None:
    assert [rule for rule in Rule if f"\n| `{rule}` |" not in section("Alerts")] == []


@pytest.mark.parametrize("path", sorted((ROOT / "deploy" / "monitoring").glob("*.rules.yml")), ids=lambda p: p.name)
def test_every_alert_of_prometheus_is_there(path: Path) -> None:
    text = section("Prometheus' alerts")
    for group in yaml.safe_load(path.read_text(encoding="utf-8"))["groups"]:
        for rule in group["rules"]:
            assert f"\n| `{rule['alert']}` |" in text, rule["alert"]


@pytest.mark.parametrize(
    ("package", "title"), [("syncd", "What syncd doctor says"), ("worker_glue", "What worker-glue doctor says")]
)
def test_every_check_of_the_doctor_is_there(package: str, title: str) -> None:
    text = section(title)
    named = set(checks(ROOT / package / "doctor"))
    assert len(named) > 15
    assert sorted(name for name in named - NO_CHECKS.keys() if f"`{name}`" not in text) == []


def checks(folder: Path) -> Iterator[str]:
    """Yield the names of checks that modules make: literal ones, and those that a variable of such a name is given."""
    for path in sorted(folder.glob("*.py")):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            match node:
                case ast.Call(func=ast.Name(id=maker), args=[first, *_]) if maker in MAKERS:
                    yield from _texts(first)
                case ast.Assign(targets=[ast.Name(id=name)], value=value) if name in NAMES:
                    yield from _texts(value)
                case ast.AnnAssign(target=ast.Name(id=name), value=ast.AST() as value) if name in NAMES:
                    yield from _texts(value)
                case ast.Call(func=ast.Attribute(attr="_replace") | ast.Name(id="replace"), keywords=given):
                    yield from (text for each in given if each.arg == "name" for text in _texts(each.value))


def _texts(node: ast.AST) -> Iterator[str]:
    """Yield texts that stand there themselves, in lists, tables and choices too."""
    match node:
        case ast.Constant(value=str(text)):
            yield text
        case ast.List(elts=parts) | ast.Tuple(elts=parts):
            for part in parts:
                yield from _texts(part)
        case ast.Dict(values=parts):
            for part in parts:
                yield from _texts(part)
        case ast.IfExp(body=one, orelse=other):
            yield from _texts(one)
            yield from _texts(other)


def test_every_symptom_is_linked_to_from_the_top() -> None:
    top = PAGE.partition("## Start here")[0]
    for title in re.findall(r"^## (.+)$", PAGE, re.MULTILINE):
        slug = re.sub(r"[^\w\- ]", "", title.lower()).replace(" ", "-")
        assert f"(#{slug})" in top, title
