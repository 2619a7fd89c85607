"""Every table and key of the configuration file: reader, default, description.

The loader reads by these tables and docs/configuration.md is generated from them, so neither can drift.
"""

from __future__ import annotations

from syncd.config import values
from syncd.config.cron import cron
from syncd.config.readers import (
    Reader,
    address_map,
    aliases,
    choice,
    command,
    duration,
    here,
    listen,
    mail_addresses,
    mounts,
    patterns,
    plain,
    program,
    secret_file,
    service_name,
    source,
    sources,
    ssh_login,
    there,
    webhook,
    whole,
    words,
    zone,
)
from syncd.core.named import NamedTuple

REQUIRED: object = object()
DAY_S = 86400.0


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


HOST = (
    Key("name", plain(lambda v: values.name(v, "host")), None, "This host's name, for people. Fixed at first start.",
        "this host's",
        example='"tod-mac"'),
    Key("state_dir", here, None, "Catalogue, reports, socket. On a local file system, outside of every target.",
        '"~/.local/state/syncd"',
        example='"~/.local/state/syncd"'),
    Key("timezone", plain(zone), "local", 'For cron, time windows and screens: "local" or a name like '
        '"Asia/Kolkata". JSON is always UTC.'),
    Key("away", plain(values.hours), "", "Hours in which this host sleeps by plan, over midnight or not: nothing of "
        'its own is alarming then. Several with ";" between them.',
        example='"22:00-07:00"'),
    Key("keep_awake", plain(values.boolean), False, "Keep this host from sleeping by itself while work is in hand: a "
        "run, a file that somebody waits for, a task in OCR. Needs no admin rights (macOS: caffeinate; Linux: "
        "systemd-inhibit). A closed lid still puts it to sleep.",
        example="true"),
)  # fmt: skip

MIRROR = (
    Key("name", plain(lambda v: values.name(v, "mirror")), REQUIRED, "The collection's name, as tasks spell it. Part "
        "of every id: do not change it later.",
        example='"Bhushanji"'),
    Key("source", source, REQUIRED, "`smb://[DOMAIN;]USER@HOST[:445]/SHARE[/FOLDER]`, `sftp://USER@HOST[:22]/PATH`, "
        "`file:///PATH`, or `file://./PATH` relative to this file. Percent-escapes are decoded (a space may be "
        "written as it is or as %20). Never a password.",
        example='"smb://gvpocr@172.12.0.132:13445/gvpocr-bhushanji"'),
    Key("target", here, REQUIRED, "The local data directory. No target may be, contain or lie in another, the state "
        "directory or a file source.",
        example='"~/gvpocr-worker/data/Bhushanji"'),
    Key("fallback_sources", sources, [], "Stand-by servers of the same share, tried in order; from these only missing "
        "files are fetched.",
        example='["smb://gvpocr@172.12.0.133:13445/gvpocr-bhushanji"]'),
    Key("password_file", secret_file, None, "File that holds the password (mode 600). With key_file: the key's "
        "passphrase.",
        example='"~/.config/syncd/smb-password"'),
    Key("password_env", plain(values.variable), None, "Instead of password_file: the environment variable that holds "
        "it.",
        example='"SMB_PASSWORD"'),
    Key("key_file", secret_file, None, "sftp: private key (mode 600).",
        example='"~/.ssh/id_ed25519"'),
    Key("known_hosts_file", here, None, "sftp: the server's pinned host key, in OpenSSH's format.",
        "`known_hosts` beside this file",
        example='"known_hosts"'),
    Key("auth", choice("negotiate", "ntlm", "kerberos"), "negotiate", 'smb: `"kerberos"` logs in with a ticket and '
        "needs no password (`pip install 'syncd[kerberos]'`)."),
    Key("encrypt", plain(values.boolean), False, "smb: insist on encryption. Signing is always on."),
    Key("every", duration(5, 31 * DAY_S), "10m", "Time between two scans, from 5s. Not together with cron."),
    Key("cron", plain(cron), None, 'Instead of every: minute hour day month weekday, like `"*/10 * * * *"`.',
        example='"*/10 * * * *"'),
    Key("aliases", plain(aliases), [], "More spellings of the mirror in tasks. NAME/, ./NAME/, /app/NAME/, "
        "/data/NAME/, any unique prefix ending in NAME, smb and backslash forms are known without.",
        example='["bhushanji_shared"]'),
    Key("include", patterns, [], "Only these, in gitignore syntax; empty: everything.",
        example='["*.pdf", "*.jpg"]'),
    Key("exclude", patterns, [], "Not these, in gitignore syntax; `._*`, `.DS_Store`, `Thumbs.db`, `~$*`, `.syncd` "
        "and `.write_test_delete_me` are left out by themselves.",
        example='["drafts/"]'),
    Key("priority", patterns, [], "Fetched first, in gitignore syntax.",
        example='["hin-typed/"]'),
    Key("marker", plain(values.relative), None, "A path that must exist on the share; while it does not, nothing is "
        "done.",
        example='"README.txt"'),
    Key("settle", duration(0, 3600), "2s", "A file that changed less than this ago is looked at twice."),
    Key("max_retire", plain(values.percent), "10%", "More of the held files gone than this (never below 5, never "
        "above 1000 files): held back until `syncd approve`."),
    Key("trash_days", whole(0, 3650), 7, "Days on which syncd ran, for which removed and replaced files are kept."),
    Key("min_free", plain(values.min_free), None, 'Free space never used up: `"5%"`, `"1GiB"`, `"0%"` for no floor.',
        "the smaller of 5% and 1GiB",
        example='"5%"'),
    Key("rate", plain(values.rate), "0", 'Bytes a second: `"20M"`, `"0"` for no limit, or with hours: '
        '`"22:00-06:00 0; 20M"`. K, M and G are 1024-based.',
        example='"22:00-06:00 0; 20M"'),
    Key("connections", whole(0, 64), 0, "Connections to the server that a run has at a time; 0: as many as "
        "help. A file on demand and the watch for changes have their own."),
    Key("verify_days", whole(0, 3650), 30, "The whole mirror is re-hashed, and compared with the source, within this "
        "many days; 0: never."),
    Key("trust_checksums", plain(values.boolean), False, "Where a file lies in the target already and is not held "
        "yet, believe the share's own `SHA256SUMS` instead of reading the file there."),
)  # fmt: skip

NSQ = (
    Key("nsqd_tcp_address", plain(values.addresses), None, "nsqd (or the proxy to it), or a list. Absent: "
        "announcements go to the embedded spool.",
        example='"127.0.0.1:4150"'),
    Key("lookupd_http_addresses", plain(lambda v: values.addresses(v, 4161)), [], "nsqlookupd, where workers find "
        "their tasks.",
        example='["127.0.0.1:4161"]'),
    Key("topic", plain(values.nsq_name), "file_sync_ready", "Topic of the announcements."),
    Key("announce", choice("nsq", "local", "off"), "nsq", '`"local"`: only to the embedded spool; `"off"`: not at '
        "all."),
    Key("address_map", plain(address_map), {}, 'What nsqlookupd says -> what to dial; `"*:4150"` maps any host.',
        example='{ "172.12.0.132:4150" = "127.0.0.1:4150" }'),
    Key("allow_direct", plain(values.boolean), False, "Dial addresses from nsqlookupd that address_map does not map."),
    Key("prefetch_tasks", plain(values.boolean), True, "Look at the tasks that wait in the queue, and fetch their "
        "files before the rest."),
    Key("task_topic", plain(values.nsq_name), "bulk_ocr_file_tasks", "Topic of the OCR tasks."),
)  # fmt: skip

MONGO = (
    Key("uri_file", secret_file, None, "File that holds the connection string (mode 600). Absent: results stay in the "
        "embedded store.",
        example='"~/.config/syncd/mongo-uri"'),
    Key("uri_env", plain(values.variable), None, "Instead of uri_file: the environment variable that holds it.",
        example='"SYNCD_MONGO_URI"'),
    Key("registry", plain(values.boolean), True, "Record in MongoDB which host holds which mirror."),
    Key("registry_files", plain(values.boolean), False, "Record every file too."),
)  # fmt: skip

API = (
    Key("listen", plain(listen), "", 'Loopback TCP beside the Unix socket: `"127.0.0.1:9470"`.',
        example='"127.0.0.1:9470"'),
    Key("token_file", secret_file, "", "File that holds the bearer token (mode 600); needed with listen.",
        example='"~/.config/syncd/api-token"'),
    Key("allowed_hosts", plain(values.texts), [], "More Host headers to answer to, like `host.docker.internal`.",
        example='["host.docker.internal"]'),
)  # fmt: skip

ALERTS = (
    Key("webhook", plain(webhook), "", "A URL that gets each message by POST, as JSON (docs/alerts.md).",
        example='"https://ntfy.example.org/syncd"'),
    Key("webhook_file", secret_file, None, "Instead of webhook: file that holds the URL (mode 600), where the URL is "
        "itself a secret.",
        example='"~/.config/syncd/webhook-url"'),
    Key("command", command, [], "A program and its arguments, started without a shell: the message's JSON on stdin, "
        "its text in `SYNCD_ALERT_TEXT`.",
        example='["~/bin/tell-me", "--loud"]'),
    Key("mail_to", plain(mail_addresses), [], "Who gets each message by e-mail; needs mail_server.",
        example='["operator@example.org"]'),
    Key("mail_from", plain(values.mail_address), None, "The sender of e-mails.", "the first of mail_to",
        example='"syncd@example.org"'),
    Key("mail_server", plain(lambda v: values.address(v, 587)), None, "SMTP server, port 587 unless it says another.",
        example='"smtp.example.org:587"'),
    Key("mail_tls", choice("starttls", "tls", "none"), "starttls", '`"tls"`: from the first byte (port 465); '
        '`"none"`: never with a password, but to the loopback interface.'),
    Key("mail_user", plain(values.text), None, "The user who logs in at the SMTP server, if one does.",
        example='"syncd@example.org"'),
    Key("password_file", secret_file, None, "File that holds that user's password (mode 600).",
        example='"~/.config/syncd/smtp-password"'),
    Key("password_env", plain(values.variable), None, "Instead of password_file: the environment variable that holds "
        "it.",
        example='"SMTP_PASSWORD"'),
    Key("every", duration(1, 3600), "30s", "Time between two looks."),
    Key("hold", duration(0, DAY_S), "1m", "How long something must be so before it is told, and be over before that "
        "is told."),
    Key("failing_after", duration(0, 7 * DAY_S), "15m", "The same, before it is told that a mirror fails, or that "
        "nsqd or MongoDB cannot be reached."),
    Key("owed_after", duration(0, 7 * DAY_S), "15m", "Announcements owed for longer are told of."),
    Key("stuck_after", duration(0, 7 * DAY_S), "15m", "Jobs that have not moved for longer are told of."),
    Key("nsqd_http_addresses", plain(lambda v: values.addresses(v, 4151)), [], "nsqd's HTTP port (or the proxy to "
        "it): asked whether the queue of a job that does not move is empty.",
        example='["127.0.0.1:4151"]'),
)  # fmt: skip

WORKER = (
    Key("workers", whole(1, 256), 3, "OCR processes on this host."),
    Key("missing_grace", duration(1, 3600), "10s", "Time between the two looks after which a file counts as missing."),
    Key("wait_for_source", duration(0, 31 * DAY_S), "24h", "How long a task waits for a source that cannot be asked."),
    Key("exclusive", plain(values.boolean), False, "Record an error at once for a task that this worker cannot do, "
        "instead of passing it on."),
    Key("providers", plain(words), {}, 'Provider in a task -> engine here: `chrome_lens = "tesseract"`.',
        example='{ chrome_lens = "tesseract" }'),
    Key("mounts", plain(mounts), {}, 'Where a worker sees a mirror that is not at its target: `Bhushanji = '
        '"/app/Bhushanji"`.',
        example='{ Bhushanji = "/app/Bhushanji" }'),
)  # fmt: skip

HOSTS = (
    Key("ssh", plain(ssh_login), REQUIRED, "Where `syncd remote` logs in: `USER@HOST[:22]`.",
        example='"gvpocr@172.12.0.83:22"'),
    Key("key_file", secret_file, None, "Private key (mode 600). No agent is asked and no other key is looked for.",
        example='"~/.ssh/id_ed25519"'),
    Key("password_file", secret_file, None, "File that holds the login's password (mode 600). With key_file: the "
        "key's passphrase.",
        example='"~/.config/syncd/tod-mac-password"'),
    Key("known_hosts_file", here, "~/.ssh/known_hosts", "Holds the host's key, in OpenSSH's format. A host that is "
        "not in it is refused, and none is ever added."),
    Key("kind", choice("systemd", "launchd", "compose"), "systemd", "What runs syncd there: your own service of "
        "systemd or launchd, or a compose project."),
    Key("service", plain(service_name), "syncd", "The service's name there: as in `syncd service install "
        "--name`, or of the compose file."),
    Key("command", plain(program), "syncd", "Where syncd lies there (compose: in its container).",
        example='"~/.local/bin/syncd"'),
    Key("config", plain(there), None, "syncd's configuration there (compose: in its container).",
        "the usual one there",
        example='"~/.config/syncd/config.toml"'),
    Key("compose_dir", plain(there), None, "compose: the project's folder there.",
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
