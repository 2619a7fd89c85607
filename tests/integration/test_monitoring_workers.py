"""The workers' alert rules and the Alertmanager example: promtool accepts them, and every name in them exists."""

from __future__ import annotations

import re
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import yaml

from syncd.client.heartbeats import STATES, Heartbeat, Seen
from tests.support.require import require
from worker_glue.health.shown import Metrics
from worker_glue.health.staff import Staff

MONITORING = Path(__file__).resolve().parent.parent.parent / "deploy" / "monitoring"
RULES, RULE_TESTS = MONITORING / "worker.rules.yml", MONITORING / "worker.rules.test.yml"
MATCHER = re.compile(r'(\w+)(=~|!~|!=|=)"([^"]*)"')
Rows = list[dict[str, Any]]


def rules_of(path: Path) -> Rows:
    return [rule for group in yaml.safe_load(path.read_text(encoding="utf-8"))["groups"] for rule in group["rules"]]


def alertmanager() -> dict[str, Any]:
    found: dict[str, Any] = yaml.safe_load((MONITORING / "alertmanager.yml").read_text(encoding="utf-8"))
    return found


def all_routes(route: dict[str, Any]) -> Iterator[dict[str, Any]]:
    yield route
    for each in route.get("routes", ()):
        yield from all_routes(each)


def promtool(*arguments: str | Path) -> str:
    command = [require("promtool", "prometheus"), *map(str, arguments)]
    done = subprocess.run(command, capture_output=True, timeout=60, check=False)
    said = (done.stdout + done.stderr).decode()
    assert done.returncode == 0, said
    return said


def test_promtool_accepts_the_rules_and_their_tests_pass() -> None:
    assert f"{len(rules_of(RULES))} rules found" in promtool("check", "rules", RULES)
    assert "SUCCESS" in promtool("test", "rules", RULE_TESTS)
    tried = RULE_TESTS.read_text(encoding="utf-8")
    assert all(tried.count(rule["alert"]) >= 2 for rule in rules_of(RULES))


def test_every_metric_of_the_rules_is_shown_by_worker_glue(tmp_path: Path) -> None:
    beat = Heartbeat("tod-mac-1", 1, 2e9, owed=1, oldest_owed=1e9, nsq=True, mongo=True)
    staff = Staff([Seen("tod-mac-1", alive=True, beat=beat)], {"tod-mac-1": 1})
    text = Metrics(tmp_path, lambda: staff).text().decode()
    for rule in rules_of(RULES):
        for name, labels in re.findall(r"\b(worker_glue_\w+)(?:\{([^}]*)\})?", rule["expr"]):
            assert re.search(rf"^{name}[ {{]", text, re.MULTILINE), name
            for label, _, value in MATCHER.findall(labels):
                assert label == "state"
                assert set(value.split("|")) <= {*STATES, "lost", "gone"}


def test_the_example_of_alertmanager_names_what_exists() -> None:
    config = alertmanager()
    receivers = {each["name"] for each in config["receivers"]}
    intervals = {each["name"] for each in config["time_intervals"]}
    routes = list(all_routes(config["route"]))
    assert {route["receiver"] for route in routes} == receivers
    assert {name for route in routes for name in route.get("mute_time_intervals", ())} == intervals
    known = {rule["alert"] for path in (RULES, MONITORING / "syncd.rules.yml") for rule in rules_of(path)}
    rows: Rows = [*routes, *config["inhibit_rules"]]
    matchers = [each for row in rows for name in row if name.endswith("matchers") for each in row[name]]
    assert matchers
    for matcher in matchers:
        label, operator, value = MATCHER.fullmatch(matcher).groups()  # type: ignore[union-attr]
        if label == "alertname":
            meant = {name for name in known if re.fullmatch(value, name)}
            assert meant, matcher
            if operator in ("=", "=~") and value != "Syncd.+":
                assert set(value.split("|")) <= known, matcher
        else:
            assert label in {"instance", "severity"}


def test_no_secret_stands_in_the_example() -> None:
    text = (MONITORING / "alertmanager.yml").read_text(encoding="utf-8")
    assert not re.search(r"password:|url:|token:", text)
