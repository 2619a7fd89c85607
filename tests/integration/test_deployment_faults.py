"""Each fault of a deployment, provoked for real, with the commands that the images run: one line in the log that names
it and the remedy, no loop, an unhealthy container, and work by itself once it is mended.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
import socket
import sqlite3
import subprocess
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path

from syncd.client.address import SOCKET
from syncd.store.schema import APPLICATION_ID
from syncd.store.state import StateDirectory
from tests.support.ports import free_port
from tests.support.require import require
from worker_glue.doctor import ocr
from worker_glue.doctor.checks import Level
from worker_glue.running.settings import load

ROOT = Path(__file__).parents[2]
IMAGES = ROOT / "deploy" / "images"
PATIENCE_S = 120.0
QUIET_S = 4.5
"""More than two looks of a program that waits (every 2 s)."""
BUSY = 0.3
"""Of a core: more than this while nothing changes is a loop."""
MODULES = {"syncd": "syncd", "worker-glue": "worker_glue"}
UNSET = ("NSQ", "MONGO", "SYNCD_", "WORKER_", "TESSDATA")
Mend = Callable[[], object]


RUN = {"syncd": ("syncd", "run"), "worker": ("worker-glue", "run")}
HEALTH = {"syncd": ("syncd.client.health",), "worker": ("worker-glue", "--live")}


def of_image(words: Sequence[str]) -> list[str]:
    """Return the one CMD of our Dockerfiles (a HEALTHCHECK's too) that has all these words, as it runs here."""
    texts = [path.read_text() for path in IMAGES.glob("*.Dockerfile")]
    commands = [json.loads(found) for text in texts for found in re.findall(r"\bCMD (\[.*\])$", text, re.MULTILINE)]
    first, *rest = next(each for each in commands if set(words) <= set(each))
    return [sys.executable, "-m", MODULES[first], *rest] if first in MODULES else [sys.executable, *rest]


class Container:
    """One program as its image runs it, with a folder of its own instead of a container."""

    def __init__(self, image: str, folder: Path, more: Sequence[str] = ()) -> None:
        self._log = folder / "log"
        self._image = image
        kept = {name: value for name, value in os.environ.items() if not name.startswith(UNSET)}
        own = {"SYNCD_CONFIG": str(folder / "config.toml"), "SYNCD_API": f"unix://{folder / 'state' / SOCKET}"}
        self._env = {**kept, **own, "PYTHONPATH": str(ROOT)}
        with self._log.open("wb") as out:
            self.process = subprocess.Popen([*of_image(RUN[image]), *more], env=self._env, stdout=out, stderr=out)

    @property
    def log(self) -> str:
        return self._log.read_text(errors="replace")

    def lines(self) -> list[str]:
        """Return the lines that say that something stands in the way."""
        return [line for line in self.log.splitlines() if "config.unusable" in line or "start.refused" in line]

    def until(self, words: str) -> None:
        deadline = time.monotonic() + PATIENCE_S
        while words not in self.log:
            assert self.process.poll() is None, self.log
            assert time.monotonic() < deadline, self.log
            time.sleep(0.05)

    def health(self) -> subprocess.Popen[str]:
        """Begin the health check."""
        argv = of_image(HEALTH[self._image])
        return subprocess.Popen(argv, env=self._env, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)

    def cpu_s(self) -> float:
        """Return what the program, and what it waited for, has used of a processor."""
        fields = Path(f"/proc/{self.process.pid}/stat").read_text().rpartition(")")[2].split()
        return sum(map(int, fields[11:15])) / os.sysconf("SC_CLK_TCK")


def healthy(containers: Iterable[Container]) -> list[bool]:
    """Make all health checks at the same time."""
    asked = [each.health() for each in containers]
    said = [each.communicate(timeout=PATIENCE_S)[0] for each in asked]
    assert not any("Traceback" in each for each in said)
    return [each.returncode == 0 for each in asked]


@contextlib.contextmanager
def running(
    image: str, folders: Mapping[str, Path], more: Mapping[str, Sequence[str]] | None = None
) -> Iterator[dict[str, Container]]:
    started: dict[str, Container] = {}
    try:
        for name, folder in folders.items():
            started[name] = Container(image, folder, (more or {}).get(name, ()))
        yield started
    finally:
        for each in started.values():
            each.process.terminate()
        for each in started.values():
            each.process.wait(PATIENCE_S)


def wait_mend_go_on(
    running: Mapping[str, Container], said: Mapping[str, str], mend: Mapping[str, Mend], began: str
) -> None:
    for name, words in said.items():
        running[name].until(words)
    before = {name: each.cpu_s() for name, each in running.items()}
    time.sleep(QUIET_S)
    for name, each in running.items():
        assert each.process.poll() is None, f"{name} ended: a restart policy would begin a loop\n{each.log}"
        assert each.cpu_s() - before[name] < BUSY * QUIET_S, f"{name} is busy"
        (line,) = each.lines()
        assert said[name] in line, f"{name}: {line}"
        assert "Traceback" not in each.log
    assert not any(healthy(running.values()))
    for remedy in mend.values():
        remedy()
    for each in running.values():
        each.until(began)
    deadline = time.monotonic() + PATIENCE_S
    while not all(healthy(running.values())):
        assert time.monotonic() < deadline


def replace(path: Path, text: str) -> None:
    """Write a file that is being watched, in one step."""
    new = path.with_suffix(".new")
    new.write_text(text)
    new.replace(path)


def write_secret(path: Path, text: str = "mongodb://u:p@127.0.0.1:1/gvpocr?authSource=admin") -> None:
    path.touch(mode=0o600)
    path.write_text(text)


@contextlib.contextmanager
def listener(port: int) -> Iterator[Mend]:
    with contextlib.closing(socket.create_server(("127.0.0.1", port))) as end:
        yield end.close


def test_syncd_waits_for_each_fault_to_be_mended(tmp_path: Path) -> None:
    port = free_port()
    tables = {
        "no file": "",
        "missing": '[mongo]\nuri_file = "uri"\n',
        "open": '[mongo]\nuri_file = "uri"\n',
        "folder": '[mongo]\nuri_file = "uri"\n',
        "port": f'[api]\nlisten = "127.0.0.1:{port}"\ntoken_file = "token"\n',
        "socket": "",
        "state": "",
        "twice": "",
        "newer": "",
    }
    folders = {name: tmp_path / name.replace(" ", "-") for name in tables}
    for name, table in tables.items():
        (folders[name] / "share").mkdir(parents=True)
        text = '[host]\nstate_dir = "state"\n[[mirror]]\nname = "B"\nsource = "file://./share"\ntarget = "data"\n'
        (folders[name] / "config.toml").write_text(text + table)
    no_file = folders["no file"] / "config.toml"
    aside = no_file.rename(no_file.with_suffix(".aside"))
    write_secret(folders["open"] / "uri")
    (folders["open"] / "uri").chmod(0o644)
    (folders["folder"] / "uri").mkdir()
    write_secret(folders["port"] / "token", "a-token-of-some-length")
    (folders["socket"] / "state" / SOCKET).mkdir(parents=True)
    (folders["state"] / "state").write_text("in the way")

    newer = folders["newer"] / "state" / "catalogue.db"
    newer.parent.mkdir(mode=0o700)
    with contextlib.closing(sqlite3.connect(newer)) as catalogue:
        catalogue.executescript(
            f"PRAGMA application_id = {APPLICATION_ID}; PRAGMA user_version = 999; CREATE TABLE meta (key, value)"
        )

    def write_where_the_folder_was() -> None:
        (folders["folder"] / "uri").rmdir()
        write_secret(folders["folder"] / "uri")

    with contextlib.ExitStack() as stack:
        held = stack.enter_context(StateDirectory.open(folders["twice"] / "state", create=True).lock())
        freed = stack.enter_context(listener(port))
        containers = stack.enter_context(running("syncd", folders))
        wait_mend_go_on(
            containers,
            {
                "no file": f"there is no configuration file at {no_file}",
                "missing": f"uri_file: {folders['missing'] / 'uri'} does not exist; write the secret into it ",
                "open": f"uri_file: {folders['open'] / 'uri'} is open to others (mode 0644); run: chmod 600 ",
                "folder": f"uri_file: {folders['folder'] / 'uri'} is not a regular file but a folder (Docker ",
                "port": f"127.0.0.1:{port} (api.listen): process {os.getpid()} (",
                "socket": f"{folders['socket'] / 'state' / SOCKET} is no socket",
                "state": f"the state directory cannot be used: {folders['state'] / 'state'}: ",
                "twice": f"process {os.getpid()} is already running syncd with the state directory ",
                "newer": f"the catalogue {newer} was written by ",
            },
            {
                "no file": lambda: aside.rename(no_file),
                "missing": lambda: write_secret(folders["missing"] / "uri"),
                "open": lambda: (folders["open"] / "uri").chmod(0o600),
                "folder": write_where_the_folder_was,
                "port": freed,
                "socket": (folders["socket"] / "state" / SOCKET).rmdir,
                "state": (folders["state"] / "state").unlink,
                "twice": held.release,
                "newer": newer.unlink,
            },
            "daemon.started",
        )
        refused_while_it_runs(containers["port"], folders["port"], stack)


def refused_while_it_runs(container: Container, folder: Path, stack: contextlib.ExitStack) -> None:
    """A port that is taken is not taken over from a changed configuration: what was there before stays."""
    port = free_port()
    stack.enter_context(listener(port))
    file = folder / "config.toml"
    replace(file, re.sub(r"127.0.0.1:\d+", f"127.0.0.1:{port}", file.read_text()))
    container.until("config.refused")
    assert f"cannot listen on 127.0.0.1:{port} (api.listen): process {os.getpid()} (" in container.log
    assert container.process.poll() is None


def test_a_worker_waits_for_each_fault_to_be_mended(tmp_path: Path) -> None:
    tesseract = Path(require("tesseract", "tesseract-ocr"))
    tables = {
        "nsqd": "",
        "secret": '[mongo]\nuri_file = "uri"\n',
        "engine": f'[worker.engine.tesseract]\nprogram = "{tmp_path}/engine/ocr"\ntessdata = "{tmp_path}/engine/eng"\n',
        "state": "",
        "port": "",
    }
    port = free_port()
    folders = {name: tmp_path / name for name in tables}
    nsq = "[nsq]\nnsqd_tcp_address = '127.0.0.1:1'\n"
    for name, table in tables.items():
        folders[name].mkdir()
        (folders[name] / "config.toml").write_text(
            "[host]\nstate_dir = 'state'\n" + table + (nsq if name != "nsqd" else "")
        )
    (folders["state"] / "state").write_text("in the way")
    english_alone(tesseract, folders["engine"] / "eng")
    metrics = {"port": ["--metrics", f"127.0.0.1:{port}"]}
    with listener(port) as freed, running("worker", folders, metrics) as containers:
        wait_mend_go_on(
            containers,
            {
                "nsqd": "no nsqd to read from",
                "secret": f"uri_file: {folders['secret'] / 'uri'} does not exist; write the secret into it and run: ",
                "engine": f"the OCR program {tmp_path}/engine/ocr is not installed",
                "state": f"the worker's state directory cannot be used: {folders['state'] / 'state'}",
                "port": f"cannot listen on 127.0.0.1:{port} (--metrics): process {os.getpid()} (",
            },
            {
                "nsqd": lambda: replace(folders["nsqd"] / "config.toml", "[host]\nstate_dir = 'state'\n" + nsq),
                "secret": lambda: write_secret(folders["secret"] / "uri"),
                "engine": lambda: (tmp_path / "engine" / "ocr").symlink_to(tesseract),
                "state": (folders["state"] / "state").unlink,
                "port": freed,
            },
            "worker.up",
        )
        (line,) = [each for each in containers["engine"].log.splitlines() if "ocr.language_missing" in each]
    assert "tesseract cannot read Hindi (hi)" in line
    assert "apt-get install tesseract-ocr-hin" in line
    assert "hin.traineddata" in line


def english_alone(tesseract: Path, folder: Path) -> None:
    """Make a folder of languages as an image has it that was built without the others."""
    said = subprocess.run([tesseract, "--list-langs"], capture_output=True, text=True, check=True, timeout=60)
    known = re.search('"(.*)"', said.stdout)
    assert known is not None
    folder.mkdir()
    (folder / "eng.traineddata").symlink_to(Path(known[1]) / "eng.traineddata")


def test_doctor_says_which_language_is_missing_and_how_it_comes(tmp_path: Path) -> None:
    english_alone(Path(require("tesseract", "tesseract-ocr")), tmp_path / "english")
    (check,) = [
        each
        for each in ocr.checks(
            load(None, {"HOME": str(tmp_path)}).worker._replace(
                engines={"tesseract": {"tessdata": str(tmp_path / "english")}}
            )
        )
        if each.name == "languages"
    ]
    assert check.status is Level.WARN
    assert check.seen.startswith("tesseract cannot read Hindi (hi): tasks in it end as errors; there is no hin.trained")
    for words in ("apt-get install tesseract-ocr-hin", "--build-arg LANGUAGES=", "/hin.traineddata", "TESSDATA_PREFIX"):
        assert words in check.todo


def test_an_engine_without_any_language_fails(tmp_path: Path) -> None:
    require("tesseract", "tesseract-ocr")
    worker = load(None, {"HOME": str(tmp_path)}).worker._replace(engines={"tesseract": {"tessdata": str(tmp_path)}})
    check = next(iter(ocr.checks(worker)))
    assert (check.name, check.status) == ("engine", Level.FAIL)
    assert "no language" in check.seen
    for words in ("apt install tesseract-ocr-eng", "eng.traineddata", "TESSDATA_PREFIX"):
        assert words in check.todo
