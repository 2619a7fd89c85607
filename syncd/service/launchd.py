"""A service of launchd: a daemon, or a user's own agent, which needs no root.

An agent lives in the domain gui/UID, which is there while its user is logged in at the screen, or in user/UID, which
is there after a login over SSH too (launchctl(1), "domain-target"; launchd.plist(5), LimitLoadToSessionType).
"""

from __future__ import annotations

import re
import shlex
from collections.abc import Mapping

from syncd.service.look import Inspection, content_of, refuse_foreign
from syncd.service.place import Place
from syncd.service.plist import MARK, Session, log_folder, log_of, plist, session_of
from syncd.service.steps import Call, MakeFolder, RemoveFile, Step, Until, WriteFile
from syncd.service.tools import NOT_FOUND, Answer, Tools
from syncd.service.unit import Job

BOOTSTRAP_ATTEMPTS = 5
"""Right after a bootout launchd may refuse the same label for a moment ("5: Input/output error")."""

_THROTTLED = "spawn scheduled"
"""What launchd calls a job that ended, and that ThrottleInterval holds back."""
_STATE = re.compile(r"^\t(state|pid|last exit code) = (.+)$", re.MULTILINE)


class Launchd:
    """Looks at one service, and plans what installs or uninstalls it."""

    def __init__(self, place: Place, tools: Tools) -> None:
        self._place = place
        self._tools = tools

    def text(self, job: Job) -> str:
        """Return the property list."""
        return plist(self._place, job, self._session())

    # --- looking

    def inspect(self) -> Inspection:
        """Return how the service is."""
        place, content = self._place, content_of(self._place.file)
        session = session_of(content) or self._session()
        answer = self._print(session)
        shown = dict(_STATE.findall(answer.out))
        running = answer.ok and shown.get("state") == "running"
        enabled = bool(content) and not self._disabled(session)
        installed = bool(content)
        return Inspection(
            place.name,
            place.kind,
            place.system,
            place.file,
            installed=installed,
            ours=MARK in content,
            running=running,
            enabled=enabled,
            survives_logout=installed and place.system,
            survives_reboot=installed and place.system and enabled,
            pid=int(shown["pid"]) if running and shown.get("pid", "").isdecimal() else 0,
            logout=self._logout(session),
            reboot=self._reboot(enabled=enabled),
            logs=f"tail -F {shlex.quote(log_of(content) or f'{log_folder(place)}/{place.name}.log')}",
            stop=f"{self._sudo}launchctl kill SIGTERM {self._target(session)}",
            detail=_detail(answer, shown, installed=installed),
            todo=self._todo(session, answer, installed=installed, running=running),
        )

    def _todo(self, session: Session, answer: Answer, *, installed: bool, running: bool) -> str:
        if not installed:
            return self._place.install_command
        if not answer.ok:
            return f"{self._sudo}launchctl bootstrap {self._domain(session)} {shlex.quote(str(self._place.file))}"
        return "" if running else f"{self._sudo}launchctl kickstart {self._target(session)}"

    def _logout(self, session: Session) -> str:
        if self._place.system:
            return "yes"
        if session is Session.AQUA:
            return "no: it ends when you log out at the screen"
        return "not promised: macOS may end it after your last session"

    def _reboot(self, *, enabled: bool) -> str:
        if not enabled:
            return "no: it is disabled"
        if self._place.system:
            return "yes (with FileVault: after the disk has been unlocked)"
        return "no: it starts when you log in"

    def _session(self) -> Session:
        """Return the session for an agent: the screen's when somebody is logged in there, or one is installed for it.

        One installed for the background moves to the screen's as soon as there is one.
        """
        installed = session_of(content_of(self._place.file))
        if self._place.system or installed is Session.AQUA:
            return Session.AQUA
        screen = self._tools.ask(("launchctl", "print", self._domain(Session.AQUA)))
        return Session.AQUA if screen.code in (0, NOT_FOUND) else Session.BACKGROUND

    def _domain(self, session: Session) -> str:
        if self._place.system:
            return "system"
        return f"{'gui' if session is Session.AQUA else 'user'}/{self._place.account.uid}"

    def _target(self, session: Session) -> str:
        return f"{self._domain(session)}/{self._place.unit}"

    def _print(self, session: Session) -> Answer:
        return self._tools.ask(("launchctl", "print", self._target(session)))

    def _disabled(self, session: Session) -> bool:
        """Say whether somebody has disabled the label. Newer launchctl says "disabled", older ones "true"."""
        answer = self._tools.ask(("launchctl", "print-disabled", self._domain(session)))
        return bool(re.search(rf'"{re.escape(self._place.unit)}" => (disabled|true)\b', answer.out))

    @property
    def _sudo(self) -> str:
        return "sudo " if self._place.system else ""

    # --- planning

    def plan_install(self, job: Job) -> list[Step]:
        """Return what is missing to an enabled, running service; nothing when it is there. Raises: ConfigError."""
        content = content_of(self._place.file)
        refuse_foreign(self._place.file, content, ours=MARK in content)
        return self._plan(job, self._session(), content)

    def plan_otherwise(self, job: Job) -> list[Step]:
        """Return the same for the session that needs no screen, when gui/UID did not take the agent; else nothing."""
        content = content_of(self._place.file)
        if self._place.system or session_of(content) is not Session.AQUA:
            return []
        return self._plan(job, Session.BACKGROUND, content)

    def _plan(self, job: Job, session: Session, content: str) -> list[Step]:
        place, text = self._place, plist(self._place, job, session)
        loaded = self._print(session)
        running = loaded.ok and dict(_STATE.findall(loaded.out)).get("state") == "running"
        if content == text and running and not self._disabled(session):
            return []
        steps: list[Step] = []
        if content != text:
            steps += self._unload(content)
        if content != text or not log_folder(place).is_dir():  # without it launchd does not even start the program
            steps.append(MakeFolder(log_folder(place), place.account))
        if content != text:
            steps += [MakeFolder(place.file.parent), WriteFile(place.file, text)]
        steps.append(Call(("launchctl", "enable", self._target(session))))
        if content == text and loaded.ok:
            steps.append(Call(("launchctl", "kickstart", self._target(session))))
        else:
            argv = ("launchctl", "bootstrap", self._domain(session), str(place.file))
            steps.append(Call(argv, attempts=BOOTSTRAP_ATTEMPTS, hint=self._refused(session)))
        return steps

    def plan_uninstall(self) -> list[Step]:
        """Return what removes the service; nothing when there is none. Raises: ConfigError for a foreign file."""
        content = content_of(self._place.file)
        if not content:
            return []
        refuse_foreign(self._place.file, content, ours=MARK in content)
        return [*self._unload(content), RemoveFile(self._place.file)]

    def left_behind(self) -> list[str]:
        """Return what an uninstallation leaves, beside configuration, state and mirrors."""
        log = log_of(content_of(self._place.file))
        return [f"{log} and what stands beside it: the logs"] if log else []

    def _unload(self, content: str) -> list[Step]:
        """Take out what is loaded; bootout returns before the job has ended."""
        session = session_of(content)
        if session is None or not self._print(session).ok:
            return []
        target = self._target(session)
        return [
            Call(("launchctl", "bootout", target), instead=f"nothing yet: see whether {target} goes away"),
            Until(("launchctl", "print", target)),
        ]

    def _refused(self, session: Session) -> str:
        if self._place.system:
            return f"look for {self._place.unit} in: log show --last 5m --predicate 'process == \"launchd\"'"
        if session is Session.AQUA:
            return "log in at the screen of this Mac and install again"
        return "log in at the screen of this Mac and install again, or as an admin: syncd service install --system"


def _detail(answer: Answer, shown: Mapping[str, str], *, installed: bool) -> str:
    if not installed:
        return "not installed"
    if not answer.ok:
        return f"not loaded: {answer.complaint}"
    if shown.get("state") == "running":
        return "running"
    ended = shown.get("last exit code", "")
    how = "to be started again soon" if shown.get("state") == _THROTTLED else "stopped"
    return how + (f", last exit code {ended}" if ended and not ended.startswith("(never") else "")
