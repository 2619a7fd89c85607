"""`syncd init`: write a configuration by asking a few questions. Nothing that exists is overwritten."""

from __future__ import annotations

import argparse
import importlib.util
import os
import shlex
import sys
from pathlib import Path
from typing import NamedTuple

from syncd import config
from syncd.cli import ask
from syncd.cli.frame import describe
from syncd.config import SourceUrl, values
from syncd.config.files import make_folder, write_new
from syncd.config.template import render
from syncd.config.urls import source_url
from syncd.core.errors import ConfigError

_HEADER = """Configuration of syncd, written by `syncd init`. Every key is here; those behind a single # are not in use
and show their default or an example. After a change:  syncd doctor"""


class _Answers(NamedTuple):
    """What init was told. Secrets are "" when there are none."""

    source: SourceUrl
    source_text: str
    target: Path
    name: str
    password: str
    password_file: Path | None
    key_file: Path | None
    nsqd: str
    mongo_uri: str


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of `syncd init`."""
    parser.add_argument(
        "url", metavar="URL", nargs="?", help="the source: smb://USER@HOST:PORT/SHARE, sftp://, file://"
    )
    parser.add_argument("target", metavar="TARGET", nargs="?", help="the local data directory")
    parser.add_argument("--name", help="the mirror's name, as tasks spell the collection (default: TARGET's last part)")
    parser.add_argument(
        "--password-file", metavar="FILE", type=Path, help="an existing password file, instead of asking"
    )
    parser.add_argument("--key-file", metavar="FILE", type=Path, help="sftp: the private key, instead of a password")
    parser.add_argument("--nsqd", metavar="HOST:PORT", help='nsqd or the proxy to it; "" for none')
    parser.add_argument("--no-mongo", action="store_true", help="do not ask for MongoDB")
    parser.add_argument("--no-doctor", action="store_true", help="do not check the connections afterwards")
    describe(
        parser,
        "Write a commented configuration and its secret files (mode 600) by asking for what is not given; existing "
        "files are never overwritten. Then runs `syncd doctor` and ends with its exit code. Piped answers are read "
        "one a line, in the order of the questions: source, target, password, nsqd, MongoDB.",
        [
            "syncd init",
            "syncd init smb://gvpocr@172.12.0.132:13445/gvpocr-bhushanji ~/gvpocr-worker/data/Bhushanji",
            "printf '%s\\n' \"$PASSWORD\" | syncd init smb://gvpocr@nas/scans ~/scans --nsqd '' --no-mongo",
        ],
        [0, 3],
    )


def run(args: argparse.Namespace) -> int:
    """Ask, write, check."""
    path = config.default_path(os.environ) if args.config is None else args.config.expanduser().absolute()
    _refuse_existing(path, "edit it, or write another one: syncd -c FILE init")
    answers = _ask(args)
    _write(path, answers)
    print(f"{path} is written.")
    option = "" if args.config is None else f"-c {shlex.quote(str(path))} "
    code = 0 if args.no_doctor else _doctor(path)
    print(f"Next:\n  syncd {option}run-once\n  syncd {option}status")
    return code


def _refuse_existing(path: Path, hint: str) -> None:
    if os.path.lexists(path):
        raise ConfigError(f"{path} exists already, and nothing is overwritten", hint=hint)


def _ask(args: argparse.Namespace) -> _Answers:
    source_text, source = ask.valid(args.url, "Source, like smb://USER@HOST:PORT/SHARE", _source)
    target = _absolute(ask.valid(args.target, "Target, the local data directory", values.text))
    name = ask.valid(target.name if args.name is None else args.name, "", lambda text: values.name(text, "mirror"))
    password = _password(args, source)
    nsqd = ask.valid(args.nsqd, "nsqd, HOST:PORT (empty: none)", _nsqd)
    mongo_uri = "" if args.no_mongo else ask.secret("MongoDB connection string (empty: none)")
    return _Answers(source, source_text, target, name, password, args.password_file, args.key_file, nsqd, mongo_uri)


def _source(text: str) -> tuple[str, SourceUrl]:
    """Return the URL as the file will say it, and as it is read; a file source becomes absolute."""
    source = source_url(text, Path.cwd())
    return (Path(source.folder).as_uri() if source.scheme == "file" else text), source


def _nsqd(text: str) -> str:
    return str(values.address(text, 4150)) if text else ""


def _absolute(path: str | Path) -> Path:
    return Path(os.path.abspath(os.path.expanduser(path)))


def _password(args: argparse.Namespace, source: SourceUrl) -> str:
    if source.scheme == "file" or args.password_file or args.key_file:
        return ""
    if not source.user:
        raise ConfigError(f"{source} names no user; write {source.scheme}://USER@{source.server}/...")
    password = ask.secret(f"Password of {source.user} at {source.server}")
    if not password:
        raise ConfigError("no password was given; nothing was written")
    return password


def _write(path: Path, answers: _Answers) -> None:
    """Write secrets first, the configuration last: a configuration never names a secret that is not there."""
    mirror: dict[str, object] = {"name": answers.name, "source": answers.source_text, "target": str(answers.target)}
    secrets: dict[Path, str] = {}
    if answers.password:
        file = path.parent / f"{answers.name}.password"
        secrets[file] = answers.password
        mirror["password_file"] = str(file)
    if answers.password_file:
        mirror["password_file"] = str(_absolute(answers.password_file))
    if answers.key_file:
        mirror["key_file"] = str(_absolute(answers.key_file))
    given: dict[str, dict[str, object]] = {"mirror": mirror}
    if answers.nsqd:
        given["nsq"] = {"nsqd_tcp_address": answers.nsqd}
    if answers.mongo_uri:
        file = path.parent / "mongo-uri"
        secrets[file] = answers.mongo_uri
        given["mongo"] = {"uri_file": str(file)}
    for file in secrets:
        _refuse_existing(file, f"remove it first, or name it with --password-file {shlex.quote(str(file))}")
    make_folder(path.parent)
    written: list[Path] = []
    try:
        for file, secret in secrets.items():
            write_new(file, secret + "\n", 0o600)
            written.append(file)
        write_new(path, render(_HEADER, given), 0o644)
        written.append(path)
        config.load(path, os.environ)
    except ConfigError:
        for file in written:
            file.unlink(missing_ok=True)
        raise


def _doctor(path: Path) -> int:
    if importlib.util.find_spec("syncd.cli.doctor") is None:
        return 0
    from syncd.cli.main import main

    sys.stdout.flush()
    return main(["-c", str(path), "doctor"])
