"""SHA256SUMS as it comes from a share: what sha256sum writes is understood, anything else says nothing, in bounds."""

from __future__ import annotations

import hashlib
import subprocess
import tracemalloc
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from syncd.core import paths
from syncd.core.checksums import MAX_LINES, parse_checksums

A, B = "a" * 64, "b" * 64


def parse(*lines: str) -> dict[str, str]:
    found = parse_checksums("\n".join(lines).encode() + b"\n")
    assert found is not None
    return {str(path): digest for path, digest in found.items()}


@pytest.mark.parametrize(
    ("line", "path"),
    [
        (f"{A}  x.jpg", "x.jpg"),
        (f"{A} *x.jpg", "x.jpg"),
        (f"{A}  ./x.jpg", "x.jpg"),
        (f"{A}  ./hin/letter 1 .JPG", "hin/letter 1 .JPG"),
        (f"{A}   begins with a space", " begins with a space"),
        (f"{A}  **", "**"),
        (f"{'A' * 64}  x.jpg", "x.jpg"),
        (f"{A}  x.jpg\r", "x.jpg"),
        (f"{A}  पत्र.pdf", "पत्र.pdf"),
        (f"{A}  a\u2028b", "a\u2028b"),
        (f"\\{A}  escaped for nothing", "escaped for nothing"),
    ],
)
def test_both_markers_and_what_people_make_of_the_format_are_understood(line: str, path: str) -> None:
    assert parse(line) == {path: A}


@pytest.mark.parametrize(
    "line",
    [
        "",
        "# a comment",
        f"{A}",
        f"{A} ",
        f"{A}  ",
        f"{A} x.jpg",
        f"{A}\t x.jpg",
        f"{A[:-1]}  x.jpg",
        f"{A}a  x.jpg",
        f"{A[:-1]}g  x.jpg",
        f" {A}  x.jpg",
        f"SHA256 (x.jpg) = {A}",
        f"{A}  ../x.jpg",
        f"{A}  a/../../x.jpg",
        f"{A}  a/./x.jpg",
        f"{A}  ./",
        f"{A}  /etc/passwd",
        f"{A}  //server/x.jpg",
        f"{A}  a//b",
        f"{A}  a/",
        f"{A}  C:\\x.jpg",
        f"{A}  a\\b",
        f"{A}  .syncd/owner",
        f"{A}  nul\x00byte",
        f"\\{A}  line\\nbreak",
        f"\\{A}  back\\\\slash",
        f"\\{A}  car\\rriage",
        f"\\{A}  no such escape \\t",
        f"\\{A}  cut off \\",
        f"\\\\{A}  x.jpg",
        f"{A}  {'n' * 256}",
        f"{A}  {'d/' * paths.MAX_PATH_BYTES}x",
        f"{A}  {'x' * 100_000}",
    ],
)
def test_any_other_line_says_nothing_and_spoils_no_other(line: str) -> None:
    assert parse(f"{B}  before", line, f"{B}  after") == {"before": B, "after": B}


def test_a_name_that_is_no_utf8_says_nothing() -> None:
    text = f"{A}  x\n".encode() + A.encode() + b"  \xff\xfe.jpg\n" + b"\xef\xbb\xbf" + f"{A}  y\n".encode()
    assert parse_checksums(text) == {"x": A}


def test_a_file_with_two_different_digests_has_none() -> None:
    assert parse(f"{A}  x", f"{B}  x", f"{A}  x", f"{A}  y", f"{A.upper()} *./y") == {"y": A}


def test_the_last_line_may_lack_its_end() -> None:
    assert parse_checksums(f"{A}  x\n{B}  y".encode()) == {"x": A, "y": B}
    assert parse_checksums(b"") == {}


def test_what_sha256sum_itself_writes(tmp_path: Path) -> None:
    names = ["x.jpg", " space first", "*star", "back\\slash", "line\nbreak", "पत्र (1) .JPG"]
    for name in names:
        (tmp_path / name).write_bytes(name.encode())
    expected = {
        name: hashlib.sha256(name.encode()).hexdigest() for name in names if "\\" not in name and "\n" not in name
    }
    for marker in ("--text", "--binary"):
        written = subprocess.run(["sha256sum", marker, "--", *names], cwd=tmp_path, capture_output=True, check=True)
        assert b"\\\\slash" in written.stdout, "it escapes names"
        assert parse_checksums(written.stdout) == expected


def test_too_many_lines_are_refused_whole(monkeypatch: pytest.MonkeyPatch) -> None:
    assert parse_checksums(b"\n" * MAX_LINES) == {}
    assert parse_checksums(b"\n" * (16 << 20)) is None
    monkeypatch.setattr("syncd.core.checksums.MAX_LINES", 3)
    assert len(parse(*(f"{A}  {n}" for n in range(3)))) == 3
    assert parse_checksums(b"".join(f"{A}  {n}\n".encode() for n in range(4))) is None


def test_a_line_takes_little_memory() -> None:
    count = 2_000
    text = b"".join(f"{n:064x}  a/folder of usual depth/{n:07}.jpg\n".encode() for n in range(count))
    tracemalloc.start()
    try:
        found = parse_checksums(text)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert len(found or ()) == count
    assert peak < 500 * count


def test_one_huge_line_is_passed_over() -> None:
    assert parse_checksums(A.encode() + b"  " + b"x" * (16 << 20) + f"\n{B}  y\n".encode()) == {"y": B}


@given(st.binary(max_size=300), st.booleans())
def test_whatever_the_bytes_are_only_paths_that_a_mirror_can_hold_come_of_them(noise: bytes, escaped: bool) -> None:
    line = (b"\\" if escaped else b"") + A.encode() + b"  " + noise
    for path, digest in (parse_checksums(line) or {}).items():
        assert digest == A
        assert not any(paths.refuse_name(part) for part in path.split("/"))
    parse_checksums(noise)
