"""FerretDB: MongoDB's protocol over SQLite, built from source (gobuild.py), for machines without a MongoDB.

with start_ferretdb(directory) as server:
    server.uri()                      # with the password, percent-encoded; see tests/support/mongo.py
    server.kill(); server.start()     # what was acknowledged is still there

What it does differently from MongoDB: no TTL indexes, no `fields` in findAndModify, no `$size` in `$project`, no limit
of 16 MiB, wrong answers of dotted `$ne` and `$nin` into arrays of documents; an upsert takes some 8 ms.
"""

from __future__ import annotations

import contextlib
import os
import shutil
from collections.abc import Iterator
from pathlib import Path

from tests.support.gobuild import BuildFailed, Recipe, Workshop, program
from tests.support.mongo import Login, MongoServer, running
from tests.support.ports import free_port

VERSION = "v1.24.2"

_MODULE = "github.com/FerretDB/FerretDB"
_GO_MOD = "module syncd-tests\n\ngo 1.24\n"
_WRITERS = ("MsgUpdate", "MsgFindAndModify", "MsgDelete", "MsgInsert")
_LOCK = """package handler

import "sync"

// One writing command at a time: as it comes, a document that two update at once loses one of the updates.
var writes sync.Mutex
"""


def _build(shop: Workshop) -> None:
    """Build from a copy of the module: it lacks the file that says its version, and is not atomic."""
    (shop.folder / "go.mod").write_text(_GO_MOD)
    shop.go("get", "-tool", f"{_MODULE}/cmd/ferretdb@{VERSION}")
    original = shop.go("list", "-m", "-f", "{{.Dir}}", _MODULE).splitlines()[-1]
    copy = shop.folder / "ferretdb"
    shutil.copytree(original, copy, copy_function=shutil.copyfile)
    for folder, _, _ in os.walk(copy):
        os.chmod(folder, 0o755)  # the module cache is read-only
    (copy / "build" / "version" / "version.txt").write_text(f"{VERSION}\n")
    _serialise_writes(copy / "internal" / "handler")
    shop.go("mod", "edit", "-replace", f"{_MODULE}=./ferretdb")
    shop.go("install", "-tags", "ferretdb_no_postgresql", f"{_MODULE}/cmd/ferretdb")


def _serialise_writes(handlers: Path) -> None:
    """Have every command that writes take one lock first."""
    (handlers / "writes.go").write_text(_LOCK)
    for name in _WRITERS:
        file = handlers / f"{name.lower().replace('msg', 'msg_', 1)}.go"
        head, begin, rest = file.read_text().partition(f"func (h *Handler) {name}(")
        signature, brace, body = rest.partition("{\n")
        if not begin or not brace:
            raise BuildFailed(f"{file.name} has no {name}")
        file.write_text(f"{head}{begin}{signature}{brace}\twrites.Lock()\n\tdefer writes.Unlock()\n\n{body}")


RECIPE = Recipe(
    "ferretdb",
    VERSION.removeprefix("v"),
    programs=("ferretdb",),
    build=_build,
    inputs=(_GO_MOD, _LOCK, *_WRITERS),
)


@contextlib.contextmanager
def start_ferretdb(base: Path) -> Iterator[MongoServer]:
    """Run FerretDB until the block ends. Its first user is made at start-up; the password is in no argv."""
    port, login = free_port(), Login.random()
    directory = base / f"ferretdb-{port}"
    (directory / "db").mkdir(parents=True)
    flags = {
        "handler": "sqlite",
        "sqlite-url": f"file:{directory / 'db'}/",
        "listen-addr": f"127.0.0.1:{port}",
        "debug-addr": "-",
        "telemetry": "disable",
        "state-dir": str(directory),
        "setup-database": "admin",
        "log-level": "error",
    }
    argv = [program(RECIPE, "ferretdb"), *(f"--{name}={value}" for name, value in flags.items())]
    argv.append("--test-enable-new-auth")
    secret = {"FERRETDB_SETUP_USERNAME": login.user, "FERRETDB_SETUP_PASSWORD": login.password}
    with running(MongoServer("ferretdb", directory, argv, port, login, secret)) as server:
        yield server
