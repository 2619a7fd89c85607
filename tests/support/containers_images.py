"""The images that tests/containers runs, made with podman; and whether this machine can run containers at all.

    why = trouble()           # "" or the reason why there can be no containers here
    make_base(end)            # BaseFailed: Debian's packages cannot be had
    build_images(end)         # the project's own, and NSQ and FerretDB for the lab; what did not change is not built

No registry is asked: the base image is made by mmdebstrap under the name that the Dockerfiles use. Needs root.
"""

from __future__ import annotations

import contextlib
import os
import secrets
import shutil
import subprocess
import tempfile
import time
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import yaml

from tests.support import ferretdb, nsqd
from tests.support.gobuild import BuildFailed, built

ROOT = Path(__file__).resolve().parents[2]
BASE = "docker.io/library/debian:bookworm-slim"
SERVICES = {
    "worker": ("worker", "worker-1"),
    "syncd": ("worker", "syncd"),
    "samba": ("main-server", "samba"),
    "sshd": ("main-server", "sshd"),
    "proxy": ("worker", "samba-proxy"),
}
"""Our images: the folder of deploy/ and the service there that say how each is built."""
NAMES = (*SERVICES, "nsq", "ferretdb")
NEEDED = ("podman", "runc", "iptables", "ip", "catatonit", "mmdebstrap")
RUN_S, PROBE_S = 120.0, 30.0
_AUTHORITIES = Path("/etc/ssl/certs/ca-certificates.crt")

# as in Debian's own image: packages are not kept, leave their documentation out and are not synced to disk one by one
_APT = 'APT::Keep-Downloaded-Packages "false";\nDir::Cache::pkgcache "";\nDir::Cache::srcpkgcache "";\n'
_DPKG = "".join(f"path-exclude /usr/share/{name}/*\n" for name in ("doc", "man", "locale")) + "force-unsafe-io\n"

# a killed worker's messages come back after 15 s, not after a minute: that is what a test of it waits for
_NSQ = (
    "FROM debian:bookworm-slim\nCOPY nsqlookupd /\nCOPY nsqd /bin/\nCOPY start /nsqd\nRUN install -d -m 1777 /state\n"
)
_NSQD = '#!/bin/sh\nexec /bin/nsqd --msg-timeout=15s "$@"\n'
_FERRETDB = 'FROM debian:bookworm-slim\nCOPY ferretdb start /\nRUN install -d -m 1777 /data/db\nCMD ["/start"]\n'
_SERVE = """#!/bin/sh
export FERRETDB_SETUP_USERNAME="$MONGO_INITDB_ROOT_USERNAME"
export FERRETDB_SETUP_PASSWORD="$(cat "$MONGO_INITDB_ROOT_PASSWORD_FILE")"
exec /ferretdb --handler=sqlite --sqlite-url=file:/data/db/ --listen-addr=0.0.0.0:27017 --debug-addr=- \\
    --telemetry=disable --state-dir=/data/db --setup-database=admin --log-level=error --test-enable-new-auth
"""


class BaseFailed(Exception):
    """The base image cannot be made; the message is what mmdebstrap said last."""


def image(name: str) -> str:
    """Return the name of one of our images as the tests build it."""
    return f"localhost/syncd-test-{name}"


def call(*argv: str | Path, timeout_s: float = RUN_S, cwd: Path | None = None, check: bool = True) -> str:
    """Run a command; return what it printed. Raises AssertionError with all of it when it fails."""
    done = subprocess.run(
        list(map(str, argv)), cwd=cwd, capture_output=True, text=True, check=False, timeout=timeout_s, errors="replace"
    )
    if check and done.returncode:
        raise AssertionError(f"{' '.join(map(str, argv))}: exit {done.returncode}\n{done.stdout}\n{done.stderr}")
    return done.stdout


# --- can this machine? -----------------------------------------------------------------------------------------------


def trouble() -> str:
    """Say why there can be no containers on this machine, in one line; "" when one was started and had its networks.

    What the compose projects need is tried: an overlay file system, an outer and an inner network, a published port,
    limits of memory and CPU, and an init.
    """
    if os.geteuid() != 0:
        return "podman's networks need root"
    missing = [name for name in NEEDED if shutil.which(name) is None]
    if missing:
        return f"not installed: {' '.join(missing)}"
    try:
        _start_one(f"syncd-probe-{secrets.token_hex(3)}")
    except subprocess.TimeoutExpired as error:
        return f"no answer within {PROBE_S:.0f} s from {' '.join(error.cmd)}"
    except (AssertionError, BuildFailed, OSError) as error:
        return " ".join(str(error).split()).rpartition("Error: ")[2][-400:]
    return ""


def _start_one(name: str) -> None:
    """Run a program that links to nothing in an image of its own."""
    limits = ["--memory=64m", "--cpus=0.5", "--init", "--read-only", "--cap-drop=ALL"]
    networks = [f"--network={name}-outside", f"--network={name}-inside", "--publish=127.0.0.1::4150"]
    try:
        with subprocess.Popen(["tar", "-C", built(nsqd.RECIPE), "-c", "nsqd"], stdout=subprocess.PIPE) as tar:
            argv = ["podman", "import", "-q", "-", name]
            done = subprocess.run(argv, stdin=tar.stdout, capture_output=True, check=False, timeout=PROBE_S)
        assert done.returncode == 0, done.stderr.decode(errors="replace")
        call("podman", "network", "create", f"{name}-outside", timeout_s=PROBE_S)
        call("podman", "network", "create", "--internal", f"{name}-inside", timeout_s=PROBE_S)
        said = call("podman", "run", "--rm", *limits, *networks, name, "/nsqd", "--version", timeout_s=PROBE_S)
        assert said.startswith("nsqd v"), said
    finally:
        with contextlib.suppress(subprocess.TimeoutExpired):
            call("podman", "image", "rm", "-f", name, check=False, timeout_s=PROBE_S)
            call("podman", "network", "rm", "-f", f"{name}-outside", f"{name}-inside", check=False, timeout_s=PROBE_S)


# --- images ----------------------------------------------------------------------------------------------------------


def cached() -> bool:
    """Say whether images are there already: what changed since in ours is built in seconds."""
    argv = ["podman", "image", "exists"]
    return not any(
        subprocess.run([*argv, name], check=False, timeout=RUN_S).returncode for name in (BASE, *map(image, NAMES))
    )


def make_base(end: float) -> None:
    """Make the base image, unless it is there, by `end` (monotonic). Raises BaseFailed, TimeoutExpired."""
    if subprocess.run(["podman", "image", "exists", BASE], check=False, timeout=RUN_S).returncode == 0:
        return
    with tempfile.TemporaryDirectory(dir=_in_memory()) as folder:
        tar = Path(folder) / "base.tar"
        argv = ["mmdebstrap", "--variant=apt", "--mode=root", "--dpkgopt=force-unsafe-io", *_settings(Path(folder))]
        argv += ["bookworm", str(tar), "http://deb.debian.org/debian"]
        env = {**os.environ, "TMPDIR": folder}
        done = subprocess.run(argv, env=env, capture_output=True, check=False, timeout=_until(end))
        if done.returncode:
            raise BaseFailed(" ".join(done.stderr.decode(errors="replace").split())[-400:])
        call("podman", "import", "-q", tar, BASE, timeout_s=_until(end))


def _settings(folder: Path) -> list[str]:
    """Return the arguments that bring the base image's own settings into it; the folder holds their files."""
    (folder / "apt").write_text(_APT)
    (folder / "dpkg").write_text(_DPKG)
    return [
        f"--customize-hook=upload {folder / 'apt'} /etc/apt/apt.conf.d/docker-clean",
        f"--customize-hook=upload {folder / 'dpkg'} /etc/dpkg/dpkg.cfg.d/docker",
        '--customize-hook=rm -f "$1"/var/cache/apt/*.bin',
    ]


def _in_memory() -> str | None:
    """Return the folder in memory when it has room: a base system is many small files, written and read once."""
    place = "/dev/shm"
    with contextlib.suppress(OSError):
        if shutil.disk_usage(place).free > 2**30:
            return place
    return None


def _until(end: float) -> float:
    return max(0.1, end - time.monotonic())


def build_images(end: float) -> None:
    """Build what both projects run, where it changed since, two at a time, by `end` (monotonic); podman caches layers.

    Raises: AssertionError with what podman said; TimeoutExpired.
    """
    make_base(end)
    ours = {"nsqlookupd": built(nsqd.RECIPE), "nsqd": built(nsqd.RECIPE)}
    jobs = (
        lambda: [_build(name, end) for name in ("worker", "syncd")],  # in turn: they share their first stages
        lambda: [_build(name, end) for name in ("samba", "sshd", "proxy")],  # what takes longest comes first
        lambda: _build_from_programs("nsq", ours, _NSQ, _NSQD),
        lambda: _build_from_programs("ferretdb", {"ferretdb": built(ferretdb.RECIPE)}, _FERRETDB, _SERVE),
    )
    with ThreadPoolExecutor(2) as pool:
        for waiting in [pool.submit(job) for job in jobs]:
            waiting.result()


def _build(name: str, end: float) -> None:
    """Build an image as its compose file says; on the host's network, and so through the same proxies."""
    folder, service = SERVICES[name]
    place = ROOT / "deploy" / folder
    recipe = yaml.safe_load((place / "compose.yaml").read_text())["services"][service]["build"]
    argv = ["podman", "build", "--network=host", "--format=docker", "-q", "-t", image(name)]
    if "target" in recipe:
        argv += ["--target", recipe["target"]]
    if name in {"worker", "syncd"} and _AUTHORITIES.exists():
        argv += ["--volume", f"{_AUTHORITIES}:/ca.crt:ro", "--build-arg", "CA=/ca.crt"]
    context = (place / recipe["context"]).resolve()
    call(*argv, "-f", context / recipe["dockerfile"], context, timeout_s=_until(end), cwd=context)


def _build_from_programs(name: str, programs: Mapping[str, Path], recipe: str, start: str) -> None:
    """Build an image of programs that were built here, started by a script."""
    with tempfile.TemporaryDirectory() as folder:
        context = Path(folder)
        for program, place in programs.items():
            shutil.copy2(place / program, context)
        (context / "Dockerfile").write_text(recipe)
        (context / "start").touch(mode=0o755)
        (context / "start").write_text(start)
        call("podman", "build", "--network=host", "--format=docker", "-q", "-t", image(name), context)
