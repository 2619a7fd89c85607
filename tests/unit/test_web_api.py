"""Which calls there are: found by method and path, guarded as they should be, and all of them in the documents."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from syncd.web.api import Api, Endpoint
from syncd.web.guard import Access
from tests.support.fake_service import FakeService

DOCUMENT = Path(__file__).resolve().parent.parent.parent / "docs" / "api.md"
CHANGES = {"runs", "verify", "doctor", "approve", "pause", "resume", "announce"}


@pytest.fixture
def api() -> Api:
    return Api(FakeService(), None, None, {}, lambda _: None)  # type: ignore[arg-type]


def calls(api: Api) -> dict[tuple[str, str], Endpoint]:
    return {(method, path): found for path, methods in api._routes.items() for method, found in methods.items()}


def test_every_call_is_in_the_document_and_no_other(api: Api) -> None:
    text = DOCUMENT.read_text(encoding="utf-8")
    table = text[text.index("| call |") : text.index("`HEAD` works")]
    shown = {(method, path) for method, path in re.findall(r"`([A-Z]+) (/[^`]*)`", table)}
    assert shown == {
        (method, path.replace("static/*", "static/NAME").replace("*", "ID")) for method, path in calls(api)
    }


def test_the_document_says_what_each_asks_of_its_caller(api: Api) -> None:
    rows = {
        (method, path): row
        for row in DOCUMENT.read_text(encoding="utf-8").splitlines()
        if row.startswith("| [`")
        for method, path in re.findall(r"`([A-Z]+) (/[^`]*)`", row)
    }
    words = {Access(open=True): "without a token", Access(): "token", Access(socket_only=True): "refused"}
    for (method, path), found in calls(api).items():
        row = rows[method, path.replace("static/*", "static/NAME").replace("*", "ID")]
        assert row.split("|")[2].strip() == words[found.access], row


def test_what_changes_state_is_for_the_socket_alone(api: Api) -> None:
    local = {path.rpartition("/")[2] for (method, path), found in calls(api).items() if found.access.socket_only}
    assert local == CHANGES
    assert all(method == "POST" for (method, _), found in calls(api).items() if found.access.socket_only)


def test_only_what_carries_no_secret_is_open(api: Api) -> None:
    assert {path for (_, path), found in calls(api).items() if found.access.open} == {
        "/",
        "/static/*",
        "/healthz",
        "/metrics",
    }


def test_every_call_has_one_way_to_be_answered(api: Api) -> None:
    both = {name for name, found in calls(api).items() if found.now is not None and found.later is not None}
    assert both == {("POST", "/api/v1/leases"), ("DELETE", "/api/v1/leases/*")}
    assert all(found.now is not None or found.later is not None for found in calls(api).values())


def test_names_in_paths(api: Api) -> None:
    found = api.find("PUT", "/api/v1/leases/a-b_C.9")
    assert found.refusal is None
    assert found.name == "a-b_C.9"
    for path in (
        "/api/v1/leases/",
        "/api/v1/leases/a/b",
        "/api/v1/leases/..",
        "/api/v1/leases/a%2e",
        "/api/v1/leases/पत्र",
    ):
        assert api.find("PUT", path).refusal is not None


def test_a_wrong_method_needs_what_the_right_one_needs_before_it_is_told(api: Api) -> None:
    assert api.find("GET", "/api/v1/runs").access == Access()
    assert api.find("POST", "/healthz").access == Access(open=True)
