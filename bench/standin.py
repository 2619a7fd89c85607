"""MongoDB's protocol over documents in memory: a database that costs next to nothing, for benchmarks of its clients.

FerretDB reads every document of a collection for each update; what a worker costs cannot be seen through that, and
there is not a mongod on every machine. This one answers the few commands that bulk_jobs needs (OP_MSG; find, insert,
update, delete), keeps one index, by job_id, and knows neither logins nor disks. It is no test server: FerretDB is.
"""

from __future__ import annotations

import contextlib
import socket
import socketserver
import struct
import sys
import threading
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import bson

from tests.support.mongo import DATABASE, Login, MongoServer, running
from tests.support.ports import free_port

OP_MSG, OP_QUERY, OP_REPLY = 2013, 2004, 1
HELLO = {
    "isWritablePrimary": True,
    "ismaster": True,
    "helloOk": True,
    "maxBsonObjectSize": 16 << 20,
    "maxMessageSizeBytes": 48_000_000,
    "maxWriteBatchSize": 100_000,
    "minWireVersion": 0,
    "maxWireVersion": 21,
    "readOnly": False,
    "ok": 1.0,
}
Document = dict[str, Any]


class StandIn(MongoServer):
    """One running stand-in; its URI names no user."""

    def uri(self, *, port: int = 0, database: str = DATABASE, **_: Any) -> str:
        return f"mongodb://127.0.0.1:{port or self.port}/{database}"


@contextlib.contextmanager
def start_standin(base: Path) -> Iterator[MongoServer]:
    """Run one until the block ends."""
    port = free_port()
    directory = base / f"standin-{port}"
    directory.mkdir(parents=True)
    argv = [sys.executable, "-m", "bench.standin", str(port)]
    env = {"PYTHONPATH": str(Path(__file__).parents[1])}
    with running(StandIn("stand-in", directory, argv, port, Login.random(), env)) as server:
        yield server


# --- documents -------------------------------------------------------------------------------------------------------


class Collection:
    """The documents of a collection by their key: job_id where they have one, else _id."""

    def __init__(self) -> None:
        self._documents: dict[Any, Document] = {}

    def found(self, wanted: Mapping[str, Any]) -> Iterator[Document]:
        key = wanted.get("job_id", wanted.get("_id"))
        if key is not None and not isinstance(key, dict):
            one = self._documents.get(key)
            chosen = [] if one is None else [one]
        else:
            chosen = list(self._documents.values())
        return (each for each in chosen if matches(each, wanted))

    def insert(self, document: Document) -> None:
        self._documents[_key(document)] = document

    def remove(self, wanted: Mapping[str, Any]) -> int:
        gone = list(self.found(wanted))
        for each in gone:
            del self._documents[_key(each)]
        return len(gone)


def _key(document: Document) -> Any:
    return document.get("job_id", document.get("_id"))


def values_at(document: Any, path: str) -> Iterator[Any]:
    """Yield what a dotted path leads to, through arrays of documents too."""
    name, _, rest = path.partition(".")
    if isinstance(document, list):
        for each in document:
            yield from values_at(each, path)
    elif isinstance(document, dict) and name in document:
        if rest:
            yield from values_at(document[name], rest)
        else:
            yield document[name]


def matches(document: Document, wanted: Mapping[str, Any]) -> bool:
    """Say whether a filter finds a document: equality, $and, $lt, $ne, $nin, $in and $nor."""
    return all(_meets(document, path, condition) for path, condition in wanted.items())


def _meets(document: Document, path: str, condition: Any) -> bool:
    if path == "$and":
        return all(matches(document, each) for each in condition)
    if path == "$nor":
        return not any(matches(document, each) for each in condition)
    if not (isinstance(condition, dict) and condition and next(iter(condition)).startswith("$")):
        return _has(document, path, [condition])
    for operator, operand in condition.items():
        if operator == "$lt":
            if not any(value < operand for value in values_at(document, path)):
                return False
            continue
        sought = operand if operator in ("$in", "$nin") else [operand]
        if operator not in ("$eq", "$in", "$ne", "$nin"):
            raise NotImplementedError(operator)
        if _has(document, path, sought) is (operator in ("$ne", "$nin")):
            return False
    return True


def _has(document: Document, path: str, sought: list[Any]) -> bool:
    return any(value in sought or (isinstance(value, list) and any(each in value for each in sought))
               for value in values_at(document, path))  # fmt: skip


def change(document: Document, update: Mapping[str, Mapping[str, Any]]) -> None:
    """Apply $set, $setOnInsert, $unset, $inc, $push, $addToSet and $currentDate."""
    for operator, fields in update.items():
        for path, value in fields.items():
            *parents, name = path.split(".")
            place = document
            for parent in parents:
                place = place.setdefault(parent, {})
            _change(place, operator, name, value)


def _change(place: Document, operator: str, name: str, value: Any) -> None:
    if operator == "$set":
        place[name] = value
    elif operator == "$inc":
        place[name] = place.get(name, 0) + value
    elif operator == "$push" or (operator == "$addToSet" and value not in place.get(name, ())):
        place.setdefault(name, []).append(value)
    elif operator == "$currentDate":
        place[name] = datetime.now(UTC).replace(tzinfo=None)
    elif operator == "$unset":
        place.pop(name, None)
    elif operator not in ("$addToSet", "$setOnInsert"):
        raise NotImplementedError(operator)


def projected(document: Document, fields: Mapping[str, Any]) -> Document:
    """Return the named fields, or all but the excluded ones."""
    if not any(fields.values()):
        return {name: value for name, value in document.items() if name not in fields}
    found: Document = {"_id": document["_id"]} if fields.get("_id", 1) and "_id" in document else {}
    for path, shown in fields.items():
        for value in values_at(document, path) if shown else ():
            change(found, {"$set": {path: value}})
    return found


# --- the protocol ----------------------------------------------------------------------------------------------------

_lock = threading.Lock()
_collections: dict[str, Collection] = {}


def answer(command: Document) -> Document:
    """Carry out one command."""
    name = next(iter(command))
    if name in ("hello", "isMaster", "ismaster"):
        return {**HELLO, "localTime": datetime.now(UTC)}
    if name not in ("find", "insert", "update", "delete"):
        return {"ok": 1.0}
    place = f"{command['$db']}.{command[name]}"
    with _lock:
        collection = _collections.setdefault(place, Collection())
        if name == "find":
            limit = abs(command.get("limit", 0)) or None
            chosen = list(collection.found(command.get("filter", {})))[:limit]
            shown = [projected(each, command["projection"]) if command.get("projection") else each for each in chosen]
            return {"cursor": {"firstBatch": shown, "id": bson.Int64(0), "ns": place}, "ok": 1.0}
        if name == "insert":
            for document in command["documents"]:
                collection.insert(document)
            return {"n": len(command["documents"]), "ok": 1.0}
        if name == "delete":
            return {"n": sum(collection.remove(each["q"]) for each in command["deletes"]), "ok": 1.0}
        return _updated(collection, command["updates"])


def _updated(collection: Collection, updates: list[Document]) -> Document:
    count = 0
    for each in updates:
        chosen = list(collection.found(each["q"]))
        if not chosen and each.get("upsert"):
            collection.insert(fresh := {name: value for name, value in each["q"].items() if name[0] != "$"})
            fresh.setdefault("_id", bson.ObjectId())
            chosen = [fresh]
        for document in chosen if each.get("multi") else chosen[:1]:
            change(document, each["u"])
            count += 1
    return {"n": count, "nModified": count, "ok": 1.0}


class _Connection(socketserver.BaseRequestHandler):
    def handle(self) -> None:
        self.request.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        file = self.request.makefile("rb")
        with contextlib.suppress(OSError):
            while len(header := file.read(16)) == 16:
                length, number, _, kind = struct.unpack("<iiii", header)
                self._reply(number, kind, file.read(length - 16))

    def _reply(self, number: int, kind: int, body: bytes) -> None:
        if kind == OP_QUERY:  # the very first hello of a driver
            told = struct.pack("<iqii", 8, 0, 0, 1) + bson.encode(answer({"hello": 1}))
            self._send(number, OP_REPLY, told)
        else:
            self._send(number, OP_MSG, b"\0\0\0\0\0" + bson.encode(answer(command_in(body))))

    def _send(self, number: int, kind: int, body: bytes) -> None:
        self.request.sendall(struct.pack("<iiii", 16 + len(body), 0, number, kind) + body)


def command_in(body: bytes) -> Document:
    """Return the command of an OP_MSG: its document, with the sequences that follow it as arrays."""
    (size,) = struct.unpack_from("<i", body, 5)
    command, at = bson.decode(body[5 : 5 + size]), 5 + size
    while at < len(body) and body[at] == 1:
        (size,) = struct.unpack_from("<i", body, at + 1)
        name, _, documents = body[at + 5 : at + 1 + size].partition(b"\0")
        command[name.decode()] = bson.decode_all(documents)
        at += 1 + size
    return command


class _Server(socketserver.ThreadingTCPServer):
    allow_reuse_address = True
    daemon_threads = True


def main() -> None:
    """Serve on a port of loopback until ended."""
    with _Server(("127.0.0.1", int(sys.argv[1])), _Connection) as server:
        server.serve_forever()


if __name__ == "__main__":
    main()
