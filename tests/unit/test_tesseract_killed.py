"""Tesseract that is killed while it tells its version: no reason to call the configuration wrong."""

from __future__ import annotations

from pathlib import Path

import pytest

from syncd.core.errors import ConfigError
from worker_glue.ocr.tesseract import Tesseract

SCRIPT = """#!/bin/sh
echo x >> {log}
[ $(wc -l < {log}) -le {kills} ] && kill -9 $$
[ "$1" = --version ] && echo "tesseract 5.3.0" || printf 'List\\neng\\nhin\\n'
"""


def program(tmp_path: Path, kills: int) -> str:
    path = tmp_path / "tesseract"
    path.write_text(SCRIPT.format(log=tmp_path / "log", kills=kills))
    path.chmod(0o755)
    return str(path)


def test_it_is_asked_again(tmp_path: Path) -> None:
    assert Tesseract.configured({"program": program(tmp_path, 2)}).version() == "5.3.0"


def test_one_that_is_always_killed_cannot_be_used(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="failed"):
        Tesseract.configured({"program": program(tmp_path, 1000)})
