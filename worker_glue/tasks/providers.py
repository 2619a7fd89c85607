"""Which engine does what a task asks for (RULES section 6). Pure.

Names that the existing system uses: google_vision, google_lens, serpapi_google_lens, chrome_lens, azure, ollama, vllm,
tesseract, easyocr, llamacpp, claude, lmstudio, langchain; null leaves it to the worker.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping

from worker_glue.model import Task
from worker_glue.tasks.parse import CHAIN, SINGLE
from worker_glue.tasks.text import one_line

_BARE_KEY = re.compile(r"[A-Za-z0-9_-]+")


def engine_for(task: Task, providers: Mapping[str, str], engine: str) -> str | None:
    """Return the engine for a task, None when this worker has none.

    providers: provider in a task -> engine, as configured. engine: the worker's own.
    """
    if task.mode != SINGLE:
        return None
    if task.provider is None:
        return engine
    mapped = providers.get(task.provider)
    return mapped or (engine if task.provider == engine else None)


def nobody(task: Task, engine: str = "tesseract") -> str:
    """Return the error of a task that no worker does: what it asked for, and what to configure."""
    if task.mode == CHAIN:
        return "chain mode is not run by these workers: submit the files in single mode"
    if task.mode != SINGLE:
        return f'processing_mode "{one_line(task.mode, 60)}" is not known: use single'
    name = one_line(task.provider or "", 60)
    key = name if _BARE_KEY.fullmatch(name) else json.dumps(name, ensure_ascii=False)
    return f'no worker does provider "{name}"; to have it done: [worker.providers] {key} = "{engine}"'
