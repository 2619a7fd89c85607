"""What is found when one looks at a service."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from syncd.core.errors import ConfigError


@dataclass(frozen=True, slots=True)
class Inspection:
    """One service, as its manager sees it.

    kind: in the manager's words ("" where there is no manager). ours: its file was written by `syncd service install`.
    running: started and ready. enabled: started by itself from now on. survives_logout, survives_reboot: it runs on
    after everybody has logged out, and runs after a reboot before anybody logs in; logout, reboot: the same in words.
    detail: the state in one line. todo: the next step, "" when there is none.
    """

    name: str
    kind: str = ""
    system: bool = False
    file: Path | None = None
    installed: bool = False
    ours: bool = False
    running: bool = False
    enabled: bool = False
    survives_logout: bool = False
    survives_reboot: bool = False
    pid: int = 0
    logout: str = ""
    reboot: str = ""
    logs: str = ""
    stop: str = ""
    detail: str = ""
    todo: str = ""

    def as_json(self) -> dict[str, Any]:
        return {
            "name": self.name,
            "kind": self.kind or None,
            "system": self.system,
            "file": str(self.file) if self.file is not None else None,
            "installed": self.installed,
            "running": self.running,
            "enabled": self.enabled,
            "survives_logout": self.survives_logout,
            "survives_reboot": self.survives_reboot,
            "pid": self.pid or None,
            "detail": self.detail,
            "next": self.todo,
        }


def content_of(file: Path) -> str:
    """Return what is in a unit or property list, "" when it is not there or cannot be read."""
    try:
        return file.read_text(encoding="utf-8", errors="replace")
    except OSError:
        return ""


def refuse_foreign(file: Path, content: str, *, ours: bool) -> None:
    """Raise ConfigError when a file is there that `syncd service install` did not write."""
    if content and not ours:
        raise ConfigError(
            f"{file} was not written by syncd service install, so it stays as it is",
            hint="move it away, or take another name: syncd service install --name OTHER",
        )
