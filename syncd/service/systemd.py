"""A service of systemd: a system service, or a user's own, which needs no root."""

from __future__ import annotations

import shlex
from collections.abc import Mapping

from syncd.service.look import Inspection, content_of, refuse_foreign
from syncd.service.place import SERVICE_USER, Place
from syncd.service.steps import Call, MakeFolder, RemoveFile, Step, WriteFile
from syncd.service.tools import CALL_TIMEOUT_S, START_TIMEOUT_S, Answer, Tools
from syncd.service.unit import MARK, Job, unit

STOP_TIMEOUT_S = 60.0
"""For calls that wait for the end of the service: TimeoutStopSec, and room."""

RELOAD_ATTEMPTS = 10
"""How often a user's manager is asked to read the unit, a second apart."""

_ASKED = (
    "LoadState",
    "ActiveState",
    "SubState",
    "UnitFileState",
    "MainPID",
    "Result",
    "ExecMainStatus",
    "StatusText",
    "ActiveEnterTimestamp",
)
_ENDS = {
    2: "the configuration cannot be used",
    11: "another syncd is running",
    12: "login refused",
    14: "no space left",
    15: "the catalogue cannot be used",
    203: "the program is not there, or may not be started",
    217: "the user it shall run as is not there",
    226: "a folder it shall write to cannot be set up",
    243: "a secret in LoadCredential= is not there",
}


class Systemd:
    """Looks at one service, and plans what installs or uninstalls it."""

    def __init__(self, place: Place, tools: Tools) -> None:
        self._place = place
        self._tools = tools
        self._ctl = ("systemctl", "--no-ask-password") + (() if place.system else ("--user",))

    def text(self, job: Job) -> str:
        """Return the unit. Raises: ConfigError."""
        return unit(self._place, job)

    # --- looking

    def inspect(self) -> Inspection:
        """Return how the service is."""
        place, content = self._place, content_of(self._place.file)
        answer = self._ask()
        shown = _shown(answer)
        lingers, running, enabled = self._lingers(), _is_running(shown), _is_enabled(shown)
        installed = bool(content) or shown.get("LoadState") == "loaded"
        lasting = "yes" if lingers else f"no: {place.account.name} does not linger, so it ends with the last session"
        return Inspection(
            place.name,
            place.kind,
            place.system,
            place.file,
            installed=installed,
            ours=_is_ours(content),
            running=running,
            enabled=enabled,
            survives_logout=installed and lingers,
            survives_reboot=installed and lingers and enabled,
            pid=int(shown.get("MainPID") or 0) if running else 0,
            logout=lasting,
            reboot=_reboot(lingers=lingers, enabled=enabled),
            logs=self._journal("-f"),
            stop=self._typed("stop"),
            detail=_detail(answer, shown, installed=installed),
            todo=self._todo(answer, shown, installed=installed, lingers=lingers),
        )

    def _ask(self) -> Answer:
        return self._tools.ask((*self._ctl, "show", self._place.unit, f"--property={','.join(_ASKED)}"))

    def _todo(self, answer: Answer, shown: Mapping[str, str], *, installed: bool, lingers: bool) -> str:
        if not installed:
            return self._place.install_command
        if not answer.ok:
            return f"{answer.command}" if lingers else self._linger_command
        if shown.get("ActiveState") in ("failed", "activating"):
            return self._journal("-n 30")
        if not _is_running(shown):
            return self._typed("start")
        if not _is_enabled(shown):
            return self._typed("enable")
        return "" if lingers else self._linger_command

    def _lingers(self) -> bool:
        """Say whether the service runs without a session. A user who neither lingers nor has one is no error here."""
        if self._place.system:
            return True
        answer = self._tools.ask(("loginctl", "show-user", self._place.account.name, "--property=Linger"))
        return answer.ok and answer.out.strip() == "Linger=yes"

    def _journal(self, option: str) -> str:
        return f"journalctl {'' if self._place.system else '--user '}-u {self._place.name} {option}"

    @property
    def _linger_command(self) -> str:
        return f"sudo loginctl enable-linger {shlex.quote(self._place.account.name)}"

    def _typed(self, verb: str) -> str:
        """Return a call of systemctl as a person types it."""
        return f"{'sudo systemctl' if self._place.system else 'systemctl --user'} {verb} {self._place.name}"

    # --- planning

    def plan_install(self, job: Job) -> list[Step]:
        """Return what is missing to an enabled, running service; nothing when it is there. Raises: ConfigError."""
        place, content = self._place, content_of(self._place.file)
        refuse_foreign(place.file, content, ours=_is_ours(content))
        text, shown = unit(place, job), _shown(self._ask())
        steps: list[Step] = [*self._make_account(), *self._linger()]
        changed = content != text
        if changed:
            steps += [MakeFolder(place.file.parent), WriteFile(place.file, text)]
            steps.append(self._reload())
        if not _is_enabled(shown):
            steps.append(self._call("enable", place.unit))
        if changed or not _is_running(shown):
            verb = "restart" if _is_running(shown) else "start"
            steps.append(self._call(verb, place.unit, hint=self._journal("-n 30"), timeout_s=START_TIMEOUT_S))
        return steps

    def plan_otherwise(self, _job: Job) -> list[Step]:
        """Return another way to install it, after the first did not work: there is none."""
        return []

    def plan_uninstall(self) -> list[Step]:
        """Return what removes the service; nothing when there is none. Raises: ConfigError for a foreign unit."""
        content = content_of(self._place.file)
        if not content:
            return []
        refuse_foreign(self._place.file, content, ours=_is_ours(content))
        steps: list[Step] = [self._call("disable", "--now", self._place.unit, timeout_s=STOP_TIMEOUT_S)]
        if _shown(self._ask()).get("ActiveState") == "failed":
            steps.append(self._call("reset-failed", self._place.unit))
        return [*steps, RemoveFile(self._place.file), self._call("daemon-reload")]

    def left_behind(self) -> list[str]:
        """Return what an uninstallation leaves, beside configuration, state and mirrors; to be asked before it."""
        place = self._place
        drop_ins = place.file.with_name(f"{place.unit}.d")
        left = [f"{drop_ins}: not written by syncd"] if drop_ins.is_dir() else []
        if f"\nUser={SERVICE_USER}\n" in content_of(place.file):
            left.append(f"the user {SERVICE_USER}: the mirrors are its files")
        if not place.system and self._lingers():
            left.append(f"lingering of {place.account.name}: other services may need it (loginctl disable-linger)")
        return left

    def _make_account(self) -> list[Step]:
        place = self._place
        if not place.system or place.account.uid >= 0:
            return []
        line = f'u {place.account.name} - "syncd mirror daemon" {place.account.home}'
        return [Call(("systemd-sysusers", "--inline", line), hint=f"useradd --system {place.account.name}")]

    def _linger(self) -> list[Step]:
        """Let a user's services run without a session. First, since that also starts the user's manager."""
        if self._lingers():
            return []
        argv = ("loginctl", "--no-ask-password", "enable-linger", self._place.account.name)
        return [Call(argv, instead=f"an admin types: {self._linger_command} (until then it ends at logout)")]

    def _reload(self) -> Call:
        """Let the manager read the unit. A user's manager is only coming up when lingering has just been enabled."""
        argv = (*self._ctl, "daemon-reload")
        return Call(argv) if self._place.system else Call(argv, hint=self._linger_command, attempts=RELOAD_ATTEMPTS)

    def _call(self, *words: str, hint: str = "", timeout_s: float = CALL_TIMEOUT_S) -> Call:
        return Call((*self._ctl, *words), hint=hint, timeout_s=timeout_s)


def _is_ours(content: str) -> bool:
    return content.startswith(MARK)


def _shown(answer: Answer) -> dict[str, str]:
    """Return the properties that `systemctl show` printed."""
    return dict(line.split("=", 1) for line in answer.out.splitlines() if "=" in line)


def _is_running(shown: Mapping[str, str]) -> bool:
    return shown.get("ActiveState") in ("active", "reloading")


def _is_enabled(shown: Mapping[str, str]) -> bool:
    return shown.get("UnitFileState") == "enabled"


def _detail(answer: Answer, shown: Mapping[str, str], *, installed: bool) -> str:
    """Return the state in one line."""
    if not answer.ok:
        return f"its manager cannot be asked: {answer.complaint}"
    if not installed:
        return "not installed"
    status = f": {shown['StatusText']}" if shown.get("StatusText") else ""
    match shown.get("ActiveState", ""):
        case "active" | "reloading":
            return f"running since {shown.get('ActiveEnterTimestamp', '?')}{status}"
        case "activating" if shown.get("SubState") == "auto-restart":
            return f"it ended ({_end(shown)}) and is started again soon"
        case "activating":
            return f"starting: its first health check is not done{status}"
        case "failed":
            return f"it failed: {_end(shown)}"
        case other:
            return "stopped" if other == "inactive" else other or "unknown"


def _end(shown: Mapping[str, str]) -> str:
    """Return how the main process ended, in words where its exit code has some."""
    result, code = shown.get("Result", ""), shown.get("ExecMainStatus", "")
    if result == "exit-code" and code.isdecimal():
        return f"exit code {code}" + (f", {_ENDS[int(code)]}" if int(code) in _ENDS else "")
    return {"watchdog": "nothing moved for too long", "oom-kill": "out of memory", "timeout": "it took too long"}.get(
        result, result or "unknown"
    )


def _reboot(*, lingers: bool, enabled: bool) -> str:
    if not enabled:
        return "no: it is not enabled"
    return "yes" if lingers else "no: it starts when you log in"
