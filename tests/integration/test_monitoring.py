"""deploy/monitoring against promtool and the table of metrics: every name and label exists, every alert was tried."""

from __future__ import annotations

import json
import re
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from syncd.cli.main import VERBS
from syncd.web.metrics import NAMES, Metric, Type, render
from tests.support.numbers import one_of_each
from tests.support.require import require

ROOT = Path(__file__).resolve().parent.parent.parent
MONITORING = ROOT / "deploy" / "monitoring"
RULES, RULE_TESTS = MONITORING / "syncd.rules.yml", MONITORING / "syncd.rules.test.yml"
DASHBOARD = MONITORING / "grafana-dashboard.json"
PROMTOOL_S = 60

OF_SAMPLE = {name: metric for metric in NAMES.values() for name in metric.samples}
FROM_PROMETHEUS = {"job", "instance"}
NOT_OURS = {"up": set[str](), "node_textfile_mtime_seconds": {"file"}}
_METRIC = re.compile(r"\b(syncd_\w+|up|node_textfile_mtime_seconds)\b\s*(\{[^}]*\})?")
_MATCHED = re.compile(r"(\w+)\s*(?:=~|!~|!=|=)")
_GROUPED = re.compile(r"\b(?:by|on|ignoring|without)\s*\(([^)]*)\)")


def promtool(*arguments: str | Path, given: bytes = b"") -> str:
    """Run promtool; return what it said, which must be a success."""
    command = [require("promtool", "prometheus"), *map(str, arguments)]
    done = subprocess.run(command, input=given, capture_output=True, timeout=PROMTOOL_S, check=False)
    said = (done.stdout + done.stderr).decode()
    assert done.returncode == 0, said
    return said


def alerts() -> list[dict[str, Any]]:
    groups = yaml.safe_load(RULES.read_text(encoding="utf-8"))["groups"]
    return [rule for group in groups for rule in group["rules"]]


def panels() -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = json.loads(DASHBOARD.read_text(encoding="utf-8"))["panels"]
    return found


def targets() -> list[dict[str, Any]]:
    return [target for panel in panels() for target in panel.get("targets", ())]


def variables() -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = json.loads(DASHBOARD.read_text(encoding="utf-8"))["templating"]["list"]
    return found


def expressions() -> list[str]:
    """Everything that is asked of Prometheus: by the rules, by the dashboard's panels and by its variables."""
    return [
        *(rule["expr"] for rule in alerts()),
        *(target["expr"] for target in targets()),
        *(each["definition"] for each in variables() if each["type"] == "query"),
    ]


def labels_of(expression: str) -> set[str]:
    """Return the labels that the metrics of an expression have."""
    found = set(FROM_PROMETHEUS)
    for name, _ in _METRIC.findall(expression):
        found |= NOT_OURS[name] if name in NOT_OURS else set(OF_SAMPLE[name].labels)
    return found


# --- promtool --------------------------------------------------------------------------------------------------------


def test_promtool_accepts_the_rules_and_the_scrape_configuration() -> None:
    assert f"{len(alerts())} rules found" in promtool("check", "rules", RULES)
    promtool("check", "config", MONITORING / "prometheus.yml")


def test_the_rules_own_tests_pass() -> None:
    assert "SUCCESS" in promtool("test", "rules", RULE_TESTS)


def test_promtool_has_nothing_to_say_against_the_metrics() -> None:
    assert promtool("check", "metrics", given=render(one_of_each())) == ""


def test_every_alert_is_seen_firing_and_silent_in_the_rules_tests() -> None:
    cases = yaml.safe_load(RULE_TESTS.read_text(encoding="utf-8"))["tests"]
    fired = {
        name
        for case in cases
        for each in case.get("promql_expr_test", ())
        for sample in each["exp_samples"]
        for name in re.findall(r'alertname="(\w+)"', sample["labels"])
    }
    told = [each for case in cases for each in case.get("alert_rule_test", ())]
    fired |= {each["alertname"] for each in told if each["exp_alerts"]}
    assert fired == {rule["alert"] for rule in alerts()}
    assert cases[0]["promql_expr_test"][0]["expr"] == "count(ALERTS) or vector(0)"  # and none where all is well


def test_the_test_of_silence_knows_the_metrics_of_all_alerts() -> None:
    """A metric that is not there raises no alert either: what is well must be told."""
    well = yaml.safe_load(RULE_TESTS.read_text(encoding="utf-8"))["tests"][0]
    told = {each["series"].partition("{")[0] for each in well["input_series"]}
    asked = {name for rule in alerts() for name, _ in _METRIC.findall(rule["expr"])}
    assert asked - told == {"node_textfile_mtime_seconds"}


# --- names -----------------------------------------------------------------------------------------------------------


def test_every_metric_that_is_asked_for_exists() -> None:
    asked = {name for each in expressions() for name, _ in _METRIC.findall(each)}
    assert asked - set(OF_SAMPLE) == set(NOT_OURS)


def test_every_metric_that_exists_is_shown_or_watched() -> None:
    asked = {OF_SAMPLE[name] for each in expressions() for name, _ in _METRIC.findall(each) if name in OF_SAMPLE}
    assert {metric.name for metric in set(NAMES.values()) - asked} == set()


@pytest.mark.parametrize("expression", expressions())
def test_every_label_that_is_asked_for_exists(expression: str) -> None:
    for name, matchers in _METRIC.findall(expression):
        own = NOT_OURS[name] if name in NOT_OURS else set(OF_SAMPLE[name].labels)
        assert set(_MATCHED.findall(matchers)) <= own | FROM_PROMETHEUS, name
    for group in _GROUPED.findall(expression):
        assert {label.strip() for label in group.split(",")} <= labels_of(expression)


def test_every_label_that_is_shown_is_there_to_be_shown() -> None:
    for target in targets():
        grouped = _GROUPED.search(target["expr"])
        left = {label.strip() for label in grouped[1].split(",")} if grouped else labels_of(target["expr"])
        assert set(re.findall(r"{{(\w+)}}", target["legendFormat"])) <= left, target["expr"]
    for rule in alerts():
        shown = set(re.findall(r"\$labels\.(\w+)", json.dumps(rule["annotations"])))
        assert shown <= labels_of(rule["expr"]), rule["alert"]


# --- alerts ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("rule", alerts(), ids=lambda rule: rule["alert"])
def test_alerts_say_what_it_is_and_what_to_type(rule: dict[str, Any]) -> None:
    assert rule["alert"].startswith("Syncd")
    assert rule["labels"].keys() == {"severity"}
    assert rule["labels"]["severity"] in {"critical", "warning", "info"}
    assert rule["annotations"].keys() == {"summary", "description", "runbook"}
    commands = re.findall(r"\bsyncd ([a-z-]+)", rule["annotations"]["runbook"])
    assert commands
    assert set(commands) <= set(VERBS)


def test_the_document_lists_exactly_these_alerts() -> None:
    page = (ROOT / "docs" / "monitoring.md").read_text(encoding="utf-8")
    written = [line for line in page.splitlines() if line.startswith("| `Syncd")]
    assert written == [alert_row(rule) for rule in alerts()]


def alert_row(rule: dict[str, Any]) -> str:
    """Return the document's line about an alert."""
    placeholders = re.compile(r"{{ \$labels\.(\w+) }}")
    runbook = placeholders.sub(lambda label: label[1].upper(), rule["annotations"]["runbook"])
    return f"| `{rule['alert']}` | {rule['labels']['severity']} | {rule.get('for', 'at once')} | {runbook} |"


# --- the dashboard ---------------------------------------------------------------------------------------------------


def test_every_panel_shows_something_when_all_metrics_are_there(tmp_path: Path) -> None:
    """Each expression is evaluated by Prometheus' own engine over an hour of samples of every metric."""
    cases = [f"count({_without_variables(target['expr'])}) > bool 0" for target in targets()]
    assert cases
    checks = [{"expr": each, "eval_time": "60m", "exp_samples": [{"labels": "{}", "value": 1}]} for each in cases]
    test = {"interval": "1m", "input_series": list(_series()), "promql_expr_test": checks}
    file = tmp_path / "panels.test.yml"
    file.write_text(yaml.safe_dump({"rule_files": [], "evaluation_interval": "1m", "tests": [test]}))
    assert "SUCCESS" in promtool("test", "rules", file)


def _without_variables(expression: str) -> str:
    return expression.replace("$instance", ".*").replace("$mirror", ".*").replace("$__rate_interval", "5m")


def _series() -> Iterator[dict[str, str]]:
    for sample in one_of_each():
        labels = {"job": "syncd", "instance": "h", **sample.labels}
        step = 0 if OF_SAMPLE[sample.name].type is Type.GAUGE else 1
        said = ", ".join(f"{name}={json.dumps(value)}" for name, value in labels.items())
        yield {"series": f"{sample.name}{{{said}}}", "values": f"{sample.value:.0f}+{step}x60"}


def test_panels_have_their_own_place_and_id() -> None:
    found = panels()
    assert len({panel["id"] for panel in found}) == len(found)
    taken: set[tuple[int, int]] = set()
    for panel in found:
        place = panel["gridPos"]
        cells = {(place["x"] + dx, place["y"] + dy) for dx in range(place["w"]) for dy in range(place["h"])}
        assert max(x for x, _ in cells) < 24, panel["title"]
        assert not cells & taken, panel["title"]
        taken |= cells


def test_panels_ask_the_chosen_data_source_for_the_chosen_hosts() -> None:
    for panel in panels():
        if panel["type"] != "row":
            assert panel["datasource"]["uid"] == "${datasource}"
            assert panel["title"]
            assert panel["description"].endswith(".")
    for target in targets():
        for name, matchers in _METRIC.findall(target["expr"]):
            assert 'instance=~"$instance"' in matchers, target["expr"]
            if "mirror" in labels_for_choice(OF_SAMPLE[name]):
                assert 'mirror=~"$mirror"' in matchers, target["expr"]


def labels_for_choice(metric: Metric) -> set[str]:
    """Return the labels that the dashboard's variables choose by; of hops only the source's have a mirror."""
    return set() if "hop" in metric.labels else set(metric.labels) & {"mirror"}
