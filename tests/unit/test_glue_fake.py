"""worker_glue.testing.FakeResolver: what a test can have it do. That it answers as the real one does: the contract."""

from __future__ import annotations

from pathlib import Path

import pytest

from syncd.core.reasons import Reason
from syncd.core.resolution import Resolution, State
from worker_glue.errors import FileMissing, FileNotReady, FileRefused, LeaseLost
from worker_glue.testing import FakeResolver

X = "M/a/x.jpg"


def test_bytes_files_and_states(tmp_path: Path) -> None:
    (tmp_path / "page.jpg").write_bytes(b"page")
    answer = Resolution(State.FETCHING, reason=Reason.UNSETTLED, retry_after_s=7.0)
    with FakeResolver({X: b"x", "M/y.jpg": tmp_path / "page.jpg", "M/z.jpg": answer}) as files:
        with files.open("M/y.jpg") as file:
            assert file.read() == b"page"
        assert files.resolve("/app/M/z.jpg") is answer
        (tmp_path / "page.jpg").unlink()
        assert files.resolve("M/y.jpg").state is State.READY
        folder = Path(files.resolve(X).local_path or "").parent
    assert not folder.exists()
    files.close()


@pytest.mark.parametrize(
    ("state", "error"),
    [
        (State.FETCHING, FileNotReady),
        (State.UNAVAILABLE, FileNotReady),
        (State.MISSING, FileMissing),
        (State.NO_MIRROR, FileMissing),
        (State.REFUSED, FileRefused),
        (State.AMBIGUOUS, FileRefused),
    ],
)
def test_every_state(state: State, error: type[Exception]) -> None:
    with FakeResolver({X: state}) as files:
        found = files.resolve(f"/data/{X}")
        assert found.state is state
        assert (found.retry_after_s is not None) is (state in (State.FETCHING, State.UNAVAILABLE))
        assert (len(found.candidates) > 1) is (state is State.AMBIGUOUS)
        assert files.hold(X) == found
        with pytest.raises(error), files.local_file(X, wait_s=100):
            pass


def test_what_arrives_and_goes() -> None:
    with FakeResolver({X: State.FETCHING}) as files:
        files.arrives(X, b"at last")
        files.arrives("M/b.jpg", b"b")
        assert files.resolve(X).state is State.FETCHING
        with files.local_file(f"/app/{X}", wait_s=100) as path:
            assert path.read_bytes() == b"at last"
        assert files.prefetch([X, "M/b.jpg"]) == 1
        assert files.resolve("M/b.jpg").state is State.READY
        files.drop(X)
        assert files.resolve(X).state is State.MISSING
        files.put(X, b"again")
        assert files.resolve(X).state is State.READY


def test_calls_are_recorded() -> None:
    with FakeResolver({X: b"x"}) as files:
        files.resolve(X)
        files.ensure(X, 3)
        with files.local_file("/app/M/a/x.jpg"):
            pass
        files.open(X).close()
        files.prefetch([X])
    assert files.calls == [
        ("resolve", X), ("ensure", X), ("hold", "/app/M/a/x.jpg"), ("open", X), ("prefetch", X)
    ]  # fmt: skip


def test_leases_are_lost() -> None:
    with FakeResolver({X: b"x"}) as files:
        with pytest.raises(LeaseLost), files.lease(X) as hold:
            assert hold.renew()
            files.lose_leases()
            assert not hold.renew()
        with files.lease(X) as hold:
            assert hold.renew()


def test_a_path_names_its_mirror() -> None:
    with pytest.raises(ValueError, match="MIRROR/PATH"):
        FakeResolver({"x.jpg": b""})
