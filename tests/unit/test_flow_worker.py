"""The worker's flow over fakes: how each kind of task and each kind of trouble ends."""

from __future__ import annotations

import json
import threading
import time

import pytest

from syncd.core.resolution import State
from tests.support.flow_desk import PATIENCE_S, Desk, FakeDelivery, FakeHold, until
from worker_glue.errors import OcrFailed, OcrRefused, OcrStopped
from worker_glue.model import Kind, OcrRequest
from worker_glue.ports import Saved


def _hang(request: OcrRequest, stop: threading.Event) -> None:
    assert stop.wait(20)
    raise OcrStopped("asked to stop")


def test_a_task_ends_in_one_result_and_its_message_is_finished_after_it_is_recorded() -> None:
    with Desk() as desk:
        desk.job("job", 1)
        assert desk.give("Bhushanji/a b.JPG").wait() == ("finish", 0)
        (entry,) = desk.entries("job", Kind.RESULT)
        assert (entry["file"], entry["file_path"], entry["file_index"]) == ("a b.JPG", "Bhushanji/a b.JPG", 0)
        assert entry["metadata"]["worker_id"] == "tod-mac-1"
        assert entry["source_sha256"] == "ab" * 32
        assert desk.store.counts().owed == 0
        assert desk.files.holds[0].released
        assert not desk.files.resolved, "its lease says that it is there"


def test_while_one_is_read_the_next_ones_file_is_brought() -> None:
    with Desk() as desk:
        desk.job("job", 2)
        desk.files.states["B/next.jpg"] = [State.FETCHING, State.READY]
        go_on = threading.Event()
        desk.recognizer.read = lambda request, stop: None if go_on.wait(20) else pytest.fail("never let go")
        first = desk.give("B/first.jpg", 0)
        until(lambda: len(desk.recognizer.requests) == 1)
        following = desk.give("B/next.jpg", 1)
        until(lambda: desk.files.asked[:1] == ["B/next.jpg"])
        go_on.set()
        assert first.wait() == following.wait() == ("finish", 0)


@pytest.mark.parametrize("body", [b"\xff\xfe", b"[1]", b"{}", b"x" * (1 << 20), b'{"job_id": 5}'])
def test_what_is_no_task_is_logged_and_finished(body: bytes) -> None:
    with Desk() as desk:
        assert desk.deliver(FakeDelivery(body)).wait() == ("finish", 0)
        assert desk.notes.counts["malformed"] == 1
        assert not desk.passed() and not desk.dead()


def test_a_malformed_task_of_a_job_is_recorded_as_its_one_error() -> None:
    with Desk() as desk:
        desk.job("job", 1)
        assert desk.give(index=0, languages=5).wait() == ("finish", 0)
        (entry,) = desk.entries("job", Kind.ERROR)
        assert "languages" in entry["error"]


@pytest.mark.parametrize("state", [State.REFUSED, State.AMBIGUOUS, State.NO_MIRROR])
def test_a_path_that_cannot_be_had_is_one_error_at_once(state: State) -> None:
    with Desk() as desk:
        desk.job("job", 1)
        desk.files.states["B/x.jpg"] = state
        assert desk.give().wait() == ("finish", 0)
        (entry,) = desk.entries("job", Kind.ERROR)
        assert entry["error"].startswith("file ")
        assert not desk.dead(), "it is permanent: nobody has to look at it again"


def test_a_collection_that_no_mirror_has_may_be_a_new_folder_of_one_that_is_looked_for_first() -> None:
    with Desk() as desk:
        desk.job("job", 1)
        desk.files.states["new/x.jpg"] = State.NO_MIRROR
        desk.files.arrives.add("new/x.jpg")
        assert desk.give("new/x.jpg").wait() == ("finish", 0)
        assert len(desk.entries("job", Kind.RESULT)) == 1


def test_missing_takes_two_looks_and_names_what_may_be_meant() -> None:
    with Desk() as desk:
        desk.job("job", 1)
        desk.files.states["B/x.jpg"] = State.MISSING
        desk.files.near = ("B/x .jpg",)
        assert desk.give().wait() == ("finish", 0)
        (entry,) = desk.entries("job", Kind.ERROR)
        assert len(desk.files.asked) == 2
        assert "B/x .jpg" in entry["error"]


def test_missing_once_is_not_missing() -> None:
    with Desk() as desk:
        desk.job("job", 1)
        desk.files.states["B/x.jpg"] = [State.MISSING, State.UNAVAILABLE, State.MISSING, State.READY]
        assert desk.give().wait() == ("finish", 0)
        assert len(desk.entries("job", Kind.RESULT)) == 1


def test_fifty_that_wait_do_not_hold_up_those_that_are_ready() -> None:
    with Desk() as desk:
        desk.job("job", 150)
        waiting = [
            desk.give(f"B/w{n}.jpg", n)
            for n in range(50)
            if not desk.files.states.update({f"B/w{n}.jpg": State.FETCHING})
        ]
        ready = [desk.give(f"B/r{n}.jpg", 50 + n) for n in range(100)]
        assert all(message.wait() == ("finish", 0) for message in ready)
        assert len(desk.entries("job", Kind.RESULT)) == 100
        held = [message for message in waiting if message.ended is None]
        assert len(held) == 20
        assert len(desk.passed()) == 30, "those for whom there is no room come again later"
        assert all(delay > 0 and "waiting_since" in body for body, delay in desk.passed())
        until(lambda: all(message.touched for message in held))
        assert not desk.entries("job", Kind.ERROR)


def test_what_waited_as_long_as_it_may_is_passed_on_once_and_then_an_error() -> None:
    with Desk(wait_for_source_s=0.1) as desk:
        desk.job("job", 1)
        desk.files.states["B/x.jpg"] = State.UNAVAILABLE
        assert desk.give().wait() == ("finish", 0)
        ((copy, delay),) = desk.passed()
        assert delay == 30 and not desk.entries("job", Kind.ERROR)
        time.sleep(0.1)
        assert desk.deliver(FakeDelivery(json.dumps(copy).encode())).wait() == ("finish", 0)
        (entry,) = desk.entries("job", Kind.ERROR)
        assert "after waiting" in entry["error"]
        assert desk.dead()[0]["dead"]["reason"] == "waited_too_long"


def test_what_this_worker_cannot_do_is_passed_on_and_after_minutes_an_error_that_names_the_key() -> None:
    with Desk() as desk:
        desk.job("job", 2)
        assert desk.give(provider="azure").wait() == ("finish", 0)
        ((copy, delay),) = desk.passed()
        assert delay == 30 and copy["passed_since"] == pytest.approx(time.time(), abs=30)
        assert desk.give(index=1, provider="azure", passed_since=time.time() - 601).wait() == ("finish", 0)
        (entry,) = desk.entries("job", Kind.ERROR)
        assert "azure" in entry["error"] and "[worker.providers]" in entry["error"]


def test_exclusive_says_so_at_once() -> None:
    with Desk(exclusive=True) as desk:
        desk.job("job", 1)
        desk.give(processing_mode="chain", chain_config={}).wait()
        assert not desk.passed() and len(desk.entries("job", Kind.ERROR)) == 1


def test_a_job_that_nobody_knows_goes_to_the_dead_topic() -> None:
    with Desk() as desk:
        assert desk.give(job="ghost").wait() == ("finish", 0)
        (dead,) = desk.dead()
        assert dead["dead"]["reason"] == "unknown_job" and dead["job_id"] == "ghost"
        assert not desk.recognizer.requests


def test_a_task_that_is_done_is_not_done_again() -> None:
    with Desk() as desk:
        desk.job("job", 1)
        desk.give().wait()
        assert desk.give().wait() == ("finish", 0)
        assert len(desk.recognizer.requests) == 1
        assert len(desk.entries("job", Kind.RESULT)) == 1


def test_an_unreadable_file_is_one_error_that_nobody_has_to_look_at() -> None:
    def refuse(request: OcrRequest, stop: threading.Event) -> None:
        raise OcrRefused("the JPEG is cut off")

    with Desk() as desk:
        desk.job("job", 1)
        desk.recognizer.read = refuse
        assert desk.give().wait() == ("finish", 0)
        (entry,) = desk.entries("job", Kind.ERROR)
        assert entry["error"] == "the JPEG is cut off"
        assert entry["source_sha256"] == "ab" * 32
        assert not desk.dead()


def test_an_engine_that_fails_is_tried_three_times_then_an_error_and_the_dead_topic() -> None:
    def fail(request: OcrRequest, stop: threading.Event) -> None:
        raise OcrFailed("the engine died")

    with Desk() as desk:
        desk.job("job", 1)
        desk.recognizer.read = fail
        assert desk.give().wait() == ("requeue", 10)
        assert desk.give().wait() == ("requeue", 10)
        assert desk.give().wait() == ("finish", 0)
        (entry,) = desk.entries("job", Kind.ERROR)
        assert entry["error"] == "the engine died"
        assert desk.dead()[0]["dead"]["reason"] == "ocr_failed"


def test_a_message_that_was_delivered_often_is_replaced_by_a_copy() -> None:
    def fail(request: OcrRequest, stop: threading.Event) -> None:
        raise OcrFailed("the engine died")

    with Desk() as desk:
        desk.job("job", 1)
        desk.recognizer.read = fail
        body = json.dumps({"job_id": "job", "file_path": "B/x.jpg", "file_index": 0}).encode()
        assert desk.deliver(FakeDelivery(body, attempts=4)).wait() == ("finish", 0)
        assert [delay for _, delay in desk.passed()] == [10]


def test_a_task_that_kills_its_worker_is_given_up() -> None:
    with Desk() as desk:
        desk.job("job", 1)
        task_message = desk.give("B/other.jpg", 5)
        task_message.wait()
        for _ in range(3):
            desk.begin_and_die("B/x.jpg", 0)
        assert desk.give().wait() == ("finish", 0)
        (entry,) = desk.entries("job", Kind.ERROR)
        assert "3 times" in entry["error"]
        assert [r.path for r in desk.recognizer.requests] == ["/mirror/B/other.jpg"]


def test_mongodb_away_work_goes_on_and_what_is_owed_comes_again_and_is_recorded_once() -> None:
    with Desk() as desk:
        desk.job("job", 3)
        desk.jobs_away()
        messages = [desk.give(f"B/{n}.jpg", n) for n in range(3)]
        assert all(message.wait() == ("finish", 0) for message in messages)
        assert desk.store.counts().owed == 3
        copies = desk.passed()
        assert len(copies) == 3 and all(delay >= 30 for _, delay in copies)
        desk.jobs_back()
        for body, _ in copies:
            assert desk.deliver(FakeDelivery(json.dumps(body).encode())).wait() == ("finish", 0)
        assert len(desk.entries("job", Kind.RESULT)) == 3
        assert len(desk.recognizer.requests) == 3, "nothing is read twice"
        assert desk.store.counts().owed == 0


def test_while_mongodb_is_away_the_control_topic_is_obeyed() -> None:
    with Desk() as desk:
        desk.job("job", 1)
        desk.job("cancelled", 1)
        desk.jobs_away()
        desk.worker.told("job", "pause")
        desk.worker.told("cancelled", "cancel")
        assert desk.give(job="cancelled").wait() == ("finish", 0)
        paused = desk.give()
        until(lambda: paused.touched > 1)
        assert not desk.recognizer.requests
        desk.jobs_back()
        assert paused.wait() == ("finish", 0)
        assert len(desk.entries("job", Kind.RESULT)) == 1
        assert not desk.entries("cancelled", Kind.RESULT)


def test_too_much_owed_halts_new_work() -> None:
    with Desk() as desk:
        desk.job("job", 2)
        desk.jobs_away()
        desk.give("B/0.jpg", 0).wait()
        desk.store.why_full = "enough is owed"
        desk.give("B/1.jpg", 1).wait()
        assert len(desk.recognizer.requests) == 1


def test_the_last_word_before_a_message_is_passed_on_is_nsqds() -> None:
    with Desk() as desk:
        desk.job("job", 1)
        desk.publisher.down = True
        message = desk.give(provider="azure")
        until(lambda: any(name == "pass_on.failed" for name, _ in desk.notes.events))
        assert message.ended is None, "it is not finished before nsqd has the copy"
        desk.publisher.down = False
        assert message.wait() == ("finish", 0)
        assert len(desk.passed()) == 1


def test_a_lost_lease_means_the_work_is_done_again_and_the_first_counts_for_nothing() -> None:
    taken: list[FakeHold] = []

    def hold(path: str) -> FakeHold:
        taken.append(FakeHold(path))
        taken[-1].lost = len(taken) == 1
        return taken[-1]

    with Desk() as desk:
        desk.job("job", 1)
        desk.files.make_hold = hold
        first = desk.recognizer.read
        desk.recognizer.read = lambda request, stop: _hang(request, stop) if len(taken) == 1 else first(request, stop)
        assert desk.give().wait() == ("finish", 0)
        assert len(taken) == 2
        assert len(desk.entries("job", Kind.RESULT)) == 1
        assert desk.entries("job", Kind.RESULT)[0]["retry_count"] == 0


def test_bytes_that_changed_under_ocr_are_read_again_and_given_up_when_it_never_ends() -> None:
    def spoilt(path: str) -> FakeHold:
        hold = FakeHold(path)
        hold.intact = False
        return hold

    with Desk() as desk:
        desk.job("job", 1)
        desk.files.make_hold = spoilt
        assert desk.give().wait() == ("finish", 0)
        assert not desk.entries("job", Kind.RESULT)
        assert "kept changing" in desk.entries("job", Kind.ERROR)[0]["error"]


def test_a_paused_job_waits_under_touch_and_goes_on() -> None:
    with Desk() as desk:
        desk.job("job", 1, status="paused")
        message = desk.give()
        until(lambda: message.touched > 1)
        assert not desk.recognizer.requests
        desk.set_status("job", "processing")
        assert message.wait() == ("finish", 0)
        assert len(desk.entries("job", Kind.RESULT)) == 1


@pytest.mark.parametrize(("room", "hold_max_s"), [(0, 900.0), (5, 0.4)])
def test_time_in_a_paused_job_is_no_waiting_for_the_file(room: int, hold_max_s: float) -> None:
    with Desk(room=room) as desk:
        desk.job("job", 1, status="paused")
        body = json.dumps({"job_id": "job", "file_path": "B/x.jpg", "file_index": 0}).encode()
        assert desk.deliver(FakeDelivery(body, hold_max_s=hold_max_s)).wait() == ("finish", 0)
        assert [copy for copy, _ in desk.passed()] == [json.loads(body)]


@pytest.mark.parametrize("phase", ["before", "during", "paused"])
def test_a_cancelled_job_is_left_alone(phase: str) -> None:
    with Desk() as desk:
        desk.job("job", 1, status={"before": "cancelled", "paused": "paused"}.get(phase, "processing"))
        desk.recognizer.read = _hang
        message = desk.give()
        if phase == "during":
            until(lambda: desk.recognizer.requests)
        if phase != "before":
            desk.set_status("job", "cancelled")
            desk.worker.told("job", "cancel")
        assert message.wait() == ("finish", 0)
        assert not desk.entries("job", Kind.RESULT) and not desk.entries("job", Kind.ERROR)


def test_what_waits_for_its_turn_under_a_lease_lets_it_go_when_its_job_is_paused() -> None:
    with Desk() as desk:
        for job in ("job", "other"):
            desk.job(job, 2)
        assert desk.give("B/quick.jpg", 0, job="other").wait() == ("finish", 0)
        go_on = threading.Event()
        desk.recognizer.read = lambda request, stop: None if go_on.wait(20) else pytest.fail("never let go")
        first = desk.give("B/first.jpg", 1, job="other")
        until(lambda: len(desk.recognizer.requests) == 2)
        queued = desk.give("B/queued.jpg", 0)
        until(lambda: len(desk.files.holds) == 3)
        assert not desk.files.holds[2].released
        desk.set_status("job", "paused")
        desk.worker.told("job", "pause")
        until(lambda: desk.files.holds[2].released)
        go_on.set()
        assert first.wait() == ("finish", 0)
        desk.set_status("job", "processing")
        assert queued.wait() == ("finish", 0)
        assert len(desk.entries("job", Kind.RESULT)) == 1


def test_pausing_stops_what_is_read_and_resuming_reads_it_again() -> None:
    with Desk() as desk:
        desk.job("job", 1)
        first = desk.recognizer.read
        desk.recognizer.read = _hang
        message = desk.give()
        until(lambda: desk.recognizer.requests)
        desk.set_status("job", "paused")
        desk.worker.told("job", "pause")
        until(lambda: desk.worker.describe()["waiting"] == 1)
        desk.recognizer.read = first
        desk.set_status("job", "processing")
        desk.worker.told("job", "resume")
        assert message.wait() == ("finish", 0)
        assert desk.entries("job", Kind.RESULT)[0]["retry_count"] == 0, "being paused is no attempt"


def test_a_redelivery_takes_the_place_of_a_lost_message() -> None:
    release = threading.Event()
    with Desk() as desk:
        desk.job("job", 1)
        desk.recognizer.read = lambda request, stop: release.wait(20) and None
        first = desk.give()
        until(lambda: desk.recognizer.requests)
        first.lose()
        again = desk.deliver(FakeDelivery(first.body, attempts=2))
        time.sleep(0.1)
        release.set()
        assert again.wait() == ("finish", 0)
        assert len(desk.recognizer.requests) == 1
        assert len(desk.entries("job", Kind.RESULT)) == 1


def test_a_second_message_of_a_task_in_hand_is_sent_away() -> None:
    release = threading.Event()
    with Desk() as desk:
        desk.job("job", 1)
        desk.recognizer.read = lambda request, stop: release.wait(20) and None
        first = desk.give()
        until(lambda: desk.recognizer.requests)
        assert desk.give().wait() == ("finish", 0)
        assert len(desk.passed()) == 1
        release.set()
        assert first.wait() == ("finish", 0)


def test_ocr_that_outlasts_nsqds_patience_leaves_a_copy_and_goes_on() -> None:
    release = threading.Event()
    with Desk() as desk:
        desk.job("job", 1)
        desk.recognizer.read = lambda request, stop: release.wait(20) and None
        body = json.dumps({"job_id": "job", "file_path": "B/x.jpg", "file_index": 0}).encode()
        message = desk.deliver(FakeDelivery(body, hold_max_s=0.4))
        assert message.wait() == ("finish", 0)
        ((copy, delay),) = desk.passed()
        assert delay == 600 and copy["file_path"] == "B/x.jpg"
        release.set()
        until(lambda: desk.entries("job", Kind.RESULT))


def test_what_waits_longer_than_nsqd_lets_it_is_passed_on_before() -> None:
    with Desk() as desk:
        desk.job("job", 1)
        desk.files.states["B/x.jpg"] = State.FETCHING
        body = json.dumps({"job_id": "job", "file_path": "B/x.jpg", "file_index": 0}).encode()
        message = desk.deliver(FakeDelivery(body, hold_max_s=0.4))
        assert message.wait() == ("finish", 0)
        assert "waiting_since" in desk.passed()[0][0]


def test_missing_is_an_error_where_nsqd_lets_no_message_be_held_between_two_looks() -> None:
    with Desk(missing_grace_s=15.0) as desk:  # by the clock of the looks, which are 20 s apart
        desk.job("job", 1)
        desk.files.states["B/x.jpg"] = State.MISSING
        body = json.dumps({"job_id": "job", "file_path": "B/x.jpg", "file_index": 0}).encode()
        assert desk.deliver(FakeDelivery(body, hold_max_s=0.4)).wait() == ("finish", 0)
        ((copy, _),) = desk.passed()
        assert "waiting_since" in copy and not desk.entries("job", Kind.ERROR)
        assert desk.deliver(FakeDelivery(json.dumps(copy).encode(), hold_max_s=0.4)).wait() == ("finish", 0)
        (entry,) = desk.entries("job", Kind.ERROR)
        assert entry["reason"] == "missing" and len(desk.passed()) == 1


def test_a_look_that_was_noted_counts_for_nothing_once_the_file_was_on_its_way_again() -> None:
    with Desk(missing_grace_s=15.0) as desk:
        desk.job("job", 1)
        desk.files.states["B/x.jpg"] = [State.UNAVAILABLE, State.FETCHING]
        noted = {"job_id": "job", "file_path": "B/x.jpg", "file_index": 0, "missing_at": "2025-01-01T00:00:00+00:00"}
        assert desk.deliver(FakeDelivery(json.dumps(noted).encode(), hold_max_s=0.4)).wait() == ("finish", 0)
        assert desk.passed()[0][0]["missing_at"] is None


def test_a_paused_task_is_passed_on_before_nsqd_takes_it_back_however_seldom_its_job_is_looked_at() -> None:
    with Desk(status_every_s=10 * PATIENCE_S) as desk:
        desk.job("job", 1, status="paused")
        body = json.dumps({"job_id": "job", "file_path": "B/x.jpg", "file_index": 0}).encode()
        assert desk.deliver(FakeDelivery(body, hold_max_s=0.4)).wait() == ("finish", 0)
        assert [copy for copy, _ in desk.passed()] == [json.loads(body)]


def test_stopping_gives_back_what_waits_and_lets_what_is_read_come_to_its_end() -> None:
    with Desk() as desk:
        desk.job("job", 2)
        desk.files.states["B/w.jpg"] = State.FETCHING
        waiting = desk.give("B/w.jpg", 1)
        desk.recognizer.read = lambda request, stop: time.sleep(0.3)
        reading = desk.give()
        until(lambda: desk.recognizer.requests)
        desk.worker.stop(5)
        assert waiting.wait() == ("requeue", 0)
        assert reading.wait() == ("finish", 0)
        assert len(desk.entries("job", Kind.RESULT)) == 1


def test_stopping_does_not_wait_for_answers_and_costs_an_often_delivered_message_nothing() -> None:
    answered = threading.Event()
    with Desk() as desk:
        desk.job("job", 2)
        desk.files.states.update({"B/a.jpg": State.FETCHING, "B/b.jpg": State.FETCHING})
        desk.files.ensure = lambda path, timeout_s: answered.wait(20) and desk.files.resolve(path)  # type: ignore[method-assign]
        body = json.dumps({"job_id": "job", "file_path": "B/b.jpg", "file_index": 1}).encode()
        first, often = desk.give("B/a.jpg"), desk.deliver(FakeDelivery(body, attempts=4))
        until(lambda: desk.worker.describe()["waiting"] == 2)
        desk.worker.stop(5)
        assert first.ended == ("requeue", 0)
        assert often.ended == ("finish", 0) and len(desk.passed()) == 1
        answered.set()
        time.sleep(0.1)
        assert len(desk.passed()) == 1


def test_stopping_gives_back_what_does_not_come_to_its_end_in_time() -> None:
    with Desk() as desk:
        desk.job("job", 1)
        desk.recognizer.read = _hang
        message = desk.give()
        until(lambda: desk.recognizer.requests)
        desk.worker.stop(0.2)
        assert message.wait() == ("requeue", 0)
        assert desk.tries("B/x.jpg", 0) == 0, "being stopped is no attempt"


def test_a_fault_in_the_worker_costs_one_task_and_no_other() -> None:
    def crash(request: OcrRequest, stop: threading.Event) -> None:
        if "x" in request.path:
            raise ZeroDivisionError

    with Desk() as desk:
        desk.job("job", 2)
        desk.recognizer.read = crash
        for _ in range(5):
            message = desk.give()
            if message.wait() == ("finish", 0):
                break
        assert "ZeroDivisionError" in desk.entries("job", Kind.ERROR)[0]["error"]
        assert desk.give("B/y.jpg", 1).wait() == ("finish", 0)
        assert len(desk.entries("job", Kind.RESULT)) == 1


def test_a_result_that_does_not_fit_is_one_short_error() -> None:
    with Desk() as desk:
        desk.job("job", 1)
        desk.jobs_full(1)
        assert desk.give().wait() == ("finish", 0)
        assert "does not fit" in desk.entries("job", Kind.ERROR)[0]["error"]
        assert not desk.dead()


def test_a_document_that_takes_nothing_ends_in_the_dead_topic() -> None:
    with Desk() as desk:
        desk.job("job", 1)
        desk.jobs_full(2)
        assert desk.give().wait() == ("finish", 0)
        assert desk.dead()[0]["dead"]["reason"] == "document_full"
        assert desk.store.counts().owed == 0


def test_a_document_of_another_form_is_not_blamed_on_its_size() -> None:
    with Desk() as desk:
        desk.job("job", 1)
        desk.jobs.save = lambda _: Saved.WRONG_FORM  # type: ignore[method-assign]
        assert desk.give().wait() == ("finish", 0)
        (dead,) = desk.dead()
        assert dead["dead"]["reason"] == "document_form"
        assert "not as the backend" in dead["dead"]["error"] and "MiB" not in dead["dead"]["error"]
        assert "result.too_large" not in [name for name, _ in desk.notes.events]
        assert desk.store.counts().owed == 0


def test_a_dead_message_that_nsqd_does_not_take_is_buried_here() -> None:
    with Desk() as desk:
        desk.publisher.down = True
        assert desk.give(job="ghost").wait() == ("finish", 0)
        ((_, body),) = desk.store.buried(10)
        assert json.loads(body)["dead"]["reason"] == "unknown_job"


def test_the_worker_says_how_it_is() -> None:
    with Desk() as desk:
        desk.job("job", 1)
        desk.give().wait()
        until(lambda: desk.notes.beats and desk.notes.beats[-1]["done"] == 1)
        assert desk.notes.beats[-1]["state"] == "idle"
