"""The OCR engines that tasks would go to: usable, and with the languages that the collection needs."""

from __future__ import annotations

from collections.abc import Iterator

from syncd.config.settings import WorkerSettings
from worker_glue.doctor.checks import Check, fail, ok, warn
from worker_glue.ocr.found import about
from worker_glue.ocr.needed import LANGUAGES, lack_of


def checks(worker: WorkerSettings) -> Iterator[Check]:
    """Look at the worker's own engine, and at those that providers are mapped to."""
    for name in dict.fromkeys([worker.engine, *worker.providers.values()]):
        engine = about(name, worker.engines.get(name, {}))
        if not engine.usable:
            yield fail("engine", f"{name} cannot be used: {'; '.join(engine.problems)}", engine.hint)
            continue
        yield ok("engine", f"{name} {engine.version}".rstrip())
        if not engine.languages:
            yield ok("languages", f"{name} does not say which it reads")
            continue
        lack = lack_of(name, engine.languages)
        if lack is not None:
            yield warn("languages", lack.seen, lack.todo)
        else:
            more = len(engine.languages) - len(LANGUAGES)
            yield ok("languages", f"{name} reads {', '.join(LANGUAGES)}{f' and {more:,} more' if more > 0 else ''}")
    yield ok("providers", _providers(worker))


def _providers(worker: WorkerSettings) -> str:
    mapped = ", ".join(f"{provider} -> {engine}" for provider, engine in sorted(worker.providers.items()))
    own = f"{worker.engine}, and tasks that name none"
    return f"done here: {own}{f', {mapped}' if mapped else ''}; all others are passed on"
