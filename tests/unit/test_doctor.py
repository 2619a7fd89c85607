"""`syncd doctor` without a server: configuration, secrets, state, target, file:// sources, bundle; writes nothing."""

from __future__ import annotations

import json
import os
import re
import secrets
import stat
import threading
import time
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest

from syncd import config
from syncd.cli.main import main
from syncd.core.errors import SourceUnavailable
from syncd.doctor.checks import Group, Level, Pace, TimedOut, fail, ok, size, warn, within, worst
from syncd.doctor.examine import examine_mirrors
from syncd.store.state import StateDirectory

Doctor = Callable[..., dict[str, Any]]


@pytest.fixture
def share(tmp_path: Path) -> Path:
    share = tmp_path / "share"
    (share / "hin typed").mkdir(parents=True)
    (share / "letter (1) .pdf").write_bytes(b"a letter")
    (share / "hin typed" / "पत्र.jpg").write_bytes(b"another")
    for path in share.rglob("*.*"):
        os.utime(path, (1e9, 1e9))  # settled long ago: a run need not look twice
    return share


@pytest.fixture
def file(tmp_path: Path, share: Path) -> Path:
    path = tmp_path / "config.toml"
    write(path)
    return path


def write(path: Path, *, host: str = "", mirror: str = "", more: str = "", source: str = "file://./share") -> None:
    path.write_text(
        f'[host]\nstate_dir = "state"\nname = "tod-mac"\n{host}\n'
        f'[[mirror]]\nname = "B"\nsource = "{source}"\ntarget = "data"\n{mirror}\n{more}\n'
    )
    path.chmod(0o644)


@pytest.fixture
def doctor(file: Path, capsys: pytest.CaptureFixture[str]) -> Doctor:
    """Run `syncd doctor --json`; return the object, with the exit code and the checks by (mirror, name) beside it."""

    def run(*args: str) -> dict[str, Any]:
        capsys.readouterr()
        code = main(["-c", str(file), "doctor", "--json", *args])
        out, err = capsys.readouterr()
        told: dict[str, Any] = json.loads(out)
        assert set(told) == {"checks", "state"}
        for check in told["checks"]:
            assert set(check) == {"group", "mirror", "name", "status", "seen", "todo"}
            assert check["status"] in ("ok", "warn", "fail")
            assert check["seen"]
            if check["status"] == "fail" and told["state"] != "unusable":
                assert check["todo"], check
        return told | {"code": code, "by": {(c["mirror"], c["name"]): c for c in told["checks"]}, "err": err}

    return run


def tree(path: Path) -> dict[str, tuple[int, int, int]]:
    found = [path, *path.rglob("*")]
    return {str(p): (s.st_ino, s.st_mtime_ns, s.st_mode) for p in found for s in [p.lstat()]}


# --- a healthy one ---------------------------------------------------------------------------------------------------


def test_before_the_first_run_all_is_well_and_nothing_is_made(doctor: Doctor, tmp_path: Path) -> None:
    before = tree(tmp_path)
    told = doctor()
    assert (told["code"], told["state"]) == (0, "ok")
    assert "2 files (15 B)" in told["by"]["B", "listing"]["seen"]
    assert "everything" in told["by"]["B", "listing"]["seen"]
    assert "the first run makes it" in told["by"]["B", "target"]["seen"]
    assert "the first run makes it" in told["by"][None, "state directory"]["seen"]
    assert tree(tmp_path) == before


def test_after_a_run_it_tells_of_catalogue_and_target_and_writes_nothing(
    doctor: Doctor, file: Path, tmp_path: Path
) -> None:
    assert main(["-c", str(file), "run-once"]) == 0
    before = tree(tmp_path)
    told = doctor()
    assert (told["code"], told["state"]) == (0, "ok")
    assert told["by"][None, "catalogue"]["seen"] == "schema 2, 2 files in 1 mirror"
    assert told["by"][None, "announcements"]["seen"].startswith("2 owed")
    assert "is this mirror's" in told["by"]["B", "target"]["seen"]
    assert "(probed)" in told["by"]["B", "hard links"]["seen"]
    assert "(probed)" in told["by"]["B", "names here"]["seen"]
    assert tree(tmp_path) == before


def test_for_people_one_line_a_check_and_the_next_step_below(file: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write(file, source="file://./away")
    assert main(["-c", str(file), "doctor"]) == 3
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == "this host"
    assert lines[1].startswith("  ok    versions")
    assert any(line.startswith("B  file://") for line in lines)
    at = next(n for n, line in enumerate(lines) if line.startswith("  FAIL  folder"))
    assert "next:" in lines[at + 1]
    assert "ls -ld" in lines[at + 1]
    assert any(line.split() == ["-", "listing", "not", "tried:", "folder", "failed"] for line in lines)
    assert lines[-1].endswith("1 failed")


def test_one_mirror_can_be_asked_for(doctor: Doctor, file: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write(file, more='[[mirror]]\nname = "C"\nsource = "file://./away"\ntarget = "c"')
    assert doctor()["code"] == 3
    told = doctor("--mirror", "B")
    assert told["code"] == 0
    assert {check["mirror"] for check in told["checks"]} == {None, "B"}
    assert main(["-c", str(file), "doctor", "--mirror", "X"]) == 2
    assert 'no mirror "X"' in capsys.readouterr().err


# --- configuration and secrets ---------------------------------------------------------------------------------------


def test_a_missing_configuration_is_exit_2_and_a_next_step(doctor: Doctor, file: Path) -> None:
    file.unlink()
    told = doctor()
    assert (told["code"], told["state"]) == (2, "unusable")
    assert str(file) in told["by"][None, "configuration"]["seen"]
    assert told["by"][None, "configuration"]["todo"] == f"syncd -c {file} init"


def test_all_problems_of_a_configuration_are_listed(doctor: Doctor, file: Path) -> None:
    write(file, mirror='evry = "10m"\nmax_retire = "lots"\npassword = "do-not-show-me"')
    told = doctor()
    assert (told["code"], told["state"]) == (2, "unusable")
    problems = [check["seen"] for check in told["checks"] if check["name"] == "configuration"]
    assert len(problems) == 3
    assert any("evry" in problem for problem in problems)
    assert any("max_retire" in problem for problem in problems)
    assert "do-not-show-me" not in json.dumps(told["checks"])


def test_a_file_that_is_not_toml_is_exit_2(doctor: Doctor, file: Path) -> None:
    file.write_text("[[mirror]\n")
    told = doctor()
    assert told["code"] == 2
    assert "not valid TOML" in told["by"][None, "configuration"]["seen"]


@pytest.mark.parametrize("trouble", ["open", "missing", "empty"])
def test_a_secret_file_that_cannot_be_used_is_exit_2_and_the_rest_is_still_looked_at(
    doctor: Doctor, file: Path, tmp_path: Path, trouble: str
) -> None:
    password = tmp_path / "password"
    if trouble != "missing":
        password.write_text("" if trouble == "empty" else secrets.token_urlsafe(12))
        password.chmod(0o644 if trouble == "open" else 0o600)
    write(file, source="smb://u@127.0.0.1:1/s", mirror='password_file = "password"')
    told = doctor()
    assert (told["code"], told["state"]) == (2, "unusable")
    check = told["by"]["B", "password"]
    assert check["status"] == "fail"
    assert str(password) in check["seen"]
    remedy = f"syncd -c {file} secret B" if trouble == "missing" else f"chmod 600 {password}"
    assert check["todo"] == (remedy if trouble != "empty" else "write the secret into it")
    assert told["by"]["B", "target"]["status"] == "ok"
    assert told["by"]["B", "source"]["seen"] == "not tried: its secret cannot be used"


def test_secrets_of_no_mirror_are_looked_at_too(doctor: Doctor, file: Path, tmp_path: Path) -> None:
    uri = tmp_path / "uri"
    uri.write_text(f"mongodb://u:{secrets.token_urlsafe(12)}@h/d\n")
    uri.chmod(0o600)
    write(file, more='[mongo]\nuri_file = "uri"')
    told = doctor()
    assert told["by"][None, "MongoDB URI"] == {
        "group": "host",
        "mirror": None,
        "name": "MongoDB URI",
        "status": "ok",
        "seen": f"{uri} (mode 0600)",
        "todo": "",
    }


def test_a_configuration_that_others_can_write_is_told(doctor: Doctor, file: Path) -> None:
    file.chmod(0o666)
    told = doctor()
    check = [c for c in told["checks"] if c["name"] == "configuration"][1]
    assert (told["code"], check["status"], check["todo"]) == (0, "warn", f"chmod go-w {file}")


# --- state -----------------------------------------------------------------------------------------------------------


def test_another_syncd_is_told_with_its_pid(doctor: Doctor, tmp_path: Path) -> None:
    with StateDirectory.open(tmp_path / "state", create=True).lock():
        assert str(os.getpid()) in doctor()["by"][None, "other syncd"]["seen"]
    assert "none is running" in doctor()["by"][None, "other syncd"]["seen"]


def test_a_damaged_catalogue_is_a_warning_since_the_next_run_rebuilds_it(doctor: Doctor, tmp_path: Path) -> None:
    (tmp_path / "state").mkdir()
    (tmp_path / "state" / "catalogue.db").write_bytes(b"not a database at all" * 100)
    told = doctor()
    assert told["by"][None, "catalogue"]["status"] == "warn"
    assert "rebuilt" in told["by"][None, "catalogue"]["todo"]


def test_an_unreadable_identity_fails(doctor: Doctor, file: Path, tmp_path: Path) -> None:
    assert main(["-c", str(file), "run-once"]) == 0
    (tmp_path / "state" / "host.json").write_text("{")
    told = doctor()
    assert told["code"] == 3
    assert "host.json" in told["by"][None, "state directory"]["seen"]


def test_a_state_directory_that_is_a_file_fails(doctor: Doctor, tmp_path: Path) -> None:
    (tmp_path / "state").write_text("")
    assert doctor()["by"][None, "state directory"]["status"] == "fail"


def test_a_mirror_that_is_no_longer_configured_is_told(doctor: Doctor, file: Path) -> None:
    assert main(["-c", str(file), "run-once"]) == 0
    file.write_text(file.read_text().replace('name = "B"', 'name = "N"').replace('"data"', '"other"'))
    told = doctor()
    assert told["code"] == 0
    assert told["checks"][[c["status"] for c in told["checks"]].index("warn")]["todo"] == f"syncd -c {file} forget B"


def test_announcements_owed_to_an_nsqd_are_a_warning(doctor: Doctor, file: Path) -> None:
    write(file, more='[nsq]\nnsqd_tcp_address = "127.0.0.1:1"')
    assert main(["-c", str(file), "run-once"]) == 0
    check = doctor()["by"][None, "announcements"]
    assert (check["status"], "127.0.0.1:1" in check["todo"]) == ("warn", True)


@pytest.mark.parametrize(
    ("nsq", "seen"),
    [
        ("", "no nsqd_tcp_address is set: announcements go to the embedded spool (syncd events)"),
        ('nsqd_tcp_address = "127.0.0.1:1"\nannounce = "local"', 'announce = "local": announcements go to the'),
        ('nsqd_tcp_address = "127.0.0.1:1"\nannounce = "off"', 'announce = "off": nothing is announced'),
    ],
)
def test_where_announcements_go_instead_of_nsqd_is_told_in_one_line(
    doctor: Doctor, file: Path, nsq: str, seen: str
) -> None:
    write(file, more=f"[nsq]\n{nsq}")
    found = [check for check in doctor()["checks"] if check["name"] == "nsq"]
    assert [check["status"] for check in found] == ["ok"]
    assert found[0]["seen"].startswith(seen)


def test_without_nsq_and_mongodb_nothing_of_them_is_looked_at(doctor: Doctor) -> None:
    assert {check["group"] for check in doctor()["checks"]} == {"host", "mirror", "daemon"}


def test_one_mirror_alone_leaves_the_rest_out(doctor: Doctor, file: Path) -> None:
    write(file, more='[nsq]\nnsqd_tcp_address = "127.0.0.1:1"')
    assert doctor()["code"] == 3
    told = doctor("--mirror", "B")
    assert (told["code"], {check["group"] for check in told["checks"]}) == (0, {"host", "mirror"})


# --- target ----------------------------------------------------------------------------------------------------------


def test_a_floor_that_is_crossed_fails(doctor: Doctor, file: Path) -> None:
    write(file, mirror='min_free = "100%"')
    told = doctor()
    assert told["code"] == 3
    assert "nothing more is fetched" in told["by"]["B", "free space"]["seen"]
    assert told["by"]["B", "listing"]["status"] == "ok"


def test_an_unplugged_target_fails_as_a_run_would(doctor: Doctor, file: Path, tmp_path: Path) -> None:
    assert main(["-c", str(file), "run-once"]) == 0
    (tmp_path / "data").rename(tmp_path / "unplugged")
    told = doctor()
    assert told["code"] == 3
    assert "not on disk" in told["by"]["B", "target"]["seen"]
    assert "--new-target" in told["by"]["B", "target"]["todo"]
    assert not (tmp_path / "data").exists()


def test_a_target_of_another_host_fails(doctor: Doctor, file: Path, tmp_path: Path) -> None:
    assert main(["-c", str(file), "run-once"]) == 0
    owner = tmp_path / "data" / ".syncd" / "owner"
    kept = json.loads(owner.read_text())
    owner.write_text(json.dumps(kept | {"host_id": "f" * 32, "host": "elsewhere"}))
    told = doctor()
    assert told["code"] == 3
    assert "elsewhere" in told["by"]["B", "target"]["seen"]
    assert "--take-over" in told["by"]["B", "target"]["todo"]


def test_a_target_that_is_a_file_fails(doctor: Doctor, tmp_path: Path) -> None:
    (tmp_path / "data").write_text("")
    assert doctor()["by"]["B", "target"]["status"] == "fail"


def test_a_file_system_without_hard_links_and_with_folding_is_told(
    doctor: Doctor, file: Path, share: Path, tmp_path: Path
) -> None:
    (share / "LETTER (1) .PDF").write_bytes(b"twin")
    assert main(["-c", str(file), "run-once"]) == 0
    owner = tmp_path / "data" / ".syncd" / "owner"
    kept = json.loads(owner.read_text())
    traits = {"folds_case": True, "folds_unicode": True, "hard_links": False}
    owner.write_text(json.dumps(kept | {"traits": traits}))
    told = doctor()
    assert told["by"]["B", "hard links"]["status"] == "warn"
    assert "case or Unicode form" in told["by"]["B", "names here"]["seen"]
    assert (
        "LETTER (1) .PDF" in told["by"]["B", "names"]["seen"] or "letter (1) .pdf" in told["by"]["B", "names"]["seen"]
    )


# --- source ----------------------------------------------------------------------------------------------------------


def test_a_missing_folder_and_a_missing_marker_fail(doctor: Doctor, file: Path) -> None:
    write(file, mirror='marker = "README.txt"')
    told = doctor()
    assert told["by"]["B", "marker"]["status"] == "fail"
    write(file, mirror='marker = "letter (1) .pdf"')
    assert doctor()["by"]["B", "marker"]["status"] == "ok"
    write(file, source="file://./away")
    told = doctor()
    assert told["by"]["B", "folder"]["status"] == "fail"
    assert told["by"]["B", "listing"]["seen"] == "not tried: folder failed"


def test_what_was_not_tried_is_no_warning(file: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write(file, source="file://./away")
    assert main(["-c", str(file), "doctor"]) == 3
    lines = capsys.readouterr().out.splitlines()
    warnings = sum(line.startswith("  WARN ") for line in lines)
    assert f" ok, {warnings} warning" in lines[-1]
    assert re.search(r" warnings?, [1-9][0-9]* not tried, [1-9][0-9]* failed$", lines[-1])


def test_the_next_steps_name_the_configuration_as_every_commands_do(
    file: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (file.parent / "state").mkdir(exist_ok=True)
    (file.parent / "state" / "catalogue.db").write_bytes(b"no database at all" * 1000)
    main(["-c", str(file), "doctor"])
    told = capsys.readouterr().out
    assert re.search(rf" next: +have it kept aside and rebuilt: syncd run-once -c {re.escape(str(file))}\n", told)


def test_a_source_without_a_file_to_mirror_is_a_warning(doctor: Doctor, file: Path) -> None:
    write(file, mirror='exclude = ["*"]')
    told = doctor()
    assert (told["code"], told["by"]["B", "listing"]["status"]) == (0, "warn")


def test_what_does_not_fit_fails(doctor: Doctor, file: Path, share: Path) -> None:
    with (share / "huge.tif").open("wb") as huge:
        huge.truncate(1 << 42)
    told = doctor()
    assert told["by"]["B", "room"]["status"] == "fail"
    assert told["code"] == 3


def test_a_stand_by_is_looked_at_and_named(doctor: Doctor, file: Path, tmp_path: Path) -> None:
    write(file, mirror='fallback_sources = ["file://./stand-by"]')
    told = doctor()
    folders = [check for check in told["checks"] if check["name"] == "folder"]
    assert [check["status"] for check in folders] == ["ok", "fail"]
    assert "stand-by 1" in folders[1]["seen"]


def test_it_ends_in_time_when_a_file_system_hangs(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Stands for a dead mount: a call that never comes back is left behind."""
    hang = threading.Event()

    def never(_self: object) -> None:
        hang.wait(60)

    monkeypatch.setattr("syncd.sources.local.LocalSource.check", never)
    started = time.monotonic()
    (group,) = examine_mirrors(config.load(file, {}), pace=Pace(check_s=0.2))
    hang.set()
    assert time.monotonic() - started < 20
    assert [(c.name, c.status) for c in group.checks if c.status is Level.FAIL] == [("folder", Level.FAIL)]


def test_the_whole_has_a_deadline_and_shows_what_is_known(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    hang = threading.Event()
    monkeypatch.setattr("syncd.sources.local.LocalSource.check", lambda _self: hang.wait(60))
    (group,) = examine_mirrors(config.load(file, {}), pace=Pace(whole_s=1.5))
    hang.set()
    assert group.checks[0].name == "target"
    assert (group.checks[-1].name, group.checks[-1].status) == ("time", Level.FAIL)


# --- the bundle ------------------------------------------------------------------------------------------------------


def test_a_bundle_has_everything_and_is_listed_before_it_is_written(
    doctor: Doctor, file: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    assert main(["-c", str(file), "run-once"]) == 0
    listed: list[str] = []
    path = tmp_path / "report.zip"
    from syncd.doctor import bundle

    really = bundle.write

    def write_bundle(to: Path, shelf: bundle.Shelf) -> None:
        listed.extend(capsys.readouterr().out.splitlines())
        really(to, shelf)

    monkeypatch.setattr(bundle, "write", write_bundle)
    assert main(["-c", str(file), "doctor", "--bundle", str(path)]) == 0
    names = ("versions.json", "settings.json", "checks.json", "status.json", "runs.json")
    assert all(any(name in line and "bytes" in line for line in listed) for name in names)
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    held = {name.rpartition("/")[2]: json.loads(content) for name, content in unzipped(path).items()}
    assert set(held) == set(names)
    assert {"syncd", "python", "packages", "os"} <= set(held["versions.json"])
    assert "smbprotocol" in held["versions.json"]["packages"]
    mirror = held["settings.json"]["tables"]["mirror"][0]
    assert mirror["source"] == {"value": "file://./share", "origin": "file"}
    assert mirror["every"] == {"value": "10m", "origin": "default"}
    assert held["status.json"]["mirrors"][0]["name"] == "B"
    assert held["runs.json"][0]["report"]["fetched"] == 2
    assert {check["name"] for check in held["checks.json"]} >= {"configuration", "listing"}


def unzipped(path: Path) -> dict[str, str]:
    with zipfile.ZipFile(path) as archive:
        assert archive.testzip() is None
        return {name: archive.read(name).decode() for name in archive.namelist()}


@pytest.mark.parametrize("secret", ["Zq7vKw8xYz9", 'Zq7 vKw8/"xYz9@', "Zq7%vKw8+'xYz9:é"])
def test_a_bundle_has_the_logs_of_the_service_without_secrets(
    doctor: Doctor, file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, secret: str
) -> None:
    monkeypatch.setenv("MONGO_URI", f"mongodb://u:{secret}@127.0.0.1:1/gvpocr?authSource=admin")
    text = f"event=run.done uri=mongodb://u:{secret}@127.0.0.1:1/gvpocr {secret} {quote(secret)} {secret!r}\n"
    monkeypatch.setattr("syncd.doctor.bundle.service_logs", lambda _env: {"log-syncd.log.txt": text})
    told = doctor("--bundle", str(tmp_path / "report.zip"))
    assert "log-syncd.log.txt" in told["err"]
    assert "the end of what the service logged" in told["err"]
    held = unzipped(tmp_path / "report.zip")
    assert "event=run.done" in held["syncd-doctor/log-syncd.log.txt"]
    for part in ("Zq7", "vKw8", "xYz9"):
        assert part not in "".join(held.values())
    environment = json.loads(held["syncd-doctor/settings.json"])["environment"]
    assert environment["MONGO_URI"] == "(a secret)"


def test_a_bundle_overwrites_nothing(file: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "report.zip"
    path.write_text("mine")
    assert main(["-c", str(file), "doctor", "--bundle", str(path)]) == 2
    assert path.read_text() == "mine"
    assert "exists already" in capsys.readouterr().err
    assert main(["-c", str(file), "doctor", "--bundle", str(tmp_path / "no" / "such.zip")]) == 2
    assert "cannot be written" in capsys.readouterr().err


def test_with_json_the_object_is_alone_on_stdout(doctor: Doctor, tmp_path: Path) -> None:
    told = doctor("--bundle", str(tmp_path / "report.zip"))
    assert "report.zip will hold" in told["err"]


@pytest.mark.parametrize("usable", [True, False])
def test_no_secret_is_shown_or_bundled(
    file: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, usable: bool
) -> None:
    """A sentinel in every place where a secret may be, and (not usable) in every place where one must not be."""
    kept = {name: f'{name}-é/{secrets.token_urlsafe(9)}&"x' for name in ("smb", "uri", "token", "env", "mongo", "nsq")}
    wrong = {name: secrets.token_urlsafe(9) for name in ("url", "inline", "unknown", "engine")}
    wrong["variable"] = secrets.token_urlsafe(6) + "-" + secrets.token_urlsafe(6)
    for name in ("smb", "token"):
        (tmp_path / name).write_text(kept[name] + "\n")
    (tmp_path / "uri").write_text(f"mongodb://u:{kept['uri']}@127.0.0.1/gvpocr\n")
    for name in ("smb", "token", "uri"):
        (tmp_path / name).chmod(0o600)
    monkeypatch.setenv("SMB_SECRET", kept["env"])
    monkeypatch.setenv("MONGO_URI", f"mongodb://u:{kept['mongo']}@127.0.0.1/gvpocr")
    write(
        file,
        source="smb://u@127.0.0.1:1/s",
        mirror='password_file = "smb"' + ("" if usable else f'\npassword = "{wrong["inline"]}"'),
        more='[[mirror]]\nname = "C"\nsource = "sftp://u@127.0.0.1:1/s"\ntarget = "c"\npassword_env = "SMB_SECRET"\n'
        + ("" if usable else f'fallback_sources = ["smb://u:{wrong["url"]}@127.0.0.1:1/s"]\n')
        + '[mongo]\nuri_file = "uri"\n'
        + ("" if usable else f'uri_env = "{wrong["variable"]}"\n')
        + '[api]\nlisten = "127.0.0.1:9470"\ntoken_file = "token"\n'
        + f'[worker.engine.cloud]\napi_key = "{wrong["engine"]}"\n'
        + ("" if usable else f'[nsq]\nauth_secret = "{wrong["unknown"]}"\n'),
    )
    state = tmp_path / "state"
    state.mkdir(exist_ok=True)
    (state / "crash-20260101T000000Z-1.txt").write_text(f"Traceback: {kept['smb']} in {kept['env']!r}")
    path = tmp_path / "report.zip"
    assert main(["-c", str(file), "doctor", "--bundle", str(path)]) == (3 if usable else 2)
    assert main(["-c", str(file), "doctor", "--json"]) == (3 if usable else 2)
    out, err = capsys.readouterr()
    shown = out + err + "".join(unzipped(path).values())
    assert len(unzipped(path)) == (6 if usable else 3)
    for name, value in (kept | wrong).items():
        for form in (value, json.dumps(value)[1:-1], json.dumps(value, ensure_ascii=False)[1:-1]):
            assert form not in shown, name


# --- values ----------------------------------------------------------------------------------------------------------


def test_the_gravest_check_decides() -> None:
    assert worst([]) is Level.OK
    assert worst([Group("", "t", [ok("a", "b"), warn("a", "b")])]) is Level.WARN
    assert worst([Group("", "t", [warn("a", "b")]), Group("m", "t", [fail("a", "b")])]) is Level.FAIL


def test_within_returns_raises_or_stops() -> None:
    assert within(5, lambda: 7) == 7
    with pytest.raises(SourceUnavailable, match="down"):
        within(5, _raise)
    stopped = threading.Event()
    assert within(0.1, lambda: stopped.wait(30), stopped.set)
    held = threading.Event()
    with pytest.raises(TimedOut):
        within(0.1, lambda: held.wait(30))
    held.set()


def _raise() -> None:
    raise SourceUnavailable("down")


@pytest.mark.parametrize(
    ("count", "shown"),
    [(0, "0 B"), (999, "999 B"), (1000, "1.0 KB"), (41_200_000_000, "41 GB"), (5 * 10**15, "5000 TB")],
)
def test_sizes(count: int, shown: str) -> None:
    assert size(count) == shown
