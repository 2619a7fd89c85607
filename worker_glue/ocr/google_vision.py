"""Google Cloud Vision, document text detection: each page is sent as an image (extra: `pip install 'syncd[google]'`).

Source: cloud.google.com/vision/docs: "Supported images" (limits), AnnotateImageResponse (REST reference, v1).
"""

from __future__ import annotations

import io
import json
import os
import random
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, NamedTuple, Self
from urllib.parse import urlsplit

from syncd.config import values
from syncd.config.secrets import Secret, redact
from syncd.core.errors import ConfigError
from worker_glue.errors import OcrFailed, OcrRefused
from worker_glue.model import OcrRequest, Word
from worker_glue.ocr.engine import Engine, PageImage, PageText
from worker_glue.ocr.tables import Table, duration, path, whole

if TYPE_CHECKING:
    from google.cloud import vision

TIMEOUT_S, TRIES = 60.0, 4
PAUSE_S, PAUSE_MAX_S = 1.0, 30.0
IMAGE_BYTES_MAX = 7_000_000
"""A JSON request takes 10 MB, and base64 makes a third more of an image."""
MEGAPIXELS_MAX = 75
_QUALITY = 90
_SHRINK = 0.8
_TRANSIENT = frozenset({4, 8, 13, 14})
"""google.rpc.Code: DEADLINE_EXCEEDED, RESOURCE_EXHAUSTED, INTERNAL, UNAVAILABLE."""
_INVALID_ARGUMENT = 3
_VARIABLE = "GOOGLE_APPLICATION_CREDENTIALS"
_KEY = "download a service account's key from the Google Cloud console, and chmod 600 its file"
_HINT = "look at the service account and the project's quota, then: worker-glue engines"


class Settings(NamedTuple):
    """[worker.engine.google_vision]. credentials_file: a service account's key, its owner's alone. endpoint: another
    host, "" = Google's. timeout_s: of one request; tries: of one page.

    default_languages: ISO 639-1 hints where a task names none; empty = Vision finds out.
    """

    credentials_file: str
    endpoint: str = ""
    timeout_s: float = TIMEOUT_S
    tries: int = TRIES
    default_languages: tuple[str, ...] = ()


class GoogleVision(Engine):
    """Sends each page to Google, by REST."""

    name: ClassVar[str] = "google_vision"

    def __init__(self, settings: Settings, *, pause_s: float = PAUSE_S) -> None:
        """Load the library and the credentials; nothing is sent. Raises ConfigError."""
        try:
            from google.cloud import vision
        except ImportError as error:
            raise ConfigError(
                "the OCR engine google_vision needs Google's library", hint="pip install 'syncd[google]'"
            ) from error
        self._settings = settings
        self._pause_s = pause_s
        self._version = str(vision.__version__)
        self._vision = vision
        self._client = _client(vision, settings)

    @classmethod
    def configured(cls, table: Mapping[str, object]) -> Self:
        keys = Table(cls.name, table)
        settings = Settings(
            credentials_file=keys.take("credentials_file", path, os.environ.get(_VARIABLE, "")),
            endpoint=keys.take("endpoint", _endpoint, ""),
            timeout_s=keys.take("timeout", duration(1, 600), TIMEOUT_S),
            tries=keys.take("tries", whole(1, 20), TRIES),
            default_languages=keys.take("default_languages", values.texts, ()),
        )
        if settings.credentials_file:
            wrong = Secret(path=Path(settings.credentials_file)).problem()
        else:
            wrong = f"is missing, and the environment has no {_VARIABLE}; {_KEY}"
        if wrong:
            keys.problem("credentials_file", wrong)
        keys.end()
        return cls(settings)

    def version(self) -> str:
        return self._version

    def languages(self) -> Sequence[str]:
        return ()  # more than two hundred, and hints only: Vision finds out by itself

    def read(self, page: PageImage, request: OcrRequest) -> PageText:
        content, scale = encoded(page.path)
        answer = self._answered(content, request.languages or self._settings.default_languages)
        annotation = answer.full_text_annotation
        words = tuple(_words(annotation, scale))
        return PageText(annotation.text.rstrip("\n"), words, language=_language(annotation))

    def _answered(self, content: bytes, languages: Sequence[str]) -> Any:
        """Ask, again after a pause where that may help. Raises: OcrRefused, OcrFailed."""
        attempt = 0
        while True:
            attempt += 1
            answer, wrong = self._asked(content, languages)
            if wrong is None:
                return answer
            if not wrong.again or attempt >= self._settings.tries:
                tries = f" ({attempt} tries)" if attempt > 1 else ""
                raise OcrFailed(f"Google Vision: {wrong.text}{tries}", hint=_HINT)
            pause_s = min(self._pause_s * 2 ** (attempt - 1), PAUSE_MAX_S)
            time.sleep(pause_s * random.uniform(0.5, 1.0))  # noqa: S311 (spreads retries; no secret)

    def _asked(self, content: bytes, languages: Sequence[str]) -> tuple[Any, _Wrong | None]:
        """Ask once; return the answer, or what was wrong. Raises OcrRefused for an image that Vision cannot read."""
        from google.api_core.exceptions import GoogleAPICallError, RetryError
        from google.auth.exceptions import GoogleAuthError
        from google.protobuf.json_format import ParseError  # type: ignore[import-untyped]
        from requests.exceptions import RequestException

        request: Any = {
            "image": {"content": content},
            "features": [{"type_": self._vision.Feature.Type.DOCUMENT_TEXT_DETECTION}],
            "image_context": {"language_hints": list(languages)},
        }
        try:
            answers = self._client.batch_annotate_images(
                requests=[request], timeout=self._settings.timeout_s, retry=None
            )
        except GoogleAPICallError as error:
            code = error.code or 0
            return None, _Wrong(_short(error.message or error), code == 429 or code >= 500 or code == 408)
        except GoogleAuthError as error:
            return None, _Wrong(
                f"the credentials are refused: {_short(error)}", bool(getattr(error, "retryable", False))
            )
        except (RequestException, RetryError, ParseError, OSError) as error:
            return None, _Wrong(f"no answer that can be read: {type(error).__name__}", again=True)
        found = type(answers).pb(answers).responses
        if not found:
            return None, _Wrong("an answer without a response", again=True)
        return found[0], _told(found[0].error)


class _Wrong(NamedTuple):
    """What was wrong with one request. again: whether another try may help."""

    text: str
    again: bool


def _told(error: Any) -> _Wrong | None:
    """Return what is wrong with the one image. Raises OcrRefused when it is the image."""
    if not error.code:
        return None
    if error.code == _INVALID_ARGUMENT:
        raise OcrRefused(f"Google Vision cannot read the page: {_short(error.message)}")
    return _Wrong(_short(error.message), error.code in _TRANSIENT)


def _client(vision: Any, settings: Settings) -> vision.ImageAnnotatorClient:
    """Return a client. Raises ConfigError when there are no usable credentials."""
    options = {"api_endpoint": settings.endpoint} if settings.endpoint else {}
    return vision.ImageAnnotatorClient(  # type: ignore[no-any-return]
        credentials=_credentials(settings.credentials_file), client_options=options, transport="rest"
    )


def _credentials(file: str) -> Any:
    """Return a service account's credentials. Nobody else is asked for some: that would be a machine's, unseen."""
    from google.auth.exceptions import GoogleAuthError
    from google.oauth2 import service_account

    try:
        return service_account.Credentials.from_service_account_info(  # type: ignore[no-untyped-call]
            json.loads(Secret(path=Path(file)).reveal())
        )
    except (GoogleAuthError, ValueError, KeyError, TypeError, AttributeError):
        # never what the parser says: it may show a part of the key
        raise ConfigError(f"{file} is not the key of a service account (JSON)", hint=_KEY) from None


def _endpoint(value: object) -> str:
    """Return a host, which is spoken to by TLS; plain HTTP to this machine alone, as tests have it."""
    found = values.text(value).rstrip("/")
    if found.startswith("http://") and urlsplit(found).hostname not in ("127.0.0.1", "::1", "localhost"):
        raise ValueError("the credentials would cross the network in the clear; write https://HOST")
    return found


def encoded(file: str) -> tuple[bytes, float]:
    """Return a page image as a JPEG that one request can take, and by how much it was made smaller (1 = not)."""
    from PIL import Image

    with Image.open(file, formats=["PPM"]) as opened:
        image: Image.Image = opened
        width = image.width
        pixels = image.width * image.height
        scale = min(1.0, (MEGAPIXELS_MAX * 1_000_000 / max(1, pixels)) ** 0.5)
        while True:
            if scale < 1:
                size = (max(1, int(opened.width * scale)), max(1, int(opened.height * scale)))
                image = opened.resize(size, Image.Resampling.BOX, reducing_gap=2.0)
            content = io.BytesIO()
            image.save(content, "JPEG", quality=_QUALITY)
            if content.tell() <= IMAGE_BYTES_MAX:
                return content.getvalue(), image.width / width
            scale *= _SHRINK


def _words(annotation: Any, scale: float) -> Iterator[Word]:
    block_number = 0
    for page in annotation.pages:
        for block in page.blocks:
            block_number += 1
            for paragraph in block.paragraphs:
                for word in paragraph.words:
                    text = "".join(symbol.text for symbol in word.symbols)
                    if text.strip():
                        box = _box(word.bounding_box.vertices, scale)
                        yield Word(text, *box, round(float(word.confidence), 4), block_number)


def _box(vertices: Any, scale: float) -> tuple[int, int, int, int]:
    """Return x, y, width and height around a word's corners (JSON leaves a 0 out, which reads as 0 here)."""
    xs = [max(0, vertex.x) for vertex in vertices] or [0]
    ys = [max(0, vertex.y) for vertex in vertices] or [0]
    left, top, right, bottom = (round(edge / scale) for edge in (min(xs), min(ys), max(xs), max(ys)))
    return left, top, right - left, bottom - top


def _language(annotation: Any) -> str:
    """Return the language that Vision is surest of."""
    told = [language for page in annotation.pages for language in page.property.detected_languages]
    best = max(told, key=lambda language: language.confidence, default=None)
    return "" if best is None else str(best.language_code).partition("-")[0]


def _short(message: object) -> str:
    return redact(" ".join(str(message).split()))[:200]
