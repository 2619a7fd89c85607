"""The status page in a real Chromium, served by the real server: what it says, to whom, and when all goes wrong."""

from __future__ import annotations

import time
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from selenium.webdriver import Chrome, Keys

from syncd.core.errors import CatalogueError
from syncd.web.server import ApiServer
from tests.support import statuses
from tests.support.chromium import looks_like, start_browser
from tests.support.pages import Page
from tests.support.statuses import PageService, at, mirror, status, without

NASTY = "<img src=x onerror=\"document.title='taken'\">&amp;"
LONG = "unbroken" * 50
ROWS_MAX = 500


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Chrome]:
    with start_browser(tmp_path_factory.mktemp("profile")) as running:
        yield running


@pytest.fixture
def service() -> PageService:
    found = PageService()
    found.folders = statuses.small_tree()
    return found


@pytest.fixture
def server(service: PageService, tmp_path: Path) -> Iterator[ApiServer]:
    bugs: list[BaseException] = []
    running = serve(service, tmp_path, bugs)
    yield running
    running.close()
    assert bugs == []


def serve(service: PageService, folder: Path, bugs: list[BaseException], port: int = 0) -> ApiServer:
    server = ApiServer(
        service,
        folder / "run" / "syncd.sock",
        listen=("127.0.0.1", port),
        token=lambda: "secret",
        on_bug=bugs.append,
    )
    server.start()
    return server


@pytest.fixture
def page(browser: Chrome, server: ApiServer) -> Iterator[Page]:
    looks_like(browser)
    yield Page(browser, f"http://127.0.0.1:{server.port}")
    browser.get("about:blank")


# --- what it says ----------------------------------------------------------------------------------------------------


def test_all_is_well(page: Page, service: PageService) -> None:
    page.open()
    page.until_word("OK")
    assert page.level == "ok"
    assert page.says("#headline") == "2 mirrors, 12,428 files, 491 MB held and verified"
    assert page.says("h1") == "syncd tod-mac"
    assert page.browser.title == "OK - tod-mac - syncd"
    assert [card.text for card in page.all(".card h3")] == ["Bhushanji", "newsletters"]
    card = page.says(".card")
    for said in (
        "16 files, 93 MB",
        "2 min",
        "in 8 min",
        "took 5 s, 3 fetched",
        "41 GB free, floor 12 GB",
        "nothing damaged",
    ):
        assert said in card
    assert "source Bhushanji ok 0.8 ms" in page.says("#hops").replace("\n", " ")
    assert "mongodb off" in page.says("#hops").replace("\n", " ")
    assert "tod-mac-1" in page.says("#workers")
    assert "2 held, 2 versions pinned" in page.says("#owed")
    assert not page.one("#access").is_displayed()
    assert page.complaints() == []


def test_everything_comes_from_the_daemon_and_nothing_is_inline(page: Page) -> None:
    page.open()
    page.until_word("OK")
    loaded = page.script("return performance.getEntriesByType('resource').map((each) => each.name)")
    assert loaded
    assert all(name.startswith(page.base) for name in loaded)
    assert page.script("return document.querySelectorAll('[style], style, script:not([src]), [onclick]').length") == 0
    assert page.complaints() == []


def test_a_run_shows_how_far_it_is(page: Page, service: PageService) -> None:
    service.shown = statuses.running()
    page.open()
    page.until_word("OK")
    said = page.until(lambda: page.says(".card[data-key=newsletters] .running"))
    assert "1,204 of 5,000 files, 1.2 GB of 4.9 GB, 29 MB/s, 2 min left" in said
    share = float(page.one(".card[data-key=newsletters] progress").get_property("value"))
    assert abs(share - 1_210 / 4_900) < 0.001
    assert not page.one(".card[data-key=Bhushanji] .running").is_displayed()


def bad_states() -> list[Any]:
    down = {"name": "source Bhushanji", "state": "down", "since": at(-90), "detail": "no route", "latency_ms": None}
    full = mirror("Bhushanji", disk={"free_bytes": 11_000, "floor_bytes": 12_000, "trash_bytes": 0})
    owed = {"mode": "nsq", "owed": 1_234, "oldest": at(-900), "state": "waiting", "error": "", "warning": ""}
    no_channel = {
        "mode": "nsq",
        "owed": 0,
        "oldest": None,
        "state": "on",
        "error": "",
        "warning": "no channel on file_sync_ready",
    }
    return [
        pytest.param(statuses.halted(), "HALTED", "bad", "syncd approve --mirror newsletters", id="halted"),
        pytest.param(statuses.failing(), "FAILING", "bad", "syncd status --json", id="failing"),
        pytest.param(status(mirror("a", "behind", hint="syncd doctor")), "BEHIND", "warn", "syncd doctor", id="behind"),
        pytest.param(status(mirror("a", "odd")), "ODD", "warn", "", id="a state that the page does not know"),
        pytest.param(status(hops=[down]), "SOURCE DOWN", "warn", "syncd doctor", id="source down"),
        pytest.param(status(hops=[{**down, "name": "nsqd"}]), "NSQ DOWN", "warn", "syncd doctor", id="nsqd down"),
        pytest.param(status(hops=[{**down, "name": "mongodb"}]), "MONGODB DOWN", "warn", "syncd doctor", id="mongo"),
        pytest.param(status(announcing=owed), "UNANNOUNCED", "warn", "syncd doctor", id="announcements owed for long"),
        pytest.param(status(announcing=no_channel), "WARNING", "warn", "syncd doctor", id="topic without a channel"),
        pytest.param(status(full), "DISK FULL", "bad", "free some space; the next run goes on", id="disk full"),
        pytest.param(status(daemon={"running": False}), "NO DAEMON", "bad", "syncd service status", id="no daemon"),
        pytest.param(status(problems=["the new configuration is wrong"]), "WARNING", "warn", "syncd doctor", id="own"),
        pytest.param({**status(), "mirrors": []}, "NO MIRRORS", "warn", "syncd init", id="no mirrors"),
    ]  # fmt: skip


@pytest.mark.parametrize(("shown", "word", "level", "hint"), bad_states())
def test_a_bad_state_looks_bad_from_across_the_room(
    page: Page, service: PageService, shown: dict[str, Any], word: str, level: str, hint: str
) -> None:
    looks_like(page.browser, width=1920, height=1080, still=True)
    service.shown = shown
    page.open()
    page.until_word(word)
    assert page.level == level
    assert page.browser.title.startswith(word)
    assert page.one("#icon").get_attribute("href") == f"{page.base}/static/icon-{level}.svg"
    assert (page.says("#command") if page.one("#next").is_displayed() else "") == hint
    ground = page.script("return getComputedStyle(document.getElementById('banner')).backgroundColor")
    assert ground == {"bad": "rgb(179, 0, 27)", "warn": "rgb(255, 179, 26)"}[level]
    banner, letters = page.one("#banner").rect, page.one("#state").rect
    assert banner["width"] == 1920
    assert banner["height"] > 1080 / 4
    assert letters["height"] > 1080 / 9
    assert page.complaints() == []


def test_the_worst_comes_first_and_the_rest_is_listed(page: Page, service: PageService) -> None:
    service.shown = statuses.halted()
    page.open()
    page.until_word("HALTED")
    assert [card.text for card in page.all(".card h3")] == ["newsletters", "Bhushanji"]
    assert page.says("#headline").startswith("newsletters: 214 of 412 files are gone from the share")
    also = page.says("#also")
    assert "nsqd is down since 12 min: 127.0.0.1:4150: connection refused" in also
    assert "3 announcements owed" in also


def test_failures_tell_reason_and_next_step(page: Page, service: PageService) -> None:
    service.shown = statuses.failing()
    page.open()
    page.until_word("FAILING")
    rows = page.all(".card[data-key=Bhushanji] .failures li")
    assert len(rows) == 7
    first = rows[0].text.replace("\n", " ")
    assert "hin-written/पत्र १९६२ (1).JPG denied 3 attempts, since 24 h 00 min ago ask the share's admin" in first
    assert page.says(".failures summary") == "7 failed"
    page.one(".refused summary").click()
    assert "name_stream" in page.says(".refused")
    page.one(".more summary").click()
    assert "off: no inotify watches left" in page.says(".more")
    assert "4: notes.txt, old/a.jpg, old/b.jpg, ..." in page.says(".more")


def test_paused_is_calm_and_says_until_when(page: Page, service: PageService) -> None:
    service.shown = status(mirror("a", "paused", paused_until=at(3_600 * 3)), mirror("b", "paused"))
    page.open()
    page.until_word("PAUSED")
    assert page.level == "paused"
    assert "paused, resumes in 3 h 00 min" in page.says(".card[data-key=a]")
    assert "paused until syncd resume" in page.says(".card[data-key=b]")


# --- what is missing, odd or too much --------------------------------------------------------------------------------

WHOLE = ("hops", "workers", "announcing", "leases", "daemon", "at")


@pytest.mark.parametrize("gone", ["missing", "null"])
def test_fields_that_are_missing_are_not_known(page: Page, service: PageService, gone: str) -> None:
    """One mirror for each field that it lacks; then statuses without each of the other fields."""
    fields = sorted(mirror("a").keys() - {"name", "state"})
    service.shown = status(*(lacking(mirror(f"no {name}"), name, gone) for name in fields))
    page.open()
    page.until_word("OK")
    assert [card.get_attribute("data-key") for card in page.all(".card")] == [f"no {name}" for name in fields]
    for name in ("bytes", "next_run", "disk", "verification"):
        assert "not known" in page.says(f".card[data-key='no {name}']"), name
    page.open_all_details()
    for name in ("watching", "source", "foreign", "every_s"):
        assert "not known" in page.says(f".card[data-key='no {name}'] .more"), name
    bare = status(host="bare")
    for name in WHOLE:
        bare = lacking(bare, name, gone)
    service.shown = bare
    page.until(lambda: page.hurry() or page.says("#host") == "bare")
    assert page.word == "OK"
    assert "not known" in page.says("#owed")
    assert page.says("#workers") == "No worker is known."
    assert page.complaints() == []


def lacking(shown: dict[str, Any], name: str, gone: str) -> dict[str, Any]:
    left = {key: value for key, value in shown.items() if key != name}
    return {**left, name: None} if gone == "null" else left


def test_parts_of_what_is_there_may_be_missing_too(page: Page, service: PageService) -> None:
    parts = (
        "free_bytes",
        "cursor_fraction",
        "checked",
        "fetch",
        "state",
        "since",
        "owed",
        "pins",
        "reason",
        "hint",
        "mode",
    )
    service.shown = {**without(statuses.failing(), *parts), "host": "partly"}
    page.open()
    page.until_word("UNKNOWN")
    assert "not known" in page.says(".card")
    assert "not known" in page.says("#owed")
    assert page.complaints() == []


def test_an_answer_that_is_no_status_is_a_bad_state(page: Page, service: PageService) -> None:
    service.shown = {
        "mirrors": [{"name": "a", "state": "ok", "watching": 3, "failures": "none"}],
        "hops": "?",
        "leases": 3,
    }
    page.open()
    page.until_word("OK")
    service.shown = {"announcing": [], "mirrors": [3, None, {}]}
    page.until_word("UNKNOWN")


def test_names_are_text_whatever_they_say(page: Page, service: PageService) -> None:
    """Names on a share are written by strangers, and so may be everything else that is shown."""
    failure = {"path": NASTY, "reason": NASTY, "hint": NASTY, "attempts": 1, "since": at(-5)}
    bad = mirror(NASTY, "failing", failures=[failure], refused=[failure], message=NASTY, hint=NASTY, source=NASTY)
    hop = {"name": NASTY, "state": NASTY, "since": NASTY, "detail": NASTY, "latency_ms": NASTY}
    worker = {"id": NASTY, "state": NASTY, "since": NASTY, "task": {"path": NASTY}}
    announcing = {"mode": NASTY, "owed": NASTY, "oldest": NASTY, "state": NASTY, "error": NASTY, "warning": NASTY}
    service.shown = status(bad, host=NASTY, version=NASTY, hops=[hop], workers=[worker], announcing=announcing)
    entry = {
        "name": NASTY,
        "files": NASTY,
        "bytes": NASTY,
        "size": NASTY,
        "sha256": NASTY,
        "reason": NASTY,
        "hint": NASTY,
    }
    service.folders = {(NASTY, ""): {"folders": [entry], "files": [entry], "missing": [entry], "more": True}}
    service.happen(NASTY, NASTY, at=NASTY, server_path=NASTY)
    page.open()
    page.until_word("FAILING")
    page.until(lambda: page.all("#folder-rows tr"))
    page.until(lambda: page.all("#events li"))
    assert page.script("return document.querySelectorAll('img').length") == 0
    assert page.browser.title == f"FAILING - {NASTY} - syncd"
    for selector in ("h1", "#headline", "#command", ".card h3", ".failures .path", "#hops .name", "#workers .detail",
                     "#events .path", "#folder-rows button.folder", "#folder-mirror option", "#crumbs"):  # fmt: skip
        assert "<img src=x onerror=" in page.says(selector), selector
    assert page.complaints() == []


def test_however_much_there_is_the_page_stays_small(page: Page, service: PageService) -> None:
    failures = [{"path": f"a/{n}", "reason": "denied", "hint": "", "attempts": 1, "since": at(-n)} for n in range(1000)]
    mirrors = [mirror(f"m{n}", "failing", failures=failures, refused=failures) for n in range(100)]
    hops = [{"name": f"source m{n}", "state": "ok", "since": None, "detail": "", "latency_ms": 1} for n in range(300)]
    workers = [{"id": f"w{n}", "state": "idle", "since": None, "task": ""} for n in range(300)]
    files = [{"name": f"f{n}", "size": n, "mtime_ns": 0, "sha256": ""} for n in range(1000)]
    service.shown = status(*mirrors, hops=hops, workers=workers)
    service.folders = {("m0", ""): {"folders": files, "files": files, "missing": files, "more": True}}
    for number in range(1500):
        service.happen("ready", f"x/{number}")
    page.open()
    page.until_word("FAILING")
    page.until(lambda: page.all("#folder-rows tr"))
    page.until(lambda: page.says("#events .path").endswith("/1499"))
    assert page.script("return document.querySelectorAll('li, tr, article').length") < ROWS_MAX
    assert page.says("#cards-more").startswith("60 more mirrors not shown")
    assert "more: syncd status --json" in page.says(".failures .note")
    assert "1,000 files held, 1,000 missing" in page.says("#folder-note")
    assert "The folder has more than is listed here" in page.says("#folder-note")


# --- the connection --------------------------------------------------------------------------------------------------


def test_a_daemon_that_is_gone_is_seen_within_seconds_and_so_is_its_return(
    page: Page, service: PageService, server: ApiServer, tmp_path: Path
) -> None:
    page.open()
    page.until_word("OK")
    port = server.port
    assert port is not None
    server.close()
    gone_at = time.monotonic()
    page.until_word("NO CONNECTION", hurry=False)
    assert time.monotonic() - gone_at < 12  # one status call and its pause, on a busy machine
    assert page.level == "lost"
    page.until(lambda: " s old" in page.says("#headline"))
    first = page.says("#asof")
    page.until(lambda: page.says("#asof") != first, "an age that grows")
    assert page.one("#cards").is_displayed()
    bugs: list[BaseException] = []
    (tmp_path / "again").mkdir()
    again = serve(service, tmp_path / "again", bugs, port)
    try:
        page.until_word("OK")
        service.happen("ready", "came/back.pdf")
        page.until(lambda: "came/back.pdf" in page.says("#events"))
    finally:
        again.close()
    assert bugs == []


def test_a_daemon_that_hangs_is_no_connection_too(page: Page, service: PageService) -> None:
    page.open()
    page.until_word("OK")
    service.slow_s["status"] = 5.0
    page.until_word("NO CONNECTION")
    assert "no answer in time" in page.says("#headline")
    service.slow_s.clear()
    page.until_word("OK")


def test_a_page_that_slept_does_not_show_old_numbers_as_new(page: Page) -> None:
    page.open()
    page.until_word("OK")
    page.script("const real = Date.now; window.fetch = () => new Promise(() => {}); Date.now = () => real() + 60_000")
    page.until_word("NO CONNECTION", hurry=False)
    assert "Everything below is 1 min old." in page.says("#headline").replace("61 s", "1 min").replace("60 s", "1 min")


def test_a_tab_that_nobody_sees_holds_no_connection(page: Page, service: PageService) -> None:
    """All tabs of a site share six connections; with a long poll in each, the seventh would hear nothing."""
    page.open()
    page.until_word("OK")
    page.script("Object.defineProperty(document, 'hidden', {get: () => true}); performance.clearResourceTimings()")
    service.happen("ready", "a.pdf")  # ends the long poll that is under way
    asked = (
        "return performance.getEntriesByType('resource').map((each) => each.name).filter((name) => /events/.test(name))"
    )
    page.until(lambda: page.script(asked)[-1:] and page.script(asked)[-1].endswith("timeout=0"))
    page.until(lambda: "a.pdf" in page.says("#events"))


def test_a_daemon_that_answers_with_an_error(page: Page, service: PageService) -> None:
    page.open()
    page.until_word("OK")
    service.fail["status"] = CatalogueError("the catalogue is locked")
    page.until_word("DAEMON ERROR")
    assert page.level == "lost"
    assert "the catalogue is locked" in page.says("#headline")
    service.fail.clear()
    page.until_word("OK")


def test_the_token_leaves_the_address_bar_and_stays_in_the_tab(page: Page) -> None:
    page.open()
    page.until_word("OK")
    assert page.browser.current_url == f"{page.base}/"
    assert "secret" not in page.script("return document.documentElement.outerHTML")
    assert page.script("return localStorage.length + document.cookie.length") == 0
    page.browser.refresh()
    page.until_word("OK")


def test_without_a_token_nothing_is_shown_but_how_to_get_one(page: Page) -> None:
    page.open(token="")
    page.until_word("NO ACCESS")
    assert page.says("#command") == "syncd status --open"
    assert not page.one("#columns").is_displayed()
    for wrong in ("wrong", "schlüssel"):
        page.one("#token").send_keys(wrong, Keys.ENTER)
        page.until(lambda: page.says("#token-refused").startswith("Refused: "))
    page.one("#token").send_keys("secret", Keys.ENTER)
    page.until_word("OK")
    assert not page.one("#access").is_displayed()
    page.until(lambda: page.all("#folder-rows tr"))


def test_a_new_link_in_the_same_tab_counts_at_once(page: Page) -> None:
    page.open(token="old")
    page.until_word("NO ACCESS")
    page.script("location.hash = 'token=secret'")
    page.until_word("OK")
    assert page.browser.current_url == f"{page.base}/"


# --- events and folders ----------------------------------------------------------------------------------------------


def test_events_appear_as_they_happen_the_newest_first(page: Page, service: PageService) -> None:
    for number in range(50):
        service.happen("ready", f"old/{number}.pdf")
    page.open()
    page.until(lambda: page.says("#events .path") == "Bhushanji/old/49.pdf")
    assert len(page.all("#events li")) == 30
    service.happen("removed", "new/letter .JPG")
    page.until(lambda: page.says("#events .path") == "Bhushanji/new/letter .JPG")
    first = page.says("#events li").replace("\n", " ")
    assert first.startswith("removed Bhushanji/new/letter .JPG")
    assert "8.1 MB" not in first
    assert page.says("#events-note") == "The newest first."


def test_events_that_are_not_kept_any_more_leave_a_word(page: Page, service: PageService) -> None:
    page.open()
    page.until_word("OK")
    service.kept_events = 1
    with service._lock:
        for number in range(20):
            service.happen("ready", f"{number}.pdf")
    page.until(lambda: "not kept any more" in page.says("#events-note"))
    assert page.says("#events .path") == "Bhushanji/19.pdf"


def test_folders_are_walked_by_keyboard(page: Page, service: PageService) -> None:
    page.open()
    page.until(lambda: len(page.all("#folder-rows tr")) == 3)
    assert page.says("#folder-note") == "2 folders, 1 file held, 0 missing."
    for _ in range(60):
        if "hin-written/" in page.tab()[0]:
            break
    page.press(Keys.ENTER)
    page.until(lambda: "5 files held, 1 missing" in page.says("#folder-note"))
    assert 'aria-current="page"' in page.script("return document.activeElement.outerHTML")
    rows = [row.text.replace("\n", " ") for row in page.all("#folder-rows tr")]
    assert rows[0] == "diary 14.1.1958.jpeg missing denied: ask the share's admin to let this user read it"
    assert rows[1] == "पत्र (1).JPG held 8.1 MB"
    page.press(Keys.SHIFT, Keys.TAB)
    page.press(Keys.NULL)
    page.one("#crumbs button").send_keys(Keys.ENTER)
    page.until(lambda: page.says("#folder-note").startswith("2 folders"))


def test_folders_are_filtered_paged_and_looked_at_again(page: Page, service: PageService) -> None:
    files = [{"name": f"scan {n:03}.jpg", "size": n, "mtime_ns": 0, "sha256": ""} for n in range(250)]
    service.folders[("Bhushanji", "")] = {"folders": [], "files": files, "missing": [], "more": False}
    page.open()
    page.until(lambda: len(page.all("#folder-rows tr")) == 100)
    page.one("#page-on").click()
    page.one("#page-on").click()
    assert page.says("#page-of") == "3 of 3"
    assert not page.one("#page-on").is_enabled()
    assert page.says("#folder-rows tr th") == "scan 200.jpg"
    page.one("#folder-filter").send_keys("SCAN 24")
    page.until(lambda: len(page.all("#folder-rows tr")) == 10)
    assert page.says("#folder-note") == "0 folders, 250 files held, 0 missing. 10 shown."
    service.folders[("Bhushanji", "")]["files"] = files[:249]
    service.happen("removed", "scan 249.jpg")
    page.until(lambda: len(page.all("#folder-rows tr")) == 9, "a second look after the event")
    assert page.one("#folder-filter").get_property("value") == "SCAN 24"


def test_a_folder_that_cannot_be_shown_says_why(page: Page, service: PageService) -> None:
    service.folders[("newsletters", "")] = None
    page.open()
    page.until(lambda: page.all("#folder-rows tr"))
    page.one("#folder-mirror").send_keys("newsletters")
    page.until(lambda: page.says("#folder-note") == "Cannot be shown: there is no such mirror")
    assert not page.one("#folder").is_displayed()


# --- for everybody ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("modern", [True, False], ids=["moveBefore", "insertBefore"])
def test_what_a_viewer_opened_focused_and_selected_stays_so(page: Page, service: PageService, modern: bool) -> None:
    service.shown = statuses.failing()
    page.open()
    page.until_word("FAILING")
    if not modern:
        page.script("delete Element.prototype.moveBefore")
    page.one(".failures summary").click()
    page.one(".more summary").click()
    for shown, word in [(statuses.halted(), "HALTED"), (statuses.failing(), "FAILING")]:  # the cards change places
        service.shown = shown
        page.until_word(word)
        assert page.script("return document.activeElement.parentElement.className") == "more"
        assert page.script("return document.activeElement.closest('.card').dataset.key") == "Bhushanji"
    assert page.one(".card[data-key=Bhushanji] .failures").get_property("open") is False
    assert page.one(".card[data-key=Bhushanji] .more").get_property("open") is True
    page.script("getSelection().selectAllChildren(document.querySelector('.card .figures'))")
    selected = page.script("return getSelection().toString()")
    service.shown = {**statuses.failing(), "host": "another"}
    page.until(lambda: page.hurry() or page.says("#host") == "another")
    assert "16 files, 93 MB" in selected
    assert page.script("return getSelection().toString()") == selected


def test_everything_is_reached_by_tab_and_focus_is_seen(page: Page, service: PageService) -> None:
    service.shown = statuses.failing()
    page.open()
    page.until(lambda: page.all("#folder-rows tr"))
    page.script("document.querySelector('body').focus()")
    wanted = page.script(
        "return [...document.querySelectorAll('a, button, input, select, summary, [tabindex=\"0\"]')]"
        ".filter((node) => node.checkVisibility() && !node.disabled).length"
    )
    reached = []
    for _ in range(wanted):
        start, style, width, _colour = page.tab()
        assert style != "none", start
        assert width >= 2, start
        reached.append(start)
    assert 'class="skip"' in reached[0]
    assert len({*reached}) > 10
    assert page.script("return document.activeElement !== document.body")
    page.press(Keys.TAB)  # nothing is left: the focus leaves the page
    assert page.script("return document.activeElement === document.body")


def test_the_skip_link_leads_past_the_banner(page: Page) -> None:
    page.open()
    page.until_word("OK")
    assert page.tab()[0].startswith('<a class="skip"')
    page.until(lambda: page.one(".skip").rect["y"] >= 0)
    page.press(Keys.ENTER)
    assert page.script("return document.activeElement.id") == "main"
    page.until_word("OK")  # and the fragment is not taken for a token


def test_roles_names_and_headings(page: Page, service: PageService) -> None:
    service.shown = statuses.failing()
    page.open()
    page.until(lambda: page.all("#folder-rows tr"))
    tree = page.browser.execute_cdp_cmd("Accessibility.getFullAXTree", {})["nodes"]
    shown = [(node["role"]["value"], node.get("name", {}).get("value", "")) for node in tree if not node["ignored"]]
    needing = (
        "button",
        "textbox",
        "searchbox",
        "combobox",
        "link",
        "region",
        "progressbar",
        "article",
        "table",
        "heading",
    )
    assert [role for role, name in shown if role in needing and not name.strip()] == []
    roles = [role for role, _ in shown]
    for landmark in ("banner", "main", "contentinfo", "navigation"):
        assert roles.count(landmark) == 1, landmark
    assert ("combobox", "Mirror") in shown
    assert ("searchbox", "Names with") in shown
    levels = page.heading_levels()
    assert levels[0] == 1
    assert levels.count(1) == 1
    assert all(after - before <= 1 for before, after in pairwise(levels))
    ids = page.script("return [...document.querySelectorAll('[id]')].map((node) => node.id)")
    assert len(ids) == len(set(ids))
    assert page.one("html").get_attribute("lang") == "en"


def test_a_screen_reader_hears_changes_of_state_and_nothing_else(page: Page, service: PageService) -> None:
    page.open()
    page.until_word("OK")
    assert page.one("#spoken").get_attribute("textContent") == "OK. Bhushanji ok, newsletters ok"
    page.script(
        "window.heard = [];"
        "new MutationObserver(() => heard.push(document.getElementById('spoken').textContent))"
        ".observe(document.getElementById('spoken'), {childList: true, characterData: true, subtree: true})"
    )
    before = service.calls["status"]
    for number in range(2):
        service.happen("ready", f"{number}.pdf")
        service.shown = status(mirror("Bhushanji", files=number, lag_s=number), mirror("newsletters"))
        page.until(lambda asked=before + number + 1: page.hurry() or service.calls["status"] > asked)
    assert page.script("return heard") == []
    service.shown = statuses.halted()
    page.until_word("HALTED")
    assert page.script("return heard") == ["HALTED. Bhushanji ok, newsletters halted"]
    live = page.script(
        "return [...document.querySelectorAll('[aria-live], [role=status], [role=alert]')].map((n) => n.id)"
    )
    assert live == ["spoken", "token-refused", "folder-note"]


@pytest.mark.parametrize("dark", [False, True], ids=["light", "dark"])
def test_contrast_is_aa_in_every_state(page: Page, service: PageService, dark: bool) -> None:
    looks_like(page.browser, dark=dark, still=True)
    service.happen("ready", "a.pdf")
    service.happen("updated", "b.pdf")
    service.happen("removed", "c.pdf")
    page.open()
    page.until(lambda: len(page.all("#events li")) == 3)
    page.until(lambda: page.all("#folder-rows button"))[1].click()
    page.until(lambda: page.all("#folder-rows [data-kind=missing]"))
    grounds = set()
    for shown, word in [
        (statuses.running(), "OK"),
        (statuses.halted(), "HALTED"),
        (statuses.failing(), "FAILING"),
        (status(mirror("a", "behind")), "BEHIND"),
        (status(mirror("a", "paused")), "PAUSED"),
    ]:
        service.shown = shown
        page.until_word(word)
        page.open_all_details()
        assert page.poor_contrasts() == [], word
        grounds.add(page.script("return getComputedStyle(document.getElementById('banner')).backgroundColor"))
    service.fail["status"] = CatalogueError("locked")
    page.until_word("DAEMON ERROR")
    assert page.poor_contrasts() == []
    page.open(token="wrong")
    page.until_word("NO ACCESS")
    page.one("#token").send_keys("as wrong", Keys.ENTER)
    page.until(lambda: page.says("#token-refused"))
    assert page.poor_contrasts(texts_at_least=10) == []
    assert len(grounds) == 4  # halted and failing share one
    assert page.script("return getComputedStyle(document.body).backgroundColor") == (
        "rgb(14, 17, 21)" if dark else "rgb(238, 240, 243)"
    )


@pytest.mark.parametrize("shown", [status(), statuses.running(), statuses.halted(), statuses.failing()])
def test_a_phone_needs_no_sideways_scrolling(page: Page, service: PageService, shown: dict[str, Any]) -> None:
    looks_like(page.browser, width=360, height=740)
    shown["mirrors"][0] |= {"name": f"mirror{LONG}", "target": f"/{LONG}/{LONG}", "message": LONG}
    shown["workers"][0] |= {"task": f"{LONG}.pdf"}
    service.shown = shown
    root = (f"mirror{LONG}", "")
    service.folders = {
        root: {"folders": [{"name": LONG, "files": 1, "bytes": 1}], "files": [{"name": LONG, "size": 1}], "missing": []}
    }
    service.happen("ready", f"{LONG}/{LONG}.pdf")
    page.open()
    page.until(lambda: page.all("#events li"))
    page.until(lambda: page.all("#cards article"))
    page.open_all_details()
    page.one("#folder-mirror").send_keys("mirror")
    page.until(lambda: page.all("#folder-rows tr"))
    assert page.script("return document.documentElement.scrollWidth") <= 360
    assert page.beyond_the_edge() == []
    assert page.too_low() == []


def test_a_screen_on_the_wall_gets_larger_letters(page: Page) -> None:
    sizes = []
    for width, height in ((360, 740), (1280, 900), (1920, 1080), (3840, 2160)):
        looks_like(page.browser, width=width, height=height)
        page.open()
        page.until_word("OK")
        sizes.append(page.script("return parseFloat(getComputedStyle(document.querySelector('.figures dd')).fontSize)"))
        assert page.script("return document.documentElement.scrollWidth") <= width
    assert sizes[0] >= 15
    assert sizes[2] > sizes[1]
    assert sizes[3] > 1.3 * sizes[2]


@pytest.mark.parametrize(("still", "moving"), [(True, 0), (False, 1)])
def test_nothing_moves_for_those_who_asked_for_that(page: Page, service: PageService, still: bool, moving: int) -> None:
    looks_like(page.browser, still=still)
    service.shown = statuses.halted()
    page.open()
    page.until_word("HALTED")
    assert page.script("return document.getAnimations().length") == moving


def test_times_are_the_viewers_and_utc_is_in_the_title(page: Page, service: PageService) -> None:
    looks_like(page.browser, zone="Asia/Kolkata")
    today = at(0)[:10]
    service.happen("ready", "a.pdf", at="1962-04-12T20:00:05Z")
    service.happen("ready", "b.pdf", at=f"{today}T00:00:07+00:00")
    page.open()
    page.until(lambda: len(page.all("#events time")) == 2)
    newer, older = page.all("#events time")
    assert older.text == "Apr 13, 1962, 01:30:05 AM"
    assert older.get_attribute("title") == "1962-04-12 20:00:05 UTC"
    assert newer.text.endswith("05:30:07 AM")
    assert newer.get_attribute("title") == f"{today} 00:00:07 UTC"
    assert "times in Asia/" in page.says("#about")


def test_ages_go_by_the_daemons_clock(page: Page, service: PageService) -> None:
    """A viewer whose clock is wrong by hours sees how old things are all the same."""
    page.open()
    page.until_word("OK")
    page.browser.execute_cdp_cmd(
        "Page.addScriptToEvaluateOnNewDocument",
        {"source": "const real = Date.now; Date.now = () => real() + 3 * 3600 * 1000;"},
    )
    page.browser.refresh()
    page.until_word("OK")
    assert "2 min ago: ok" in page.says(".card")
    assert "in 8 min" in page.says(".card")
