"""The registry's MongoDB side without a server: what errors mean, what is dialled, what documents say."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import pytest
from bson.errors import InvalidDocument
from pymongo import UpdateOne
from pymongo.errors import (
    AutoReconnect,
    BulkWriteError,
    ConfigurationError,
    DocumentTooLarge,
    ExecutionTimeout,
    InvalidName,
    InvalidURI,
    NetworkTimeout,
    NotPrimaryError,
    OperationFailure,
    ServerSelectionTimeoutError,
    WriteConcernError,
    WTimeoutError,
)

from syncd.core.errors import PublishFailed
from syncd.core.model import RelPath
from syncd.ports import Bookmark, RegistryEntry
from syncd.registry import documents as doc
from syncd.registry.errors import (
    RegistryAway,
    RegistryDenied,
    RegistryFailed,
    RegistryRefused,
    RegistryUnusable,
    translated,
)
from syncd.registry.mongo import MongoRegistry, _store

SECRET = "s3cr@t:/"

ERRORS: list[tuple[Exception, type[PublishFailed], int, str]] = [
    (
        OperationFailure("x", 18, {"errmsg": "Authentication failed."}),
        RegistryRefused,
        12,
        "Authentication failed. code 18",
    ),
    (OperationFailure("x", 8000, {"errmsg": "bad auth"}), RegistryRefused, 12, "bad auth"),
    (OperationFailure("x", 13, {"errmsg": "not authorized on gvpocr"}), RegistryDenied, 12, "not authorized on gvpocr"),
    (OperationFailure("x", 73, {"errmsg": "Invalid namespace"}), RegistryUnusable, 2, "name of the database"),
    (OperationFailure("x", 10334, {"errmsg": "BSONObj size"}), RegistryFailed, 10, "BSONObj size code 10334"),
    (ExecutionTimeout("x", 50, {"errmsg": "operation exceeded time limit"}), RegistryAway, 10, "no answer in time"),
    (
        WriteConcernError("x", 100, {"errmsg": "Not enough data-bearing nodes"}),
        RegistryFailed,
        10,
        "majority's journal",
    ),
    (WTimeoutError("x", 64, {"errmsg": "waiting for replication"}), RegistryFailed, 10, "majority's journal"),
    (NotPrimaryError("x", {"errmsg": "not primary"}), RegistryAway, 10, "not the primary"),
    (NetworkTimeout(f"h:1 {SECRET}"), RegistryAway, 10, "no answer in time"),
    (ServerSelectionTimeoutError(f"h:1 {SECRET}"), RegistryAway, 10, "no answer in time"),
    (AutoReconnect(f"h:1 {SECRET}"), RegistryAway, 10, "connection breaks"),
    (InvalidURI(f"port is {SECRET}"), RegistryUnusable, 2, "refuses the connection string"),
    (ConfigurationError(f"unknown {SECRET}"), RegistryUnusable, 2, "refuses the connection string"),
    (InvalidName("database names cannot contain ' '"), RegistryUnusable, 2, "name of the database"),
    (DocumentTooLarge(f"{SECRET}"), RegistryFailed, 10, "too large"),
    (InvalidDocument(f"{SECRET}"), RegistryFailed, 10, "it failed"),
    (ConnectionResetError(104, f"{SECRET}"), RegistryAway, 10, "errno 104"),
    (
        BulkWriteError({"writeErrors": [{"code": 13, "errmsg": "not allowed"}, {"code": 1, "errmsg": "y"}]}),
        RegistryDenied,
        12,
        "not allowed code 13",
    ),
    (
        BulkWriteError({"writeErrors": [{"code": 121, "errmsg": "validation"}]}),
        RegistryFailed,
        10,
        "validation code 121",
    ),
    (BulkWriteError({"writeErrors": [], "writeConcernErrors": [{"code": 64}]}), RegistryFailed, 10, "it failed"),
]


@pytest.mark.parametrize(("raised", "kind", "code", "said"), ERRORS, ids=lambda value: type(value).__name__)
def test_what_the_driver_raises_is_translated(
    raised: Exception, kind: type[PublishFailed], code: int, said: str
) -> None:
    with pytest.raises(PublishFailed) as failed, translated(lambda: "h:27017"):
        raise raised
    error = failed.value
    assert type(error) is kind
    assert error.exit_code == code
    assert error.message.startswith("MongoDB at h:27017: ")
    assert said in error.message.replace("(", "").replace(")", "").replace(", ", " ")
    assert error.hint
    assert SECRET not in error.message + error.hint
    assert error.transient == (code == 10)
    assert error.__cause__ is raised


@pytest.mark.parametrize("raised", [KeyError("x"), ValueError("x"), KeyboardInterrupt()])
def test_what_is_a_bug_stays_one(raised: BaseException) -> None:
    with pytest.raises(type(raised)), translated(lambda: "h"):
        raise raised


@pytest.mark.parametrize(
    ("uri", "named"),
    [
        (f"mongodb://u:{SECRET}@h:27017/gvpocr", "raw @"),
        ("mongodb+srv://u:hunter22@h/gvpocr", "mongodb+srv"),
        ("postgres://u:hunter22@h/gvpocr", '"postgres://"'),
        ("u:hunter22@h/gvpocr", "does not begin with mongodb://"),
        ("mongodb://u:hunter22@/gvpocr", "HOST:PORT"),
        ("mongodb://u:hunter22@h/gvpocr?connectTimeoutMS=hunter22", "connectTimeoutMS"),
        ("mongodb://u:hunter22@h/gvpocr?hunter=hunter22&tls=perhaps", "hunter, tls"),
        ("mongodb://u:hunter22@h/gvpocr?tlsCAFile=/nowhere/hunter22", "tlsCAFile"),
        ("mongodb://u:hunter22@h/" + "x" * 70, "name of a database"),
        ("mongodb://u:hunter22@h/a%20b", "name of a database"),
    ],
)
def test_a_uri_that_cannot_be_used_is_named_without_its_password(uri: str, named: str) -> None:
    registry = MongoRegistry(lambda: uri, where="/etc/mongo-uri")
    try:
        with pytest.raises(RegistryUnusable) as failed:
            registry.hosts()
    finally:
        registry.close()
    said = failed.value.message
    assert named in said
    assert failed.value.exit_code == 2
    assert "hunter22" not in said + failed.value.hint
    assert SECRET not in said + failed.value.hint


def test_a_closed_registry_reads_no_secret() -> None:
    asked = []
    registry = MongoRegistry(lambda: str(asked.append(1)))
    registry.close()
    registry.close()
    with pytest.raises(RegistryAway):
        registry.hosts()
    assert not asked


# --- documents


def test_what_another_version_wrote_is_tolerated() -> None:
    now = datetime(2026, 2, 1, tzinfo=UTC)
    documents: list[dict[str, Any]] = [
        {},
        {"_id": 5, "name": None, "mirrors": "many", "at": "yesterday", "workers": "3"},
        {"_id": "h", "mirrors": [None, 3, {}, {"name": 4, "files": "x", "bytes": 2.0**80}], "bookmark": []},
        {"_id": "h", "bookmark": {"through": 1, "place": ["x"]}, "files": 1},
        {"_id": "h", "bookmark": {"through": "1"}, "at": datetime(2027, 1, 1)},
    ]
    rows = [doc.host_row(document, now) for document in documents]
    assert [row.filling for row in rows] == [True] * 5
    assert [row.stale for row in rows] == [True, True, True, True, False]
    assert [len(row.mirrors) for row in rows] == [0, 0, 2, 0, 0]
    assert rows[-1].age_s == 0
    assert doc.holding_of({"size": "x", "generation": None}).generation == 0


def test_bookmarks_and_entries_come_back_as_they_were() -> None:
    for bookmark in (Bookmark(1, "a\nb", 5, None), Bookmark(0, "", 0, ("M", "a/b"))):
        assert doc.bookmark_of(doc.bookmark_fields(bookmark)) == bookmark
    entry = RegistryEntry("M", "M/a/b/c d", 3, "00" * 32, 7, removed=True)
    document = {"_id": doc.key_of("host", entry), **doc.file_fields("host", entry)}
    assert document["_id"] == "host\tM\ta/b\tc d"
    assert doc.entry_of(document) == entry


def test_the_ranges_beside_some_mirrors_leave_out_exactly_those() -> None:
    ids = [doc.key("h", mirror, RelPath(path)) for mirror in ("A", "A b", "M", "M2", "z") for path in ("x", "d/x")]
    others = [doc.key(host, "M", RelPath("x")) for host in ("g", "h2", "h ", "i")]
    for kept in ([], ["M"], ["z", "A"], ["A", "A b", "M", "M2", "z"], ["none"]):
        ranges = doc.ranges_beside("h", kept)
        inside = {key for key in ids + others for first, end in ranges if first <= key < end}
        assert inside == {key for key in ids if key.split("\t")[1] not in kept}


# --- a write that comes in between


class Racing:
    """A collection where entries appear between our look and our write, `times` times."""

    def __init__(self, times: int) -> None:
        self.times = times
        self.stored: dict[str, int] = {}
        self.bulks = 0

    def __getitem__(self, _name: str) -> Racing:
        return self

    def find(self, _filter: Any, _projection: Any) -> list[dict[str, Any]]:
        found = [{"_id": place, "generation": generation} for place, generation in self.stored.items()]
        if self.times:
            self.times -= 1
            self.stored["h\tM\t\tx"] = 1
            return []
        return found

    def bulk_write(self, updates: list[UpdateOne], *, ordered: bool) -> Any:
        assert not ordered
        self.bulks += 1
        upserted = 0
        for update in updates:
            place, generation = update._filter["_id"], 5
            if "generation" not in update._filter:
                upserted += place not in self.stored
                self.stored.setdefault(place, generation)
            elif self.stored.get(place, generation) < update._filter["generation"]["$lt"]:
                self.stored[place] = generation
        return type("Done", (), {"upserted_count": upserted})


@pytest.mark.parametrize(("times", "bulks"), [(0, 1), (1, 2), (2, 3)])
def test_an_entry_that_appears_in_between_is_looked_at_again(times: int, bulks: int) -> None:
    racing: Any = Racing(times)
    entry = RegistryEntry("M", "M/x", 3, "00" * 32, 5, removed=False)
    _store(racing, "h", {"h\tM\t\tx": entry, "h\tM\t\ty": entry})
    assert racing.stored == {"h\tM\t\tx": 5, "h\tM\t\ty": 5}
    assert racing.bulks == bulks


def test_another_writer_without_end_is_a_failure() -> None:
    racing: Any = Racing(99)
    entry = RegistryEntry("M", "M/x", 3, "00" * 32, 5, removed=False)
    with pytest.raises(RegistryFailed):
        _store(racing, "h", {"h\tM\t\tx": entry})
