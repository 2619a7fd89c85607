"""Put another version of syncd on a host; look whether it works; go back when it does not.

Nothing of what runs is touched before the old version is kept. What decides is the host's own doctor: a check that
fails now and did not fail before means that the new version does not work there.
"""

from __future__ import annotations

import hashlib
import json
import re
import zipfile
from pathlib import Path
from typing import Any, NamedTuple, Protocol

from syncd.core.errors import ConfigError, SyncdError
from syncd.remote import answers, commands, verbs
from syncd.remote.errors import HostUnfit, RemoteError
from syncd.remote.running import Host

STEP_S = 60.0
COPY_S, INSTALL_S, PULL_S = 180.0, 300.0, 600.0
WITHIN_S = 2 * PULL_S + 4 * verbs.DOCTOR_S + 4 * verbs.RESTART_S
"""More than all the steps may take together, going back included."""

WHEEL_BYTES = 64 << 20
_WHEEL = re.compile(r"syncd-[A-Za-z0-9_.+!-]{1,100}\.whl")
_VARIABLE = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
_IMAGE = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.:/@-]{0,254}")
VARIABLE = "SYNCD_IMAGE"
_SCRIPT_OF = re.compile(r"""^(?:#!|'''exec' )["']?(/[^"'\n]*?/python[0-9.]*)["']?(?: .*)?$""", re.MULTILINE)


class WentBack(RemoteError):
    """The new version did not work; the old one runs again."""

    kind = "went_back"


class Change(Protocol):
    """One way to another version. prepare() touches nothing that runs; back() may be called after put_in() failed."""

    def prepare(self, host: Host) -> None: ...

    def put_in(self, host: Host) -> None: ...

    def back(self, host: Host) -> None: ...


def update(host: Host, change: Change) -> verbs.Answer:
    """Change the version of syncd on a host. Raises: WentBack, RemoteError."""
    remote = host.remote
    before = verbs.examined(host)
    ran = verbs.daemon_of(host) is not None
    old = version(host)
    change.prepare(host)
    try:
        change.put_in(host)
        new = version(host)
        _prove(host, before, restart=ran)
    except SyncdError as error:
        with Host(remote) as again:  # the connection may be what was lost
            _go_back(again, change, old, error, restart=ran)
        raise WentBack(f"went back to {old}: {error.message}", hint=error.hint) from error
    daemon = "running" if ran else "not running, as before"
    return verbs.Answer(0, {"before": old, "now": new, "daemon": ran}, [[remote.name, old, new, daemon]], [])


def version(host: Host) -> str:
    """Return the version that the program there says it is."""
    ran = host.run(commands.syncd(host.remote, "--version"), STEP_S)
    if ran.code != 0 or not ran.out.startswith("syncd "):
        raise answers.failed(host.remote, ran)
    return ran.out.split("\n")[0].removeprefix("syncd ").strip()[:40]


def _prove(host: Host, before: dict[str, Any], *, restart: bool) -> None:
    """Restart the daemon with what is there now, and have it examined. Raises: SyncdError when it is not as before."""
    if restart:
        verbs.restart(host, [])
    worse = answers.failing_checks(verbs.examined(host)) - answers.failing_checks(before)
    if worse:
        named = ", ".join(" ".join(part for part in check[1:] if part != "None") for check in sorted(worse))
        raise RemoteError(f"doctor finds what was not there before: {named}")


def _go_back(host: Host, change: Change, old: str, why: SyncdError, *, restart: bool) -> None:
    try:
        change.back(host)
        if restart:
            verbs.restart(host, [])
        found = version(host)
    except SyncdError as error:
        raise RemoteError(
            f"the update failed ({why.message}), and going back to {old} failed too: {error.message}",
            hint=f"log in to {host.remote.name}; what it was is kept there: see docs/remote.md",
        ) from error
    if found != old:
        raise RemoteError(f"the update failed ({why.message}), and {found} runs there instead of {old}")


def need(host: Host, line: str, timeout_s: float, feed: bytes = b"") -> str:
    """Run a line there that has to succeed; return what it printed."""
    ran = host.run(line, timeout_s, feed=feed)
    if ran.code != 0:
        raise answers.failed(host.remote, ran)
    return ran.out


# --- a wheel, in the virtual environment that syncd lies in ----------------------------------------------------------


class Wheel(NamedTuple):
    """A wheel of syncd, read and looked at."""

    name: str
    content: bytes


def read_wheel(path: Path) -> Wheel:
    """Return a wheel of syncd. Raises: ConfigError for any other file."""
    try:
        content = path.read_bytes() if path.stat().st_size <= WHEEL_BYTES else b""
        with zipfile.ZipFile(path) as archive:
            names = archive.namelist()
    except (OSError, zipfile.BadZipFile) as error:
        raise ConfigError(f"{path} cannot be read as a wheel: {error}") from error
    if not content or not _WHEEL.fullmatch(path.name) or "syncd/__init__.py" not in names:
        raise ConfigError(f"{path} is no wheel of syncd", hint="make one: pip wheel --no-deps .")
    return Wheel(path.name, content)


_ABOUT = "import json, sys; print(json.dumps([sys.prefix, sys.base_prefix]))"
_SUM = "import hashlib, sys; print(hashlib.sha256(open(sys.argv[1], 'rb').read()).hexdigest())"
_SHELF = '"$HOME"/.local/share/syncd/update'
_FIND = """found=$(command -v {command}) || {{ echo "there is no "{command} >&2; exit 127; }}
head -n 2 "$found"
"""
_RECEIVE = """umask 077; mkdir -p {shelf} && rm -f {shelf}/*.whl && cat >{shelf}/{name} || exit
exec {python} -I -c {sum} {shelf}/{name}
"""
_KEEP = """if [ ! -w {prefix} ] || [ ! -w "$(dirname {prefix})" ]; then
  echo {prefix}" and the folder it lies in cannot both be written, so it could not be put back" >&2; exit 3
fi
rm -rf {shelf}/part && cp -RPp {prefix} {shelf}/part &&
rm -rf {shelf}/before && mv {shelf}/part {shelf}/before
"""
_INSTALL = """log={shelf}/log
if {python} -m pip --version >/dev/null 2>&1; then
  {{ {python} -m pip install --no-input --disable-pip-version-check --force-reinstall --no-deps {shelf}/{name} &&
    {python} -m pip install --no-input --disable-pip-version-check {shelf}/{name}; }} >"$log" 2>&1
elif command -v uv >/dev/null; then
  uv pip install --python {python} --reinstall-package syncd {shelf}/{name} >"$log" 2>&1
else
  echo "neither pip nor uv is there to install with" >"$log"; false
fi || {{ tail -n 1 "$log" >&2; exit 3; }}
"""
# The environment has to lie where it lay: its scripts name their interpreter by its path.
_RESTORE = """rm -rf {prefix}.part && cp -RPp {shelf}/before {prefix}.part && rm -rf {shelf}/failed &&
mv {prefix} {shelf}/failed && mv {prefix}.part {prefix}
"""


class WheelChange:
    """Installs a wheel in the environment of the program that `command` names; a copy of the whole is kept before."""

    def __init__(self, wheel: Wheel) -> None:
        self._wheel = wheel
        self._filled: dict[str, str] = {}

    def prepare(self, host: Host) -> None:
        remote = host.remote
        if remote.kind == "compose":
            raise HostUnfit("a compose project is updated with --image, not with a wheel")
        head = need(host, commands.shell(_FIND.format(command=commands.word(remote.command))), STEP_S)
        interpreter = _SCRIPT_OF.search(head)
        if interpreter is None:
            raise HostUnfit(
                "it cannot be told which Python runs syncd there: its program is no script of an environment",
                hint=f"name the program in the environment itself: command in [hosts.{remote.name}]",
            )
        python = commands.word(interpreter[1])
        prefix = self._prefix(host, python)
        self._filled = {
            "shelf": _SHELF,
            "python": python,
            "prefix": commands.word(prefix),
            "name": commands.word(self._wheel.name),
            "sum": commands.word(_SUM),
        }
        got = need(host, self._line(_RECEIVE), INSTALL_S, self._wheel.content).strip()
        if got != hashlib.sha256(self._wheel.content).hexdigest():
            raise RemoteError("the wheel did not arrive as it was sent")
        need(host, self._line(_KEEP), COPY_S)

    def put_in(self, host: Host) -> None:
        need(host, self._line(_INSTALL), INSTALL_S)

    def back(self, host: Host) -> None:
        need(host, self._line(_RESTORE), COPY_S)

    def _line(self, text: str) -> str:
        return commands.shell(text.format(**self._filled))

    @staticmethod
    def _prefix(host: Host, python: str) -> str:
        said = need(host, commands.shell(f"exec {python} -I -c {commands.word(_ABOUT)}\n"), STEP_S)
        try:
            prefix, base = json.loads(said)
        except ValueError:
            raise RemoteError("the Python there does not say what environment it is of") from None
        if not isinstance(prefix, str) or not prefix.startswith("/") or prefix == base:
            raise HostUnfit(
                "syncd does not lie in an environment of its own there, so the old version could not be kept",
                hint="install it with pipx, uv tool or in a venv (docs/remote.md)",
            )
        return prefix


# --- an image, named in the compose project's .env -------------------------------------------------------------------

_HAVE = """docker image inspect {image} >/dev/null 2>&1 || docker pull {image} >/dev/null
"""
_READ = "if [ -e .env ]; then cat .env; fi\n"
# What stands there is kept beside it, as it is: what is put back are those bytes, and they are there for a person too.
_KEEP_ENV = "if [ -e .env ]; then cp -p .env .env.before; else rm -f .env.before; fi\n"
_BACK_ENV = """if [ -e .env.before ]; then cp -p .env.before .env.part && mv .env.part .env; else rm -f .env; fi
"""
# The new text takes its place in one step, with the owner and mode of the old one.
_WRITE = """rm -f .env.part
if [ -e .env ]; then cp -p .env .env.part || exit; else umask 077; fi
cat >.env.part && mv .env.part .env
"""
_UP = "exec docker compose up -d\n"


class ImageChange:
    """Names another image in the compose project's .env, and brings the project up."""

    def __init__(self, image: str, variable: str = VARIABLE) -> None:
        """Raises: ConfigError for what is no image's name, or no variable's."""
        if not _IMAGE.fullmatch(image):
            raise ConfigError(f'"{image}" is not the name of an image', hint="--image registry.example/syncd:1.2")
        if not _VARIABLE.fullmatch(variable):
            raise ConfigError(f'"{variable}" is not the name of a variable', hint=f"--variable {VARIABLE}")
        self._image = image
        self._variable = variable
        self._before = ""

    def prepare(self, host: Host) -> None:
        if host.remote.kind != "compose":
            raise HostUnfit("only a compose project is updated with --image; this host takes a wheel")
        self._before = need(host, commands.in_project(host.remote, _READ), STEP_S)
        if assigned(self._before, self._variable) == self._image:
            raise RemoteError(
                f"{self._image} is what runs there already",
                hint="give the new image a tag of its own, or there is nothing to go back to",
            )
        if "\N{REPLACEMENT CHARACTER}" in self._before:
            raise HostUnfit("the project's .env is no UTF-8, so it cannot be changed from here")
        need(host, commands.in_project(host.remote, _HAVE.format(image=commands.word(self._image))), PULL_S)
        need(host, commands.in_project(host.remote, _KEEP_ENV), STEP_S)

    def put_in(self, host: Host) -> None:
        text = with_assigned(self._before, self._variable, self._image)
        need(host, commands.in_project(host.remote, _WRITE), STEP_S, text.encode())
        self._up(host)

    def back(self, host: Host) -> None:
        need(host, commands.in_project(host.remote, _BACK_ENV), STEP_S)
        self._up(host)

    @staticmethod
    def _up(host: Host) -> None:
        need(host, commands.in_project(host.remote, _UP), PULL_S)


def assigned(text: str, variable: str) -> str:
    """Return what an .env file assigns to a variable, "" for nothing."""
    found = re.findall(rf"^{re.escape(variable)}=(.*)$", text, re.MULTILINE)
    return str(found[-1]).strip().strip("\"'") if found else ""


def with_assigned(text: str, variable: str, value: str) -> str:
    """Return the text of an .env file with a variable set, in its last line; all else stays as it is."""
    lines = text.removesuffix("\n").split("\n") if text else []
    kept = [line for line in lines if not line.startswith(f"{variable}=")]
    return "\n".join([*kept, f"{variable}={value}"]) + "\n"
