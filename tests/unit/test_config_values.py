"""Single values of the configuration: what is read, and what is refused in which words."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

import pytest

from syncd.config import values
from syncd.config.cron import Cron, cron
from syncd.config.urls import SourceUrl, source_url

BASE = Path("/base")


@pytest.mark.parametrize(
    ("text", "seconds"),
    [("5s", 5), ("10m", 600), ("1h30m", 5400), ("500ms", 0.5), ("1.5h", 5400), ("2d", 172800), (" 90s ", 90)],
)
def test_duration(text: str, seconds: float) -> None:
    assert values.duration(text, 0, 1e9) == pytest.approx(seconds)


@pytest.mark.parametrize("wrong", ["", "10", "10x", "m", "-5s", "1h-5m", 10, 1.5, True, None, [], "10 m 5", "٣s"])
def test_what_is_no_duration_is_refused(wrong: object) -> None:
    with pytest.raises(ValueError, match='is not a duration; write it like "10m" or "90s"'):
        values.duration(wrong, 0, 1e9)


def test_duration_out_of_range_says_the_range() -> None:
    with pytest.raises(ValueError, match=r'"4s" is out of range; from 5s to 31d is allowed'):
        values.duration("4s", 5, 31 * 86400)


@pytest.mark.parametrize("seconds", [0, 0.5, 1, 59, 60, 61, 3600, 7200, 86400, 5 * 86400 + 60])
def test_plain_duration_is_read_back(seconds: float) -> None:
    assert values.duration(values.plain_s(seconds), 0, 1e9) == seconds


@pytest.mark.parametrize(
    ("text", "size"),
    [
        ("0", 0),
        ("512", 512),
        ("20M", 20 << 20),
        ("1GiB", 1 << 30),
        ("1.5 GB", 1_500_000_000),
        ("3k", 3072),
        ("2t", 2 << 40),
    ],
)
def test_size(text: str, size: int) -> None:
    assert values.size(text) == size


@pytest.mark.parametrize("wrong", ["", "M", "1XB", "-1", "1 2", 5, "99999999999T"])
def test_what_is_no_size_is_refused(wrong: object) -> None:
    with pytest.raises(ValueError, match=r"is not a size|is out of range"):
        values.size(wrong)


def test_min_free() -> None:
    total = 100 * values.GIB
    assert values.min_free("5%").floor(total) == 5 * values.GIB
    assert values.min_free("1GiB").floor(total) == values.GIB
    assert values.min_free("0%").floor(total) == 0
    assert values.MinFree(0.05, values.GIB).floor(total) == values.GIB
    assert values.MinFree(0.05, values.GIB).floor(values.GIB) == values.GIB // 20
    for wrong in ("101%", "lots", "", 5):
        with pytest.raises(ValueError, match=r"range|not a free-space floor"):
            values.min_free(wrong)


def test_percent() -> None:
    assert values.percent("10%") == 0.1
    assert values.percent("2.5 %") == 0.025
    for wrong in ("10", "101%", "-1%", 0.1):
        with pytest.raises(ValueError, match=r"percentage|range"):
            values.percent(wrong)


def test_rate_holds_by_the_hour() -> None:
    rate = values.rate("22:00-06:00 0; 12:00-13:00 1M; 20M")
    night, noon, day = 23 * 60, 12 * 60 + 59, 8 * 60
    assert [rate.at(m) for m in (night, 5 * 60 + 59, noon, day, 6 * 60, 13 * 60)] == [0, 0, 1 << 20, *[20 << 20] * 3]
    assert values.rate("0").at(0) == 0
    assert values.rate("20M/s").at(700) == 20 << 20
    assert values.rate("08:00-24:00 5M").at(23 * 60 + 59) == 5 << 20
    assert values.rate("08:00-24:00 5M").at(0) == 0


@pytest.mark.parametrize(
    "wrong", ["", "fast", "1M; 2M", "22:00-06:00", "25:00-06:00 1M", "08:60-09:00 1M", "08:00-08:00 1M", "1M;", 20]
)
def test_what_is_no_rate_is_refused(wrong: object) -> None:
    with pytest.raises(ValueError, match=r"rate|window|two parts"):
        values.rate(wrong)


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("127.0.0.1:4150", "127.0.0.1:4150"),
        ("http://nsqlookupd-proxy:4161/", "nsqlookupd-proxy:4161"),
        ("[::1]:4150", "[::1]:4150"),
        ("proxy", "proxy:4150"),
        ("[::1]", "[::1]:4150"),
    ],
)
def test_address(text: str, shown: str) -> None:
    assert str(values.address(text, 4150)) == shown


@pytest.mark.parametrize("wrong", ["", ":4150", "h:", "h:0", "h:70000", "h:x", "::1:4150", "u@h:1", "a b:1", 4150])
def test_what_is_no_address_is_refused(wrong: object) -> None:
    with pytest.raises(ValueError, match="is not HOST:PORT"):
        values.address(wrong)


def test_mirror_name() -> None:
    assert values.name("हिन्दी पत्र (1)", "mirror") == "हिन्दी पत्र (1)"
    for wrong in ("", " a", "a/b", "a|b", ".a", "-a", "x" * 65, "a\nb", 5):
        with pytest.raises(ValueError, match=r"name|empty|control|text"):
            values.name(wrong, "mirror")


# --- sources ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "url"),
    [
        (
            "smb://gvpocr@172.12.0.132:13445/gvpocr-bhushanji",
            SourceUrl("smb", "", "gvpocr", "", "172.12.0.132", 13445, "gvpocr-bhushanji"),
        ),
        ("smb://u@h/s/folder%20x/%E0%A4%B9/", SourceUrl("smb", "folder x/ह", "u", "", "h", 445, "s")),
        ("smb://DOM;u%40x@h/s/a b", SourceUrl("smb", "a b", "u@x", "DOM", "h", 445, "s")),
        ("SMB://u@[fe80::1%25eth0]:446/s", SourceUrl("smb", "", "u", "", "fe80::1%eth0", 446, "s")),
        ("sftp://u@host:2222/data/x", SourceUrl("sftp", "/data/x", "u", "", "host", 2222)),
        ("sftp://u@host/", SourceUrl("sftp", "/", "u", "", "host", 22)),
        ("file:///srv/a%23b", SourceUrl("file", "/srv/a#b")),
        ("file://localhost/srv", SourceUrl("file", "/srv")),
        ("file://./sample/B", SourceUrl("file", "/base/sample/B")),
        ("file://../B", SourceUrl("file", "/B")),
    ],
)
def test_source(text: str, url: SourceUrl) -> None:
    assert source_url(text, BASE) == url


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "is not a source"),
        ("/data/x", "is not a source"),
        ("http://h/x", "is not a source"),
        ("\\\\host\\share", "write a share like"),
        ("smb://u@h", "names no share"),
        ("smb://u@h/", "names no share"),
        ("smb://u@h:0/s", "invalid port"),
        ("smb://u@h:99999/s", "invalid port"),
        ("smb://u@h:x/s", "invalid port"),
        ("smb://u@/s", "no valid host"),
        ("smb://@h/s", "no user before the @"),
        ("smb://u@h/s/../x", r"has a \. or \.\."),
        ("smb://u@h/s/%2e%2e/x", r"has a \. or \.\."),
        ("smb://u@h/s/a\\b", "backslash"),
        ("smb://u@h/s?x=1", "%3F"),
        ("smb://u@h/s/100%", "write it as %25"),
        ("smb://u@h/s/%ff", "not UTF-8"),
        ("smb://u@h/s/%00", "control character"),
        ("sftp://u@h", "names no folder"),
        ("file://host/x", "no local path"),
        ("file://x", "no local path"),
        (5, "is not a source"),
    ],
)
def test_what_is_no_source_is_refused(text: object, said: str) -> None:
    with pytest.raises(ValueError, match=said):
        source_url(text, BASE)


@pytest.mark.parametrize(
    "text",
    [
        "smb://u:geheim@h/s",
        "smb://u:ge/heim@h/s",
        "smb://u:ge@heim@h/s",
        "sftp://u:geheim@h:22/x",
        "ftp://u:geheim@h/x",
    ],
)
def test_a_password_in_a_source_is_refused_and_not_repeated(text: str) -> None:
    with pytest.raises(ValueError, match=r"password|not a source") as caught:
        source_url(text, BASE)
    assert "geheim" not in str(caught.value)
    assert "heim" not in str(caught.value)


def test_source_id_is_the_same_for_every_user_and_spelling_of_the_server() -> None:
    one = source_url("smb://a@HOST/Share/x", BASE)
    other = source_url("smb://b@host:445/share/x/", BASE)
    assert one.id == other.id == "smb://host:445/share/x"
    assert source_url("smb://a@host:446/share/x", BASE).id != one.id
    assert source_url("smb://a@host/share/X", BASE).id != one.id


# --- cron ------------------------------------------------------------------------------------------------------------


def _next(expression: str, after: datetime) -> datetime:
    found: datetime = Cron(expression).trigger(UTC).get_next_fire_time(None, after)
    return found


@pytest.mark.parametrize(
    ("expression", "expected"),
    [
        ("*/10 * * * *", "2026-01-01T00:10"),
        ("0 6 * * 0", "2026-01-04T06:00"),  # 2026-01-01 is a Thursday; 0 is Sunday
        ("0 6 * * 7", "2026-01-04T06:00"),
        ("0 6 * * 1-5", "2026-01-01T06:00"),
        ("0 6 * * 5-7", "2026-01-02T06:00"),
        ("0 6 * * sat", "2026-01-03T06:00"),
        ("0 6 15 * 1", "2026-01-05T06:00"),  # the 15th, or a Monday
        ("0 6 3 * 1", "2026-01-03T06:00"),
        ("0 6 15 * *", "2026-01-15T06:00"),
    ],
)
def test_cron_means_what_crontab_says(expression: str, expected: str) -> None:
    after = datetime(2026, 1, 1, 0, 1, tzinfo=UTC)
    assert cron(expression) == Cron(expression)
    assert _next(expression, after) == datetime.fromisoformat(expected).replace(tzinfo=UTC)


@pytest.mark.parametrize(
    "wrong",
    ["", "* * * *", "60 * * * *", "* 24 * * *", "x * * * *", "* * * * 5-3", "* * * * 1/2", "* * 0 * *", "@daily", 5],
)
def test_what_is_no_cron_expression_is_refused(wrong: object) -> None:
    with pytest.raises(ValueError, match="is not a cron expression"):
        cron(wrong)


@pytest.mark.parametrize(
    ("read", "value"),
    [
        (lambda v: values.whole(v, 0, 9), "5"),
        (lambda v: values.whole(v, 0, 9), 5.0),
        (lambda v: values.whole(v, 0, 9), True),
        (lambda v: values.whole(v, 0, 9), 10),
        (values.boolean, 1),
        (values.boolean, "true"),
        (values.texts, "one"),
        (values.texts, [1]),
        (values.text, "a\x1b[0m"),
        (values.nsq_name, "a b"),
        (values.nsq_name, "x" * 65),
        (values.relative, "../x"),
        (lambda v: values.choice(v, ("a", "b")), "c"),
    ],
)
def test_wrong_types_and_ranges_are_refused(read: Callable[[object], object], value: object) -> None:
    with pytest.raises(ValueError, match=r"\w") as caught:
        read(value)
    assert "\x1b" not in str(caught.value)
