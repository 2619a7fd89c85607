"""`syncd remote update` over real sshd: a wheel into a real environment, an image into a compose project; and back."""

from __future__ import annotations

import ensurepip
import os
import subprocess
import sys
import venv
import zipfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.far_hosts import Desk, put_program, start_far
from tests.support.sshd import SshServer

# What syncd answers there, as far as an update asks. ~/running: a daemon runs; a version that ends in 3 is ill, one in
# 4 does not start.
PLAYED = """
import json, os, pathlib, sys
VERSION = "{version}"
HOME = pathlib.Path(os.environ["HOME"])
def main():
    if VERSION.endswith("4"):
        raise SystemExit("cannot start")
    if "--version" in sys.argv:
        print("syncd", VERSION)
    elif "status" in sys.argv:
        print(json.dumps({{"version": VERSION, "mirrors": [], "daemon": {{"running": (HOME / "running").exists()}}}}))
    else:
        checks = [("always", "fail"), ("login", "fail" if VERSION.endswith("3") else "ok")]
        told = [{{"group": "mirror", "mirror": "B", "name": name, "status": status}} for name, status in checks]
        print(json.dumps({{"state": "fail", "checks": told}}))
        raise SystemExit(3)
"""


def make_wheel(folder: Path, version: str) -> Path:
    path = folder / f"syncd-{version}-py3-none-any.whl"
    about = f"syncd-{version}.dist-info"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("syncd/__init__.py", PLAYED.format(version=version))
        archive.writestr(f"{about}/METADATA", f"Metadata-Version: 2.1\nName: syncd\nVersion: {version}\n")
        archive.writestr(f"{about}/WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n")
        archive.writestr(f"{about}/entry_points.txt", "[console_scripts]\nsyncd = syncd:main\n")
        archive.writestr(f"{about}/RECORD", "")
    return path


def put_environment(path: Path) -> None:
    """Make an environment with pip: unpacked from what ensurepip brings, which takes a tenth of the time of its way."""
    bundled = next((Path(ensurepip.__file__).parent / "_bundled").glob("pip-*.whl"), None)
    venv.create(path, symlinks=True, with_pip=bundled is None)
    if bundled is not None:
        with zipfile.ZipFile(bundled) as archive:
            archive.extractall(next((path / "lib").glob("python3*")) / "site-packages")


@pytest.fixture(scope="module")
def far(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SshServer]:
    base = tmp_path_factory.mktemp("far")
    home = base / "home of one"
    with start_far(base / "sshd", home) as server:
        yield server


@pytest.fixture(scope="module")
def installed(far: SshServer, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An environment on that host, with version 9.1 in it; the program of 9.1."""
    environment = far.root / "an env"
    put_environment(environment)
    pip = [str(environment / "bin" / "python"), "-m", "pip", "install", "--no-index", "-q"]
    subprocess.run([*pip, str(make_wheel(tmp_path_factory.mktemp("wheel"), "9.1"))], check=True, capture_output=True)
    put_program(far.root, "systemctl", 'echo "$@" >>"$HOME/restarts"')
    (far.root / "running").touch()
    return environment / "bin" / "syncd"


@pytest.fixture
def desk(tmp_path: Path) -> Desk:
    return Desk(tmp_path / "desk")


def version_of(program: Path) -> str:
    env = {**os.environ, "HOME": str(program.parents[2])}
    return subprocess.run([program, "--version"], env=env, capture_output=True, text=True).stdout.strip()


def test_a_wheel_is_put_in_and_one_that_does_not_work_is_taken_out_again(
    desk: Desk, far: SshServer, installed: Path, tmp_path: Path
) -> None:
    desk.add("far", far, command="~/an env/bin/syncd")
    restarts = far.root / "restarts"

    done = desk("remote", "update", "far", "--wheel", str(make_wheel(tmp_path, "9.2")), "--json")
    assert done.code == 0, done.out + done.err
    assert done.json["hosts"][0]["answer"] == {"before": "9.1", "now": "9.2", "daemon": True}
    assert version_of(installed) == "syncd 9.2"
    assert restarts.read_text().splitlines() == ["--user --no-ask-password restart syncd"]

    done = desk("remote", "update", "far", "--wheel", str(make_wheel(tmp_path, "9.3")))
    assert done.code == 3
    assert "WENT BACK" in done.out
    assert "went back to 9.2: doctor finds what was not there before: B login" in done.out
    assert version_of(installed) == "syncd 9.2"
    assert len(restarts.read_text().splitlines()) == 3


def test_where_the_old_version_cannot_be_kept_nothing_is_touched(desk: Desk, far: SshServer, tmp_path: Path) -> None:
    wheel = make_wheel(tmp_path, "9.2")
    put_program(far.root, "played", f"PYTHONPATH={wheel} exec {sys.executable} -c 'import syncd; syncd.main()' \"$@\"")
    desk.add("script", far, command="played")
    desk.add("project", far, command="played", kind="compose", compose_dir="/")
    done = desk("remote", "update", "--all", "--wheel", str(wheel), "--json")
    assert done.code == 2 or done.code == 3
    script, project = (host["error"] for host in done.json["hosts"])
    assert "which Python runs syncd" in script["message"]
    assert project is not None
    text = tmp_path / "syncd-9-py3-none-any.whl"
    text.write_text("no wheel")
    assert desk("remote", "update", "script", "--wheel", str(text)).code == 2


# `docker` as far as it is asked: `up` makes what .env names the running image; version = tag of the image.
DOCKER = """case "$1 $2" in
  "compose exec") shift 5; PYTHONPATH="wheels/$(cat running-image)" exec {python} -c 'import syncd; syncd.main()' "$@";;
  "compose up") sed -n s/^SYNCD_IMAGE=syncd://p .env >running-image;;
  "compose ps") echo '{{"Service": "worker-1", "State": "running", "Health": "unhealthy"}}';;
  "compose restart") echo "$3" >>restarts;;
  "image inspect") [ "$3" != syncd:none ];;
  *) echo "no such image" >&2; exit 1;;
esac
"""


def test_an_image_is_put_in_and_one_that_does_not_work_is_taken_out_again(desk: Desk, far: SshServer) -> None:
    project = far.root / "the project"
    (project / "wheels").mkdir(parents=True)
    for version in ("9.1", "9.2", "9.3", "9.4"):
        make_wheel(project / "wheels", version).rename(project / "wheels" / version)
    put_program(far.root, "docker", DOCKER.format(python=sys.executable))
    (far.root / "running").touch()
    (far.root / ".bashrc").write_text("echo Welcome\n")
    env = project / ".env"
    env.write_text("SERVER=x\nSYNCD_IMAGE=syncd:9.1\n")
    env.chmod(0o640)
    (project / "running-image").write_text("9.1")
    desk.add("far", far, kind="compose", compose_dir="~/the project")

    done = desk("remote", "update", "far", "--image", "syncd:9.2", "--json")
    assert done.code == 0, done.out + done.err
    assert done.json["hosts"][0]["answer"] == {"before": "9.1", "now": "9.2", "daemon": True}
    assert env.read_text() == "SERVER=x\nSYNCD_IMAGE=syncd:9.2\n"
    assert env.stat().st_mode & 0o777 == 0o640
    assert (project / ".env.before").read_text() == "SERVER=x\nSYNCD_IMAGE=syncd:9.1\n"

    done = desk("remote", "update", "far", "--image", "syncd:9.3")
    assert done.code == 3
    assert "went back to 9.2: doctor finds what was not there before: B login" in done.out
    done = desk("remote", "update", "far", "--image", "syncd:9.4")
    assert "went back to 9.2: cannot start" in done.out
    assert env.read_text() == "SERVER=x\nSYNCD_IMAGE=syncd:9.2\n"
    assert (project / ".env.before").read_text() == env.read_text(), "what a person puts back by hand is what worked"
    assert (project / "running-image").read_text() == "9.2\n"

    done = desk("remote", "status", "far")
    assert done.code == 3
    assert done.out.splitlines()[1].split() == ["far", "9.2", "running", *"-" * 6, "0/1"]
    assert "! far: container worker-1 is running unhealthy" in done.out

    for image, said in (("syncd:none", "no such image"), ("syncd:9.2", "runs there already")):
        done = desk("remote", "update", "far", "--image", image)
        assert done.code == 3
        assert said in done.out
    assert env.read_text() == "SERVER=x\nSYNCD_IMAGE=syncd:9.2\n"

    env.write_bytes(b"PASSWORD=f\xfcr\nSYNCD_IMAGE=syncd:9.2\n")
    done = desk("remote", "update", "far", "--image", "syncd:9.1")
    assert done.code == 2
    assert "no UTF-8" in done.out
    assert env.read_bytes() == b"PASSWORD=f\xfcr\nSYNCD_IMAGE=syncd:9.2\n"
