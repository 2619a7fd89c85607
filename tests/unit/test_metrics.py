"""The table of metrics follows the conventions, the document says the same, and render() writes what the table says."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from prometheus_client.parser import text_string_to_metric_families

from syncd.web.metrics import FILE_STATES, MIRROR_STATES, NAMES, Metric, Type, one_hot, render
from syncd.web.port import Sample
from tests.support.numbers import one_of_each

PAGE = Path(__file__).resolve().parent.parent.parent / "docs" / "monitoring.md"
BASE_UNITS = ("_seconds", "_bytes", "_ratio", "_bytes_per_second")
COUNTED = (
    "_alerts",
    "_files",
    "_announcements",
    "_channels",
    "_problems",
    "_leases",
    "_pins",
    "_events",
    "_requests",
    "_failures",
)
NEITHER = ("_info", "_state", "_active", "_up")
WRONG_UNITS = re.compile(r"_(ms|millis|milliseconds|minutes|hours|days|kb|mb|kib|percent|count)(_|$)")


def row(metric: Metric) -> str:
    """Return the document's line about a metric."""
    labels = f"{{{', '.join(metric.labels)}}}" if metric.labels else ""
    return f"| `{metric.name}{labels}` | {metric.type.value} | {metric.about} |"


def test_the_document_lists_exactly_these_metrics() -> None:
    written = [line for line in PAGE.read_text(encoding="utf-8").splitlines() if line.startswith("| `syncd_")]
    assert written == [row(metric) for metric in NAMES.values()]


@pytest.mark.parametrize("metric", NAMES.values(), ids=list(NAMES))
def test_names_follow_the_conventions(metric: Metric) -> None:
    assert re.fullmatch(r"syncd_[a-z]+(_[a-z]+)*", metric.name)
    assert metric.name.endswith("_total") == (metric.type is Type.COUNTER)
    assert metric.name.removesuffix("_total").endswith(BASE_UNITS + COUNTED + NEITHER)
    assert not WRONG_UNITS.search(metric.name)
    assert not set(metric.labels) & {"job", "instance", "le", "quantile"}
    assert metric.about == metric.about.strip()
    assert not metric.about.endswith(".")


def test_no_two_samples_have_one_name() -> None:
    names = [name for metric in NAMES.values() for name in metric.samples]
    assert len(names) == len(set(names))


def test_every_metric_can_be_rendered_and_read_back() -> None:
    given = one_of_each()
    families = {family.name: family for family in text_string_to_metric_families(render(given).decode())}
    assert set(families) == {name.removesuffix("_total") for name in NAMES}
    read = {
        (sample.name, *sorted(sample.labels.items())): sample.value
        for each in families.values()
        for sample in each.samples
    }
    assert read == {(sample.name, *sorted(sample.labels.items())): sample.value for sample in given}
    for metric in NAMES.values():
        family = families[metric.name.removesuffix("_total")]
        assert (family.type, family.documentation) == (metric.type.value, metric.about)


def test_nothing_to_show_is_an_empty_answer() -> None:
    assert render([]) == b""


def test_samples_in_any_order_come_out_grouped_by_metric() -> None:
    given = [
        Sample("syncd_leases", {}, 1),
        Sample("syncd_mirror_files", {"mirror": "a", "state": "held"}, 1),
        Sample("syncd_lease_pins", {}, 1),
        Sample("syncd_mirror_files", {"mirror": "b", "state": "held"}, 2),
    ]
    lines = [line for line in render(given).decode().splitlines() if not line.startswith("#")]
    assert [line.partition("{")[0].partition(" ")[0] for line in lines] == [
        "syncd_mirror_files",
        "syncd_mirror_files",
        "syncd_leases",
        "syncd_lease_pins",
    ]


@pytest.mark.parametrize("name", ["new\nline", 'quo"te', "back\\slash", "हिन्दी", "half \ud800 a pair", "", "a" * 5000])
def test_labels_carry_any_text(name: str) -> None:
    text = render([Sample("syncd_disk_free_bytes", {"mirror": name}, 5)]).decode()
    (family,) = text_string_to_metric_families(text)
    (sample,) = family.samples
    assert sample.labels == {"mirror": name.replace("\ud800", "\\ud800")}
    assert len(text.splitlines()) == 3


def test_large_and_odd_numbers() -> None:
    values = {"a": 2.0**53, "b": float("inf"), "c": 0.0, "d": 1e-9}
    text = render(Sample("syncd_disk_free_bytes", {"mirror": name}, value) for name, value in values.items()).decode()
    (family,) = text_string_to_metric_families(text)
    assert {sample.labels["mirror"]: sample.value for sample in family.samples} == values


@pytest.mark.parametrize(
    ("sample", "said"),
    [
        (Sample("syncd_nonsense", {}, 1), 'no metric has samples named "syncd_nonsense"'),
        (Sample("syncd_run_duration_seconds", {"mirror": "a", "outcome": "ok"}, 1), "no metric has samples named"),
        (Sample("syncd_leases", {"mirror": "a"}, 1), "syncd_leases has the labels"),
        (Sample("syncd_trash_bytes", {}, 1), "syncd_trash_bytes has the labels"),
    ],
)
def test_what_the_table_does_not_have_is_a_bug(sample: Sample, said: str) -> None:
    with pytest.raises(ValueError, match=re.escape(said)):
        render([sample])


def test_a_sample_given_twice_is_a_bug() -> None:
    twice = [Sample("syncd_trash_bytes", {"mirror": "a"}, 1), Sample("syncd_trash_bytes", {"mirror": "a"}, 2)]
    with pytest.raises(ValueError, match="given twice"):
        render(twice)


def test_one_hot_has_exactly_one_one() -> None:
    found = list(one_hot("syncd_mirror_state", {"mirror": "a"}, "state", MIRROR_STATES, "halted"))
    assert {sample.labels["state"]: sample.value for sample in found} == {
        "ok": 0.0,
        "behind": 0.0,
        "failing": 0.0,
        "halted": 1.0,
        "paused": 0.0,
    }
    assert b'syncd_mirror_state{mirror="a",state="halted"} 1.0' in render(found)


def test_states_of_files_are_those_of_the_document() -> None:
    assert all(state in NAMES["syncd_mirror_files"].about for state in FILE_STATES)
