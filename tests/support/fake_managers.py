"""Stand-ins for systemctl, loginctl, systemd-sysusers and launchctl: real executables that keep their state in a file.

What they answer is held to what the real systemd answers by tests/integration/test_service_managers.py; what launchctl
answers is taken from its manual, since no macOS is at hand. Run as programs, they need nothing but Python.
"""

from __future__ import annotations

import json
import os
import re
import sys
from pathlib import Path

PROGRAMS = ("systemctl", "loginctl", "systemd-sysusers", "launchctl")
STATE = "SYNCD_TEST_MANAGER"


def put_on_path(folder: Path) -> None:
    """Make the programs in `folder`."""
    for name in PROGRAMS:
        program = folder / name
        program.write_text(f"#!{sys.executable} -ES\n" + Path(__file__).read_text(encoding="utf-8"))
        program.chmod(0o755)


class Manager:
    """The state of all managers: read at the start of a call, written at its end."""

    def __init__(self) -> None:
        self.file = Path(os.environ[STATE])
        self.kept = json.loads(self.file.read_text()) if self.file.exists() else {}

    def list(self, name: str) -> list[object]:
        found: list[object] = self.kept.setdefault(name, [])
        return found

    def table(self, name: str) -> dict[str, object]:
        found: dict[str, object] = self.kept.setdefault(name, {})
        return found

    def write(self) -> None:
        self.file.write_text(json.dumps(self.kept))

    def start(self, unit: str) -> None:
        self.kept["pid"] = self.kept.get("pid", 4000) + 1
        self.table("running")[unit] = self.kept["pid"]


def fail(text: str, code: int = 1) -> int:
    print(text, file=sys.stderr)
    return code


def systemctl(manager: Manager, words: list[str]) -> int:
    scope = "user" if "--user" in words else "system"
    verb, *rest = [word for word in words if not word.startswith("-")]
    folder = Path(manager.kept[f"{scope}_units"])
    if verb == "daemon-reload":
        others = [unit for unit in manager.list("loaded") if not str(unit).startswith(f"{scope}/")]
        manager.kept["loaded"] = [*others, *(f"{scope}/{file.name}" for file in folder.glob("*.service"))]
        return 0
    unit = f"{scope}/{rest[0]}"
    loaded, enabled, running = manager.list("loaded"), manager.list("enabled"), manager.table("running")
    if verb == "show":
        active = "active" if unit in running else "inactive"
        print(f"MainPID={running.get(unit, 0)}\nLoadState={'loaded' if unit in loaded else 'not-found'}")
        print(f"ActiveState={active}\nSubState={'running' if unit in running else 'dead'}\nResult=success")
        print(f"UnitFileState={('enabled' if unit in enabled else 'disabled') if unit in loaded else ''}")
        return 0
    if unit not in loaded:
        return fail(f"Failed to {verb} unit: Unit file {rest[0]} does not exist.")
    if verb == "enable":
        manager.kept["enabled"] = [*enabled, unit]
    elif verb in ("start", "restart"):
        manager.start(unit)
    elif verb in ("stop", "disable"):
        if verb == "stop" or "--now" in words:
            running.pop(unit, None)
        if verb == "disable":
            manager.kept["enabled"] = [each for each in enabled if each != unit]
    else:
        return fail(f"Unknown command verb {verb}.")
    return 0


def loginctl(manager: Manager, words: list[str]) -> int:
    verb, user, *_ = [word for word in words if not word.startswith("-")]
    if verb == "enable-linger":
        manager.kept["lingering"] = [*manager.list("lingering"), user]
        return 0
    if user not in manager.list("lingering"):
        return fail(f"Failed to get user: User ID 1000 is not logged in or lingering ({user})")
    print("Linger=yes")
    return 0


def launchctl(manager: Manager, words: list[str]) -> int:
    verb, target, *rest = words
    parts = target.split("/")
    depth = 1 if parts[0] == "system" else 2
    domain, label = "/".join(parts[:depth]), "/".join(parts[depth:])
    if domain not in manager.list("domains"):
        return fail("Bootstrap failed: 125: Domain does not support specified action", 125)
    loaded, running, disabled = manager.table("jobs"), manager.table("running"), manager.list("disabled")
    if verb == "bootstrap":
        text = Path(rest[0]).read_text()
        label = re.findall(r"<key>Label</key>\s*<string>(.*?)</string>", text)[0]
        session = "Background" if "LimitLoadToSessionType" in text else "Aqua"
        if f"{domain}/{label}" in loaded or (domain.startswith("user/") and session != "Background"):
            return fail("Bootstrap failed: 5: Input/output error", 5)
        loaded[f"{domain}/{label}"] = rest[0]
        manager.start(f"{domain}/{label}")
        return 0
    if verb == "print-disabled":
        print("\n".join(f'\t"{each}" => disabled' for each in disabled))
        return 0
    if verb == "enable":
        manager.kept["disabled"] = [each for each in disabled if each != label]
        return 0
    if verb == "print" and not label:
        return 0
    if target not in loaded:
        return fail(f'Could not find service "{label}" in domain for {domain}', 113)
    if verb == "print":
        state = f"\tstate = running\n\tpid = {running[target]}" if target in running else "\tstate = not running"
        print(f"{target} = {{\n{state}\n\tlast exit code = 0\n\tspawn type = daemon (3)\n}}")
    elif verb == "bootout":
        del loaded[target]
        running.pop(target, None)
    elif verb == "kill":
        running.pop(target, None)
    elif verb == "kickstart":
        manager.start(target)
    else:
        return fail(f"Unrecognized subcommand: {verb}", 64)
    return 0


def main() -> int:
    """Play the program this file is called as; what `refuse` in the state matches fails."""
    manager = Manager()
    name, words = Path(sys.argv[0]).name, sys.argv[1:]
    call = " ".join([name, *words])
    manager.list("calls").append(call)
    for pattern, complaint in manager.table("refuse").items():
        if re.search(pattern, call):
            manager.write()
            return fail(str(complaint))
    played = {"systemctl": systemctl, "loginctl": loginctl, "launchctl": launchctl}
    code = played[name](manager, words) if name in played else 0
    manager.write()
    return code


if __name__ == "__main__":
    sys.exit(main())
