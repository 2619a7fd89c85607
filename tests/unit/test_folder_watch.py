"""Watching folders of this machine: what is told, what is left out, and what happens when too little is told."""

from __future__ import annotations

import errno
import inspect
import os
import shutil
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from watchdog.observers import Observer
from watchdog.observers import inotify_c as inotify_c_module
from watchdog.observers.inotify_c import InotifyFD, WatchCallback

from syncd.core.errors import SourceUnavailable
from syncd.core.model import ROOT, RelPath
from syncd.sources.local_watching import LocalWatch
from syncd.watching import following, inotify, locate, watch_tree
from syncd.watching.following import Following, Pace, Unwatchable
from syncd.watching.inotify import InotifyTree
from syncd.watching.observed import ObservedTree, fsevents_observer
from tests.support.hints import watching
from tests.support.hostile_smb import wait_until
from tests.support.require import require

QUICK = Pace(quiet_s=0.02, longest_s=0.1, most=1_000, look_s=0.1)
linux = pytest.mark.skipif(sys.platform != "linux", reason="inotify is Linux's")


class Heard:
    """A Listener that keeps everything."""

    def __init__(self) -> None:
        self.changes: list[tuple[RelPath, RelPath]] = []
        self.losses = 0
        self.why = ""

    def changed(self, directory: RelPath, path: RelPath) -> None:
        self.changes.append((directory, path))

    def lost(self) -> None:
        self.losses += 1

    def ended(self, why: str) -> None:
        self.why = why

    @property
    def paths(self) -> set[str]:
        return {path for _, path in self.changes}

    def hears(self, *paths: str) -> None:
        wait_until(lambda: set(paths) <= self.paths)


def inotify_tree(root: Path, heard: Heard) -> Any:
    return InotifyTree(root, heard)


def observed_tree(root: Path, heard: Heard) -> Any:
    """What macOS uses, over the observer of this system."""
    return ObservedTree(root, heard, Observer())


@pytest.fixture(params=[pytest.param(inotify_tree, marks=linux), observed_tree], ids=["inotify", "observer"])
def make(request: pytest.FixtureRequest) -> Callable[[Path, Heard], Any]:
    return request.param  # type: ignore[no-any-return]


@pytest.fixture
def root(tmp_path: Path) -> Path:
    for folder in ("target/a/deep", "target/b", "target/.syncd/staging", "outside/full/of"):
        (tmp_path / folder).mkdir(parents=True)
    (tmp_path / "outside/full/of/x").touch()
    return tmp_path / "target"


@pytest.fixture
def heard(make: Callable[[Path, Heard], Any], root: Path) -> Iterator[Heard]:
    """What a watch of `root` hears; it has begun."""
    listener = Heard()
    tree = make(root, listener)
    tree.start()
    yield listener
    tree.stop()
    tree.stop()


# --- what is told -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("edit", "told"),
    [
        (lambda root: (root / "a/new").write_bytes(b"x"), {"a/new"}),
        (lambda root: (root / "held").unlink(), {"held"}),
        (lambda root: os.truncate(root / "held", 1), {"held"}),
        (lambda root: os.utime(root / "held", (5, 5)), {"held"}),
        (lambda root: (root / "held").chmod(0o600), {"held"}),
        (lambda root: (root / "held").rename(root / "b/हिन्दी पत्र"), {"held", "b/हिन्दी पत्र"}),
        (lambda root: (root / "held").rename(root.parent / "outside/held"), {"held"}),
        (lambda root: (root.parent / "outside/full/of/x").rename(root / "came"), {"came"}),
        (lambda root: (root / "link").symlink_to("/etc"), {"link"}),
        (lambda root: (root / "a/folder").mkdir(), {"a/folder"}),
        (lambda root: (root / "b").rmdir(), {"b"}),
        (lambda root: shutil.rmtree(root / "a"), {"a/deep", "a"}),
        (lambda root: (root / "a").rename(root / "b/moved"), {"a", "b/moved", "b/moved/deep"}),
        (lambda root: (root.parent / "outside/full").rename(root / "b/full"), {"b/full", "b/full/of", "b/full/of/x"}),
    ],
)
def test_every_edit_is_told(
    make: Callable[[Path, Heard], Any], root: Path, edit: Callable[[Path], object], told: set[str]
) -> None:
    (root / "held").write_bytes(b"held")
    heard = Heard()
    tree = make(root, heard)
    tree.start()
    try:
        edit(root)
        heard.hears(*told)
        for directory, path in heard.changes:
            assert path == directory or os.path.dirname(path) == directory
    finally:
        tree.stop()


def test_appending_to_a_file_that_stays_open_is_told(root: Path, heard: Heard) -> None:
    with (root / "a/log").open("ab", buffering=0) as file:
        heard.hears("a/log")
        heard.changes.clear()
        file.write(b"more")
        heard.hears("a/log")


def test_folders_made_at_once_with_their_contents_are_watched(root: Path, heard: Heard) -> None:
    (root / "a/new/and/deeper").mkdir(parents=True)
    (root / "a/new/and/deeper/x").touch()
    heard.hears("a/new/and/deeper/x")
    heard.changes.clear()
    (root / "a/new/and/deeper/x").write_bytes(b"later")
    heard.hears("a/new/and/deeper/x")


def test_a_moved_folder_is_told_under_its_new_path_only(root: Path, heard: Heard) -> None:
    (root / "a").rename(root / "b/moved")
    heard.hears("b/moved/deep")
    heard.changes.clear()
    (root / "b/moved/deep/x").touch()
    heard.hears("b/moved/deep/x")
    assert not any(path.startswith("a") for path in heard.paths)


def test_syncd_s_own_folder_says_nothing(root: Path, heard: Heard) -> None:
    for number in range(50):
        (root / f".syncd/staging/{number}").write_bytes(b"x")
    (root / ".syncd/staging/7").rename(root / "a/promoted")
    heard.hears("a/promoted")
    (root / ".syncd/trash").mkdir()
    (root / "a/promoted").rename(root / ".syncd/trash/x")
    (root / "last").touch()
    heard.hears("last")
    assert not any(".syncd" in path for path in heard.paths)
    assert ROOT not in heard.paths


@linux
def test_syncd_s_own_folder_is_not_even_watched(root: Path) -> None:
    tree = InotifyTree(root, Heard())
    tree.start()
    assert {folder.path for folder in tree._folders.values()} == {"", "a", "a/deep", "b"}
    tree.stop()


def test_links_are_told_and_not_followed(root: Path, heard: Heard) -> None:
    (root / "loop").symlink_to(".")
    (root / "out").symlink_to(root.parent / "outside")
    heard.hears("loop", "out")
    heard.changes.clear()
    (root.parent / "outside/y").touch()
    (root / "a/x").touch()
    heard.hears("a/x")
    assert not any(path.startswith(("out", "loop")) for path in heard.paths)


def test_a_name_that_no_path_can_have_stands_for_its_folder(root: Path, heard: Heard) -> None:
    os.close(os.open(os.fsencode(root / "a") + b"/bad-\xff\xfe.jpg", os.O_CREAT | os.O_WRONLY, 0o644))
    heard.hears("a")
    heard.changes.clear()
    (root / "b/a:b").mkdir()
    (root / "b/a:b/x").touch()
    heard.hears("b")
    assert heard.paths <= {"b", "a"}


def test_locate_refuses_what_can_be_no_path() -> None:
    assert locate(RelPath("a"), "x .jpg") == "a/x .jpg"
    assert locate(RelPath("a"), "..") == "a"
    assert locate(RelPath("a"), "bad-\udcff") == "a"
    assert locate(ROOT, "a:b") == ""
    assert locate(ROOT, ".SYNCD") is None
    assert locate(RelPath("a"), ".syncd") == "a"


def test_stop_ends_the_threads_and_closes_everything(make: Callable[[Path, Heard], Any], root: Path) -> None:
    def state() -> tuple[set[str], list[str]]:
        return {each.name for each in threading.enumerate()}, sorted(os.listdir("/dev/fd"))

    before = state()
    for _ in range(3):
        heard = Heard()
        tree = make(root, heard)
        tree.start()
        tree.stop()
        assert heard.why == ""
    assert state() == before


# --- too little is told -----------------------------------------------------------------------------------------------


@linux
def test_a_queue_that_overflows_is_a_loss(root: Path) -> None:
    """The kernel's own queue, filled while its reader is held up."""
    room = int(Path("/proc/sys/fs/inotify/max_queued_events").read_text())
    heard = Heard()
    tree = InotifyTree(root, heard)
    tree.start()
    try:
        with tree._lock:
            first, second = (os.open(root / name, os.O_CREAT | os.O_WRONLY) for name in ("1", "2"))
            for _ in range((room + inotify_c_module.DEFAULT_EVENT_BUFFER_SIZE // 16) // 2 + 10):
                os.write(first, b"x")
                os.write(second, b"x")  # two files in turn: equal events one after the other count as one
            os.close(first)
            os.close(second)
        wait_until(lambda: heard.losses > 0)
    finally:
        tree.stop()


@linux
def test_after_a_loss_everything_is_watched_anew(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(following, "_FIRST_PAUSE_S", 0.05)
    told: list[frozenset[RelPath] | None] = []
    trees: list[InotifyTree] = []

    def keep(root: Path, listener: Any) -> InotifyTree:
        trees.append(InotifyTree(root, listener))
        return trees[-1]

    monkeypatch.setattr(following, "watch_tree", keep)
    follow = Following(root, told.append, QUICK, folders=False)
    thread = threading.Thread(target=follow.run, daemon=True)
    thread.start()
    wait_until(lambda: follow.state == "on")
    trees[0].on_queue_overflow()
    wait_until(lambda: len(trees) == 2 and follow.state == "on")
    assert told[:3] == [None, None, None]
    (root / "a/x").touch()
    wait_until(lambda: frozenset({RelPath("a/x")}) in told)
    follow.close()
    thread.join(2)
    assert not thread.is_alive()
    assert trees[0]._inotify is None


class Refusing:
    """Makes the kernel refuse a watch: for paths that a condition names."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, number: int, refuse: Callable[[bytes], bool]) -> None:
        original = InotifyFD.add_callback

        def add(inotify: InotifyFD, path: bytes, *rest: Any) -> Any:
            if refuse(path):
                raise OSError(number, os.strerror(number))
            return original(inotify, path, *rest)

        monkeypatch.setattr(InotifyFD, "add_callback", add)


@linux
def test_where_watches_run_out_the_rest_is_watched_and_the_state_says_so(
    root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    Refusing(monkeypatch, errno.ENOSPC, lambda path: b"/a" in path)
    source = LocalWatch(root)
    with watching(source) as told:
        told.everything()
        wait_until(lambda: source.state.startswith("partly: "))
        assert "max_user_watches" in source.state
        assert "1 of 3" in source.state
        (root / "b/x").touch()
        told.of("b", since=1)
        (root / "b/a new").mkdir()
        wait_until(lambda: "2 of 4" in source.state)


@linux
@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EMFILE])
def test_where_nothing_can_be_watched_it_is_said_once(root: Path, monkeypatch: pytest.MonkeyPatch, number: int) -> None:
    Refusing(monkeypatch, number, lambda path: True)
    source = LocalWatch(root)
    with pytest.raises(SourceUnavailable, match=r"sysctl fs\.inotify\.max_user_"):
        source.watch(lambda hint: pytest.fail(f"told {hint}"))
    assert source.state.startswith("off: ")
    assert "sysctl" in source.state
    assert [each for each in threading.enumerate() if each.name == "inotify"] == []


@linux
def test_a_folder_that_may_not_be_read_is_counted_and_watched_once_it_may(
    root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    locked = {str(root / "a")}
    real = os.access
    monkeypatch.setattr(inotify.os, "access", lambda path, mode: path not in locked and real(path, mode))
    heard = Heard()
    tree = InotifyTree(root, heard)
    tree.start()
    try:
        assert tree.partly.startswith("1 of 3 folders")
        locked.clear()
        (root / "a").chmod(0o755)
        heard.hears("a", "a/deep")
        assert tree.partly == ""
        (root / "a/deep/x").touch()
        heard.hears("a/deep/x")
    finally:
        tree.stop()


def test_a_system_that_tells_nothing_says_so(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "platform", "plan9")
    with pytest.raises(OSError, match="tells of no changes"):
        fsevents_observer()
    with pytest.raises(OSError, match="tells of no changes"):
        watch_tree(root, Heard())
    with pytest.raises(SourceUnavailable, match="tells of no changes"):
        LocalWatch(root).watch(lambda hint: None)


def test_a_shared_file_system_is_only_partly_watched(root: Path) -> None:
    source = LocalWatch(root, shared=lambda path: "cifs")
    with watching(source) as told:
        told.everything()
        wait_until(lambda: "cifs" in source.state)
        assert source.state.startswith("partly: ")


# --- the folder itself goes -------------------------------------------------------------------------------------------


def replace_root(root: Path) -> None:
    root.rename(root.parent / "old")
    root.mkdir()


def replace_parent(root: Path) -> None:
    """What happens to a folder above tells the watched one nothing."""
    root.parent.rename(root.parent.with_name("moved away"))
    root.mkdir(parents=True)


@pytest.mark.parametrize("lose", [shutil.rmtree, replace_root, replace_parent])
def test_a_folder_that_is_removed_or_replaced_ends_the_watch(root: Path, lose: Callable[[Path], None]) -> None:
    told: list[frozenset[RelPath] | None] = []
    follow = Following(root, told.append, QUICK, folders=False)
    ended: list[Exception] = []

    def run() -> None:
        try:
            follow.run()
        except Unwatchable as error:
            ended.append(error)

    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    wait_until(lambda: follow.state == "on")
    lose(root)
    wait_until(lambda: bool(ended))
    assert follow.state == f"off: {ended[0]}"
    thread.join(2)


def test_a_source_that_was_away_is_watched_when_it_is_back(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("syncd.sources.local_watching._LONGEST_PAUSE_S", 0.1)
    monkeypatch.setattr("syncd.sources.local_watching._FIRST_PAUSE_S", 0.1)
    source = LocalWatch(root)
    shutil.rmtree(root)
    with watching(source) as told:
        wait_until(lambda: "is not there" in source.state)
        assert told.hints == []
        root.mkdir()
        told.everything()
        since = told.mark()
        shutil.rmtree(root)
        wait_until(lambda: source.state.startswith("off: "))
        root.mkdir()
        told.everything(since)
        (root / "x").touch()
        told.of("", since=since)


@linux
def test_a_watch_keeps_no_file_system_from_being_unmounted(tmp_path: Path) -> None:
    program = f"""
import subprocess, sys, time
from pathlib import Path
sys.path[:0] = {sys.path!r}
from syncd.store.watching import MirrorWatch
target = Path({str(tmp_path)!r})
def mount(): subprocess.run(["mount", "-t", "tmpfs", "none", target], check=True)
mount()
(target / "a/b").mkdir(parents=True)
told = []
watch = MirrorWatch(target, told.append)
watch.start()
def until(condition):
    for _ in range(500):
        if condition(): return
        time.sleep(0.02)
    raise SystemExit(f"did not come: {{watch.state}} {{told}}")
until(lambda: watch.state == "on")
subprocess.run(["umount", target], check=True)
until(lambda: watch.state.startswith("off: "))
watch.start()
until(lambda: watch.state == "on")
mount()
until(lambda: watch.state.startswith("off: the folder was replaced"))
watch.start()
until(lambda: watch.state == "on")
(target / "x").touch()
until(lambda: told and told[-1] == frozenset(["x"]))
watch.close()
print("done")
"""
    argv = [require("unshare", "util-linux"), "--mount", "--map-root-user", sys.executable, "-c", program]
    allowed = subprocess.run([*argv[:3], "mount", "-t", "tmpfs", "none", tmp_path], capture_output=True, check=False)
    if allowed.returncode != 0:
        pytest.skip("this machine lets nobody mount in a namespace of its own")
    done = subprocess.run(argv, capture_output=True, text=True, check=False, timeout=60)
    assert done.stdout == "done\n", done.stderr


# --- telling ----------------------------------------------------------------------------------------------------------


def test_changes_are_told_in_bunches_and_never_held_back_for_long(root: Path) -> None:
    told: list[tuple[float, frozenset[RelPath] | None]] = []
    pace = Pace(quiet_s=0.3, longest_s=0.5, most=1_000)
    follow = Following(root, lambda paths: told.append((time.monotonic(), paths)), pace, folders=False)
    thread = threading.Thread(target=follow.run, daemon=True)
    thread.start()
    wait_until(lambda: follow.state == "on")
    for number in range(40):
        (root / f"{number}").touch()
        time.sleep(0.05)
    wait_until(lambda: len(set().union(*(paths or () for _, paths in told))) == 40)
    follow.close()
    thread.join(2)
    bunches = [paths for _, paths in told if paths is not None]
    assert 3 <= len(bunches) <= 10


def test_more_changes_than_are_kept_are_told_as_anything(root: Path) -> None:
    told: list[frozenset[RelPath] | None] = []
    follow = Following(root, told.append, Pace(quiet_s=0.2, longest_s=1.0, most=50), folders=False)
    for number in range(200):
        follow.changed(ROOT, RelPath(f"{number}"))
    assert len(follow._paths) <= 51
    follow._forward()
    follow.changed(ROOT, RelPath("x"))
    follow._forward()
    assert told == [None, frozenset({"x"})]


def test_folders_or_paths_are_told_as_asked() -> None:
    for folders, expected in ((True, {"a", "b"}), (False, {"a/x"})):
        told: list[Any] = []
        follow = Following(Path("/"), told.append, QUICK, folders=folders)
        follow.changed(RelPath("a"), RelPath("a/x"))
        follow.changed(RelPath("b"), RelPath("b"))  # a name that no path can have
        follow._forward()
        assert told == [frozenset(expected)]


# --- what is used of watchdog -----------------------------------------------------------------------------------------


@linux
def test_every_part_of_watchdog_that_is_used_is_there() -> None:
    assert list(inspect.signature(InotifyFD.add_callback).parameters) == ["self", "path", "mask", "callback", "id_"]
    assert list(inspect.signature(InotifyFD.remove_callbacks).parameters) == ["self", "callbacks"]
    assert {"on_event", "on_watch_deleted", "on_queue_overflow"} <= set(vars(WatchCallback))
    assert {"wd", "mask", "name"} <= set(inotify_c_module.InotifyEvent.__dataclass_fields__)
    source = inspect.getsource(InotifyFD._raise_error)
    assert "if err != errno.EACCES" in source  # the reason why a folder's readability is looked at first
