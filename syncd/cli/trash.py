"""syncd trash: what was retired or replaced, and how to get it back."""

from __future__ import annotations

import argparse
import json
import os
import sys
from shlex import quote
from typing import TYPE_CHECKING

from syncd.cli import ask
from syncd.cli.frame import Given, describe
from syncd.cli.output import counted, human_bytes, printable, table
from syncd.core.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from syncd.app.telling import Telling
    from syncd.config import Settings
    from syncd.ports import Trashed


def configure(parser: argparse.ArgumentParser) -> None:
    describe(
        parser,
        "List what was moved to the trash, copy a file out of it, or empty it. It empties itself after trash_days.",
        [
            "syncd trash list",
            "syncd trash restore 'hin-typed/page 3 .JPG' --to ~/rescued",
            "syncd trash purge --mirror Bhushanji",
        ],
        [0, 11, 13, 15],
    )
    parser.add_argument("action", choices=["list", "restore", "purge"])
    parser.add_argument("path", nargs="?", default="", help="restore: the file, as `trash list` prints it")
    parser.add_argument("--to", metavar="DIR", default="", help="restore: the folder to copy it into")
    parser.add_argument("--mirror", metavar="NAME", action=Given, default="", help="this mirror only")
    parser.add_argument("--yes", action="store_true", help="purge: do not ask")
    parser.add_argument("--json", action="store_true", help="list: print one JSON object a line")


def run(args: argparse.Namespace, settings: Settings) -> int:
    from syncd.app.telling import Telling

    if args.mirror and settings.mirror(args.mirror) is None:
        raise ConfigError(f'there is no mirror "{args.mirror}" in {settings.path}', hint="syncd status")
    if args.path and args.action != "restore":  # purge empties the trash, whatever somebody hoped to name
        raise ConfigError(f"{args.action} takes no path: it is about all of the trash", hint="syncd trash --help")
    names = [args.mirror] if args.mirror else [mirror.name for mirror in settings.mirrors]
    app = Telling(settings)
    match args.action:
        case "list":
            return _list(app.trash(names), as_json=args.json)
        case "restore":
            if not args.path or not args.to:
                raise ConfigError("restore needs a path and --to DIR", hint="syncd trash restore PATH --to DIR")
            return _restore(app, names, args.path, args.to)
        case _:
            return _purge(app, names, args.mirror, agreed=args.yes)


def _list(found: Sequence[tuple[str, Trashed]], *, as_json: bool) -> int:
    if as_json:
        for name, each in found:
            line = {"mirror": name, "batch": each.batch, "path": each.path, "size": each.size}
            json.dump(line, sys.stdout, ensure_ascii=False)
            sys.stdout.write("\n")
        return 0
    rows = [[name, each.batch, human_bytes(each.size), each.path] for name, each in found]
    print(table(["MIRROR", "TRASHED IN", "SIZE", "PATH"], rows, right=["SIZE"]), end="")
    print(f"{counted(len(found), 'file')}, {human_bytes(sum(each.size for _, each in found))}")
    return 0


def _restore(app: Telling, names: Sequence[str], path: str, to: str) -> int:
    found = [(name, each) for name, each in app.trash(names) if each.path == path]
    if not found:
        raise ConfigError(f"{path} is not in the trash", hint="syncd trash list")
    name, newest = found[-1]
    with app.opened_target(name) as mirror:
        where = mirror.restore(newest, os.path.abspath(os.path.expanduser(to)))
    print(f"restored {printable(path)} to {printable(where)}")
    return 0


def _purge(app: Telling, names: Sequence[str], chosen: str, *, agreed: bool) -> int:
    found = app.trash(names)
    if not found:
        print("the trash is empty")
        return 0
    size = human_bytes(sum(each.size for _, each in found))
    if not agreed and not _agreed(f"Remove {counted(len(found), 'file')} ({size}) for good?", chosen):
        print("nothing removed")
        return 0
    freed = 0
    for name in names:
        with app.opened_target(name) as mirror:
            for batch in sorted({each.batch for mirror_name, each in found if mirror_name == name}):
                freed += mirror.purge(batch)
    print(f"removed {counted(len(found), 'file')}, {human_bytes(freed)}")
    return 0


def _agreed(question: str, mirror: str) -> bool:
    if not sys.stdin.isatty():
        hint = "syncd trash purge --yes" + (f" --mirror {quote(mirror)}" if mirror else "")
        raise ConfigError("purge asks, and there is no terminal to answer at", hint=hint)
    return ask.agreed(question)
