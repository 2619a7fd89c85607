"""The bounds of the SMB source, in one place: every wait, every window, every retry."""

from __future__ import annotations

from dataclasses import dataclass

MIB = 1 << 20


@dataclass(frozen=True, slots=True)
class SmbLimits:
    """Seconds, bytes and counts within which the source works.

    resolve_s, connect_s: name look-up and TCP connect; setup_s: these, negotiate, login and tree connect together.
    ask_s: a single question (check, read, the list of shares) on an established connection.
    stall_s: a connection with requests in flight on which nothing arrives for so long is given up.
    reconnect_s: for so long at most a lost connection is tried to be replaced.
    losses: so often one file or folder may be in flight while a connection breaks before it alone is given up.
    files_in_flight, folders_in_flight, bytes_in_flight: at one connection. most_files_in_flight: where
    the server is so quick that a file somebody waits for comes soon behind as many.
    read_size: of one READ; files up to this size are read in one round trip. query_size: of one QUERY_DIRECTORY.
    watched_folders: so many have a handle of their own while changes are waited for.
    """

    resolve_s: float = 5.0
    connect_s: float = 10.0
    setup_s: float = 18.0
    ask_s: float = 10.0
    stall_s: float = 20.0
    reconnect_s: float = 60.0
    losses: int = 4
    files_in_flight: int = 96
    most_files_in_flight: int = 256
    folders_in_flight: int = 32
    bytes_in_flight: int = 16 * MIB
    file_window: int = 8 * MIB
    read_size: int = 2 * MIB
    query_size: int = MIB
    watched_folders: int = 200
    max_entries: int = 1_000_000
