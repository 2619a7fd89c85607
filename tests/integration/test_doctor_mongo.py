"""`syncd doctor` against a MongoDB server with a login, through real socat: what is well, and what can be wrong."""

from __future__ import annotations

import contextlib
import json
import os
import socket
import threading
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest

from syncd import config
from syncd.cli.main import main
from syncd.core.mongo_uri import read
from syncd.doctor.checks import Check, Group, Level, Pace
from syncd.doctor.examine import examine
from syncd.doctor.mongo import check_members
from syncd.registry.probe import Server
from tests.support.faultproxy import Direction, FaultProxy
from tests.support.mongo import KINDS, Login, MongoServer, start_mongo
from tests.support.ports import free_port
from tests.support.socat import start_socat

QUICK = Pace(resolve_s=2, connect_s=2, answer_s=1.5, whole_s=30)
PATIENT = Pace(resolve_s=5, connect_s=5, answer_s=10, whole_s=45)
HOPS = ["URI", "name", "port", "protocol", "clock", "login", "ping", "database", "write concern"]


@pytest.fixture(scope="module", params=KINDS)
def mongo(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[MongoServer]:
    with start_mongo(request.param, tmp_path_factory.mktemp("mongo")) as server:
        yield server


@pytest.fixture(scope="module")
def proxy(mongo: MongoServer) -> Iterator[int]:
    with start_socat(mongo.port) as port:
        yield port


def look(
    folder: Path, uri: str, source: str = "file://./share", pace: Pace = PATIENT, more: str = "", **env: str
) -> dict[str, Group]:
    (folder / "share").mkdir(exist_ok=True)
    file = folder / "config.toml"
    file.write_text(f'[[mirror]]\nname = "B"\nsource = "{source}"\ntarget = "data"\n{more}')
    env = {"HOME": str(folder), "MONGO_URI": uri, **env}
    return {group.about: group for group in examine(config.load(file, env), env, "syncd", pace)}


def checks_of(folder: Path, uri: str, **more: Any) -> list[Check]:
    return look(folder, uri, **more)["mongodb"].checks


def of(checks: list[Check], name: str) -> Check:
    """Return the gravest check of that name."""
    found = [check for check in checks if check.name == name]
    return sorted(found, key=lambda check: list(Level).index(check.status))[-1]


def bad(checks: list[Check]) -> Mapping[str, Level]:
    """Return what is not ok and was tried."""
    tried = [check for check in checks if not check.seen.startswith("not tried")]
    return {check.name: check.status for check in tried if check.status is not Level.OK}


@contextlib.contextmanager
def counting_logins(mongo: MongoServer) -> Iterator[tuple[int, list[int]]]:
    """Put a proxy in front that counts logins; yields its port and a list of the connections that tried one."""
    logins: list[int] = []

    def watch(connection: int, direction: Direction, piece: bytes) -> bytes:
        if direction is Direction.TO_SERVER and (b"saslStart" in piece or b"speculativeAuthenticate" in piece):
            logins.append(connection)
        return piece

    with FaultProxy(mongo.address) as proxy:
        proxy.mutate = watch
        yield proxy.port, logins


# --- what is well ----------------------------------------------------------------------------------------------------


def test_every_hop_through_a_proxy(mongo: MongoServer, proxy: int, tmp_path: Path) -> None:
    group = look(tmp_path, mongo.uri(port=proxy))["mongodb"]
    assert [check.name for check in group.checks] == HOPS
    assert bad(group.checks) == {}
    assert group.title == "MongoDB, from $MONGO_URI"
    user = mongo.login.user
    assert of(group.checks, "URI").seen == f"mongodb://{user}:***@127.0.0.1:{proxy}/gvpocr?authSource=admin"
    assert of(group.checks, "protocol").seen.startswith("MongoDB 7.")
    assert of(group.checks, "login").seen == f'logged in as "{user}"'
    assert of(group.checks, "ping").seen.startswith("round trip ")


def test_the_write_concern_is_tried_without_a_write(mongo: MongoServer, proxy: int, tmp_path: Path) -> None:
    mongo.forget()
    assert "to be tried once there is" in of(checks_of(tmp_path, mongo.uri(port=proxy)), "write concern").seen
    with mongo.client() as database:
        assert database.list_collection_names() == []
        database.bulk_jobs.insert_one({"job_id": "j", "status": "processing"})
        before = list(database.bulk_jobs.find())
        checks = checks_of(tmp_path, mongo.uri(port=proxy))
        assert list(database.bulk_jobs.find()) == before
        assert database.list_collection_names() == ["bulk_jobs"]
    assert of(checks, "write concern").seen.startswith("majority and journal are acknowledged (gvpocr.bulk_jobs;")
    assert of(checks, "database").seen == '"gvpocr" has 1 collection'
    mongo.forget()


def test_a_uri_in_a_file_is_named_and_a_missing_one_leaves_the_rest(
    mongo: MongoServer, proxy: int, tmp_path: Path
) -> None:
    (tmp_path / "uri").write_text(mongo.uri(port=proxy) + "\n")
    (tmp_path / "uri").chmod(0o600)
    group = look(tmp_path, "", more='[mongo]\nuri_file = "uri"\n')["mongodb"]
    assert bad(group.checks) == {}
    assert group.title == f"MongoDB, from {tmp_path}/uri"


def test_the_way_through_the_proxy_is_compared_with_the_direct_one(
    mongo: MongoServer, proxy: int, tmp_path: Path
) -> None:
    with socket.create_server(("127.0.0.2", proxy)):
        checks = checks_of(
            tmp_path, mongo.uri(port=proxy), source="smb://u@127.0.0.2:1/s", more='password_env = "HOME"\n'
        )
    assert f", direct to 127.0.0.2:{proxy} " in of(checks, "ping").seen


# --- logins ----------------------------------------------------------------------------------------------------------


def test_a_refused_login_is_tried_once(mongo: MongoServer, tmp_path: Path) -> None:
    wrong = Login(mongo.login.user, "not the password")
    with counting_logins(mongo) as (port, logins):
        checks = checks_of(tmp_path, mongo.uri(port=port, login=wrong))
    assert len(set(logins)) == 1
    check = of(checks, "login")
    assert check.status is Level.FAIL
    assert f'login refused for "{mongo.login.user}"' in check.seen
    assert check.seen.endswith("Tried once.")
    assert "$MONGO_URI" in check.todo
    assert of(checks, "ping").seen == "not tried: login failed"


def test_a_missing_auth_source_is_named_and_admin_tried_once(mongo: MongoServer, tmp_path: Path) -> None:
    with counting_logins(mongo) as (port, logins):
        checks = checks_of(tmp_path, mongo.uri(port=port, auth_source=""))
    assert len(set(logins)) == 2
    assert bad(checks) == {"URI": Level.WARN, "login": Level.WARN}
    assert of(checks, "URI").seen.startswith("authSource is missing")
    form = f"mongodb://{mongo.login.user}:***@127.0.0.1:{port}/gvpocr?authSource=admin&directConnection=true"
    assert form in of(checks, "URI").todo
    assert form in of(checks, "login").todo
    assert "accepted with authSource=admin" in of(checks, "login").seen


def test_a_wrong_password_without_auth_source_is_tried_twice_at_most(mongo: MongoServer, tmp_path: Path) -> None:
    with counting_logins(mongo) as (port, logins):
        checks = checks_of(tmp_path, mongo.uri(port=port, auth_source="", login=Login(mongo.login.user, "wrong")))
    assert len(set(logins)) == 2
    assert 'by database "gvpocr" and by "admin"' in of(checks, "login").seen
    assert of(checks, "login").status is Level.FAIL


def test_a_raw_password_is_named_and_the_rest_looked_at_as_it_is_meant(
    mongo: MongoServer, proxy: int, tmp_path: Path
) -> None:
    login = mongo.login
    checks = checks_of(tmp_path, f"mongodb://{login.user}:{login.password}@127.0.0.1:{proxy}/gvpocr?authSource=admin")
    assert bad(checks) == {"URI": Level.FAIL}
    seen = " ".join(check.seen for check in checks if check.name == "URI")
    assert "the password has a raw @ : / ? # space in it" in seen
    assert "raw %" in seen
    assert of(checks, "login").status is Level.OK


def test_without_a_login_the_server_says_what_it_wants(mongo: MongoServer, proxy: int, tmp_path: Path) -> None:
    checks = checks_of(tmp_path, f"mongodb://127.0.0.1:{proxy}/gvpocr")
    assert of(checks, "login").seen == "none: the URI names no user"
    assert bad(checks) == {"database": Level.FAIL}
    assert "readWrite on gvpocr" in of(checks, "database").todo


# --- something else answers, or nobody -------------------------------------------------------------------------------


@contextlib.contextmanager
def saying(greeting: bytes) -> Iterator[int]:
    """Run a server that says something and nothing else; yields its port."""
    listener = socket.create_server(("127.0.0.1", 0))

    def serve() -> None:
        with contextlib.suppress(OSError):
            while True:
                end, _ = listener.accept()
                with end, contextlib.suppress(OSError):
                    end.settimeout(5)
                    end.sendall(greeting)
                    while end.recv(4096):
                        pass

    thread = threading.Thread(target=serve, name="saying", daemon=True)
    thread.start()
    try:
        yield listener.getsockname()[1]
    finally:
        with contextlib.suppress(OSError):
            listener.shutdown(socket.SHUT_RDWR)
        listener.close()
        thread.join(10)


@pytest.mark.parametrize(
    ("greeting", "named"),
    [
        (b"SSH-2.0-OpenSSH_9.2p1\r\n", "an SSH server (SSH-2.0-OpenSSH_9.2p1)"),
        (b"220 mail ESMTP\r\n", 'another kind of server (it says "220 mail ESMTP")'),
        (b"HTTP/1.1 400 Bad Request\r\n\r\n", 'an HTTP server (it says "HTTP/1.1 400 Bad Request")'),
    ],
)
def test_another_service_on_the_port_is_named(tmp_path: Path, greeting: bytes, named: str) -> None:
    with saying(greeting) as port:
        checks = checks_of(tmp_path, f"mongodb://127.0.0.1:{port}/gvpocr", pace=QUICK)
    assert of(checks, "protocol").seen == f"127.0.0.1:{port} is not MongoDB but {named}"
    assert "27017" in of(checks, "protocol").todo


def test_mongodb_in_the_place_of_nsqd_is_named(mongo: MongoServer, tmp_path: Path) -> None:
    more = f'[nsq]\nnsqd_tcp_address = "127.0.0.1:{mongo.port}"\n'
    check = of(look(tmp_path, mongo.uri(), more=more, pace=QUICK)["nsqd"].checks, "protocol")
    assert check.status is Level.FAIL
    assert "is not nsqd but a MongoDB server" in check.seen


def test_nobody_listens(tmp_path: Path) -> None:
    checks = checks_of(tmp_path, f"mongodb://127.0.0.1:{free_port()}/gvpocr", pace=QUICK)
    assert bad(checks) == {"port": Level.FAIL}
    assert "the URI in $MONGO_URI" in of(checks, "port").todo


def test_a_proxy_to_a_dead_server_is_told_from_a_dead_proxy(tmp_path: Path) -> None:
    with start_socat(free_port()) as port:
        checks = checks_of(tmp_path, f"mongodb://127.0.0.1:{port}/gvpocr", pace=QUICK)
    assert bad(checks) == {"protocol": Level.FAIL}
    assert "so does a proxy that cannot go on" in of(checks, "protocol").seen
    assert "whether the MongoDB behind it is up" in of(checks, "protocol").todo


def test_a_server_that_falls_silent_after_the_greeting_ends_in_time(mongo: MongoServer, tmp_path: Path) -> None:
    with FaultProxy(mongo.address) as proxy:
        proxy.mutate = lambda _number, _way, piece: b"" if b"saslStart" in piece else piece
        started = time.monotonic()
        checks = checks_of(tmp_path, mongo.uri(port=proxy.port), pace=QUICK)
    assert time.monotonic() - started < 20
    assert list(bad(checks)) == ["login"]


def test_everything_into_black_holes_ends_in_time_all_the_same(mongo: MongoServer, tmp_path: Path) -> None:
    """Every service takes connections and says nothing. SYNCD_EXHAUSTIVE=1: with the real deadlines, below a minute."""
    whole = os.environ.get("SYNCD_EXHAUSTIVE") == "1"
    with FaultProxy(mongo.address) as proxy:
        proxy.stall()
        dark = f"127.0.0.1:{proxy.port}"
        more = f'[[mirror]]\nname = "C"\nsource = "sftp://u@{dark}/s"\ntarget = "c"\nkey_file = "key"\n'
        more += f'[nsq]\nnsqd_tcp_address = ["{dark}", "localhost:{proxy.port}"]\nlookupd_http_addresses = ["{dark}"]\n'
        (tmp_path / "key").write_text("k")
        (tmp_path / "key").chmod(0o600)
        started = time.monotonic()
        groups = look(tmp_path, mongo.uri(port=proxy.port), more=more, pace=Pace() if whole else QUICK)
    took = time.monotonic() - started
    assert took < (60 if whole else 25)
    for about in ("nsqd", "nsqlookupd", "mongodb"):
        assert of(groups[about].checks, "protocol").status is Level.FAIL
        assert "proxy" in of(groups[about].checks, "protocol").todo


# --- secrets ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("raw", [True, False])
@pytest.mark.parametrize(
    "password", ["Zq7@vKw8/xYz9", "Zq7%vKw8:xYz9", "Zq7 vKw8\"xYz9'", "Zq7?vKw8#xYz9&a=b@c", "Zq7ü+vKw8"]
)
def test_nothing_shows_the_password(
    mongo: MongoServer,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    raw: bool,
    password: str,
) -> None:
    """Wrong passwords, so that the server's refusal is shown too, at every place that shows something."""
    uri = mongo.uri(login=Login("gvpocr", password), auth_source="")
    if raw:
        uri = f"mongodb://gvpocr:{password}@127.0.0.1:{mongo.port}/gvpocr"
    monkeypatch.setenv("MONGO_URI", uri)
    (tmp_path / "share").mkdir()
    file = tmp_path / "config.toml"
    file.write_text('[host]\nstate_dir = "s"\n[[mirror]]\nname = "B"\nsource = "file://./share"\ntarget = "data"\n')
    assert main(["-c", str(file), "doctor"]) == 3
    assert main(["-c", str(file), "doctor", "--json"]) == 3
    out, err = capsys.readouterr()
    assert "login refused" in out
    for part in ("Zq7", "vKw8", "xYz9"):
        assert part not in out + err
    checks = json.loads(out.splitlines()[-1])["checks"]
    assert {check["group"] for check in checks} == {"host", "mirror", "mongodb", "daemon"}


# --- replica sets ----------------------------------------------------------------------------------------------------


def test_members_that_cannot_be_dialled_are_named_with_the_option_that_helps() -> None:
    server = Server("7.0.5", True, "rs0", "mongo1:27017", ("mongo1:27017", "mongo2:27017"), 0.0)
    plain, direct = (read(f"mongodb://127.0.0.1/gvpocr{option}")[0] for option in ("", "?directConnection=true"))
    assert plain is not None
    assert direct is not None
    check = check_members(server, plain, lambda member: member == "mongo2:27017")
    assert check.status is Level.WARN
    assert "from here mongo1:27017 cannot be dialled" in check.seen
    assert check.todo == "add directConnection=true"
    assert check_members(server, direct, lambda _member: False).status is Level.OK
    assert check_members(server, plain, lambda _member: True).status is Level.OK
