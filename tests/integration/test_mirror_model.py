"""Any sequence of promotes, retires, moves, folders, purges and restarts, against a model in a dict."""

from __future__ import annotations

import shutil
import tempfile
from pathlib import Path

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from syncd.core.errors import PathCollision, PathUnsafe
from syncd.core.model import Kind, LocalStat
from syncd.store.mirror import DiskMirror
from tests.support.mirrors import opened, rel, sha256, staged, visible

PATHS = st.sampled_from(
    ["a", "b", "c .JPG", "a/b", "a/c", "a/b/c", "d/e/f", "d/e/g", "d/x", "क/ख .pdf", "n" * 255, "d/" + "n" * 255]
)
BYTES = st.binary(max_size=40)
BATCHES = st.sampled_from(["20260101T000000Z-1", "20260102T000000Z-2", "20260103T000000Z-3"])


class MirrorMachine(RuleBasedStateMachine):
    """files: path -> (bytes, stat). trashed: batch -> every content that must lie there, purged ones forgotten."""

    def __init__(self) -> None:
        super().__init__()
        self.home = Path(tempfile.mkdtemp(prefix="syncd-model-"))
        self.files: dict[str, tuple[bytes, LocalStat]] = {}
        self.folders: set[str] = set()
        self.trashed: dict[str, list[tuple[str, bytes]]] = {}
        self.serial = 0

    @initialize()
    def start(self) -> None:
        self.mirror: DiskMirror = opened(self.home / "t")

    def teardown(self) -> None:
        self.mirror.close()
        shutil.rmtree(self.home)

    # -- the model's view

    def _above(self, path: str) -> list[str]:
        parts = path.split("/")[:-1]
        return ["/".join(parts[: n + 1]) for n in range(len(parts))]

    def _blocked(self, path: str) -> bool:
        return any(above in self.files for above in self._above(path))

    def _filled(self, folder: str) -> bool:
        return any(each.startswith(folder + "/") for each in (*self.files, *self.folders))

    def _throw(self, path: str, batch: str) -> None:
        data, _ = self.files.pop(path)
        self.trashed.setdefault(batch, []).append((path, data))

    def _made(self, path: str) -> None:
        self.folders.update(self._above(path))

    # -- what can happen

    @rule(path=PATHS, data=BYTES, batch=BATCHES)
    def promote(self, path: str, data: bytes, batch: str) -> None:
        self.serial += 1
        file = staged(self.mirror, data, mtime_ns=self.serial * 10**9)
        self.mirror.sync([file])
        if self._blocked(path):
            self._refused(PathUnsafe, file, path, batch)
        elif path in self.folders and self._filled(path):
            self._refused(PathCollision, file, path, batch)
        else:
            local = self.mirror.promote(file, rel(path), batch=batch)
            if path in self.files:
                self._throw(path, batch)
            self.folders.discard(path)
            self._made(path)
            self.files[path] = data, local

    def _refused(self, kind: type[Exception], file: object, path: str, batch: str) -> None:
        try:
            self.mirror.promote(file, rel(path), batch=batch)  # type: ignore[arg-type]
        except kind:
            file.discard()  # type: ignore[attr-defined]
            # parents up to the one in the way may have been made
            above = self._above(path)
            reached = next((n for n, each in enumerate(above) if each in self.files), len(above))
            self.folders.update(above[:reached])
        else:
            raise AssertionError(f"{path} was put in place over what lay there")

    @rule(path=PATHS, batch=BATCHES, right=st.booleans())
    def retire(self, path: str, batch: str, right: bool) -> None:
        if self._blocked(path):
            return
        _, local = self.files.get(path, (b"", LocalStat(1, 2, 3)))
        expected = local if right else local._replace(mtime_ns=local.mtime_ns + 1)
        done = self.mirror.retire(rel(path), expected, batch=batch)
        assert done is (right and path in self.files)
        if done:
            self._throw(path, batch)

    @rule(old=PATHS, new=PATHS)
    def move(self, old: str, new: str) -> None:
        if self._blocked(old) or (old in self.files and self._blocked(new)):
            return
        _, local = self.files.get(old, (b"", LocalStat(1, 2, 3)))
        if old in self.files and old in self._above(new):
            return
        done = self.mirror.move(rel(old), rel(new), local)
        assert done is (old in self.files and new not in self.files and new not in self.folders)
        if old in self.files:
            self._made(new)
        if done:
            self.files[new] = self.files.pop(old)

    @rule(path=PATHS, batch=BATCHES)
    def set_aside(self, path: str, batch: str) -> None:
        if self._blocked(path):
            return
        done = self.mirror.set_aside(rel(path), batch=batch)
        assert done is (path in self.files)
        if done:
            self._throw(path, batch)

    @rule(path=PATHS)
    def make_directory(self, path: str) -> None:
        if self._blocked(path) or path in self.files:
            return
        self.mirror.make_directory(rel(path))
        self._made(path + "/x")

    @rule(path=PATHS)
    def remove_directory(self, path: str) -> None:
        if self._blocked(path):
            return
        gone = self.mirror.remove_directory(rel(path))
        assert gone is (path not in self.files and not (path in self.folders and self._filled(path)))
        if gone:
            self.folders.discard(path)

    @rule()
    def sync(self) -> None:
        self.mirror.sync_directories()

    @rule()
    def restart(self) -> None:
        self.mirror.stage()  # left behind by a crash
        self.mirror.close()
        self.mirror = opened(self.home / "t", known=True)
        assert self.mirror.sweep_staging([]) == 1

    @precondition(lambda self: self.trashed)
    @rule(batch=BATCHES)
    def purge(self, batch: str) -> None:
        self.mirror.sync_directories()
        for each in {trashed.batch for trashed in self.mirror.trash()}:
            if each == batch or each.startswith(batch + "."):
                self.mirror.purge(each)
        self.trashed.pop(batch, None)

    @precondition(lambda self: self.trashed)
    @rule(choose=st.randoms(use_true_random=False))
    def restore(self, choose: object) -> None:
        trashed = choose.choice(list(self.mirror.trash()))  # type: ignore[attr-defined]
        to = self.home / "restored" / str(self.serial)
        try:
            where = Path(self.mirror.restore(trashed, str(to)))
        except (PathCollision, PathUnsafe):
            return  # restored before
        batch = trashed.batch.split(".")[0]
        assert (trashed.path, where.read_bytes()) in self.trashed[batch]

    # -- what must always hold

    @invariant()
    def mirror_is_the_model(self) -> None:
        seen = visible(self.home / "t")
        assert {path: data for path, data in seen.items() if isinstance(data, bytes)} == {
            path: data for path, (data, _) in self.files.items()
        }
        assert {path for path, data in seen.items() if isinstance(data, str)} == self.folders
        for path, (data, local) in self.files.items():
            assert self.mirror.stat_local(rel(path)) == (Kind.FILE, local)
            assert self.mirror.hash_local(rel(path)) == (sha256(data), local)

    @invariant()
    def nothing_thrown_away_is_lost(self) -> None:
        found: dict[str, list[tuple[str, bytes]]] = {}
        for each in self.mirror.trash():
            data = (self.home / "t/.syncd/trash" / each.batch / each.path).read_bytes()
            found.setdefault(each.batch.split(".")[0], []).append((each.path, data))
        assert {batch: sorted(lines) for batch, lines in found.items()} == {
            batch: sorted(lines) for batch, lines in self.trashed.items()
        }


MirrorMachine.TestCase.settings = settings(
    max_examples=40, stateful_step_count=25, deadline=None, suppress_health_check=list(HealthCheck), print_blob=True
)
test_any_sequence_of_changes = MirrorMachine.TestCase
