"""Every table and key of the configuration file: reader, default, description.

The loader reads by these tables and docs/configuration.md is generated from them, so neither can drift.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Mapping
from pathlib import Path

from syncd.config import values
from syncd.config.cron import cron
from syncd.config.urls import SourceUrl, source_url
from syncd.core.named import NamedTuple

REQUIRED: object = object()
DAY_S = 86400.0


class Place(NamedTuple):
    """What relative and "~" paths in a file refer to: the file's folder, and the environment's home."""

    base: Path
    env: Mapping[str, str]

    def path(self, value: object) -> Path:
        """Return an absolute path; "~" is expanded, a relative one is relative to the configuration file."""
        raw = values.text(value)
        home = self.env.get("HOME", "")
        if home and (raw == "~" or raw.startswith("~/")):
            raw = home + raw[1:]
        return Path(os.path.normpath(self.base / os.path.expanduser(raw)))


Reader = Callable[[object, Place], object]


class Key(NamedTuple):
    """One key.

    default: what the file would say (read by the same reader), None for nothing, REQUIRED for none.
    shown: the default in words, where `default` does not say it. example: a value as TOML, where it shows more.
    """

    name: str
    read: Reader
    default: object
    about: str
    shown: str = ""
    example: str = ""


def _plain(read: Callable[[object], object]) -> Reader:
    return lambda value, _place: read(value)


def _duration(low_s: float, high_s: float) -> Reader:
    return lambda value, _place: values.duration(value, low_s, high_s)


def _whole(low: int, high: int) -> Reader:
    return lambda value, _place: values.whole(value, low, high)


def _choice(*choices: str) -> Reader:
    return lambda value, _place: values.choice(value, choices)


def _path(value: object, place: Place) -> Path:
    return place.path(value)


def _secret_file(value: object, place: Place) -> Path | None:
    """Read the path of a secret's file; a secret that somebody wrote in its place is not repeated."""
    if value == "":
        return None
    if isinstance(value, str) and "://" in value:
        raise ValueError("is to name the file that holds the secret, not to be the secret itself")
    return place.path(value)


def _source(value: object, place: Place) -> SourceUrl:
    return source_url(value, place.base)


def _sources(value: object, place: Place) -> tuple[SourceUrl, ...]:
    if not isinstance(value, list):
        raise ValueError(f"{values.shown(value)} is not a list of sources")
    return tuple(source_url(item, place.base) for item in value)


def _zone(value: object) -> str:
    name = values.text(value)
    if name == "local":
        return name
    from zoneinfo import ZoneInfo  # start-up time: only where a zone is named

    try:
        ZoneInfo(name)
    except (OSError, ValueError, KeyError):
        raise ValueError(f'{values.shown(name)} is not a time zone; write it like "Asia/Kolkata", or "local"') from None
    return name


def _listen(value: object) -> values.Address | None:
    if value == "":
        return None
    found = values.address(value, port_zero=True)
    if not found.is_loopback:
        raise ValueError(f'{values.shown(value)} is not on the loopback interface; write it like "127.0.0.1:9470"')
    return found


def _aliases(value: object) -> tuple[str, ...]:
    return tuple(dict.fromkeys(_alias(alias) for alias in values.texts(value)))


def _alias(raw: str) -> str:
    """Return an alias without "./" in front and "/" behind, backslashes turned."""
    alias = raw.replace("\\", "/").removeprefix("./").rstrip("/")
    if not alias:
        raise ValueError(f"{values.shown(raw)} is no alias: nothing is left of it without dots and slashes")
    return alias


def _patterns(value: object, _place: Place) -> tuple[str, ...]:
    """Read gitignore patterns; only those with [ or \\ in them, and a bare "!", can be wrong."""
    patterns = values.texts(value)
    for pattern in patterns:
        if "[" in pattern or "\\" in pattern or pattern == "!":
            _check_pattern(pattern)
    return patterns


def _check_pattern(pattern: str) -> None:
    from pathspec import GitIgnoreSpec  # start-up time: most patterns need no check

    try:
        GitIgnoreSpec.from_lines([pattern])
    except (ValueError, re.error):
        raise ValueError(f"{values.shown(pattern)} is not a gitignore pattern") from None


def _address_map(value: object) -> dict[str, values.Address]:
    if not isinstance(value, dict):
        raise ValueError(f'{values.shown(value)} is not a table; write {{ "HOST:PORT" = "HOST:PORT" }}')
    found = {}
    for said, dialled in value.items():
        key = said if said.startswith("*:") and said[2:].isdigit() else str(values.address(said))
        found[key] = values.address(dialled)
    return found


def _ssh(value: object) -> tuple[str, values.Address]:
    """Read USER@HOST[:22] as (user, address)."""
    user, at, server = values.text(value).strip().rpartition("@")
    if ":" in user:  # what may be a password is not repeated
        raise ValueError('has a ":" before the "@"; write it like "gvpocr@172.12.0.83:22", without any password')
    if not at or not user or any(c in user for c in " /@"):
        raise ValueError(f'{values.shown(value)} is not USER@HOST:PORT; write it like "gvpocr@172.12.0.83:22"')
    return user, values.address(server, 22)


def _there(value: object) -> str:
    """Read a path on another host: absolute, or below the home directory of the login."""
    path = values.text(value)
    if not path.startswith(("/", "~/")):
        raise ValueError(f"{values.shown(path)} is not an absolute path there (/... or ~/...)")
    return path


def _program(value: object) -> str:
    return _there(value) if "/" in values.text(value) else values.text(value)


def service_name(value: object) -> str:
    """Read what a service of systemd, launchd or compose may be called."""
    name = values.text(value)
    if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9_.@-]{0,63}", name):
        raise ValueError(f"{values.shown(name)} is not the name of a service: letters, digits and _ . @ - are")
    return name


def _names(value: object) -> dict[str, str]:
    if not isinstance(value, dict):
        raise ValueError(f"{values.shown(value)} is not a table")
    return {name: values.text(word) for name, word in value.items()}


def _webhook(value: object) -> str:
    """Read an http(s) URL; one that holds a login, or what looks like a key, belongs into a file. None is repeated."""
    if value == "":
        return ""
    try:
        found = values.web_url(value)
        if "?" in found or re.search(r"/[A-Za-z0-9_-]{20,}(/|$)", found.partition("://")[2]):
            raise ValueError("looks as if it held a secret")
    except ValueError as error:
        raise ValueError(f"{error}; a URL that holds a secret belongs into a file: webhook_file names it") from None
    return found


def _command(value: object, place: Place) -> tuple[str, ...]:
    """Read a program and its arguments; a program that is a path is taken as every path here."""
    words = values.texts(value)
    if words and "/" in words[0]:
        return (str(place.path(words[0])), *words[1:])
    return words


def _mail_addresses(value: object) -> tuple[str, ...]:
    return tuple(dict.fromkeys(values.mail_address(item) for item in values.texts(value)))


def _mounts(value: object) -> dict[str, str]:
    for path in _names(value).values():
        if not path.startswith("/"):
            raise ValueError(f'{values.shown(path)} is not an absolute path; write it like "/app/NAME"')
    return _names(value)


HOST = (
    Key("name", _plain(lambda v: values.name(v, "host")), None, "This host's name, for people. Fixed at first start.",
        "this host's",
        example='"tod-mac"'),
    Key("state_dir", _path, None, "Catalogue, reports, socket. On a local file system, outside of every target.",
        '"~/.local/state/syncd"',
        example='"~/.local/state/syncd"'),
    Key("timezone", _plain(_zone), "local", 'For cron, time windows and screens: "local" or a name like '
        '"Asia/Kolkata". JSON is always UTC.'),
    Key("away", _plain(values.hours), "", "Hours in which this host sleeps by plan, over midnight or not: nothing of "
        'its own is alarming then. Several with ";" between them.',
        example='"22:00-07:00"'),
    Key("keep_awake", _plain(values.boolean), False, "Keep this host from sleeping by itself while work is in hand: a "
        "run, a file that somebody waits for, a task in OCR. Needs no admin rights (macOS: caffeinate; Linux: "
        "systemd-inhibit). A closed lid still puts it to sleep.",
        example="true"),
)  # fmt: skip

MIRROR = (
    Key("name", _plain(lambda v: values.name(v, "mirror")), REQUIRED, "The collection's name, as tasks spell it. Part "
        "of every id: do not change it later.",
        example='"Bhushanji"'),
    Key("source", _source, REQUIRED, "`smb://[DOMAIN;]USER@HOST[:445]/SHARE[/FOLDER]`, `sftp://USER@HOST[:22]/PATH`, "
        "`file:///PATH`, or `file://./PATH` relative to this file. Percent-escapes are decoded (a space may be "
        "written as it is or as %20). Never a password.",
        example='"smb://gvpocr@172.12.0.132:13445/gvpocr-bhushanji"'),
    Key("target", _path, REQUIRED, "The local data directory. No target may be, contain or lie in another, the state "
        "directory or a file source.",
        example='"~/gvpocr-worker/data/Bhushanji"'),
    Key("fallback_sources", _sources, [], "Stand-by servers of the same share, tried in order; from these only missing "
        "files are fetched.",
        example='["smb://gvpocr@172.12.0.133:13445/gvpocr-bhushanji"]'),
    Key("password_file", _secret_file, None, "File that holds the password (mode 600). With key_file: the key's "
        "passphrase.",
        example='"~/.config/syncd/smb-password"'),
    Key("password_env", _plain(values.variable), None, "Instead of password_file: the environment variable that holds "
        "it.",
        example='"SMB_PASSWORD"'),
    Key("key_file", _secret_file, None, "sftp: private key (mode 600).",
        example='"~/.ssh/id_ed25519"'),
    Key("known_hosts_file", _path, None, "sftp: the server's pinned host key, in OpenSSH's format.",
        "`known_hosts` beside this file",
        example='"known_hosts"'),
    Key("auth", _choice("negotiate", "ntlm", "kerberos"), "negotiate", 'smb: `"kerberos"` logs in with a ticket and '
        "needs no password (`pip install 'syncd[kerberos]'`)."),
    Key("encrypt", _plain(values.boolean), False, "smb: insist on encryption. Signing is always on."),
    Key("every", _duration(5, 31 * DAY_S), "10m", "Time between two scans, from 5s. Not together with cron."),
    Key("cron", _plain(cron), None, 'Instead of every: minute hour day month weekday, like `"*/10 * * * *"`.',
        example='"*/10 * * * *"'),
    Key("aliases", _plain(_aliases), [], "More spellings of the mirror in tasks. NAME/, ./NAME/, /app/NAME/, "
        "/data/NAME/, any unique prefix ending in NAME, smb and backslash forms are known without.",
        example='["bhushanji_shared"]'),
    Key("include", _patterns, [], "Only these, in gitignore syntax; empty: everything.",
        example='["*.pdf", "*.jpg"]'),
    Key("exclude", _patterns, [], "Not these, in gitignore syntax; `._*`, `.DS_Store`, `Thumbs.db`, `~$*`, `.syncd` "
        "and `.write_test_delete_me` are left out by themselves.",
        example='["drafts/"]'),
    Key("priority", _patterns, [], "Fetched first, in gitignore syntax.",
        example='["hin-typed/"]'),
    Key("marker", _plain(values.relative), None, "A path that must exist on the share; while it does not, nothing is "
        "done.",
        example='"README.txt"'),
    Key("settle", _duration(0, 3600), "2s", "A file that changed less than this ago is looked at twice."),
    Key("max_retire", _plain(values.percent), "10%", "More of the held files gone than this (never below 5, never "
        "above 1000 files): held back until `syncd approve`."),
    Key("trash_days", _whole(0, 3650), 7, "Days on which syncd ran, for which removed and replaced files are kept."),
    Key("min_free", _plain(values.min_free), None, 'Free space never used up: `"5%"`, `"1GiB"`, `"0%"` for no floor.',
        "the smaller of 5% and 1GiB",
        example='"5%"'),
    Key("rate", _plain(values.rate), "0", 'Bytes a second: `"20M"`, `"0"` for no limit, or with hours: '
        '`"22:00-06:00 0; 20M"`. K, M and G are 1024-based.',
        example='"22:00-06:00 0; 20M"'),
    Key("connections", _whole(0, 64), 0, "Connections to the server that a run has at a time; 0: as many as "
        "help. A file on demand and the watch for changes have their own."),
    Key("verify_days", _whole(0, 3650), 30, "The whole mirror is re-hashed, and compared with the source, within this "
        "many days; 0: never."),
    Key("trust_checksums", _plain(values.boolean), False, "Where a file lies in the target already and is not held "
        "yet, believe the share's own `SHA256SUMS` instead of reading the file there."),
)  # fmt: skip

NSQ = (
    Key("nsqd_tcp_address", _plain(values.addresses), None, "nsqd (or the proxy to it), or a list. Absent: "
        "announcements go to the embedded spool.",
        example='"127.0.0.1:4150"'),
    Key("lookupd_http_addresses", _plain(lambda v: values.addresses(v, 4161)), [], "nsqlookupd, where workers find "
        "their tasks.",
        example='["127.0.0.1:4161"]'),
    Key("topic", _plain(values.nsq_name), "file_sync_ready", "Topic of the announcements."),
    Key("announce", _choice("nsq", "local", "off"), "nsq", '`"local"`: only to the embedded spool; `"off"`: not at '
        "all."),
    Key("address_map", _plain(_address_map), {}, 'What nsqlookupd says -> what to dial; `"*:4150"` maps any host.',
        example='{ "172.12.0.132:4150" = "127.0.0.1:4150" }'),
    Key("allow_direct", _plain(values.boolean), False, "Dial addresses from nsqlookupd that address_map does not map."),
    Key("prefetch_tasks", _plain(values.boolean), True, "Look at the tasks that wait in the queue, and fetch their "
        "files before the rest."),
    Key("task_topic", _plain(values.nsq_name), "bulk_ocr_file_tasks", "Topic of the OCR tasks."),
)  # fmt: skip

MONGO = (
    Key("uri_file", _secret_file, None, "File that holds the connection string (mode 600). Absent: results stay in the "
        "embedded store.",
        example='"~/.config/syncd/mongo-uri"'),
    Key("uri_env", _plain(values.variable), None, "Instead of uri_file: the environment variable that holds it.",
        example='"SYNCD_MONGO_URI"'),
    Key("registry", _plain(values.boolean), True, "Record in MongoDB which host holds which mirror."),
    Key("registry_files", _plain(values.boolean), False, "Record every file too."),
)  # fmt: skip

API = (
    Key("listen", _plain(_listen), "", 'Loopback TCP beside the Unix socket: `"127.0.0.1:9470"`.',
        example='"127.0.0.1:9470"'),
    Key("token_file", _secret_file, "", "File that holds the bearer token (mode 600); needed with listen.",
        example='"~/.config/syncd/api-token"'),
    Key("allowed_hosts", _plain(values.texts), [], "More Host headers to answer to, like `host.docker.internal`.",
        example='["host.docker.internal"]'),
)  # fmt: skip

ALERTS = (
    Key("webhook", _plain(_webhook), "", "A URL that gets each message by POST, as JSON (docs/alerts.md).",
        example='"https://ntfy.example.org/syncd"'),
    Key("webhook_file", _secret_file, None, "Instead of webhook: file that holds the URL (mode 600), where the URL is "
        "itself a secret.",
        example='"~/.config/syncd/webhook-url"'),
    Key("command", _command, [], "A program and its arguments, started without a shell: the message's JSON on stdin, "
        "its text in `SYNCD_ALERT_TEXT`.",
        example='["~/bin/tell-me", "--loud"]'),
    Key("mail_to", _plain(_mail_addresses), [], "Who gets each message by e-mail; needs mail_server.",
        example='["operator@example.org"]'),
    Key("mail_from", _plain(values.mail_address), None, "The sender of e-mails.", "the first of mail_to",
        example='"syncd@example.org"'),
    Key("mail_server", _plain(lambda v: values.address(v, 587)), None, "SMTP server, port 587 unless it says another.",
        example='"smtp.example.org:587"'),
    Key("mail_tls", _choice("starttls", "tls", "none"), "starttls", '`"tls"`: from the first byte (port 465); '
        '`"none"`: never with a password, but to the loopback interface.'),
    Key("mail_user", _plain(values.text), None, "The user who logs in at the SMTP server, if one does.",
        example='"syncd@example.org"'),
    Key("password_file", _secret_file, None, "File that holds that user's password (mode 600).",
        example='"~/.config/syncd/smtp-password"'),
    Key("password_env", _plain(values.variable), None, "Instead of password_file: the environment variable that holds "
        "it.",
        example='"SMTP_PASSWORD"'),
    Key("every", _duration(1, 3600), "30s", "Time between two looks."),
    Key("hold", _duration(0, DAY_S), "1m", "How long something must be so before it is told, and be over before that "
        "is told."),
    Key("failing_after", _duration(0, 7 * DAY_S), "15m", "The same, before it is told that a mirror fails, or that "
        "nsqd or MongoDB cannot be reached."),
    Key("owed_after", _duration(0, 7 * DAY_S), "15m", "Announcements owed for longer are told of."),
    Key("stuck_after", _duration(0, 7 * DAY_S), "15m", "Jobs that have not moved for longer are told of."),
    Key("nsqd_http_addresses", _plain(lambda v: values.addresses(v, 4151)), [], "nsqd's HTTP port (or the proxy to "
        "it): asked whether the queue of a job that does not move is empty.",
        example='["127.0.0.1:4151"]'),
)  # fmt: skip

WORKER = (
    Key("workers", _whole(1, 256), 3, "OCR processes on this host."),
    Key("missing_grace", _duration(1, 3600), "10s", "Time between the two looks after which a file counts as missing."),
    Key("wait_for_source", _duration(0, 31 * DAY_S), "24h", "How long a task waits for a source that cannot be asked."),
    Key("exclusive", _plain(values.boolean), False, "Record an error at once for a task that this worker cannot do, "
        "instead of passing it on."),
    Key("providers", _plain(_names), {}, 'Provider in a task -> engine here: `chrome_lens = "tesseract"`.',
        example='{ chrome_lens = "tesseract" }'),
    Key("mounts", _plain(_mounts), {}, 'Where a worker sees a mirror that is not at its target: `Bhushanji = '
        '"/app/Bhushanji"`.',
        example='{ Bhushanji = "/app/Bhushanji" }'),
)  # fmt: skip

HOSTS = (
    Key("ssh", _plain(_ssh), REQUIRED, "Where `syncd remote` logs in: `USER@HOST[:22]`.",
        example='"gvpocr@172.12.0.83:22"'),
    Key("key_file", _secret_file, None, "Private key (mode 600). No agent is asked and no other key is looked for.",
        example='"~/.ssh/id_ed25519"'),
    Key("password_file", _secret_file, None, "File that holds the login's password (mode 600). With key_file: the "
        "key's passphrase.",
        example='"~/.config/syncd/tod-mac-password"'),
    Key("known_hosts_file", _path, "~/.ssh/known_hosts", "Holds the host's key, in OpenSSH's format. A host that is "
        "not in it is refused, and none is ever added."),
    Key("kind", _choice("systemd", "launchd", "compose"), "systemd", "What runs syncd there: your own service of "
        "systemd or launchd, or a compose project."),
    Key("service", _plain(service_name), "syncd", "The service's name there: as in `syncd service install "
        "--name`, or of the compose file."),
    Key("command", _plain(_program), "syncd", "Where syncd lies there (compose: in its container).",
        example='"~/.local/bin/syncd"'),
    Key("config", _plain(_there), None, "syncd's configuration there (compose: in its container).",
        "the usual one there",
        example='"~/.config/syncd/config.toml"'),
    Key("compose_dir", _plain(_there), None, "compose: the project's folder there.",
        example='"~/gvpocr-worker"'),
)  # fmt: skip

ENGINE_ABOUT = (
    'The OCR engine. Tables `[worker.engine.NAME]` go to the engine of that name; with such tables `engine = "NAME"` '
    'cannot stand beside them in TOML: write `[worker.engine]` and `name = "NAME"`.'
)

TABLES: dict[str, tuple[Key, ...]] = {"host": HOST, "mirror": MIRROR, "nsq": NSQ, "mongo": MONGO, "api": API,
                                      "worker": WORKER, "alerts": ALERTS, "hosts": HOSTS}  # fmt: skip

TITLES = {"mirror": "[[mirror]]", "hosts": "[hosts.tod-mac]"}
"""How a file spells the head of a table that is not [NAME]: there may be several."""

MISPLACED = {
    "password": "a secret never stands in this file: put it into a file of its own and name that with password_file",
    "passwd": "a secret never stands in this file: put it into a file of its own and name that with password_file",
    "user": "it belongs into the source: smb://USER@HOST/SHARE",
    "username": "it belongs into the source: smb://USER@HOST/SHARE",
    "host": "it belongs into the source: smb://USER@HOST/SHARE",
    "port": "it belongs into the source: smb://USER@HOST:PORT/SHARE",
    "share": "it belongs into the source: smb://USER@HOST/SHARE/FOLDER",
    "uri": "a connection string holds a password: put it into a file of its own and name that with uri_file",
    "token": "a secret never stands in this file: put it into a file of its own and name that with token_file",
    "interval": 'did you mean "every"?',
    "schedule": 'did you mean "cron"?',
    "ignore": 'did you mean "exclude"?',
    "url": 'did you mean "source"?',
    "path": 'did you mean "target"?',
    "id": "worker ids are made from the host's name; the environment variable WORKER_ID sets another",
}
"""What to say about unknown keys whose meaning is clear, instead of the nearest known key."""
