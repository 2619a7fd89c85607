"""worker-glue submit: make a job of folders and files, and publish its tasks."""

from __future__ import annotations

import argparse
import json
import re
import sys
from shlex import quote
from typing import TYPE_CHECKING, Any

from syncd.client.program import typed
from syncd.core.errors import ConfigError
from worker_glue.cli.frame import describe
from worker_glue.cli.output import counted, is_or_are, printable
from worker_glue.cli.settings import load

if TYPE_CHECKING:
    from pathlib import Path

    from syncd.config import Settings
    from worker_glue.desk.gathering import Gathered
    from worker_glue.desk.ports import Wish

_LANGUAGE = re.compile(r"[a-z]{2}")
LEFT_OUT_SHOWN = 20


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of `worker-glue submit`."""
    describe(
        parser,
        "Make a job of folders and files of the mirrors, as the backend's web page would, and publish a task for each "
        "file. Files of a folder are those that the server's scan queues (images and PDFs), without ._*; those that "
        "are still on their way are taken too. What cannot be had at all is left out, and said."
        "\n\n"
        "Nothing is made when a name is wrong, a file is named twice, or no file is left.",
        [
            "worker-glue submit Bhushanji/eng-typed --languages en",
            "worker-glue submit Bhushanji/hin-typed Bhushanji/hin-written/x.JPG --languages hi,en --dry-run",
        ],
        [0, 10, 12],
    )
    parser.add_argument("what", nargs="+", metavar="FOLDER_OR_FILE", help="as tasks spell it, or where it lies here")
    parser.add_argument(
        "--languages", type=_languages, default=(), metavar="CODES", help="ISO 639-1, such as hi,en (default: none)"
    )
    parser.add_argument("--handwriting", action="store_true", help="the pages are written by hand")
    parser.add_argument("--provider", metavar="NAME", help="who is to read it (default: the workers' own)")
    parser.add_argument("--job", metavar="ID", help="the job's id (default: a new one)")
    parser.add_argument("--dry-run", action="store_true", help="only list what would be published")
    parser.add_argument("--json", action="store_true", help="print one JSON object")


def run(args: argparse.Namespace) -> int:
    """Make a job; 0 when all its tasks are published."""
    from worker_glue.desk.gathering import gather, refuse_troubles, refuse_twice
    from worker_glue.desk.links import opened_listing, opened_paths
    from worker_glue.desk.ports import Wish
    from worker_glue.desk.telling import Telling

    settings = load(args)
    with Telling() as tell, opened_paths(settings) as paths, opened_listing(settings) as listing:
        gathered = gather(args.what, paths, listing, tell)
    refuse_troubles(gathered, "Nothing was submitted.")
    refuse_twice(gathered, "Nothing was submitted.")
    job_id = (
        None
        if args.dry_run
        else _launch(args, settings, gathered, Wish(args.languages, args.handwriting, args.provider))
    )
    if args.json:
        json.dump(_as_json(job_id, gathered), sys.stdout, ensure_ascii=False)
        sys.stdout.write("\n")
    else:
        _print(job_id, gathered, args.config)
    return 0


def _launch(args: argparse.Namespace, settings: Settings, gathered: Gathered, wish: Wish) -> str:
    from worker_glue.desk.links import opened_board, opened_press
    from worker_glue.desk.publishing import launch, lines_of, new_job_id
    from worker_glue.desk.telling import Telling

    lines = lines_of([each.path for each in gathered.files], [wish] * len(gathered.files))
    job_id = new_job_id() if args.job is None else args.job
    with Telling() as tell, opened_press(settings) as press, opened_board(settings) as board:
        return launch(job_id, lines, board, press, tell).job_id


def _as_json(job_id: str | None, gathered: Gathered) -> dict[str, Any]:
    from worker_glue.desk.checking import as_json

    return {
        "job_id": job_id,
        "dry_run": job_id is None,
        "total_files": len(gathered.files),
        "published": 0 if job_id is None else len(gathered.files),
        "files": [
            {"file_index": index, "file_path": each.path, "state": each.found.state.value}
            for index, each in enumerate(gathered.files)
        ],
        "left_out": [as_json(each) for each in gathered.left_out],
    }


def _print(job_id: str | None, gathered: Gathered, config: Path | None) -> None:
    from worker_glue.desk.gathering import meaning

    count = len(gathered.files)
    if job_id is None:
        for index, each in enumerate(gathered.files):
            print(f"{index:>6}  {each.found.state.value:<11}  {printable(each.path)}")
        print(f"{counted(count, 'task')} would be published")
    else:
        print(f"job {job_id}: {counted(count, 'task')} published")
    waiting = sum(each.found.local_path is None for each in gathered.files)
    if waiting:
        print(f"  {waiting} of the files {is_or_are(waiting)} not here yet; workers fetch them first")
    for each in gathered.left_out[:LEFT_OUT_SHOWN]:
        print(f"  left out: {printable(each.path)}: {meaning(each.found)}")
    if len(gathered.left_out) > LEFT_OUT_SHOWN:
        print(f"  left out: {len(gathered.left_out) - LEFT_OUT_SHOWN} more (all of them: --json)")
    if job_id is not None:
        print(f"  next: {typed(f'worker-glue job {quote(job_id)}', config)}")


def _languages(text: str) -> tuple[str, ...]:
    codes = tuple(dict.fromkeys(code.strip().lower() for code in text.split(",") if code.strip()))
    wrong = [code for code in codes if not _LANGUAGE.fullmatch(code)]
    if wrong:
        raise ConfigError(f"{wrong[0]!r} is no language code of two letters (ISO 639-1)", hint="--languages hi,en")
    return codes
