"""The command line of worker_glue: its verbs. A verb's module has `run(args)`, which loads the settings it needs."""

from __future__ import annotations

import os
import sys

from syncd.client.program import Program, Verb

TYPE_CHECKING = False  # as in typing, which --help need not import
if TYPE_CHECKING:
    import argparse
    from collections.abc import Sequence
    from types import ModuleType

VERBS = {
    "run": Verb("Workers", "worker_glue.cli.run", "take OCR tasks from NSQ, and record one result or error for each"),
    "doctor": Verb(
        "Workers", "worker_glue.cli.doctor", "check every hop: NSQ, MongoDB, the daemon, the mirror, the engine"
    ),
    "engines": Verb("Workers", "worker_glue.cli.engines", "list the OCR engines, their versions and languages"),
    "resolve": Verb("Files", "worker_glue.cli.resolve", "tell where the verified file of a server path is"),
    "exec": Verb("Files", "worker_glue.cli.exec", "run a command with the verified file of a server path"),
    "check": Verb(
        "Jobs", "worker_glue.cli.check", "tell before OCR starts which files of a job are ready, to fetch or missing"
    ),
    "submit": Verb("Jobs", "worker_glue.cli.submit", "publish OCR tasks, and make their job"),
    "job": Verb("Jobs", "worker_glue.cli.job", "show how a job is; what it lacks can be published again"),
    "stale": Verb("Jobs", "worker_glue.cli.stale", "list results whose source has changed since"),
}


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command and return its exit code; every error becomes one message on stderr."""
    return PROGRAM.main(sys.argv[1:] if argv is None else argv)


def load_verb(name: str) -> tuple[argparse.ArgumentParser, ModuleType]:
    """Import a verb; return the parser of its arguments, and its module."""
    return PROGRAM.load(name)


def _run(_verb: Verb, module: ModuleType, args: argparse.Namespace) -> int:
    return int(module.run(args))


def _keep(error: Exception) -> str:
    """Print the traceback of a bug with SYNCD_DEBUG=1; return the next step."""
    if os.environ.get("SYNCD_DEBUG") != "1":
        return "again with SYNCD_DEBUG=1, and send what it prints to the developers"
    import traceback

    from syncd.config.secrets import redact

    print(redact("".join(traceback.format_exception(error))), file=sys.stderr, end="")
    return "send the lines above to the developers"


PROGRAM = Program(
    "worker-glue",
    VERBS,
    about="Turns the server path of an OCR task into a verified local file, runs OCR, records one result.",
    notes=(
        "Example:",
        "  worker-glue doctor",
        "  worker-glue resolve Bhushanji/eng-typed/letter.pdf",
        "  worker-glue run --workers 3",
        "",
        "-c FILE may stand before or after the command; without it $SYNCD_CONFIG, then the platform's folder, then the",
        "environment alone: NSQD_ADDRESS, NSQLOOKUPD_ADDRESSES, MONGO_URI, WORKER_ID, SYNCD_API, SYNCD_MOUNTS.",
    ),
    config="the configuration file; none is needed",
    interrupted="interrupted",
    run=_run,
    keep=_keep,
)
