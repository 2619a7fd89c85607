"""Write the documents that are generated from the code: so they say what the program does, or the tests fail.

config.example.toml and docs/configuration.md come from the configuration's own tables of keys, docs/reasons.md from
core/reasons.py, docs/commands.md from each command's own parser. PAGES are written by hand but for the tables between
"<!-- generated: NAME -->" and "<!-- end -->": exit codes, reasons by remedy, alerts, Prometheus' rules, imports.
Run: python scripts/make_docs.py
"""

from __future__ import annotations

import argparse
import re
import tomllib
from collections.abc import Iterator
from pathlib import Path

import yaml

from syncd.alerts import rules
from syncd.alerts.model import SEVERITY
from syncd.cli.frame import EXITS
from syncd.cli.main import VERBS, load_verb
from syncd.config.keys import ENGINE_ABOUT, REQUIRED, TABLES, TITLES, Key
from syncd.config.template import default_toml, render
from syncd.core.reasons import MEANING, Reason
from worker_glue.cli import frame as worker_frame
from worker_glue.cli import main as worker_glue

ROOT = Path(__file__).resolve().parent.parent

EXAMPLE_HEADER = """Configuration of syncd. This one runs as it is: it mirrors the bundled sample collection into demo/.
Try it:  syncd -c config.example.toml run-once
Every key is here. Those behind a single # are not in use and show their default or an example.
Relative paths are relative to this file. `syncd init` writes such a file for a real share."""

EXAMPLE = {
    "host": {"state_dir": "demo/state"},
    "mirror": {
        "name": "Bhushanji",
        "source": "file://./syncd/sample/Bhushanji",
        "target": "demo/data/Bhushanji",
    },
}

CONFIGURATION = """# Configuration

One TOML file. It is the one named with `-c FILE`, else with `$SYNCD_CONFIG`, else `~/.config/syncd/config.toml`
(`$XDG_CONFIG_HOME` is honoured; macOS: `~/Library/Application Support/syncd/config.toml`). `syncd init` writes one.

- Every problem in the file is reported at once, with the table and key, and exit code 2. An unknown key is a problem.
- `~` is the home directory; a relative path is relative to the file, `file://./PATH` in a source too.
- Secrets never stand in the file. It names files (mode 600: one that others can read is refused) or environment
  variables. They are read at each connection, so a changed one needs no restart.
- Durations are written like `"90s"`, `"10m"`, `"1h30m"`; sizes like `"512MiB"`, `"1GiB"`; shares like `"10%"`.
- The environment of the existing deployment wins over the file: `MONGO_URI`, `NSQD_ADDRESS`, `NSQLOOKUPD_ADDRESSES`
  (comma-separated, with or without `http://`), `WORKER_ID` (one that was never expanded, like `${HOSTNAME}`, counts as
  none).
- `cron` means what crontab(5) says: 0 and 7 are Sunday, and where both day of month and day of week are restricted,
  either is enough.
- `rate` holds for all that is read of a mirror's files: runs, files on demand (which go first) and verification
  together. A change of window takes effect within a second. Listings are not counted.
- `trust_checksums` is for a target that was filled by hand, or whose catalogue was lost. A file that lies there and is
  not held yet is hashed; it is held without being read on the share if a `SHA256SUMS` there (as `sha256sum` writes it,
  in the file's folder or one above it; the nearest that names the file decides) gives this digest, the size is the
  share's, and the `SHA256SUMS` is not older than the file. In any other case, where the `SHA256SUMS` has more than
  16 MiB or 100,000 lines, and for a file that somebody waits for, the share's bytes are read and compared. Edits that
  restore a time are found as ever, by `verify --source` and `verify_days`. A run that needs them has one connection
  more.
- `fallback_sources`: the main server is asked first, then the stand-bys in their order; only one that cannot be
  reached, or has no such share or folder, is passed over, and a run asks one server only. From a stand-by just what is
  missing here is fetched: nothing that is held is replaced, renamed or retired. `syncd status` says which is in use,
  and why. Each URL has its own user; `password_file`, `key_file`, `known_hosts_file`, `encrypt` and `marker` are those
  of the mirror. A refused login, an empty or another share stop the run at whichever server they are found: a person
  has to look. A server that is away is asked last for 30 s, up to two minutes while it stays away, then in its turn
  again. A server that is lost in mid-run is tried again for a minute; then this run ends with exit code 10, and the
  next one asks the stand-bys. Changes are watched for, and bytes compared by `verify --source`, on the main server
  only; when its watch is back, so are the runs.
- `worker-glue` reads the same file, and works without one, from the environment alone ([workers](worker.md));
  `[worker]` is for it.
- `every`, `cron`, `verify_days` and `[api]` are for the daemon (`syncd run`). It reads the file again when it changes
  and on SIGHUP; one that cannot be used is reported, and what was there before stays. A new `state_dir` needs a
  restart.

Generated by scripts/make_docs.py from the program's own tables.
"""

REASONS = """# Reasons

Every `reason` in JSON output, in the catalogue and in messages is one of these codes.
Generated by scripts/make_docs.py.

| reason | what it means | what to do |
|---|---|---|
"""

COMMANDS = """# Commands

`-c FILE` may stand before or after the command. Results go to stdout, logs and progress to stderr.
`SYNCD_LOG=json` makes log lines JSON; `SYNCD_DEBUG=1` adds debug lines, and shows the traceback of a bug.
Generated by scripts/make_docs.py.
"""

PAGES = ("docs/operating.md", "docs/architecture.md")
BLOCK = re.compile(r"(<!-- generated: ([a-z ]+) -->\n).*?(<!-- end -->)", re.DOTALL)

EXIT_REMEDIES = {
    0: "-",
    1: "send the file that the message names, and the output of `syncd doctor --bundle FILE`, to the developers",
    2: "correct what the message lists, which is all that is wrong; `syncd COMMAND --help` has the options",
    3: "`syncd status` names what failed, and the next command; of a doctor: [its checks](#what-syncd-doctor-says)",
    4: "ask again, or wait for it: `worker-glue resolve PATH --wait 60`",
    5: "[File not found](#file-not-found)",
    6: "`syncd why PATH` says why; the reason is in the message",
    7: "say the mirror's name in front of the path",
    10: "`syncd doctor` shows at which hop it ends: name, port, protocol, login, share",
    11: "`syncd status` shows whose process it is; wait for it, or let the daemon do the work",
    12: "[Login refused](#login-refused)",
    13: "[A mass deletion is held back](#a-mass-deletion-is-held-back), or the target is not there",
    14: "[Disk full](#disk-full)",
    15: "[Rebuild a lost catalogue](#rebuild-a-lost-catalogue), or [go back](upgrading.md#going-back)",
    130: "run it again; what was done stays",
    143: "run it again; what was done stays",
}
"""What to do about an exit code; docs/operating.md shows it beside the code's own meaning."""

EVERYTHING_WRONG = rules.Facts(
    mirrors=[
        rules.MirrorFact("newsletters", "halted", "214 of 412 files gone from the share", "syncd approve"),
        rules.MirrorFact("scans", "failing", "2 files failed"),
        rules.MirrorFact("letters", "behind", "no complete scan since 04:10", "syncd doctor"),
        rules.MirrorFact("Bhushanji", "ok", free=1 << 30, floor=1 << 30),
    ],
    workers=[rules.WorkerFact("tod-mac-1", "lost", "2026-03-01T06:11:00Z")],
    nsqd=("down", "nothing listens at 127.0.0.1:4150"),
    mongodb=("down", "no answer from 127.0.0.1:27017"),
    jobs=[rules.JobFact("ID", 60, 58)],
    hosts=[rules.HostFact("4b9466e9", "annex", 900.0)],
    queue=rules.Queue(0, 0),
    on_duty=True,
)
"""One of everything that may be wrong; announcements are owed only while nsqd is not down."""


def documents() -> dict[str, str]:
    """Return path -> contents of every generated document."""
    return {
        "config.example.toml": render(EXAMPLE_HEADER, EXAMPLE),
        "docs/configuration.md": _configuration(),
        "docs/reasons.md": REASONS + "".join(_reason(reason) for reason in Reason),
        "docs/commands.md": COMMANDS
        + "".join(_command("syncd", name, load_verb(name)[0]) for name in VERBS)
        + "".join(_command("worker-glue", name, worker_glue.load_verb(name)[0]) for name in worker_glue.VERBS),
        **{page: BLOCK.sub(_filled, (ROOT / page).read_text(encoding="utf-8")) for page in PAGES},
    }


def _filled(found: re.Match[str]) -> str:
    return found[1] + _block(found[2]) + found[3]


def _block(name: str) -> str:
    makers = {
        "exit codes": _exit_codes,
        "reasons": _remedies,
        "alerts": _alerts,
        "syncd rules": lambda: _rules("syncd"),
        "worker rules": lambda: _rules("worker"),
        "contracts": _contracts,
    }
    head, *rows = makers[name]()
    lines = [f"| {' | '.join(_cell(cell) for cell in row)} |\n" for row in (head, *rows)]
    return "".join([lines[0], "|---" * len(head) + "|\n", *lines[1:]])


def _exit_codes() -> Iterator[tuple[str, ...]]:
    yield "code", "meaning", "what to do"
    for code in sorted({*EXITS, *worker_frame.EXITS}):
        own, worker = EXITS.get(code), worker_frame.EXITS.get(code)
        said = own if own and worker in (own, None) else f"worker-glue: {worker}"
        if own and worker and own != worker:
            said = f"{own}; {said}"
        yield f"{code}", str(said), EXIT_REMEDIES[code]


def _remedies() -> Iterator[tuple[str, ...]]:
    """Yield the reasons by what to do about them, those with nothing to do first."""
    yield "what to do", "reasons"
    by_remedy: dict[str, list[str]] = {"": []}
    for reason in Reason:
        by_remedy.setdefault(MEANING[reason][1], []).append(f"`{reason}`")
    for remedy, reasons in by_remedy.items():
        yield remedy or "nothing: it says why something is done", ", ".join(reasons)


def _alerts() -> Iterator[tuple[str, ...]]:
    yield "alert", "severity", "it reads like", "next"
    owing = rules.Facts(owed=3, oldest_owed_s=1200.0, nsqd=("ok", ""))
    found = [*rules.judge(EVERYTHING_WRONG, rules.Thresholds()).conditions.values()]
    found += rules.judge(owing, rules.Thresholds()).conditions.values()
    for rule in SEVERITY:
        each = next(condition for condition in found if condition.rule is rule)
        yield f"`{rule}`", SEVERITY[rule], each.text, each.remedy


def _rules(name: str) -> Iterator[tuple[str, ...]]:
    yield "alert", "severity", "meaning", "next"
    text = (ROOT / "deploy" / "monitoring" / f"{name}.rules.yml").read_text(encoding="utf-8")
    for group in yaml.safe_load(text)["groups"]:
        for rule in group["rules"]:
            told = {key: _plain(value) for key, value in rule["annotations"].items()}
            meaning = f"{told['summary'][:1].upper()}{told['summary'][1:]}. {told['description']}"
            yield f"`{rule['alert']}`", rule["labels"]["severity"], meaning, told["runbook"]


def _contracts() -> Iterator[tuple[str, ...]]:
    yield ("contract",)
    for each in tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["tool"]["importlinter"][
        "contracts"
    ]:
        yield (each["name"],)


def _plain(text: str) -> str:
    """Return an annotation with capitals for what Prometheus fills in: MIRROR, and N for a value."""
    text = re.sub(r"{{ \$labels\.(\w+) }}", lambda found: found[1].upper(), text)
    return re.sub(r"{{ \$value[^}]*}}B?", "N", text)


def _configuration() -> str:
    parts = [CONFIGURATION]
    for table, keys in TABLES.items():
        title = TITLES.get(table, f"[{table}]").replace("tod-mac", "NAME")
        parts.append(f"\n## `{title}`\n\n| key | default | meaning |\n|---|---|---|\n")
        parts += [f"| `{key.name}` | {_default(key)} | {_cell(key.about)} |\n" for key in keys]
        if table == "worker":
            parts.append(f'| `engine` | `"tesseract"` | {_cell(ENGINE_ABOUT)} |\n')
    return "".join(parts)


def _default(key: Key) -> str:
    if key.default is REQUIRED:
        return "required"
    return _cell(key.shown) or (f"`{default_toml(key)}`" if key.default is not None else "none")


def _cell(text: str) -> str:
    return text.replace("|", "\\|")


def _reason(reason: Reason) -> str:
    meaning, hint = MEANING[reason]
    return f"| `{reason}` | {_cell(meaning)} | {_cell(hint) or '-'} |\n"


def _command(program: str, name: str, parser: argparse.ArgumentParser) -> str:
    lines = [f"\n## `{program} {name}`\n", f"{parser.description}\n", "| argument | meaning |", "|---|---|"]
    lines += [_argument(action) for action in parser._actions if action.dest not in ("help", "config")]  # noqa: SLF001
    if lines[-1] == "|---|---|":
        del lines[-2:]
    return "\n".join([*lines, "", "```text", parser.epilog or "", "```", ""])


def _argument(action: argparse.Action) -> str:
    if isinstance(action, argparse._SubParsersAction):  # noqa: SLF001
        helps = {choice.dest: choice.help or "" for choice in action._choices_actions}  # noqa: SLF001
        return "\n".join(f"| `{name}` | {_cell(text)} |" for name, text in helps.items())
    value = "" if action.nargs == 0 else str(action.metavar or action.dest.upper())
    shown = " ".join([", ".join(action.option_strings), value]).strip() or action.dest
    return f"| `{shown}` | {_cell(action.help or '')} |"


def main() -> None:
    """Write every document that differs."""
    for name, text in documents().items():
        path = ROOT / name
        if not path.exists() or path.read_text(encoding="utf-8") != text:
            path.write_text(text, encoding="utf-8")
            print(f"{name} is written")


if __name__ == "__main__":
    main()
