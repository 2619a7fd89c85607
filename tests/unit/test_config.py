"""The configuration file as a whole: every problem at once, secrets by reference, the environment wins."""

from __future__ import annotations

import os
import secrets
from collections.abc import Callable
from pathlib import Path

import pytest

from syncd import config
from syncd.config import Secret, Settings
from syncd.config.keys import MISPLACED, REQUIRED, TABLES
from syncd.config.readers import Place
from syncd.config.template import render
from syncd.core.errors import ConfigError
from syncd.doctor.secrets import Scrubber

Write = Callable[[str], Path]

MINIMAL = """
[[mirror]]
name = "Bhushanji"
source = "file://./share"
target = "data/Bhushanji"
"""


@pytest.fixture
def env(tmp_path: Path) -> dict[str, str]:
    return {"HOME": str(tmp_path / "home")}


@pytest.fixture
def write(tmp_path: Path) -> Write:
    def write_config(text: str) -> Path:
        path = tmp_path / "config.toml"
        path.write_text(text, encoding="utf-8")
        return path

    return write_config


def problems(path: Path, env: dict[str, str]) -> list[str]:
    with pytest.raises(ConfigError) as caught:
        config.load(path, env)
    assert caught.value.exit_code == 2
    assert all(str(path) in line or line.startswith("$") for line in caught.value.problems)
    return [line.removeprefix(f"{path}: ") for line in caught.value.problems]


def secret_file(path: Path, mode: int = 0o600) -> str:
    value = secrets.token_urlsafe(16)
    path.write_text(value + "\n")
    path.chmod(mode)
    return value


def test_a_minimal_file_gets_every_default(write: Write, env: dict[str, str], tmp_path: Path) -> None:
    settings = config.load(write(MINIMAL), env)
    (mirror,) = settings.mirrors
    assert mirror.source.folder == str(tmp_path / "share")
    assert mirror.target == tmp_path / "data" / "Bhushanji"
    assert (mirror.every_s, mirror.cron, mirror.settle_s, mirror.max_retire) == (600, None, 2, 0.1)
    assert (mirror.trash_days, mirror.verify_days, mirror.connections) == (7, 30, 0)
    assert mirror.min_free.floor(1 << 40) == 1 << 30
    assert mirror.password is None
    assert settings.host.name is None
    assert settings.host.state_dir == tmp_path / "home" / ".local" / "state" / "syncd"
    assert settings.host.zone() is None
    assert settings.nsq.announce == "local"
    assert (settings.worker.workers, settings.worker.engine, settings.worker.wait_for_source_s) == (
        3,
        "tesseract",
        86400,
    )
    assert settings.mirror("Bhushanji") is mirror
    assert settings.mirror("x") is None


def test_the_design_s_own_example_is_read(write: Write, env: dict[str, str], tmp_path: Path) -> None:
    folder = tmp_path / "home" / ".config" / "syncd"
    folder.mkdir(parents=True)
    password = secret_file(folder / "smb-password")
    uri = secret_file(folder / "mongo-uri")
    settings = config.load(
        write("""
[host]
name = "tod-mac"
state_dir = "~/.local/state/syncd"
timezone = "Asia/Kolkata"
[[mirror]]
name = "Bhushanji"
source = "smb://gvpocr@172.12.0.132:13445/gvpocr-bhushanji"
password_file = "~/.config/syncd/smb-password"
target = "~/gvpocr-worker/data/Bhushanji"
every = "10m"
aliases = []
include = []
exclude = []
settle = "2s"
max_retire = "10%"
trash_days = 7
min_free = "5%"
rate = "0"
connections = 0
priority = []
verify_days = 30
trust_checksums = false
[nsq]
nsqd_tcp_address = "127.0.0.1:4150"
topic = "file_sync_ready"
announce = "nsq"
lookupd_http_addresses = ["127.0.0.1:4161"]
address_map = { "172.12.0.132:4150" = "127.0.0.1:4150", "*:4150" = "127.0.0.1:4150" }
allow_direct = false
[mongo]
uri_file = "~/.config/syncd/mongo-uri"
registry = true
registry_files = false
[api]
listen = ""
token_file = ""
allowed_hosts = []
[worker]
workers = 3
engine = "tesseract"
missing_grace = "10s"
wait_for_source = "24h"
exclusive = false
[worker.providers]
chrome_lens = "tesseract"
[worker.mounts]
Bhushanji = "/app/Bhushanji"
"""),
        env,
    )
    (mirror,) = settings.mirrors
    assert mirror.password is not None
    assert mirror.password.reveal() == password
    assert settings.mongo.uri is not None
    assert settings.mongo.uri.reveal() == uri
    assert str(settings.nsq.address_map["*:4150"]) == "127.0.0.1:4150"
    assert settings.api.listen is None
    assert str(settings.host.zone()) == "Asia/Kolkata"
    assert password not in repr(settings)
    assert uri not in repr(settings)
    assert config.redact(f"login with {password}") == "login with ***"


def test_every_problem_is_reported_at_once(write: Write, env: dict[str, str]) -> None:
    found = problems(
        write("""
[hots]
[[mirror]]
name = "Bhushanji"
source = "smb://gvpocr@h/s"
password = "hunter2hunter2"
every = "10x"
exlude = []
connections = "a"
[nsq]
announce = "loud"
"""),
        env,
    )
    assert found == [
        'unknown table "hots"; did you mean "hosts"?',
        'mirror[0] "Bhushanji": unknown key "password"; ' + MISPLACED["password"],
        'mirror[0] "Bhushanji": unknown key "exlude"; did you mean "exclude"?',
        'mirror[0] "Bhushanji": target: is missing',
        'mirror[0] "Bhushanji": every: "10x" is not a duration; write it like "10m" or "90s"',
        'mirror[0] "Bhushanji": connections: "a" is not a whole number (without quotes)',
        'nsq: announce: "loud" is not one of "nsq", "local", "off"',
        'mirror[0] "Bhushanji": password_file: is missing; name one, then: syncd secret NAME (auth = "kerberos": none)',
    ]


@pytest.mark.parametrize(
    ("extra", "said"),
    [
        ('every = "4s"', "every: "),
        ('every = "1m"\ncron = "* * * * *"', "has both every and cron"),
        ('cron = "61 * * * *"', "is not a cron expression"),
        ("every = 10", "is not a duration"),
        ('max_retire = "110%"', "out of range"),
        ("trash_days = -1", "out of range"),
        ('min_free = "much"', "free-space floor"),
        ('rate = "fast"', "is not a rate"),
        ('exclude = ["[z-a]"]', "gitignore pattern"),
        ('exclude = "*.tmp"', "is not a list"),
        ('aliases = ["./"]', "is no alias"),
        ('auth = "basic"', "is not one of"),
        ('auth = "ntlm"', "only smb:// sources"),
        ("encrypt = true", "only smb:// sources"),
        ('fallback_sources = ["file://h/x"]', "no local path"),
        ('marker = "../x"', "inside of the share"),
        ('password_env = "not a name"', "is not the name of an environment variable"),
        ('password_env = "MISSING"', "the environment has no MISSING"),
        ('password_file = "nowhere"', "does not exist"),
        ("[host]\nname = 'a|b'", "is not a host name"),
        ("[host]\ntimezone = 'Mars/Base'", "is not a time zone"),
        ("[host]\nstate_dir = 'data'", "lies in"),
        ("[host]\nstate_dir = 'data/Bhushanji/state'", "contains"),
        ("[api]\nlisten = '0.0.0.0:9470'", "loopback"),
        ("[api]\nlisten = '127.0.0.1:9470'", "token_file: is missing"),
        ("[mongo]\nuri = 'mongodb://u:hunter2@h'", "uri_file"),
        ("[mongo]\nuri_file = 'mongodb://u:hunter2@h'", "name the file"),
        ("[mongo]\nuri_file = 'x'\nuri_env = 'Y'", "has both uri_file and uri_env"),
        ("[worker]\nworkers = 0", "out of range"),
        ("[worker]\nengine = 5", "engine"),
        ("[worker.mounts]\nBushanji = '/app'", 'is no mirror; did you mean "Bhushanji"?'),
        ("[worker.mounts]\nBhushanji = 'app'", "absolute path"),
        ("[worker.engine.a]\n[worker.engine.b]", "which of the engines"),
        ("[nsq]\ntopic = 'a b'", "NSQ topic"),
        ("[nsq]\naddress_map = { x = '127.0.0.1:1' }", "HOST:PORT"),
        ("[nsq]\nnsqd_tcp_address = ['127.0.0.1:4150', 'x']", "HOST:PORT"),
        ("[alarms]", "unknown table"),
    ],
)
def test_each_wrong_value_is_one_problem(extra: str, said: str, write: Write, env: dict[str, str]) -> None:
    found = problems(write(MINIMAL + extra + "\n"), env)
    assert any(said in line for line in found), found
    assert "hunter2" not in "".join(found)


@pytest.mark.parametrize("key", ["source", "fallback_sources"])
@pytest.mark.parametrize(
    "url",
    [
        "smb://me:hunter2@h/s",
        "smb://me@corp:hunter2@h/s",
        "smb://me%3Ahunter2@h/s",
        "smb:///me:hunter2@h/s",
        "smb:/me:hunter2@h/s",
        "smb:me:hunter2@h/s",
        "me:hunter2@h/s",
        "//me:hunter2@h/s",
        "\\\\CORP;me:hunter2@h\\s",
        "file://me:hunter2@h/s",
        f"me:hunter2{'x' * 80}@h/s",
    ],
)
def test_a_password_in_a_source_is_never_shown_however_badly_the_url_is_written(
    url: str, key: str, write: Write, env: dict[str, str]
) -> None:
    text = MINIMAL.replace('"file://./share"', f"'{url}'") if key == "source" else MINIMAL + f"{key} = ['{url}']\n"
    file = write(text)
    found = problems(file, env)
    assert len(found) == 1
    assert ":***@" in found[0]
    assert "hunter2" not in found[0]
    assert "hunter2" not in Scrubber(file, env).clean(text)


@pytest.mark.parametrize(
    ("other", "said"),
    [
        ('name = "Bhushanji"\nsource = "file://./s"\ntarget = "b"', "is the name of mirror[0]"),
        ('name = "bhushanji"\nsource = "file://./s"\ntarget = "b"', "is the name of mirror[0]"),
        ('name = "b"\nsource = "file://./s"\ntarget = "data/./Bhushanji"', "target: "),
        ('name = "b"\nsource = "file://./s"\ntarget = "data/Bhushanji/sub"', "lies in"),
        ('name = "b"\nsource = "file://./s"\ntarget = "data"', "contains"),
        ('name = "b"\nsource = "file://./s"\ntarget = "s/x"', "must lie apart"),
        ('name = "b"\nsource = "file://./s"\ntarget = "b"\naliases = ["./Bhushanji/"]', "means mirror[0]"),
        ('name = "b"\nsource = "smb://h/s"\ntarget = "b"\npassword_env = "PW"', "names no user"),
        ('name = "b"\nsource = "sftp://u@h/s"\ntarget = "b"', "needs one of them"),
        ('name = "b"\nsource = "file://./s"\ntarget = "b"\npassword_env = "PW"', "need no password"),
    ],
)
def test_mirrors_that_get_in_each_other_s_way(other: str, said: str, write: Write, env: dict[str, str]) -> None:
    env["PW"] = "x"
    found = problems(write(MINIMAL + "[[mirror]]\n" + other + "\n"), env)
    assert len(found) == 1
    assert said in found[0]


def test_targets_that_are_one_folder_by_a_link_are_found(write: Write, env: dict[str, str], tmp_path: Path) -> None:
    (tmp_path / "data").mkdir()
    (tmp_path / "link").symlink_to("data")
    found = problems(
        write(MINIMAL + '[[mirror]]\nname = "b"\nsource = "file://./s"\ntarget = "link/Bhushanji/deep"\n'), env
    )
    assert "lies in" in found[0]


def test_shapes_that_are_no_tables(write: Write, env: dict[str, str]) -> None:
    assert "two brackets" in problems(write("[mirror]\nname = 'b'\n"), env)[0]
    assert "is not a table" in problems(write("mirror = 5\n"), env)[0]
    assert "is not a table" in problems(write("nsq = 'x'\nmirror = ['y']\n"), env)[0]
    assert "no [[mirror]]" in problems(write(""), env)[0]


def test_a_secret_that_others_can_read_is_refused_with_the_remedy(
    write: Write, env: dict[str, str], tmp_path: Path
) -> None:
    path = tmp_path / "pw"
    text = MINIMAL.replace('"file://./share"', '"smb://u@h/s"') + 'password_file = "pw"\n'
    for mode in (0o644, 0o640, 0o604, 0o622):
        value = secret_file(path, mode)
        (found,) = problems(write(text), env)
        assert f"password_file: {path} is open to others (mode 0{mode:o}); run: chmod 600 {path}" in found
        assert value not in found
    path.chmod(0o600)
    assert isinstance(config.load(write(text), env), Settings)
    path.write_text("")
    assert "is empty" in problems(write(text), env)[0]
    path.unlink()
    path.mkdir()
    assert "is not a regular file" in problems(write(text), env)[0]
    assert isinstance(config.load(write(text), env, check_secrets=False), Settings)


def test_a_secret_is_read_again_each_time(tmp_path: Path) -> None:
    path = tmp_path / "pw"
    first, secret = secret_file(path), Secret(path=path)
    assert secret.reveal() == first
    second = secret_file(path)
    assert secret.reveal() == second
    path.chmod(0o644)
    with pytest.raises(ConfigError, match="chmod 600"):
        secret.reveal()
    assert first not in repr(secret) + str(secret) + f"{secret}"


@pytest.mark.parametrize("content", [b"\n", b"\xff\xfe\n"])
def test_a_secret_file_without_a_secret(content: bytes, tmp_path: Path) -> None:
    path = tmp_path / "pw"
    path.write_bytes(content)
    path.chmod(0o600)
    with pytest.raises(ConfigError, match=str(path)):
        Secret(path=path).reveal()


def test_a_password_keeps_its_spaces(tmp_path: Path) -> None:
    path = tmp_path / "pw"
    path.write_bytes(b" a b \r\n")
    path.chmod(0o600)
    assert Secret(path=path).reveal() == " a b "


def test_the_deployment_s_environment_wins(write: Write, env: dict[str, str]) -> None:
    env |= {
        "MONGO_URI": "mongodb://u:" + secrets.token_urlsafe(8) + "@mongodb-proxy:27017/gvpocr",
        "NSQD_ADDRESS": "nsqd-proxy:4150",
        "NSQLOOKUPD_ADDRESSES": "http://nsqlookupd-proxy:4161, other:4162,",
        "WORKER_ID": "tod-mac-2",
    }
    settings = config.load(
        write(MINIMAL + "[nsq]\nnsqd_tcp_address = '10.0.0.1:1'\n[mongo]\nuri_file = 'nowhere'\n"), env
    )
    assert [str(a) for a in settings.nsq.nsqd] == ["nsqd-proxy:4150"]
    assert [str(a) for a in settings.nsq.lookupd] == ["nsqlookupd-proxy:4161", "other:4162"]
    assert settings.nsq.announce == "nsq"
    assert settings.mongo.uri is not None
    assert settings.mongo.uri.reveal() == env["MONGO_URI"]
    assert settings.worker.id == "tod-mac-2"
    env["WORKER_ID"] = "${HOSTNAME}"
    assert config.load(write(MINIMAL), env).worker.id is None
    env["NSQD_ADDRESS"] = "::1"
    assert problems(write(MINIMAL), env) == ['$NSQD_ADDRESS: "::1" is not HOST:PORT; write it like "127.0.0.1:4150"']


def test_engine_by_name_or_with_tables_of_its_own(write: Write, env: dict[str, str]) -> None:
    worker = config.load(write(MINIMAL + "[worker.engine.easyocr]\ngpu = false\n"), env).worker
    assert (worker.engine, worker.engines) == ("easyocr", {"easyocr": {"gpu": False}})
    both = '[worker.engine]\nname = "b"\n[worker.engine.a]\n[worker.engine.b]\n'
    assert config.load(write(MINIMAL + both), env).worker.engine == "b"
    assert config.load(write(MINIMAL + '[worker]\nengine = "echo"\n'), env).worker.engine == "echo"


@pytest.mark.parametrize(
    ("content", "said"),
    [(b"[[mirror\n", "line 1"), (b"a = 1\na = 2\n", "line 2"), (b"a = 1\nb = '\xff'\n", "line 2 is not UTF-8")],
)
def test_a_file_that_is_not_toml_says_where(content: bytes, said: str, tmp_path: Path, env: dict[str, str]) -> None:
    path = tmp_path / "config.toml"
    path.write_bytes(content)
    assert said in problems(path, env)[0]


def test_a_byte_order_mark_is_no_problem(tmp_path: Path, env: dict[str, str]) -> None:
    path = tmp_path / "config.toml"
    path.write_bytes(b"\xef\xbb\xbf" + MINIMAL.replace("\n", "\r\n").encode())
    assert config.load(path, env).mirrors[0].name == "Bhushanji"


def test_a_missing_file_names_it_and_the_next_step(tmp_path: Path, env: dict[str, str]) -> None:
    with pytest.raises(ConfigError, match=str(tmp_path / "none.toml")) as caught:
        config.load(tmp_path / "none.toml", env)
    assert "init" in caught.value.hint
    with pytest.raises(ConfigError, match="cannot be read"):
        config.load(tmp_path, env)


def test_where_the_file_is_looked_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.platform", "linux")
    env = {"HOME": "/home/u"}
    assert config.default_path(env) == Path("/home/u/.config/syncd/config.toml")
    assert config.default_path({**env, "XDG_CONFIG_HOME": "/x"}) == Path("/x/syncd/config.toml")
    assert config.default_path({**env, "XDG_CONFIG_HOME": "relative"}) == Path("/home/u/.config/syncd/config.toml")
    assert config.default_path({**env, "SYNCD_CONFIG": "/y.toml"}) == Path("/y.toml")
    monkeypatch.setattr("sys.platform", "darwin")
    assert config.default_path(env) == Path("/home/u/Library/Application Support/syncd/config.toml")


def test_every_key_s_default_and_example_can_be_read(env: dict[str, str]) -> None:
    import tomllib

    place = Place(Path("/base"), env)
    for table, keys in TABLES.items():
        for key in keys:
            if key.default is not None and key.default is not REQUIRED:
                key.read(key.default, place)
            if key.example:
                key.read(tomllib.loads(f"x = {key.example}")["x"], place)
            assert key.example or key.default is not None, f"{table}.{key.name} has neither default nor example"


def test_the_template_is_read_back_as_what_was_given(write: Write, env: dict[str, str]) -> None:
    odd = 'a "quoted" \\ हिन्दी'
    given = {
        "mirror": {"name": "B", "source": "file:///srv/x", "target": "data", "exclude": [odd], "trash_days": 3},
        "worker": {"mounts": {"B": "/app/B"}, "exclusive": True},
    }
    settings = config.load(write(render("top\nsecond line", given)), env)
    assert settings.mirrors[0].exclude == (odd,)
    assert settings.mirrors[0].trash_days == 3
    assert settings.worker.mounts == {"B": "/app/B"}
    assert settings.worker.exclusive


def test_a_secret_that_this_user_cannot_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "pw"
    secret_file(path, 0o200)
    if os.geteuid() == 0:  # root reads everything, so the answer of the system is stood in for
        monkeypatch.setattr("os.access", lambda *_: False)
    assert "cannot be read" in Secret(path=path).problem()
