"""What was measured, as Markdown for people and as JSON."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from bench.announcing import REACH_S, Announced
from bench.api import Latency
from bench.daemon import REACH_BYTES, REACH_CPU, Idle, Quantiles
from bench.measure import Series
from bench.million import LIMIT_BYTES
from bench.proxies import BODY_BYTES, Cost, quantile_ms
from bench.row import BEST, Row
from bench.saving import Curve
from bench.startup import Imports
from bench.tasks import REACH_PER_S, WORKERS, Overhead

COLUMNS = ("syncd", "rclone", BEST, "smbclient", "rsync daemon", "cp")


@dataclass
class Results:
    """All that one benchmark found. machine: facts about where; skipped: row -> why it was not measured."""

    machine: dict[str, str] = field(default_factory=dict)
    rows: list[Row] = field(default_factory=list)
    million: dict[str, Series] = field(default_factory=dict)
    million_files: int = 0
    startup: dict[str, Series] = field(default_factory=dict)
    imports: dict[str, Imports] = field(default_factory=dict)
    api: dict[str, Latency] = field(default_factory=dict)
    resolved: dict[str, Latency] = field(default_factory=dict)
    resolved_files: int = 0
    announced: dict[str, Announced] = field(default_factory=dict)
    quantiles: dict[str, Quantiles] = field(default_factory=dict)
    idle: Idle | None = None
    tasks: Overhead | None = None
    saved: Curve | None = None
    proxied: dict[str, Cost] = field(default_factory=dict)
    skipped: dict[str, str] = field(default_factory=dict)

    def as_json(self) -> dict[str, Any]:
        return {
            "machine": self.machine,
            "rows": [_row_json(row) for row in self.rows],
            "million": {name: series.as_json() for name, series in self.million.items()},
            "million_files": self.million_files,
            "startup": {name: series.as_json() for name, series in self.startup.items()},
            "imports": {
                name: {"total_ms": each.total_ms, "modules": each.modules, "packages_ms": each.packages}
                for name, each in self.imports.items()
            },
            "api": {name: each.as_json() for name, each in self.api.items()},
            "resolved": {name: each.as_json() for name, each in self.resolved.items()},
            "resolved_files": self.resolved_files,
            "announced": {kind: each.as_json() for kind, each in self.announced.items()},
            "daemon": {name: each.as_json() for name, each in self.quantiles.items()},
            "idle": None if self.idle is None else self.idle.as_json(),
            "tasks": None if self.tasks is None else self.tasks.as_json(),
            "saving": None if self.saved is None else self.saved.as_json(),
            "proxied": {name: each.as_json() for name, each in self.proxied.items()},
            "skipped": self.skipped,
        }

    def as_markdown(self) -> str:
        """Return the tables; sections that were not measured are left out."""
        parts = ["\n".join(f"- {name}: {value}" for name, value in self.machine.items())]
        if self.rows:
            parts += [self._times(), self._peaks()]
        if self.million:
            parts.append(self._million())
        if self.startup:
            parts.append(self._startup())
        if self.api:
            parts.append(_latencies("the daemon's API over its Unix socket (milliseconds)", self.api))
        if self.resolved:
            title = f"resolve(), {self.resolved_files:,} files, at random (milliseconds)"
            parts.append(_latencies(title, self.resolved))
        if self.announced:
            parts.append(self._announced())
        if self.quantiles:
            parts.append(self._quantiles())
        if self.idle is not None:
            parts.append(self._idle(self.idle))
        if self.tasks is not None:
            parts.append(_overhead(self.tasks))
        if self.saved is not None:
            parts.append(_saving(self.saved))
        if self.proxied:
            parts.append(_proxied(self.proxied))
        if self.skipped:
            parts.append("\n".join(f"- not measured: {name}: {why}" for name, why in self.skipped.items()))
        return "\n\n".join(parts) + "\n"

    def _times(self) -> str:
        head = ["work (seconds, median)", *COLUMNS, "syncd / rclone", "syncd / best", "to reach", ""]
        body = [
            [row.workload.title, *(_seconds(row.series.get(name)) for name in COLUMNS), *_judgement(row)]
            for row in self.rows
        ]
        notes = [
            f"{row.workload.name}: rclone's tries, once each: "
            + ", ".join(f"{options} {wall_s:.2f} s" for options, wall_s in row.tried_s.items())
            for row in self.rows
            if row.tried_s
        ]
        notes += [
            f"{row.workload.name}: a run of syncd takes {ours.cpu_s:.2f} s of CPU time, the whole machine meanwhile, "
            f"servers included, {ours.machine_s:.2f} s"
            for row in self.rows
            if (ours := row.series.get("syncd")) and ours.machine_s
        ]
        notes += sorted(
            {f"{name}: {each.note}" for row in self.rows for name, each in row.series.items() if _absent(each)}
        )
        return _table(head, body) + "\n\n" + "\n".join(f"- {note}" for note in notes)

    def _peaks(self) -> str:
        head = ["peak memory (MB, of the largest process)", *COLUMNS[:-1]]
        body = [[row.workload.title, *(_megabytes(row.series.get(name)) for name in COLUMNS[:-1])] for row in self.rows]
        return _table(head, body)

    def _million(self) -> str:
        head = [
            f"{self.million_files:,} files, source in memory",
            "seconds",
            "peak MB",
            f"to stay below {LIMIT_BYTES / 1e6:.0f}",
        ]
        body = [
            [name, _seconds(each), _megabytes(each), "yes" if each.peak_bytes < LIMIT_BYTES else "NO"]
            for name, each in self.million.items()
        ]
        return _table(head, body)

    def _startup(self) -> str:
        head = ["start-up (milliseconds, median)", "ms", "peak MB", "import ms", "modules", "most of it"]
        body = []
        for name, series in self.startup.items():
            found = self.imports.get(name)
            largest = ", ".join(f"{package} {ms}" for package, ms in found.packages.items()) if found else ""
            median_ms = f"{(series.median_s or 0) * 1000:.0f}"
            own = [f"{found.total_ms:.0f}", str(found.modules)] if found else ["", ""]
            body.append([name, median_ms, _megabytes(series), *own, largest])
        return _table(head, body)

    def _announced(self) -> str:
        head = [
            "announcing to nsqd through socat",
            "messages",
            "bytes each",
            "seconds, median",
            "a second",
            "to reach",
            "",
        ]
        body = [
            [
                f"catalogue on {kind}",
                f"{each.announcements:,}",
                str(each.body_bytes),
                f"{each.median_s:.2f}",
                f"{each.announcements / each.median_s:,.0f}",
                f"10,000 in < {REACH_S:.0f} s",
                "reached" if each.reached else "MISSED",
            ]
            for kind, each in self.announced.items()
        ]
        return _table(head, body)

    def _quantiles(self) -> str:
        head = ["the daemon (seconds)", "times", "p50", "p95", "worst", "p95 to reach"]
        body = [
            [
                name,
                str(len(each.walls_s)),
                *(f"{wall_s:.3f}" for wall_s in (each.p50_s, each.p95_s, max(each.walls_s))),
                f"< {each.reach_s:g}: {'reached' if each.p95_s < each.reach_s else 'MISSED'}",
            ]
            for name, each in self.quantiles.items()
        ]
        return _table(head, body)

    def _idle(self, idle: Idle) -> str:
        head = ["an idle daemon", "CPU", f"to stay below {REACH_CPU:.0%}", "RSS MB", f"below {REACH_BYTES / 1e6:.0f}"]
        small = "yes" if idle.resident_bytes < REACH_BYTES else "NO"
        calm = "yes" if idle.cpu < REACH_CPU else "NO"
        row = [f"{idle.files:,} files", f"{idle.cpu:.2%}", calm, f"{idle.resident_bytes / 1e6:.0f}", small]
        return _table(head, [row])


def _saving(curve: Curve) -> str:
    head = [
        f"recording a result of {curve.entry_bytes:,} bytes ({curve.database}), bytes through the proxy",
        "look: sent",
        "received",
        "save: sent",
        "received",
        "the same at each",
    ]
    verdict = "reached" if curve.reached else "MISSED"
    body = [[f"result {each.number:,} of the job", *map(str, each.bytes), verdict] for each in curve.points]
    if curve.last is not None:
        body.append([f"the job's last ({curve.last.number:,})", *map(str, curve.last.bytes), ""])
    return _table(head, body)


def _overhead(tasks: Overhead) -> str:
    head = [
        f"tasks without OCR, {WORKERS} workers, through socat",
        "seconds",
        "tasks/s",
        "worker CPU ms/task",
        f"{tasks.database} alone, updates/s",
        "to reach",
    ]
    bar = f">= {REACH_PER_S:.0f}/s: {'reached' if tasks.reached else 'MISSED'}"
    figures = [f"{tasks.wall_s:.2f}", f"{tasks.per_s:,.0f}", f"{tasks.cpu_ms:.2f}", f"{tasks.floor_per_s:,.0f}", bar]
    return _table(head, [[f"{tasks.tasks:,} tasks", *figures]])


def _proxied(costs: Mapping[str, Cost]) -> str:
    head = [
        f"through (milliseconds; a message is {BODY_BYTES} bytes)",
        "message to nsqd, p50",
        "p99",
        "new connection, p50",
        "p99",
        "a file, MiB/s",
        "proxy CPU s/GiB",
    ]
    body = []
    for name, cost in costs.items():
        messages = (f"{quantile_ms(cost.messages_s, percent):.3f}" for percent in (50, 99))
        connections = (f"{quantile_ms(cost.connections_s, percent):.2f}" for percent in (50, 99))
        body.append([name, *messages, *connections, f"{cost.mib_per_s:,.0f}", f"{cost.cpu_s_per_gib:.2f}"])
    return _table(head, body)


def _latencies(title: str, found: Mapping[str, Latency]) -> str:
    head = [title, "p50", "p99", "worst", "calls/s", "p99 to reach"]
    body = []
    for name, each in found.items():
        bar = "" if each.reach_ms is None else f"< {each.reach_ms:g}: {'reached' if each.reached else 'MISSED'}"
        times = (f"{ms:.3f}" for ms in (each.p50_ms, each.p99_ms, each.worst_ms))
        body.append([name, *times, f"{each.per_s:,.0f}", bar])
    return _table(head, body)


def _row_json(row: Row) -> dict[str, Any]:
    work = row.workload
    return {
        "name": work.name,
        "title": work.title,
        "files": work.corpus.files,
        "bytes": work.corpus.bytes,
        "rtt_ms": work.rtt_ms,
        "contestants": {name: series.as_json() for name, series in row.series.items()},
        "rclone_tried_s": {options: round(wall_s, 4) for options, wall_s in row.tried_s.items()},
        "ratio_to_rclone": row.ratio("rclone"),
        "ratio_to_best": row.ratio(row.best),
        "reach": work.reach or None,
        "aim": work.aim or None,
        "reached": row.reached(),
    }


def _judgement(row: Row) -> list[str]:
    work = row.workload
    bar = f"<= {work.reach}" if work.reach else ""
    if bar and work.aim:
        bar += f" (aim {work.aim})"
    verdict = {True: "reached", False: "MISSED", None: ""}[row.reached()]
    return [_ratio(row.ratio("rclone")), _ratio(row.ratio(row.best)), bar, verdict]


def _absent(series: Series) -> bool:
    return not series.walls_s and bool(series.note)


def _ratio(ratio: float | None) -> str:
    return "" if ratio is None else f"{ratio:.2f}"


def _seconds(series: Series | None) -> str:
    if series is None or series.median_s is None:
        return ""
    shown = f"{series.median_s:.2f}" if series.median_s < 100 else f"{series.median_s:.0f}"
    text = f"> {series.timeout_s:.0f}" if series.timeout_s else shown
    return f"{text} ({series.note})" if series.note else text


def _megabytes(series: Series | None) -> str:
    return "" if series is None or not series.walls_s else f"{series.peak_bytes / 1e6:.0f}"


def _table(head: Sequence[str], body: Iterable[Sequence[str]]) -> str:
    """Lay out a Markdown table whose columns line up in a terminal too."""
    lines = [list(head), *(list(line) for line in body)]
    widths = [max(len(line[n]) for line in lines) for n in range(len(head))]
    lines.insert(1, ["-" * width for width in widths])
    return "\n".join(
        "| " + " | ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)) + " |" for line in lines
    )
