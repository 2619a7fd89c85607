"""`syncd where` and `syncd hosts` against a real server with a login, through real socat."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from syncd.cli.main import main
from syncd.ports import Bookmark, RegistryEntry
from syncd.registry.mongo import MongoRegistry
from tests.support.mongo import KINDS, MongoServer, start_mongo
from tests.support.ports import free_port
from tests.support.socat import start_socat

CONFIG = """
[[mirror]]
name = "Bhushanji"
source = "file://./share"
target = "data/Bhushanji"
[mongo]
uri_file = "mongo-uri"
"""


@pytest.fixture(scope="module", params=KINDS)
def mongo(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[MongoServer]:
    with start_mongo(request.param, tmp_path_factory.mktemp("mongo")) as server:
        yield server


@pytest.fixture(scope="module")
def port(mongo: MongoServer) -> Iterator[int]:
    with start_socat(mongo.port) as listening:
        yield listening


class Command:
    """syncd with a configuration file, run in this process."""

    def __init__(self, folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
        self._folder = folder
        self._capsys = capsys
        (folder / "share").mkdir()
        (folder / "syncd.toml").write_text(CONFIG)

    def use(self, uri: str) -> None:
        file = self._folder / "mongo-uri"
        file.write_text(f"{uri}\n")
        file.chmod(0o600)

    def __call__(self, *words: str) -> tuple[int, str, str]:
        code = main(["-c", str(self._folder / "syncd.toml"), *words])
        out, err = self._capsys.readouterr()
        return code, out, err

    def json(self, *words: str) -> Any:
        _, out, _ = self(*words, "--json")
        return json.loads(out)


@pytest.fixture
def syncd(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], mongo: MongoServer, port: int, monkeypatch: pytest.MonkeyPatch
) -> Command:
    monkeypatch.delenv("MONGO_URI", raising=False)
    command = Command(tmp_path, capsys)
    command.use(mongo.uri(port=port))
    return command


@pytest.fixture
def told(mongo: MongoServer) -> Iterator[None]:
    """Three hosts: two hold a file, one of them older bytes, and one does not record files."""
    registry = MongoRegistry(mongo.uri)
    mirror = {"name": "Bhushanji", "state": "failing", "files": 16, "bytes": 93_000_000, "source": "smb://u@h/s"}
    for host_id, name, files in (("a" * 32, "tod-mac", True), ("b" * 32, "attic", True), ("c" * 32, "attic", False)):
        about = {"id": host_id, "name": name, "version": "0.4.0", "workers": 3, "files": files, "mirrors": [mirror]}
        registry.beat(about)
        if files:
            registry.mark(host_id, Bookmark(1, "", 1, None), None)
    for host_id, generation in (("a" * 32, 5), ("b" * 32, 6)):
        path = "Bhushanji/hin-typed/x y .JPG"
        entry = RegistryEntry("Bhushanji", path, 8_100_000, f"{generation:064x}", 1_770_000_000_000 + generation, False)
        registry.record(host_id, [entry])
    registry.close()
    yield
    mongo.forget()


@pytest.mark.usefixtures("told")
def test_where_tells_who_holds_a_file(syncd: Command) -> None:
    code, out, err = syncd("where", "/app/Bhushanji/hin-typed/x y .JPG")
    lines = out.splitlines()
    assert (code, err) == (0, "")
    assert lines[0] == "Bhushanji/hin-typed/x y .JPG"
    assert lines[1].split() == ["HOST", "HELD", "SINCE", "SIZE", "SHA256", "GENERATION", "HEARTBEAT"]
    assert {tuple(line.split()[:2]) for line in lines[2:5]} == {("tod-mac", "yes"), ("attic", "yes"), ("attic", "?")}
    assert "8.1 MB" in lines[2]
    assert any("not hold the same bytes" in line for line in lines)
    assert any("registry_files = true in [mongo]" in line for line in lines)
    found = syncd.json("where", "Bhushanji\\hin-typed\\x y .JPG")
    assert (found["held"], found["agree"]) == (True, False)
    assert [host["held"] for host in found["hosts"]] == [True, True, None]


@pytest.mark.usefixtures("told")
def test_where_nobody_holds_it(syncd: Command, mongo: MongoServer) -> None:
    with mongo.client() as db:
        db.sync_hosts.delete_one({"_id": "c" * 32})
    code, out, _ = syncd("where", "Bhushanji/nothing.pdf")
    assert code == 3
    assert [line.split()[1] for line in out.splitlines()[2:]] == ["no", "no"]


@pytest.mark.usefixtures("told")
def test_hosts_lists_them_with_their_mirrors(syncd: Command, mongo: MongoServer) -> None:
    with mongo.client() as db:
        db.sync_hosts.update_one({"_id": "a" * 32}, {"$set": {"at": db.sync_hosts.find_one()["at"].replace(year=2020)}})
    code, out, err = syncd("hosts")
    assert (code, err) == (0, "")
    assert "SILENT" in next(line for line in out.splitlines() if line.startswith("tod-mac"))
    attics = [line for line in out.splitlines() if line.startswith("attic")]
    assert [line.split()[1] for line in attics] == ["b" * 8, "c" * 8]
    assert all("FAILING" in line and "93 MB" in line and "SILENT" not in line for line in attics)
    assert '2 live hosts are called "attic"' in out
    told = syncd.json("hosts")
    assert [(host["name"], host["stale"], host["files_recorded"]) for host in told["hosts"]] == [
        ("attic", False, True),
        ("attic", False, False),
        ("tod-mac", True, True),
    ]
    assert told["hosts"][0]["mirrors"][0]["source"] == "smb://u@h/s"
    assert len(told["remarks"]) == 1


def test_a_database_without_hosts_is_named(syncd: Command, mongo: MongoServer, port: int) -> None:
    syncd.use(mongo.uri(port=port, database="wrong_one"))
    code, out, _ = syncd("hosts")
    assert code == 0
    assert out == f'no host has registered (database "wrong_one" at 127.0.0.1:{port})\n'
    code, out, _ = syncd("where", "Bhushanji/x")
    assert code == 3
    assert '"wrong_one"' in out
    assert syncd.json("hosts") == {"hosts": [], "remarks": []}


@pytest.mark.usefixtures("told")
def test_a_missing_auth_source_works_with_a_warning(syncd: Command, mongo: MongoServer, port: int) -> None:
    syncd.use(mongo.uri(port=port, auth_source=""))
    code, out, err = syncd("hosts")
    assert code == 0
    assert "tod-mac" in out
    assert err.count("warning:") == 1
    assert "authSource=admin" in err
    assert mongo.login.password not in err


def test_each_failure_has_its_exit_code_and_shows_no_password(syncd: Command, mongo: MongoServer, port: int) -> None:
    user = mongo.login.user
    cases = [
        (f"mongodb://{user}:hunter22@127.0.0.1:{port}/gvpocr?authSource=admin", 12, "login refused"),
        (f"mongodb://{user}:hunter22@127.0.0.1:{free_port()}/gvpocr?authSource=admin", 10, "no answer in time"),
        (f"mongodb://{user}:hunter22@x@127.0.0.1:{port}/gvpocr", 2, "raw @"),
        (f"mongodb://127.0.0.1:{port}/gvpocr", 12, "may not"),
        (f"http://{user}:hunter22@127.0.0.1:{port}/gvpocr", 2, "http://"),
    ]
    for uri, code, said in cases:
        syncd.use(uri)
        for words in (["hosts"], ["where", "Bhushanji/x", "--json"]):
            if code == 10 and words == ["hosts"] and "SYNCD_EXHAUSTIVE" not in os.environ:
                continue
            got, out, err = syncd(*words)
            assert (got, out) == (code, ""), uri
            assert said in err
            assert "next: " in err
            assert "hunter22" not in err


def test_a_secret_that_others_can_read_is_refused(syncd: Command, tmp_path: Path) -> None:
    (tmp_path / "mongo-uri").chmod(0o644)
    code, _, err = syncd("hosts")
    assert code == 2
    assert "mongo-uri" in err
