"""Whatever a configuration file says, loading it ends in settings or in problems with exit code 2; never in a bug."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from syncd import config
from syncd.config.keys import TABLES
from syncd.config.template import toml
from syncd.core.errors import ConfigError

GOOD = {"name": "B", "source": "file:///srv/x", "target": "/srv/y"}
WORDS = [
    "",
    "0",
    "5s",
    "10m",
    "5%",
    "1GiB",
    "20M",
    "* * * * *",
    "smb://u@h/s",
    "file://./x",
    "~",
    ".",
    "/",
    "a:1",
    "::1",
    "*:1",
]

scalars = st.one_of(
    st.sampled_from(WORDS),
    st.text(max_size=12),
    st.integers(-(2**63), 2**63 - 1),
    st.booleans(),
    st.floats(allow_nan=False, allow_infinity=False),
)
odd_values = st.recursive(
    scalars,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=5,
)


@st.composite
def files(draw: st.DrawFn) -> str:
    """A file whose tables and keys are mostly known ones, with values that mostly are not."""
    lines = []
    for table in draw(st.lists(st.sampled_from([*TABLES, "hots"]), unique=True)):
        lines.append(f"[[{table}]]" if table == "mirror" else f"[{table}]")
        names = [key.name for key in TABLES.get(table, ())] + ["engine", "password"]
        given: dict[str, Any] = dict(GOOD) if table == "mirror" else {}
        given |= draw(st.dictionaries(st.sampled_from(names), odd_values, max_size=4))
        lines += [f"{toml(name)} = {toml(value)}" for name, value in given.items()]
    return "\n".join(lines) + "\n"


@settings(max_examples=100, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    text=files(),
    environment=st.dictionaries(st.sampled_from(["NSQD_ADDRESS", "MONGO_URI", "WORKER_ID"]), st.text(max_size=8)),
)
def test_any_file_is_settings_or_problems(text: str, environment: dict[str, str], tmp_path: Path) -> None:
    path = tmp_path / "config.toml"
    path.write_text(text, encoding="utf-8", errors="surrogatepass")
    try:
        found = config.load(path, {"HOME": str(tmp_path), **environment})
    except ConfigError as error:
        assert error.exit_code == 2
        assert error.problems
        assert all(problem.isprintable() for problem in error.problems)
    else:
        assert found.mirrors
        assert all(mirror.target.is_absolute() for mirror in found.mirrors)
