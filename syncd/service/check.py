"""Look at the configuration as the service will see it: another user perhaps, and none of the shell's variables."""

from __future__ import annotations

import os
import shlex
import stat
from collections.abc import Iterator, Mapping
from pathlib import Path

from syncd import config
from syncd.config import Secret, Settings
from syncd.config.secrets import file_problem
from syncd.core.errors import AlreadyRunning, ConfigError
from syncd.service.place import Manager, Place, named
from syncd.service.program import hidden_from_system, is_hidden
from syncd.service.unit import CREDENTIAL_FOLDER, Job
from syncd.store.state import StateDirectory

_SEEN_BY_SHELL = ("MONGO_URI", "NSQD_ADDRESS", "NSQLOOKUPD_ADDRESSES", "WORKER_ID")
"""Variables that win over the file (config.load) and that a service does not have."""

_CARRIED = ("XDG_STATE_HOME",)
"""Variables that decide where things lie: written into the unit, so that service and commands agree."""


def job_of(place: Place, file: Path, program: Path, env: Mapping[str, str]) -> Job:
    """Return what the service is to do, when the configuration lets it.

    env: this process's environment. Raises: ConfigError with every problem.
    """
    carried = {} if place.system else {name: env[name] for name in _CARRIED if env.get(name)}
    account = place.account
    there = {"HOME": str(account.home), "USER": account.name, "LOGNAME": account.name, **carried}
    settings = config.load(file, there, check_secrets=False)
    problems = [*_secrets(place, settings), *_same_meaning(settings, config.load(file, env, check_secrets=False))]
    if place.system and place.manager is Manager.SYSTEMD:
        problems += [*_visible(settings, program), *_targets(place, settings)]
    if place.system:
        problems += _readable(place, settings.path)
    if problems:
        raise ConfigError(
            f"the {place.kind} {place.unit} would not work with {settings.path}",
            problems=problems,
            hint="put that right, then install again; nothing was changed",
        )
    return Job(
        program,
        settings.path,
        settings.host.state_dir,
        environment=carried,
        writable=tuple(_writable(place, settings)),
        credentials=_credentials(place, settings),
    )


def refuse_other_syncd(state: Path) -> None:
    """Raise AlreadyRunning when a syncd that is not the service works on the state directory."""
    pid = StateDirectory.open(state, create=False).holder_pid()
    if pid is None:
        return
    who = f"process {pid}" if pid else "another process"
    hint = f"stop it (kill {pid}), then install again" if pid else "wait for its end, then install again"
    raise AlreadyRunning(f"{who}, which is not the service, runs syncd on {state}", pid=pid, hint=hint)


def remarks(place: Place, job: Job, env: Mapping[str, str]) -> list[str]:
    """Return what the operator should know although it stood in nobody's way; asked after the installation."""
    unseen = [name for name in _SEEN_BY_SHELL if env.get(name)]
    found = [f"the service does not see {', '.join(unseen)} of this shell: {job.config} counts"] if unseen else []
    account = named(place.account.name) or place.account
    for folder in job.writable:
        if folder.is_dir() and account.uid not in (0, folder.stat().st_uid):
            command = f"chown -R {account.name} {shlex.quote(str(folder))}"
            found.append(f"{folder} is not {account.name}'s, who runs the service; run: {command}")
    return found


# --- secrets


def _named_secrets(settings: Settings) -> Iterator[tuple[str, Secret]]:
    """Yield (where it stands in the file, secret)."""
    for mirror in settings.mirrors:
        if mirror.password is not None:
            yield f"mirror {mirror.name}: password", mirror.password
        if mirror.key_file is not None:
            yield f"mirror {mirror.name}: key_file", Secret(path=mirror.key_file)
    alerts = settings.alerts
    for where, secret in (
        ("mongo: uri", settings.mongo.uri),
        ("api: token_file", settings.api.token),
        ("alerts: webhook_file", alerts.webhook),
        ("alerts: password", alerts.password),
    ):
        if isinstance(secret, Secret):
            yield where, secret


def _credentials(place: Place, settings: Settings) -> tuple[str, ...]:
    """Return the names of the secrets that systemd is to hand over, each once."""
    if not place.system or place.manager is not Manager.SYSTEMD:
        return ()
    paths = [secret.path for _, secret in _named_secrets(settings) if secret.path is not None]
    return tuple(dict.fromkeys(path.name for path in paths if path.parent == place.credentials))


def _secrets(place: Place, settings: Settings) -> Iterator[str]:
    handed = _credentials(place, settings)
    for where, secret in _named_secrets(settings):
        if secret.path is None:
            yield f"{where}: a service has no variable {secret.variable}; name a file instead"
        elif secret.path.parent == place.credentials and secret.path.name in handed:
            wrong = file_problem(CREDENTIAL_FOLDER / secret.path.name) if os.geteuid() == 0 else ""
            if wrong:
                yield f"{where}: {wrong} (systemd hands it to the service as {secret.path})"
        elif wrong := file_problem(secret.path):
            yield f"{where}: {wrong}"
        elif place.system and not _owns(place, secret.path):
            yield f"{where}: {secret.path} {_other_owner(place, secret.path)}"


def _owns(place: Place, path: Path) -> bool:
    """Say whether a closed file can be read by the user the service runs as."""
    return place.account.uid in (0, path.stat().st_uid)


def _other_owner(place: Place, path: Path) -> str:
    name = place.account.name
    if place.manager is Manager.LAUNCHD:
        return f"is not {name}'s, who runs the service; run: chown {name} {shlex.quote(str(path))}"
    return (
        f"is not {name}'s, who runs the service; move it to {CREDENTIAL_FOLDER}/{path.name} and write "
        f"{place.credentials}/{path.name} into the configuration: systemd hands it over"
    )


# --- paths


def _same_meaning(there: Settings, here: Settings) -> Iterator[str]:
    """Compare what `~` and the defaults mean to the service with what they mean to the commands typed here."""
    if there.host.state_dir != here.host.state_dir:
        yield (
            f"host.state_dir would be {there.host.state_dir} to the service and {here.host.state_dir} to your "
            "commands; write the whole path into the file"
        )
    for mine, theirs in zip(here.mirrors, there.mirrors, strict=True):
        if mine.target != theirs.target:
            yield (
                f"mirror {mine.name}: target would be {theirs.target} to the service and {mine.target} to your "
                "commands; write the whole path into the file"
            )


def _visible(settings: Settings, program: Path) -> Iterator[str]:
    """Find what a system service of systemd is kept from seeing (ProtectHome=)."""
    hidden = hidden_from_system(program)
    if hidden is not None:
        yield (
            f"a system service does not see {hidden}; install syncd for everybody, for instance: "
            "python3 -m venv /opt/syncd && /opt/syncd/bin/pip install syncd (with a Python outside of /home and /root)"
        )
    named_paths = [("the configuration", settings.path), ("host.state_dir", settings.host.state_dir)]
    named_paths += [(f"mirror {mirror.name}: target", mirror.target) for mirror in settings.mirrors]
    for what, path in named_paths:
        if is_hidden(path):
            yield f"{what}: a system service does not see {path}; move it, or install a service of your own: --user"


def _targets(place: Place, settings: Settings) -> Iterator[str]:
    """A target has to be there before the service starts: systemd opens it for writing at the start only."""
    for mirror in settings.mirrors:
        if not mirror.target.is_dir() and not is_hidden(mirror.target):
            owner, path = place.account.name, shlex.quote(str(mirror.target))
            yield f"mirror {mirror.name}: {mirror.target} is not there; run: install -d -o {owner} {path}"


def _readable(place: Place, file: Path) -> Iterator[str]:
    found = file.stat()
    if not (found.st_mode & 0o004 or place.account.uid in (0, found.st_uid)):
        mode = stat.S_IMODE(found.st_mode)
        chmod = f"chmod a+r {shlex.quote(str(file))}"
        yield f"{place.account.name}, who runs the service, may not read it (mode {mode:04o}); run: {chmod}"


def _writable(place: Place, settings: Settings) -> Iterator[Path]:
    """Yield the folders a system service of systemd has to be let into: targets, and a state directory elsewhere."""
    if not place.system or place.manager is not Manager.SYSTEMD:
        return
    if not settings.host.state_dir.is_relative_to(place.state):
        yield settings.host.state_dir
    for mirror in settings.mirrors:
        yield mirror.target
