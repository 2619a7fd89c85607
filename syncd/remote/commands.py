"""What is run on another host, as one line for its shell. Pure.

Every line is `sh -c TEXT`, whatever the login's shell is. What comes from the configuration or the command line is
quoted; "~/" in front becomes the home directory there. No line ever holds a secret.
"""

from __future__ import annotations

import shlex
from collections.abc import Sequence

from syncd.config import RemoteSettings

MARK = "--- syncd remote ---"
"""What every line prints first: what the login's own shell says before it (a greeting in .bashrc) is not our answer."""

NO_FOLDER = 126
"""The exit code where the compose project's folder is not there: as sh(1) has it for what cannot be started."""

# A login without a terminal has a short PATH (a Mac's has no docker), and not always the way to the user's systemd.
_PRELUDE = (
    f"echo '{MARK}'\n"
    'PATH="$HOME/.local/bin:$PATH:/usr/local/bin:/opt/homebrew/bin"; export PATH\n'
    ': "${XDG_RUNTIME_DIR:=/run/user/$(id -u)}"; export XDG_RUNTIME_DIR\n'
)

# The service ends when we hang up: there is no terminal whose end would tell it.
_UNTIL_WE_HANG_UP = """exec 3<&0
{command} </dev/null 3<&- & followed=$!
( cat <&3 >/dev/null; kill $followed ) >/dev/null 2>&1 &
exec 3<&-
wait $followed
"""

_KICKSTART = """uid=$(id -u)
for label in {labels}; do
  for domain in gui/$uid user/$uid; do
    if launchctl print "$domain/$label" >/dev/null 2>&1; then
      launchctl kickstart -k "$domain/$label" || exit
      continue 2
    fi
  done
  echo "launchd has no $label in gui/$uid or user/$uid" >&2
  exit 113
done
"""


def word(text: str) -> str:
    """Quote one word for sh; "~/" in front stands for the home directory there."""
    return f'"$HOME"/{shlex.quote(text[2:])}' if text.startswith("~/") else shlex.quote(text)


def words(parts: Sequence[str]) -> str:
    """Quote several words for sh."""
    return " ".join(word(part) for part in parts)


def shell(text: str) -> str:
    """Return the line that runs a text with sh, whatever shell the login has."""
    return shlex.join(["sh", "-c", _PRELUDE + text])


def syncd(remote: RemoteSettings, *arguments: str, terminal: bool = False) -> str:
    """Return the line that runs a command of syncd there. arguments: are not taken for paths."""
    config = ["-c", remote.config] if remote.config else []
    called = words([remote.command, *config])
    rest = shlex.join(arguments)
    if remote.kind != "compose":
        return shell(f"exec {called} {rest}\n")
    option = "" if terminal else "-T "
    return shell(f"{_cd(remote)}exec docker compose exec {option}{word(remote.service)} {called} {rest}\n")


def logs(remote: RemoteSettings, services: Sequence[str], lines: int, *, follow: bool) -> str:
    """Return the line that shows the last lines of services' logs ([]: syncd's; compose: all of the project's)."""
    match remote.kind:
        case "compose":
            called = ["docker", "compose", "logs", "--no-color", f"--tail={lines}", *(["-f"] if follow else [])]
            start, called = _cd(remote), [*called, *services]
        case "launchd":
            files = [f"~/Library/Logs/syncd/{name}.log" for name in services or [remote.service]]
            start, called = "", ["tail", "-n", str(lines), *(["-F"] if follow else []), *files]
        case _:
            units = [part for name in services or [remote.service] for part in ("-u", name)]
            called = ["journalctl", "--user", "--quiet", "--no-pager", "--output=short-iso", f"--lines={lines}"]
            start, called = "", [*called, *units, *(["--follow"] if follow else [])]
    if follow:
        return shell(start + _UNTIL_WE_HANG_UP.format(command=words(called)))
    return shell(f"{start}exec {words(called)}\n")


def restart(remote: RemoteSettings, services: Sequence[str]) -> str:
    """Return the line that restarts services ([]: syncd's own)."""
    names = list(services) or [remote.service]
    match remote.kind:
        case "compose":
            return shell(f"{_cd(remote)}exec docker compose restart {words(names)}\n")
        case "launchd":
            labels = words([name if "." in name else f"local.{name}" for name in names])
            return shell(_KICKSTART.format(labels=labels))
        case _:
            return shell(f"exec systemctl --user --no-ask-password restart {words(names)}\n")


def containers(remote: RemoteSettings) -> str:
    """Return the line that tells how each container of a compose project is."""
    return in_project(remote, "exec docker compose ps --all --format json\n")


def in_project(remote: RemoteSettings, text: str) -> str:
    """Return the line that runs a text of sh in the compose project's folder."""
    return shell(_cd(remote) + text)


def _cd(remote: RemoteSettings) -> str:
    folder = word(remote.compose_dir)
    return f"cd {folder} 2>/dev/null || {{ echo 'there is no folder' {folder} >&2; exit {NO_FOLDER}; }}\n"
