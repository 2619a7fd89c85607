"""What is known -> the conditions that are worth a message. Pure.

Absence is not evidence: what cannot be looked at now is named in `unknown`, and stays as it was.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from shlex import quote
from typing import NamedTuple

from syncd.alerts.model import ON_DUTY, Rule, line_of
from syncd.core.shown import counted, counted_are, human_bytes, human_count, human_duration, is_or_are

SILENT_S = 120.0
"""Four heartbeats."""
FORGOTTEN_S = 7 * 86_400.0
STATES = {"halted": Rule.HALTED, "failing": Rule.FAILING, "behind": Rule.BEHIND}


class MirrorFact(NamedTuple):
    """A mirror's line of `syncd status`. free, floor: bytes on its disk, None = not looked at yet."""

    name: str
    state: str
    message: str = ""
    hint: str = ""
    free: int | None = None
    floor: int | None = None


class WorkerFact(NamedTuple):
    """A worker of this host. state: as its heartbeat says, or lost, gone. since: when it was last heard of."""

    id: str
    state: str
    since: str | None = None


class JobFact(NamedTuple):
    """A job in state `processing`, by its counters."""

    id: str
    published: int
    consumed: int


class HostFact(NamedTuple):
    """Another host. silent_s: since it was last heard of. away: it sleeps by plan now."""

    id: str
    name: str
    silent_s: float
    away: bool = False


class Queue(NamedTuple):
    """The workers' queue: tasks that wait (delayed ones too), and tasks that a worker has in hand."""

    waiting: int
    in_hand: int


class Facts(NamedTuple):
    """All that is known at one moment.

    owed, oldest_owed_s: announcements. nsqd, mongodb: "ok", "down", "unknown" or "off", and what is seen.
    jobs, hosts: None when they could not be asked for. on_duty: this host looks after these for all; when it does not,
    another one does. queue: None when it is not known. away: this host sleeps by plan now.
    """

    mirrors: Sequence[MirrorFact] = ()
    workers: Sequence[WorkerFact] = ()
    owed: int = 0
    oldest_owed_s: float = 0.0
    nsqd: tuple[str, str] = ("off", "")
    mongodb: tuple[str, str] = ("off", "")
    jobs: Sequence[JobFact] | None = None
    hosts: Sequence[HostFact] | None = None
    on_duty: bool = False
    queue: Queue | None = None
    away: bool = False


class Thresholds(NamedTuple):
    """How long what must be so before it is told, in seconds. hold_s: all that has no time of its own."""

    hold_s: float = 60.0
    failing_s: float = 900.0
    owed_s: float = 900.0
    stuck_s: float = 900.0


class Condition(NamedTuple):
    """Something that is wrong now. after_s: how long, before it is told. mark: while it stays, nothing has moved."""

    key: str
    rule: Rule
    about: str
    text: str
    remedy: str
    after_s: float
    mark: str = ""


class Judgement(NamedTuple):
    """What is wrong now, by key.

    unknown: rules and keys that could not be judged. elsewhere: another host judges these rules. away: as Facts.
    """

    conditions: Mapping[str, Condition]
    unknown: frozenset[str] = frozenset()
    elsewhere: frozenset[Rule] = frozenset()
    away: bool = False

    def knows(self, condition: Condition) -> bool:
        """Say whether it could be judged whether this is there."""
        return condition.key not in self.unknown and condition.rule not in self.unknown


def judge(facts: Facts, limits: Thresholds) -> Judgement:
    """Say what is wrong."""
    found = [
        *_mirrors(facts.mirrors, limits),
        *_workers(facts.workers, limits),
        *_peers(facts, limits),
        *_jobs(facts, limits),
        *_hosts(facts.hosts or (), limits),
    ]
    unknown: set[str] = {Rule.JOB} if facts.jobs is None else set()
    unknown |= {Rule.HOST} if facts.hosts is None else set()
    unknown |= {f"{Rule.HOST.value} {host.id}" for host in facts.hosts or () if host.silent_s > FORGOTTEN_S}
    unknown |= {rule for rule, (state, _) in _hops(facts) if state == "unknown"}
    unknown |= {f"{Rule.DISK.value} {mirror.name}" for mirror in facts.mirrors if mirror.free is None}
    elsewhere = frozenset() if facts.on_duty else ON_DUTY
    return Judgement({each.key: each for each in found}, frozenset(unknown), elsewhere, facts.away)


def _condition(rule: Rule, about: str, text: str, remedy: str, after_s: float, mark: str = "") -> Condition:
    """Make one; names and texts may come from anywhere, so no character in them moves a cursor or ends a line."""
    key = f"{rule.value} {about}" if about else rule.value
    return Condition(key, rule, line_of(about), line_of(text), line_of(remedy), after_s, mark)


def _mirrors(mirrors: Sequence[MirrorFact], limits: Thresholds) -> Iterator[Condition]:
    for mirror in mirrors:
        rule = STATES.get(mirror.state)
        if rule is not None:
            after_s = limits.failing_s if rule is Rule.FAILING else limits.hold_s
            text = f"{mirror.name} is {mirror.state}: {mirror.message.removeprefix(mirror.name + ': ')}"
            yield _condition(rule, mirror.name, text, mirror.hint or "syncd status", after_s)
        if mirror.free is not None and mirror.floor and mirror.free <= mirror.floor:
            free, floor = human_bytes(mirror.free), human_bytes(mirror.floor)
            text = f"no room for {mirror.name}: {free} free, the floor is {floor}; nothing is fetched until there is"
            remedy = "free some space on the target's file system; syncd trash purge helps"
            yield _condition(Rule.DISK, mirror.name, text, remedy, limits.hold_s)


def _workers(workers: Sequence[WorkerFact], limits: Thresholds) -> Iterator[Condition]:
    for worker in workers:
        if worker.state in ("lost", "gone"):
            how = "runs, and says nothing" if worker.state == "lost" else "ended without saying so"
            text = f"worker {worker.id} is silent since {worker.since or 'its start'}: it {how}"
            yield _condition(Rule.WORKER, worker.id, text, "worker-glue doctor --live, then restart it", limits.hold_s)


def _hops(facts: Facts) -> tuple[tuple[Rule, tuple[str, str]], ...]:
    return (Rule.NSQD, facts.nsqd), (Rule.MONGODB, facts.mongodb)


def _peers(facts: Facts, limits: Thresholds) -> Iterator[Condition]:
    """nsqd and MongoDB. While nsqd is down that is what is wrong, and not that announcements are owed."""
    names = {Rule.NSQD: "nsqd", Rule.MONGODB: "MongoDB"}
    for rule, (state, seen) in _hops(facts):
        if state == "down":
            yield _condition(rule, "", f"{names[rule]} cannot be reached: {seen}", "syncd doctor", limits.failing_s)
    if facts.owed and facts.nsqd[0] != "down" and facts.oldest_owed_s >= limits.owed_s:
        age = human_duration(facts.oldest_owed_s)
        owed = f"{counted_are(facts.owed, 'announcement')} owed"
        text = f"{owed}, the oldest for {age}: files are held, nobody knows"
        yield _condition(Rule.OWED, "", text, "syncd doctor", limits.hold_s)


def _jobs(facts: Facts, limits: Thresholds) -> Iterator[Condition]:
    """Jobs that are not done; each begins to count as stuck when its number of tasks done stops to change."""
    for job in facts.jobs or ():
        if job.consumed < job.published:
            done = f"{human_count(job.consumed)} of {counted(job.published, 'task')} are done"
            for_s = human_duration(limits.stuck_s)
            text = f"job {job.id} has not moved for {for_s}: {done}, {_said_of(facts.queue)}"
            yield _condition(Rule.JOB, job.id, text, _job_remedy(job, facts.queue), limits.stuck_s, str(job.consumed))


def _hosts(hosts: Sequence[HostFact], limits: Thresholds) -> Iterator[Condition]:
    """Hosts of which nothing is heard. One that has been gone for long begins no alert, and ends none either."""
    for host in hosts:
        if SILENT_S < host.silent_s <= FORGOTTEN_S and not host.away:
            text = f"host {host.name} is silent: its syncd does not run, sleeps, or does not reach MongoDB"
            found = _condition(Rule.HOST, host.id, text, f"on {host.name}: syncd service status", limits.failing_s)
            yield found._replace(about=line_of(host.name))


def _said_of(queue: Queue | None) -> str:
    if queue is None:
        return "and whether the queue is empty is not known (nsqd_http_addresses in [alerts])"
    if not queue.waiting and not queue.in_hand:
        return "and the queue is empty: its last tasks are lost"
    wait = f"{counted(queue.waiting, 'task')} {'waits' if queue.waiting == 1 else 'wait'}"
    return f"and the queue is not empty: {wait}, {queue.in_hand} {is_or_are(queue.in_hand)} in hand"


def _job_remedy(job: JobFact, queue: Queue | None) -> str:
    requeue = f"worker-glue job {quote(job.id)} --requeue"
    if queue is None:
        return f"see whether workers run; if the queue has lost its tasks: {requeue}"
    if queue.waiting or queue.in_hand:
        return f"see why the workers do not take its tasks: worker-glue doctor --live; if they are lost: {requeue}"
    return requeue
