"""Hop by hop to a share, for `syncd doctor`: name, TCP, negotiate, login, shares on offer, share, root folder."""

from __future__ import annotations

from dataclasses import dataclass, replace

from syncd.core.model import Kind, Listing
from syncd.core.shown import counted
from syncd.sources.smb.asking import Pipe
from syncd.sources.smb.channel import Channel
from syncd.sources.smb.connecting import explained
from syncd.sources.smb.errors import ChannelLost
from syncd.sources.smb.limits import SmbLimits
from syncd.sources.smb.packets import ProtocolError
from syncd.sources.smb.rpc import share_names
from syncd.sources.smb.scanning import list_one
from syncd.sources.smb.session import Attempt, Hop, Server, SetupFailed

_IPC = "IPC$"
_HINT_S = 5.0
_DIALECTS = {0x0202: "SMB 2.0.2", 0x0210: "SMB 2.1", 0x0300: "SMB 3.0", 0x0302: "SMB 3.0.2", 0x0311: "SMB 3.1.1"}
_SHARES, _ROOT = "shares", "root"
_ORDER = (Hop.NAME.value, Hop.TCP.value, Hop.NEGOTIATE.value, Hop.LOGIN.value, _SHARES, Hop.SHARE.value, _ROOT)


@dataclass(frozen=True, slots=True)
class HopResult:
    """One hop. ok None: it could not be tried. seen: what was found; hint: what to do where it is not right."""

    hop: str
    ok: bool | None
    seen: str
    hint: str = ""


def list_shares(server: Server, limits: SmbLimits) -> list[str]:
    """Return the disk shares on offer; none when the server does not tell. Logs in once more."""
    limits = replace(limits, setup_s=min(limits.setup_s, _HINT_S), ask_s=min(limits.ask_s, _HINT_S))
    try:
        channel = Channel(Attempt(server, _IPC, limits).run(), limits)
    except SetupFailed:
        return []
    try:
        pipe = Pipe(channel, "srvsvc")
        return [] if pipe.status else share_names(pipe)
    except (ChannelLost, ProtocolError):
        return []
    finally:
        channel.close()


def probe(server: Server, share: str, folder: str = "", limits: SmbLimits | None = None) -> list[HopResult]:
    """Try each hop once, in order, and say what was seen; a hop after the first that failed has ok None.

    A password is tried twice at most, and never again once it was refused. Ends within about 60 s.
    """
    bounds = limits or SmbLimits()
    attempt = Attempt(server, share, bounds)
    try:
        channel = Channel(attempt.run(), bounds)
    except SetupFailed as failed:
        return _told(attempt, server, share, bounds, failed)
    results = _told(attempt, server, share, bounds, None)
    try:
        results[-1] = _root(channel, folder, bounds)
    finally:
        channel.close()
    return results


def _told(
    attempt: Attempt, server: Server, share: str, limits: SmbLimits, failed: SetupFailed | None
) -> list[HopResult]:
    """Return a result for every hop; the last, the root folder, is left untried."""
    at = _ORDER.index(failed.hop.value) if failed is not None else len(_ORDER)
    seen = _seen(attempt, server, share)
    results = []
    for index, hop in enumerate(_ORDER):
        if hop == _ROOT or (index > at and not (hop == _SHARES and failed is not None and failed.hop is Hop.SHARE)):
            results.append(HopResult(hop, None, "not tried"))
        elif index == at and failed is not None:
            error = explained(failed, attempt, server)
            results.append(HopResult(hop, False, error.message, error.hint))
        elif hop == _SHARES:
            results.append(_on_offer(list_shares(server, limits), share))
        else:
            results.append(HopResult(hop, True, seen[hop]))
    return results


def _seen(attempt: Attempt, server: Server, share: str) -> dict[str, str]:
    found = attempt.negotiated
    spoken = "" if found is None else _DIALECTS.get(found.dialect, hex(found.dialect))
    signing = "required" if found is not None and found.signing_required else "offered"
    return {
        Hop.NAME.value: f"{server.host} is {attempt.seen.get(Hop.NAME, '')}",
        Hop.TCP.value: attempt.seen.get(Hop.TCP, ""),
        Hop.NEGOTIATE.value: f"{spoken}, signing {signing} by the server and required by us",
        Hop.LOGIN.value: f'logged in as "{server.username}"{", encrypted" if server.encrypt else ""}',
        Hop.SHARE.value: f'"{share}" can be used',
    }


def _on_offer(names: list[str], share: str) -> HopResult:
    if not names:
        return HopResult(_SHARES, None, "the server does not list its shares")
    known = {name.casefold() for name in names}
    hint = "" if share.casefold() in known else f'"{share}" is not among them; check the share in the mirror\'s source'
    return HopResult(_SHARES, not hint, ", ".join(names), hint)


def _root(channel: Channel, folder: str, limits: SmbLimits) -> HopResult:
    where = f'folder "{folder}"' if folder else "the share's root"
    try:
        listing = list_one(channel, folder.strip("/").replace("/", "\\"), limits)
    except ChannelLost as lost:
        return HopResult(_ROOT, False, lost.error.message, lost.error.hint)
    if not listing.complete and not listing.entries:
        return HopResult(_ROOT, False, f"{where}: {listing.detail}", "check the folder in the mirror's source")
    return HopResult(_ROOT, True, f"{where} has {_counts(listing)}")


def _counts(listing: Listing) -> str:
    folders = sum(entry.kind is Kind.DIRECTORY for entry in listing.entries)
    files = sum(entry.kind is Kind.FILE for entry in listing.entries)
    return f"{counted(files, 'file')} and {counted(folders, 'folder')}"
