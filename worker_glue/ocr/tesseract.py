"""Tesseract, as a program: one run a page, which gives the text and the words with their boxes."""

from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from typing import ClassVar, NamedTuple, Self

from syncd.config import values
from syncd.core.errors import ConfigError
from worker_glue.errors import OcrFailed, OcrRefused
from worker_glue.model import OcrRequest, Word
from worker_glue.ocr.engine import Engine, PageImage, PageText
from worker_glue.ocr.languages import iso_code, tesseract_name
from worker_glue.ocr.tables import Table, path, whole

PSM, PSM_HANDWRITING, OEM = 3, 6, 3
_ASK_TIMEOUT_S = 20.0
_ASK_TRIES = 3
_SAID_BYTES = 2048
_NAME = re.compile(r"[A-Za-z0-9_]+(/[A-Za-z0-9_]+)?", re.ASCII)
_WORD_LEVEL = "5"


class Settings(NamedTuple):
    """[worker.engine.tesseract]. program: name or path. psm: page segmentation mode; psm_handwriting: for handwriting.

    oem: engine mode. threads: of one page. default_languages: ISO 639-1, where a task names none. tessdata: the folder
    with the language files, "" = Tesseract's own.
    """

    program: str = "tesseract"
    psm: int = PSM
    psm_handwriting: int = PSM_HANDWRITING
    oem: int = OEM
    threads: int = 1
    default_languages: tuple[str, ...] = ("en",)
    tessdata: str = ""


class Tesseract(Engine):
    """Runs `tesseract` for each page."""

    name: ClassVar[str] = "tesseract"

    def __init__(self, settings: Settings) -> None:
        """Ask the program for its version and languages. Raises ConfigError when there is none, or it can read none."""
        self._settings = settings
        found = shutil.which(settings.program)
        if found is None:
            raise ConfigError(
                f"the OCR program {settings.program} is not installed, or not on the PATH of this worker",
                hint=f"{_installs('tesseract-ocr', 'tesseract')}; or give its path as program in "
                "[worker.engine.tesseract]",
            )
        self._program = found
        self._env = {**os.environ, "OMP_THREAD_LIMIT": str(settings.threads)}
        said = self._ask("--version").split()
        self._version = said[1].removeprefix("v") if len(said) > 1 and said[0] == "tesseract" else "unknown"
        self._installed = self._list()
        if not self.languages():
            raise ConfigError(
                "tesseract finds no language: nothing can be read",
                hint=f"{_install(tesseract_name('en'))}; look at TESSDATA_PREFIX, and tessdata in "
                "[worker.engine.tesseract]",
            )

    @classmethod
    def configured(cls, table: Mapping[str, object]) -> Self:
        keys = Table(cls.name, table)
        settings = Settings(
            program=keys.take("program", lambda value: os.path.expanduser(values.text(value)), "tesseract"),
            psm=keys.take("psm", _psm, PSM),
            psm_handwriting=keys.take("psm_handwriting", _psm, PSM_HANDWRITING),
            oem=keys.take("oem", whole(0, 3), OEM),
            threads=keys.take("threads", whole(1, 64), 1),
            default_languages=keys.take("default_languages", _languages, ("en",)),
            tessdata=keys.take("tessdata", path, ""),
        )
        keys.end()
        return cls(settings)

    def version(self) -> str:
        return self._version

    def languages(self) -> Sequence[str]:
        return sorted({iso_code(name) for name in self._installed if name not in ("osd", "equ")})

    def read(self, page: PageImage, request: OcrRequest) -> PageText:
        names = self._names(request.languages)
        psm = self._settings.psm_handwriting if request.handwriting else self._settings.psm
        with tempfile.TemporaryDirectory(prefix="tesseract-") as folder:
            base = os.path.join(folder, "page")
            self._run(self._command(page, base, names, psm), base + ".log")
            text = _content(base + ".txt")
            words = tuple(_words(_content(base + ".tsv")))
        return PageText(text.strip("\n"), words)

    def _command(self, page: PageImage, base: str, names: Sequence[str], psm: int) -> list[str]:
        # outputs by variables: the configurations `txt` and `tsv` are files, which a tessdata folder may lack
        command = [self._program, page.path, base, "-l", "+".join(names), *self._where()]
        command += ["--psm", str(psm), "--oem", str(self._settings.oem)]
        command += [] if page.dpi is None else ["--dpi", str(page.dpi)]
        for variable in ("tessedit_create_txt=1", "tessedit_create_tsv=1", "page_separator="):
            command += ["-c", variable]
        return command

    def _where(self) -> list[str]:
        return ["--tessdata-dir", self._settings.tessdata] if self._settings.tessdata else []

    def _run(self, command: Sequence[str], log: str) -> None:
        try:
            with open(log, "wb") as said:
                done = subprocess.run(
                    command, stdin=subprocess.DEVNULL, stdout=said, stderr=said, env=self._env, check=False
                )
        except OSError as error:
            raise OcrFailed(f"tesseract cannot be run: {error.strerror or error}") from error
        if done.returncode < 0:
            raise OcrFailed(f"tesseract was ended by {signal.Signals(-done.returncode).name}")
        if done.returncode:
            raise OcrFailed(f"tesseract failed (exit {done.returncode}): {_last_line(log)}")

    def _names(self, languages: Sequence[str]) -> Sequence[str]:
        """Return Tesseract's names of the languages asked for. Raises OcrRefused for one that is not installed."""
        wanted = list(dict.fromkeys(tesseract_name(code) for code in languages or self._settings.default_languages))
        if not self._installed.issuperset(wanted):
            self._installed = self._list()
        for name in wanted:
            if name not in self._installed:
                raise OcrRefused(_not_installed(name), hint=_install(name))
        return wanted

    def _list(self) -> frozenset[str]:
        lines = self._ask("--list-langs", *self._where()).splitlines()
        return frozenset(line.strip() for line in lines if _NAME.fullmatch(line.strip()))

    def _ask(self, *arguments: str) -> str:
        """Return what the program says. Killed, it is asked again: an exhausted machine is no wrong configuration."""
        for _ in range(_ASK_TRIES):
            code, said = self._asked(*arguments)
            if code >= 0:
                break
        if code:
            last = (said.strip().splitlines() or [f"exit {code}"])[-1][:200]
            raise ConfigError(
                f"{self._program} {arguments[0]} failed: {last}", hint=f"try it: {self._program} --version"
            )
        return said

    def _asked(self, *arguments: str) -> tuple[int, str]:
        try:
            done = subprocess.run(
                [self._program, *arguments],
                stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
                timeout=_ASK_TIMEOUT_S, env=self._env, check=False,
            )  # fmt: skip
        except (OSError, subprocess.TimeoutExpired) as error:
            raise ConfigError(f"{self._program} cannot be asked {arguments[0]}: {type(error).__name__}") from error
        return done.returncode, done.stdout.decode("utf-8", "replace")


def _psm(value: object) -> int:
    found = values.whole(value, 1, 13)
    if found == 2:
        raise ValueError("2 reads no text; 3 is the usual mode")
    return found


def _languages(value: object) -> tuple[str, ...]:
    found = values.texts(value)
    if not found:
        raise ValueError('is empty; write it like ["en", "hi"]')
    for code in found:
        if not _NAME.fullmatch(tesseract_name(code)):
            raise ValueError(f"{values.shown(code)} is no language; write it like en, hi or mar")
    return found


def _not_installed(name: str) -> str:
    code = iso_code(name)
    shown = values.shown(code if code == name else f"{code} ({name})")
    return f"the language {shown} is not installed for Tesseract on this worker"


def _install(name: str) -> str:
    if not _NAME.fullmatch(name):
        return "languages are ISO 639-1 codes, such as en and hi"
    package = "tesseract-ocr-" + name.lower().replace("_", "-").replace("/", "-")
    return f"{_installs(package, 'tesseract-lang')}; or put {name}.traineddata beside the other languages' files"


def _installs(debian: str, homebrew: str) -> str:
    """Return the command that installs a package here."""
    return f"brew install {homebrew}" if sys.platform == "darwin" else f"apt install {debian}"


def _words(tsv: str) -> Iterator[Word]:
    """Yield the words of Tesseract's table: level, page, block, paragraph, line, word, box, confidence, text."""
    for line in tsv.split("\n"):
        cells = line.split("\t", 11)
        if len(cells) < 12 or cells[0] != _WORD_LEVEL or not cells[11].strip():
            continue
        x, y, width, height = map(int, cells[6:10])
        confidence = min(max(float(cells[10]), 0.0), 100.0) / 100
        yield Word(cells[11].strip(), x, y, width, height, round(confidence, 4), int(cells[2]))


def _content(file: str) -> str:
    try:
        with open(file, encoding="utf-8", errors="replace", newline="") as content:
            return content.read()
    except OSError as error:
        raise OcrFailed(f"tesseract wrote no {os.path.basename(file)}: {error.strerror or error}") from error


def _last_line(log: str) -> str:
    with open(log, "rb") as said:
        said.seek(max(0, os.path.getsize(log) - _SAID_BYTES))
        lines = said.read().decode("utf-8", "replace").strip().splitlines()
    return lines[-1][:200] if lines else "it did not say why"
