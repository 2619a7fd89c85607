"""Hop by hop to an SMB share."""

from __future__ import annotations

import difflib
from dataclasses import replace

from syncd.config import MirrorSettings, SourceUrl
from syncd.doctor.checks import Check, Level, Pace, TimedOut, fail, ok, skipped, warn, within
from syncd.doctor.dial import connect_time, millis
from syncd.ports import Source
from syncd.sources.smb.limits import SmbLimits
from syncd.sources.smb.probing import HopResult, probe
from syncd.sources.smb.session import Server
from syncd.sources.smb.source import SmbSource

HOPS = {
    "name": "name",
    "tcp": "port",
    "negotiate": "protocol",
    "login": "login",
    "shares": "shares",
    "share": "share",
    "root": "folder",
}
"""The hops that the adapter tells of, in their order, and what they are called here."""

SHARED_HOPS: tuple[str, ...] = ("name", "port", "protocol", "login")
"""What fails here fails for every mirror on the same server with the same login."""


def hops(mirror: MirrorSettings, url: SourceUrl, secret_hint: str, pace: Pace) -> list[Check]:
    """Try each hop; the password is not tried again once it was refused."""
    server = Server(**mirror.smb_login(url), secret_hint=secret_hint)
    try:
        results = within(pace.hops_s, lambda: probe(server, url.share, url.folder.strip("/"), _limits(pace)))
    except TimedOut as error:
        return [fail("server", f"{server.where}: {error.message}", "see whether the server is overloaded")]
    share_works = any(result.hop == "share" and result.ok for result in results)
    stopped = next((HOPS.get(result.hop, result.hop) for result in results if result.ok is False), "")
    checks = [_check(result, url, share_works, stopped) for result in results]
    return [
        _timed(check, url, pace) if check.name == "port" and check.status is Level.OK else check for check in checks
    ]


def open_source(mirror: MirrorSettings, url: SourceUrl, secret_hint: str, pace: Pace) -> Source:
    """Return the source with this run's short deadlines; nothing connects yet."""
    return SmbSource(
        **mirror.smb_login(url),
        share=url.share,
        folder=url.folder.strip("/"),
        connections=1,
        secret_hint=secret_hint,
        limits=_limits(pace),
    )


def _limits(pace: Pace) -> SmbLimits:
    return SmbLimits(
        resolve_s=pace.resolve_s,
        connect_s=pace.connect_s,
        setup_s=pace.setup_s,
        stall_s=pace.stall_s,
        reconnect_s=0.1,
        losses=1,
    )


def _check(result: HopResult, url: SourceUrl, share_works: bool, stopped: str) -> Check:
    """Turn a hop into a check. stopped: the first hop that failed."""
    name = HOPS.get(result.hop, result.hop)
    if result.hop == "shares" and result.ok is not True:
        return _shares(result, url.share, share_works, stopped)
    if result.ok:
        return ok(name, result.seen.removeprefix(f"{url.host} is ") if result.hop == "name" else result.seen or "open")
    if result.ok is None:
        return skipped([name], f"{stopped} failed")[0]
    return fail(name, result.seen, result.hint)


def _timed(check: Check, url: SourceUrl, pace: Pace) -> Check:
    """Add how far the server is: one more connection, on which nothing is sent."""
    took = connect_time(url.host, url.port, pace)
    return check if took is None else replace(check, seen=f"{check.seen}, round trip {millis(took)}")


def _shares(result: HopResult, ours: str, share_works: bool, stopped: str) -> Check:
    """What the server offers, and how ours differs from it; a hidden share is on no list and works."""
    if result.ok is None and stopped and not share_works and stopped != "share":
        return skipped(["shares"], f"{stopped} failed")[0]
    if share_works:
        return ok("shares", result.seen if result.ok is None else f"on offer: {result.seen}; ours is hidden, and works")
    if result.ok is None:
        return warn("shares", result.seen, "ask the server's admin for the name of the share")
    near = difflib.get_close_matches(ours.lower(), result.seen.split(", "), n=1)
    meant = f'did you mean "{near[0]}"? ' if near else ""
    return fail(
        "shares", f'on offer: {result.seen}; ours is "{ours}"', f"{meant}correct the share in the mirror's source"
    )
