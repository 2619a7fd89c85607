"""[hosts.NAME]: read, defaulted, and every problem named."""

from __future__ import annotations

from pathlib import Path

import pytest

from syncd import config
from syncd.config import Address
from syncd.core.errors import ConfigError

MIRROR = '[[mirror]]\nname = "B"\nsource = "file:///srv/x"\ntarget = "/srv/y"\n'


def load(tmp_path: Path, text: str, top: str = "") -> config.Settings:
    path = tmp_path / "config.toml"
    path.write_text(top + MIRROR + text)
    return config.load(path, {"HOME": "/home/u"})


def problems(tmp_path: Path, text: str) -> list[str]:
    with pytest.raises(ConfigError) as caught:
        load(tmp_path, text)
    return [problem.partition("config.toml: ")[2] for problem in caught.value.problems]


def test_a_host_gets_every_default(tmp_path: Path) -> None:
    (host,) = load(tmp_path, '[hosts.tod-mac]\nssh = "u@10.0.0.1"\nkey_file = "~/key"\n').hosts
    assert (host.name, host.user, host.address) == ("tod-mac", "u", Address("10.0.0.1", 22))
    assert (host.key_file, host.known_hosts_file) == (Path("/home/u/key"), Path("/home/u/.ssh/known_hosts"))
    assert (host.kind, host.service, host.command, host.config, host.compose_dir) == (
        "systemd",
        "syncd",
        "syncd",
        "",
        "",
    )
    assert host.password is None


def test_secrets_of_hosts_are_not_looked_at_until_they_are_needed(tmp_path: Path) -> None:
    (host,) = load(tmp_path, '[hosts."annex 2"]\nssh = "u@[::1]:2222"\npassword_file = "/none"\n').hosts
    assert (host.name, host.address) == ("annex 2", Address("::1", 2222))
    assert host.password is not None
    assert "does not exist" in host.password.problem()


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("[hosts]\na = 5\n", "hosts.a: 5 is not a table"),
        ('[hosts.a]\nkey_file = "/k"\n', "hosts.a: ssh: is missing"),
        ('[hosts.a]\nssh = "10.0.0.1"\nkey_file = "/k"\n', "hosts.a: ssh: "),
        ('[hosts.a]\nssh = "u:pw@10.0.0.1"\nkey_file = "/k"\n', "hosts.a: ssh: "),
        ('[hosts.a]\nssh = "u@h"\n', "hosts.a: key_file: is missing"),
        ('[hosts.a]\nssh = "u@h"\nkey_file = "/k"\nuser = "x"\n', 'unknown key "user"; it belongs into ssh'),
        ('[hosts.a]\nssh = "u@h"\nkey_file = "/k"\nkind = "docker"\n', "hosts.a: kind: "),
        ('[hosts.a]\nssh = "u@h"\nkey_file = "/k"\nkind = "compose"\n', "hosts.a: compose_dir: is missing"),
        ('[hosts.a]\nssh = "u@h"\nkey_file = "/k"\ncompose_dir = "/x"\n', "hosts.a: compose_dir: only"),
        ('[hosts.a]\nssh = "u@h"\nkey_file = "/k"\nconfig = "x.toml"\n', "not an absolute path"),
        ('[hosts.a]\nssh = "u@h"\nkey_file = "/k"\nservice = "a b"\n', "hosts.a: service: "),
        (
            '[hosts.a]\nssh = "u@h"\nkey_file = "/k"\nkind = "compose"\ncompose_dir = "~/x"\ncommand = "~/s"\n',
            "hosts.a: command: lies in the container",
        ),
        ('[hosts."-x"]\nssh = "u@h"\nkey_file = "/k"\n', "is not a host name"),
        ('[hosts."a\\u0007"]\nssh = "u@h"\nkey_file = "/k"\n', "control character"),
    ],
)
def test_what_is_wrong_with_a_host_is_named(tmp_path: Path, text: str, expected: str) -> None:
    found = problems(tmp_path, text)
    assert any(expected in problem for problem in found), found
    assert all(problem.isprintable() and "pw@" not in problem for problem in found)


def test_hosts_is_a_table_of_tables(tmp_path: Path) -> None:
    with pytest.raises(ConfigError) as caught:
        load(tmp_path, "", top="hosts = 5\n")
    assert "write [hosts.NAME] above its keys" in caught.value.problems[0]
