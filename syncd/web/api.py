"""The calls of the local API: which there are, what each takes, and what of the Service answers it. See docs/api.md."""

from __future__ import annotations

import asyncio
import concurrent.futures
import contextlib
import re
from collections.abc import Callable, Coroutine, Mapping
from typing import Any, NamedTuple

from syncd.core.errors import SyncdError
from syncd.core.lease import WouldWait
from syncd.core.reasons import MEANING, Reason, hint_for
from syncd.core.resolution import Resolution, State
from syncd.web.answers import API_HEADERS, STOPPING, Answer, Refused, bug, failed, in_json, refused
from syncd.web.assets import INDEX, Asset
from syncd.web.calls import AtOnce, Calls
from syncd.web.feed import Feed
from syncd.web.guard import Access, Refusal
from syncd.web.port import Lease, Service
from syncd.web.wishes import (
    Wishes,
    announce_wishes,
    approve_wishes,
    from_body,
    from_query,
    no_wishes,
    pause_wishes,
    resume_wishes,
    run_wishes,
    verify_wishes,
)

BODY_MAX = 1 << 20
FILE_BODY_MAX = 256 << 10
"""One path, every character escaped."""
APPROVE_BODY_MAX = 16 << 20
"""The exact set that a person approved: some 150,000 paths."""
EVENTS_MAX = 1000
POLL_MAX_S = 60.0
ENSURE_MAX_S = 3600.0
ENSURE_S = 60.0
LOOK_AGAIN_S = 5.0
LEASE_MAX_S = 3600.0
LEASE_S = 300.0
SEQUENCE_MAX = (1 << 63) - 1
METRICS_TYPE = "text/plain; version=0.0.4; charset=utf-8"
LARGE_BODY = 64 << 10
"""A body of this size is taken apart in a thread of its own: it takes milliseconds."""

NOT_THERE = Refusal(404, "there is no such call", "docs/api.md lists all calls")
_NAME = re.compile(r"[A-Za-z0-9_-][A-Za-z0-9._-]{0,99}")
_Fields = dict[str, Any]
Later = Coroutine[Any, Any, Answer]


class Call(NamedTuple):
    """One request that may pass. name: the last part of the path where that is a variable."""

    name: str
    query: str
    headers: Mapping[str, str]
    body: bytes


class Endpoint(NamedTuple):
    """One method of one path: a coroutine function `later`, or a plain one `now` for what takes well below 1 ms.

    With both, `now` raises WouldWait where it is `later` that has to answer.
    """

    access: Access
    later: Callable[[Call], Later] | None = None
    now: Callable[[Call], Answer] | None = None
    body_max: int = BODY_MAX


class Found(NamedTuple):
    """Where a request leads. endpoint None: nowhere, for this reason; access is what has to be passed even then.

    route: the call as docs/api.md writes it, "" where there is none.
    """

    endpoint: Endpoint | None
    name: str
    access: Access
    refusal: Refusal | None = None
    route: str = ""


class Api:
    """All calls, over one Service. In the loop's thread; `on_bug` gets what nobody foresaw."""

    def __init__(
        self,
        service: Service,
        calls: Calls,
        feed: Feed,
        assets: Mapping[str, Asset],
        on_bug: Callable[[BaseException], None],
    ) -> None:
        self._service = service
        self._calls = calls
        self._feed = feed
        self._assets = assets
        self._on_bug = on_bug
        self._at_once = AtOnce()
        self._routes = self._make_routes()

    # --- finding -------------------------------------------------------------------------------------------------

    def find(self, method: str, path: str) -> Found:
        """Return the endpoint of a method and path (without its query)."""
        parent, _, name = path.rpartition("/")
        route, methods = path, self._routes.get(path)
        if methods is None and _NAME.fullmatch(name):
            route = f"{parent}/*"
            methods = self._routes.get(route)
        if methods is None:
            return Found(None, "", Access(), NOT_THERE)
        method = "GET" if method == "HEAD" else method
        endpoint = methods.get(method)
        if endpoint is None:
            allowed = ", ".join(sorted([*methods, *(["HEAD"] if "GET" in methods else [])]))
            access = next(iter(methods.values())).access._replace(socket_only=False)
            refusal = Refusal(405, f"allowed here: {allowed}", headers=(("Allow", allowed),))
            return Found(None, "", access, refusal)
        return Found(endpoint, name, endpoint.access, route=f"{method} {route}")

    def _make_routes(self) -> dict[str, dict[str, Endpoint]]:
        page, token, local = Access(open=True), Access(), Access(socket_only=True)
        file = FILE_BODY_MAX
        api = "/api/v1"
        return {
            "/": {"GET": Endpoint(page, now=self._index)},
            "/static/*": {"GET": Endpoint(page, now=self._static)},
            "/healthz": {"GET": Endpoint(page, now=self._health)},
            "/metrics": {"GET": Endpoint(page, self._metrics)},
            f"{api}/status": {"GET": Endpoint(token, self._status)},
            f"{api}/events": {"GET": Endpoint(token, self._events)},
            f"{api}/folder": {"GET": Endpoint(token, self._folder)},
            f"{api}/resolve": {"POST": Endpoint(token, now=self._resolve, body_max=file)},
            f"{api}/ensure": {"POST": Endpoint(token, self._ensure, body_max=file)},
            f"{api}/leases": {"POST": Endpoint(token, self._lease, self._lease_now, body_max=file)},
            f"{api}/leases/*": {
                "PUT": Endpoint(token, self._renew),
                "DELETE": Endpoint(token, self._release, self._release_now),
            },
            f"{api}/runs": {"POST": Endpoint(local, self._start_run)},
            f"{api}/runs/*": {"GET": Endpoint(token, self._errand)},
            f"{api}/verify": {"POST": Endpoint(local, self._start_verify)},
            f"{api}/verify/*": {"GET": Endpoint(token, self._errand)},
            f"{api}/doctor": {"POST": Endpoint(local, self._start_doctor)},
            f"{api}/doctor/*": {"GET": Endpoint(token, self._errand)},
            f"{api}/approve": {"POST": Endpoint(local, self._approve, body_max=APPROVE_BODY_MAX)},
            f"{api}/pause": {"POST": Endpoint(local, self._pause)},
            f"{api}/resume": {"POST": Endpoint(local, self._resume)},
            f"{api}/announce": {"POST": Endpoint(local, self._announce)},
        }

    # --- answering -----------------------------------------------------------------------------------------------

    def answer(self, endpoint: Endpoint, call: Call) -> Answer | Later:
        """Answer a call at once, or return the coroutine that will. Neither raises but for a cancellation."""
        if endpoint.now is None:
            return self._answer_later(endpoint, call)
        try:
            return endpoint.now(call)
        except WouldWait:
            return self._answer_later(endpoint, call)
        except Exception as error:  # noqa: BLE001 (a bug in one call must not end the server)
            return self._failed(error)

    async def _answer_later(self, endpoint: Endpoint, call: Call) -> Answer:
        try:
            if endpoint.later is None:
                raise Refused(NOT_THERE)
            return await endpoint.later(call)
        except Exception as error:  # noqa: BLE001 (as above)
            return self._failed(error)

    def _failed(self, error: Exception) -> Answer:
        match error:
            case Refused():
                return refused(error.refusal)
            case SyncdError():
                return failed(error)
            case concurrent.futures.CancelledError():
                return refused(STOPPING)
        self._on_bug(error)
        return bug()

    # --- page and health -----------------------------------------------------------------------------------------

    def _index(self, call: Call) -> Answer:
        return self._asset(INDEX, call)

    def _static(self, call: Call) -> Answer:
        return self._asset(call.name, call)

    def _asset(self, name: str, call: Call) -> Answer:
        found = self._assets.get(name)
        if found is None:
            return refused(Refusal(404, "there is no such file"))
        return found.answer(call.headers.get("If-None-Match", ""))

    def _health(self, call: Call) -> Answer:  # noqa: ARG002 (the shape of all handlers)
        found = self._service.health()
        return in_json(found, 200 if found["ok"] else 503)

    async def _metrics(self, call: Call) -> Answer:  # noqa: ARG002
        from syncd.web import metrics  # and with it prometheus-client: only where somebody scrapes

        body = await self._calls.run(lambda: metrics.render(self._service.samples()))
        return Answer(200, body, METRICS_TYPE, API_HEADERS)

    # --- looking -------------------------------------------------------------------------------------------------

    async def _status(self, call: Call) -> Answer:  # noqa: ARG002
        return in_json(await self._calls.run(self._service.status))

    async def _events(self, call: Call) -> Answer:
        asked = from_query(call.query)
        since = asked.whole("since", -1, SEQUENCE_MAX, default=-1)
        limit = asked.whole("limit", 1, EVENTS_MAX, default=EVENTS_MAX)
        timeout_s = asked.number("timeout", 0, POLL_MAX_S, default=0)
        asked.end()
        return in_json(await self._feed.after(since, limit, timeout_s))

    async def _folder(self, call: Call) -> Answer:
        asked = from_query(call.query)
        mirror, directory = asked.text("mirror"), asked.text("path", "")
        asked.end()
        found = await self._calls.run(lambda: self._service.folder(mirror, directory))
        return refused(Refusal(404, "there is no such mirror", "syncd status")) if found is None else in_json(found)

    async def _errand(self, call: Call) -> Answer:
        found = await self._calls.run(lambda: self._service.errand(call.name))
        if found is None:
            return refused(Refusal(404, "this work is not known (any more)", "syncd runs"))
        return in_json(found.as_json())

    # --- files ---------------------------------------------------------------------------------------------------

    def _resolve(self, call: Call) -> Answer:
        asked = from_body(call.body)
        path = asked.any_text("path")
        asked.end()
        return in_json((_undecodable(path) or self._service.resolve(path)).as_json())

    async def _ensure(self, call: Call) -> Answer:
        asked = from_body(call.body)
        path = asked.any_text("path")
        timeout_s = asked.number("timeout_s", 0, ENSURE_MAX_S, default=ENSURE_S)
        asked.end()
        found = _undecodable(path) or await self._fetched(path, timeout_s)
        return in_json(found.as_json())

    async def _fetched(self, path: str, timeout_s: float) -> Resolution:
        """Wish for a path, and wait; a caller that hangs up takes only its own wish back."""
        wish = await self._calls.run(
            lambda: self._service.ensure(path), unwanted=concurrent.futures.Future[Resolution].cancel
        )
        try:
            if wish.done():
                return wish.result()
            async with asyncio.timeout(timeout_s):
                return await asyncio.wrap_future(wish)
        except TimeoutError:
            return _not_looked_yet(self._service.resolve(path))
        finally:
            wish.cancel()

    def _lease_now(self, call: Call) -> Answer:
        path, ttl_s = _lease_wishes(call)
        found = _undecodable(path) or self._at_once.run(lambda: self._service.lease(path, ttl_s, wait=False))
        return self._leased(found)

    async def _lease(self, call: Call) -> Answer:
        path, ttl_s = _lease_wishes(call)
        found = await self._calls.run(
            lambda: self._service.lease(path, ttl_s), unwanted=lambda late: self._give_back(late)
        )
        return self._leased(found)

    def _leased(self, found: Lease | Resolution) -> Answer:
        if isinstance(found, Resolution):
            return in_json(found.as_json(), 409)
        told = in_json(found.as_json(), 201, (("Location", f"/api/v1/leases/{found.lease_id}"),))
        return told._replace(unsent=lambda: self._give_back_now(found))

    def _give_back_now(self, unread: Lease) -> None:
        """Release a lease whose caller has hung up, where that takes no waiting; else its time ends it."""
        with contextlib.suppress(SyncdError, WouldWait):
            self._at_once.run(lambda: self._service.release(unread.lease_id, wait=False))

    def _give_back(self, late: Lease | Resolution) -> None:
        """Release a lease whose caller has hung up; runs in a thread of the pool."""
        if isinstance(late, Lease):
            self._service.release(late.lease_id)

    async def _renew(self, call: Call) -> Answer:
        asked = from_body(call.body)
        ttl_s = asked.number("ttl_s", 1, LEASE_MAX_S, default=LEASE_S)
        asked.end()
        found = await self._calls.run(lambda: self._service.renew(call.name, ttl_s))
        return _lost() if found is None else in_json(found.as_json())

    def _release_now(self, call: Call) -> Answer:
        return _released(self._at_once.run(lambda: self._service.release(call.name, wait=False)))

    async def _release(self, call: Call) -> Answer:
        return _released(await self._calls.run(lambda: self._service.release(call.name)))

    # --- changes of state ----------------------------------------------------------------------------------------

    async def _start_run(self, call: Call) -> Answer:
        return await self._start("run", "runs", run_wishes, call)

    async def _start_verify(self, call: Call) -> Answer:
        return await self._start("verify", "verify", verify_wishes, call)

    async def _start_doctor(self, call: Call) -> Answer:
        return await self._start("doctor", "doctor", no_wishes, call)

    async def _start(self, kind: str, where: str, read: Callable[[Wishes], _Fields], call: Call) -> Answer:
        wishes = await self._read(read, call)
        errand = await self._calls.run(lambda: self._service.start(kind, wishes))
        return in_json({"id": errand}, 202, (("Location", f"/api/v1/{where}/{errand}"),))

    async def _approve(self, call: Call) -> Answer:
        return await self._change(self._service.approve, approve_wishes, call)

    async def _pause(self, call: Call) -> Answer:
        return await self._change(self._service.pause, pause_wishes, call)

    async def _resume(self, call: Call) -> Answer:
        return await self._change(self._service.resume, resume_wishes, call)

    async def _announce(self, call: Call) -> Answer:
        return await self._change(self._service.announce, announce_wishes, call)

    async def _change(
        self, change: Callable[[Mapping[str, Any]], _Fields], read: Callable[[Wishes], _Fields], call: Call
    ) -> Answer:
        wishes = await self._read(read, call)
        return in_json(await self._calls.run(lambda: change(wishes)))

    async def _read(self, read: Callable[[Wishes], _Fields], call: Call) -> _Fields:
        """Take a body apart, to its last field; a large one in a thread."""

        def taken_apart() -> _Fields:
            asked = from_body(call.body)
            wishes = read(asked)
            asked.end()
            return wishes

        return taken_apart() if len(call.body) < LARGE_BODY else await self._calls.run(taken_apart)


# --- answers that several calls share --------------------------------------------------------------------------------


def _lease_wishes(call: Call) -> tuple[str, float]:
    asked = from_body(call.body)
    path = asked.any_text("path")
    ttl_s = asked.number("ttl_s", 1, LEASE_MAX_S, default=LEASE_S)
    asked.end()
    return path, ttl_s


def _released(intact: bool | None) -> Answer:
    return _lost() if intact is None else in_json({"intact": intact})


def _lost() -> Answer:
    return refused(Refusal(404, "there is no such lease (any more)", "take a new lease; the file may have changed"))


def _undecodable(path: str) -> Resolution | None:
    """Return the answer to a path that is no valid Unicode: no file that is held has such a name."""
    try:
        path.encode()
    except UnicodeEncodeError:
        meaning, hint = MEANING[Reason.NAME_UNDECODABLE]
        return Resolution(State.REFUSED, reason=Reason.NAME_UNDECODABLE, hint=hint or meaning)
    return None


def _not_looked_yet(found: Resolution) -> Resolution:
    """Return the answer for a file that is still being looked for: that an earlier look did not show it is no proof."""
    if found.state not in (State.MISSING, State.NO_MIRROR):
        return found
    reason = Reason.TIMEOUT
    return found._replace(
        state=State.FETCHING, reason=reason, hint=hint_for(reason, found.path), retry_after_s=LOOK_AGAIN_S
    )
