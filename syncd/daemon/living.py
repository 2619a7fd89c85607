"""One daemon: everything that runs beside each other, started, reloaded and stopped.

The thread that calls live() looks after the others (clock jumps, stuck work, the service manager's watchdog, a changed
configuration) and ends everything in order when it is told to.
"""

from __future__ import annotations

import sys
import threading
import time
from collections.abc import Callable, Container, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from typing import TYPE_CHECKING

from syncd import __version__
from syncd.app.runs import SWITCH_S
from syncd.app.wiring import open_source
from syncd.awake import Awake
from syncd.client.api import SOCKET, ApiClient, SocketAddress
from syncd.config.settings import MirrorSettings, Settings
from syncd.core.errors import ConfigError, DiskFull, SyncdError
from syncd.core.wakefulness import Work
from syncd.daemon.alarming import Alarming
from syncd.daemon.answers import Answers
from syncd.daemon.awake import work_of
from syncd.daemon.enrolment import Enrolling
from syncd.daemon.kept import KeptMirror, Surroundings
from syncd.daemon.memory import give_back, settle
from syncd.daemon.numbers import Numbers
from syncd.daemon.relaying import Relaying
from syncd.daemon.reloading import ConfigWatch
from syncd.daemon.schedule import Schedule, WallClock
from syncd.engine.clock import Clock, utc_text
from syncd.notify import Notifier, watchdog_interval_s
from syncd.ports import Source
from syncd.store.catalogue import Catalogue
from syncd.store.state import Host, StateDirectory
from syncd.web.server import ApiServer
from syncd.web.sockets import check_free, listen_tcp

if TYPE_CHECKING:
    from structlog.typing import FilteringBoundLogger

TICK_S = 1.0
FIRST_TICK_S = 0.05
LOOK_AFTER_S = 2.0
TIDY_S = 60.0
STOP_S = 8.0
SETTLE_S = 4.0
API_ANSWERS_S = 3.0


class Daemon:
    """Keeps all mirrors of a configuration. live() once; stop(), reload() from any thread or signal handler.

    load: reads the configuration again (raises ConfigError). bug: told of what nobody foresaw, with where.
    """

    def __init__(
        self,
        settings: Settings,
        *,
        load: Callable[[], Settings],
        log: FilteringBoundLogger,
        bug: Callable[[BaseException, str], None],
        notifier: Notifier | None = None,
        clock: Clock | None = None,
        source_of: Callable[[MirrorSettings], Source] = open_source,
    ) -> None:
        self.settings = settings
        self.since = ""
        self.kept: dict[str, KeptMirror] = {}
        self.config_problem = ""
        self.numbers = Numbers()
        self._load = load
        self._log = log
        self._bug = bug
        self._notifier = notifier or Notifier()
        self._clock = clock or Clock()
        self._source_of = source_of
        self._ending = threading.Event()
        self._settled = threading.Event()
        self._settled.set()
        self._reload = threading.Event()
        self._watch = ConfigWatch(settings.path, self.reload)  # from now on: a start takes long enough for an edit
        self._woken = threading.Event()
        self._fatal: SyncdError | None = None
        self._listeners: list[Callable[[], None]] = []
        self.relay: Relaying
        self.catalogue: Catalogue
        self.host: Host
        self.schedule: Schedule
        self.answers: Answers
        self.enrolment: Enrolling
        self.alarming = Alarming(self, log)
        self.awake = Awake(log.info, self.now)

    # -- from outside

    def stop(self) -> None:
        """End in order, soon."""
        self._ending.set()
        self._woken.set()

    def reload(self) -> None:
        """Read the configuration again, soon."""
        self._reload.set()
        self._woken.set()

    def on_event(self, tell: Callable[[], None]) -> Callable[[], None]:
        """Have `tell` called when there are new announcements; returns what ends that."""
        self._listeners.append(tell)
        return lambda: self._listeners.remove(tell)

    def now(self) -> str:
        """Return the time (ISO 8601 UTC)."""
        return utc_text(self._clock.now_ns())

    def now_ms(self) -> int:
        """Return the time in ms since the epoch."""
        return self._clock.now_ns() // 1_000_000

    def find(self, name: str) -> KeptMirror | None:
        """Return what keeps a mirror."""
        return self.kept.get(name)

    def faults(self) -> list[str]:
        """Return what a restart of the daemon may mend."""
        return [] if self._ending.is_set() else self.relay.faults

    def settle(self) -> None:
        """Wait, for some seconds at most, until a configuration that is just being taken over has been."""
        self._settled.wait(SETTLE_S)

    def problems(self) -> list[str]:
        """Return what is wrong with the daemon itself (not with a mirror), faults included."""
        return [*([self.config_problem] if self.config_problem else []), *self.faults()]

    def bug(self, error: BaseException, where: str) -> None:
        """Keep what nobody foresaw for a report."""
        self._bug(error, where)

    def warn_registry(self, text: str) -> None:
        """Log what is odd about the registry."""
        self._log.warning("registry.warning", said=text)

    # -- its life

    def live(self) -> int:
        """Keep the mirrors until stop(); return the exit code.

        Raises: AlreadyRunning, CatalogueError, ConfigError, DiskFull when it cannot begin, or not go on.
        """
        sys.setswitchinterval(SWITCH_S)  # a caller of resolve() waits behind a run's threads otherwise
        state = StateDirectory.open(self.settings.host.state_dir, create=True)
        with ExitStack() as stack:
            stack.enter_context(state.lock())
            check_free(state.path / SOCKET, self.settings.api.listen)  # first: --wait-for-config tries again and again
            self.host = state.host(self.settings.host.name or "")
            self.catalogue = stack.enter_context(self._open_catalogue(state))
            self.catalogue.record_run_day(self.now()[:10])
            self.since = self.now()
            self.numbers.count_events(self.catalogue)
            self.schedule = Schedule(self.settings.host.zone())
            stack.callback(self.schedule.close)
            self.answers = Answers(self)
            stack.callback(self.answers.close)
            self.catalogue.on_announced = self._announced
            stack.callback(self._stop_everything)
            self.relay = Relaying(self)
            self._start_enrolment()
            for mirror in self.settings.mirrors:
                self._start_mirror(mirror)
            self.relay.start()
            server = self._start_server(state)
            stack.callback(lambda: self._server.close())
            self._server = server
            stack.callback(self._watch.close)
            self._watch.start()
            stack.callback(self.alarming.close)
            self.alarming.start()
            stack.callback(self.awake.close)
            settle()
            self._log.info("daemon.started", version=__version__, host=self.host.name, mirrors=len(self.kept))
            self._look_after_everything(state)
            self._notifier.stopping("finishing the group in flight")
            self._log.info("daemon.stopping")
        self._log.info("daemon.stopped")
        if self._fatal is not None:
            raise self._fatal
        return 0

    @contextmanager
    def _open_catalogue(self, state: StateDirectory) -> Iterator[Catalogue]:
        from syncd.app.site import Site

        with Site(self.settings, self._clock).open_catalogue_in(state) as catalogue:
            yield catalogue

    def _look_after_everything(self, state: StateDirectory) -> None:
        """Do what is due now and then, until the end."""
        wall, looked, tidied, fed = WallClock(), 0.0, time.monotonic(), 0.0
        feed_every_s = watchdog_interval_s()
        ready, stuck = False, list[str]()
        while not self._ending.is_set():
            self._woken.wait(TICK_S if ready else FIRST_TICK_S)
            self._woken.clear()
            if self._ending.is_set():
                return
            jump = wall.jumped_s()
            if jump:
                self._begin_anew(jump)
            if self._reload.is_set() or self._watch.changed():
                self._reload.clear()
                self._read_settings_again()
            now = time.monotonic()
            if now - looked >= LOOK_AFTER_S:
                looked = now
                stuck = [name for name, kept in self.kept.items() if not kept.look_after()]
                self.answers.look_after()
                self.awake.look(work_of(self) if self.settings.host.keep_awake else Work())
            if now - tidied >= TIDY_S:
                tidied = now
                self._tidy()
            if not ready and self._api_answers(state):
                ready = True
                self._notifier.ready(self._one_line())
            if feed_every_s and now - fed >= feed_every_s and not stuck and self._api_answers(state):
                fed = now
                self._notifier.watchdog()
                self._notifier.status(self._one_line())

    def _api_answers(self, state: StateDirectory) -> bool:
        """Ask ourselves, as everybody else would."""
        try:
            with ApiClient(SocketAddress(state.path / SOCKET), API_ANSWERS_S) as client:
                client.health()
        except SyncdError:
            return False
        return True

    def _tidy(self) -> None:
        try:
            self.catalogue.record_run_day(self.now()[:10])
        except DiskFull as error:  # trash ages a day later; what is held is served, and work goes on when there is room
            self._log.warning("tidy.failed", error=error.message, hint=error.hint)
        for kept in self.kept.values():
            kept.keeper.tidy()
        if all(kept.keeper.current is None for kept in self.kept.values()):
            self.catalogue.shrink()
            give_back()

    def _one_line(self) -> str:
        states = ", ".join(f"{name} {state}" for name, state in self.answers.states().items())
        return f"{states or 'no mirrors'}"

    def _begin_anew(self, jump_s: float) -> None:
        self._log.warning("clock.jumped", seconds=round(jump_s), next="every mirror is looked at once")
        self.schedule.begin_anew()
        self.answers.woke()
        self.relay.wake()
        for kept in self.kept.values():
            kept.begin_anew()

    def _announced(self) -> None:
        self.relay.wake()
        self.enrolment.wake()
        for tell in list(self._listeners):
            tell()

    def fail(self, error: SyncdError) -> None:
        """Something without which the daemon cannot go on has ended."""
        self._fatal = self._fatal or error
        self.stop()

    # -- parts

    def _start_mirror(self, mirror: MirrorSettings) -> None:
        around = Surroundings(
            settings=self.settings,
            host=self.host,
            catalogue=self.catalogue,
            clock=self._clock,
            log=self._log,
            source_of=self._source_of,
            resolve=self.answers.resolve_in,
            told=self.numbers.note_run,
            count=self.numbers.add,
            bug=self._bug,
            fatal=self.fail,
        )
        self.numbers.begin(mirror.name)
        kept = self.kept[mirror.name] = KeptMirror(mirror, around)
        self.answers.mirrors_changed()
        self.schedule.add(mirror, kept.keeper.due)
        kept.start()

    def _start_enrolment(self) -> None:
        self.enrolment = Enrolling(self)
        self.enrolment.start()

    def _start_server(self, state: StateDirectory) -> ApiServer:
        api = self.settings.api
        server = ApiServer(
            self.answers,
            state.path / SOCKET,
            listen=None if api.listen is None else (api.listen.host, api.listen.port),
            token=None if api.token is None else api.token.reveal,
            allowed_hosts=api.allowed_hosts,
            on_bug=lambda error: self._bug(error, "api"),
            on_answer=lambda call, status: self.numbers.add("syncd_api_requests_total", call=call, status=str(status)),
        )
        server.start()
        return server

    def _stop_everything(self) -> None:
        self._stop_mirrors(list(self.kept))
        self.enrolment.close()
        self.relay.stop()

    def _stop_mirrors(self, names: list[str], back_soon: Container[str] = ()) -> None:
        """End some mirrors, all at the same time. back_soon: these are started again: what they hold is served on."""
        ending = [self.kept.pop(name) for name in names]
        for kept in ending:
            self.schedule.remove(kept.name)
        self.answers.mirrors_changed([kept for kept in ending if kept.name in back_soon])
        if not ending:
            return
        with ThreadPoolExecutor(len(ending), thread_name_prefix="stop") as pool:
            for kept, ended in zip(ending, pool.map(lambda each: each.stop(STOP_S), ending), strict=True):
                if not ended:
                    self._log.warning("mirror.not_ended", mirror=kept.name, within_s=STOP_S)

    # -- another configuration

    def _read_settings_again(self) -> None:
        """Take over what changed in the configuration; a bad one is reported, and the old one stays."""
        self._notifier.reloading()
        try:
            settings = self._load()
            self._refuse_other_state(settings)
            self._refuse_taken_port(settings)
        except ConfigError as error:
            self.config_problem = f"the configuration was not taken over: {'; '.join(error.problems) or error.message}"
            self._log.warning("config.refused", error=error.message, problems=list(error.problems), kept="the old one")
        else:
            self.config_problem = ""
            self._take_over(settings)
        self._notifier.ready(self._one_line())

    def _refuse_other_state(self, settings: Settings) -> None:
        if settings.host.state_dir != self.settings.host.state_dir:
            problem = "host.state_dir changed, which needs a restart"
            raise ConfigError(problem, problems=[problem], hint="restart syncd")

    def _refuse_taken_port(self, settings: Settings) -> None:
        ours, wanted = self.settings.api.listen, settings.api.listen
        if wanted is not None and (ours is None or ours.port != wanted.port):
            listen_tcp(*wanted).close()

    def _take_over(self, settings: Settings) -> None:
        self._settled.clear()
        try:
            self._replace_parts(settings)
        finally:
            self._settled.set()

    def _replace_parts(self, settings: Settings) -> None:
        self.alarming.close()
        old, self.settings = self.settings, settings
        zone_changed = old.host.timezone != settings.host.timezone  # the rest of [host] is no mirror's affair
        known = {mirror.name: mirror for mirror in settings.mirrors}
        gone = [
            name for name, kept in self.kept.items() if zone_changed or repr(known.get(name)) != repr(kept.settings)
        ]
        self._stop_mirrors(gone, known)
        if zone_changed:
            self.schedule.close()
            self.schedule = Schedule(settings.host.zone())
        if repr(old.nsq) != repr(settings.nsq):
            self.relay.stop()
            self.relay = Relaying(self)
            self.relay.start()
        if repr(old.mongo) != repr(settings.mongo):
            self.enrolment.close()
            self._start_enrolment()
        if repr(old.api) != repr(settings.api):
            self._server.close()
            self._server = self._start_server(StateDirectory(settings.host.state_dir))
        new = [mirror for mirror in settings.mirrors if mirror.name not in self.kept]
        for mirror in new:
            self._start_mirror(mirror)
        self.alarming.start()
        self._log.info("config.reloaded", stopped=gone, started=[mirror.name for mirror in new])
