"""The REST API of approvals: see what waits, and answer it, as whoever a verified token names."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Mapping
from typing import Annotated, Any, Final, Protocol, TypeVar

import msgspec
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.requests import ClientDisconnect, Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route
from starlette.types import ASGIApp, Receive, Send
from starlette.types import Scope as Connection

from extproc.approval.approval import Approval, Scope, State, Verdict, Why
from extproc.approval.event import View
from extproc.approval.row import detail, row
from extproc.errors import Code, ExtprocError, Refusal, Refused, StoreUnavailable
from extproc.identity.presented import present
from extproc.identity.principal import Principal
from extproc.secret import Secret
from extproc.store.approvals_port import Answers

log = logging.getLogger("extproc.console")

MAX_BODY_BYTES: Final = 64 * 1024
BODY_SECONDS: Final = 10.0
MAX_ROWS: Final = 500

_HEADERS: Final = {"cache-control": "no-store", "x-content-type-options": "nosniff"}
_STATUS: Final = {
    Why.UNKNOWN: 404,
    Why.NOT_APPROVER: 403,
    Why.OWN_REQUEST: 403,
    Why.ENDED: 409,
    Why.TWICE: 409,
    Why.SCOPE: 422,
}

T = TypeVar("T")


class Identities(Protocol):
    """Verify tokens; `extproc.keys.verifier.Verifier` does."""

    async def verify(self, token: Secret) -> Principal:
        """Return the principal of `token`; raise Refused."""
        ...


class Fault(ExtprocError):
    """Carry an error to the client: the status, a stable code and one sentence."""

    def __init__(self, status: int, code: str, message: str) -> None:
        super().__init__(f"{code}: {message}")
        self.status, self.code, self.message = status, code, message


class Answer(msgspec.Struct, forbid_unknown_fields=True, frozen=True):
    """What a verdict's body holds; `scope` is for approving only."""

    reason: str = ""
    scope: Scope = Scope.ONCE


class Query(msgspec.Struct, forbid_unknown_fields=True, frozen=True):
    """What a list may be asked for; `user` is the name or id of who asked."""

    state: State | None = None
    user: str | None = None
    limit: Annotated[int, msgspec.Meta(ge=1, le=MAX_ROWS)] = 100


def make_app(store: Callable[[], Answers], identities: Identities, now: Callable[[], float]) -> Starlette:
    """Make the ASGI application; `store` is asked at each request and may raise StoreUnavailable, `now` is unix time.

    Every request, whatever its path, needs a token; nothing is answered to other origins (no CORS).
    """
    api = _Api(store, now)
    app = Starlette(
        routes=[
            Route("/api/v1/approvals", api.list_approvals, methods=["GET"]),
            Route("/api/v1/approvals/{id}", api.show, methods=["GET"]),
            Route("/api/v1/approvals/{id}/approve", api.approve, methods=["POST"]),
            Route("/api/v1/approvals/{id}/deny", api.deny, methods=["POST"]),
        ],
        middleware=[Middleware(_Identified, identities=identities)],
        exception_handlers={
            Fault: _fault,
            HTTPException: _no_route,
            StoreUnavailable: _no_store,
            ClientDisconnect: _gone,
            Exception: _internal,
        },
    )
    app.router.redirect_slashes = False
    return app


class _Api:
    def __init__(self, store: Callable[[], Answers], now: Callable[[], float]) -> None:
        self._store = store
        self._now = now

    async def list_approvals(self, request: Request) -> Response:
        query, who, store = _query(request), _who(request), self._store()
        may_decide = await store.newest(
            state=query.state, approver_groups=who.groups, user=query.user, limit=query.limit
        )
        # The store's `user` is an id or a name, and a name may be anybody's.
        own = [
            one
            for one in await store.newest(state=query.state, user=who.id, limit=query.limit)
            if one.request.principal == who.id and query.user in {None, one.request.principal, one.request.name}
        ]
        found = {one.request.id: one for one in [*may_decide, *own]}
        newest = sorted(found.values(), key=lambda one: one.request.requested_at, reverse=True)[: query.limit]
        now = self._now()
        return _json({"approvals": [row(one, now) for one in newest]})

    async def show(self, request: Request) -> Response:
        approval_id, who, store = request.path_params["id"], _who(request), self._store()
        approval = await store.get(approval_id)
        if approval is None or not _may_see(approval, who):
            raise _unknown()
        now = self._now()
        approval = await store.viewed(approval_id, View(who.id, who.name, now, _address(request)))
        if approval is None:
            raise _unknown()
        return _json(detail(approval, await store.events(approval_id), now))

    async def approve(self, request: Request) -> Response:
        return await self._answer(request, await _answer_of(request), approved=True)

    async def deny(self, request: Request) -> Response:
        answer = await _answer_of(request)
        if not answer.reason.strip():
            raise Fault(422, "body", "A denial needs a `reason`, which the developer is told.")
        return await self._answer(request, Answer(answer.reason), approved=False)

    async def _answer(self, request: Request, answer: Answer, *, approved: bool) -> Response:
        who = _who(request)
        now = self._now()
        verdict = Verdict(who.id, who.name, approved, answer.reason, answer.scope, now, _address(request))
        result = await self._store().verdict(request.path_params["id"], verdict, who.groups)
        if not isinstance(result, Approval):
            raise Fault(_STATUS[result.why], result.why, result.message)
        return _json(row(result, now))


# --- who asks --------------------------------------------------------------------------------------------------------


class _Identified:
    """Let only requests with a verified token in; the application finds the principal in `request.state`."""

    def __init__(self, app: ASGIApp, identities: Identities) -> None:
        self._app = app
        self._identities = identities

    async def __call__(self, scope: Connection, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            # There are no websockets here, and nothing to begin or end with the process.
            return
        request = Request(scope)
        token = _token(request)
        if isinstance(token, Refusal):
            await _refused(token)(scope, receive, send)
            return
        try:
            request.state.principal = await self._identities.verify(token)
        except Refused as refused:
            await _refused(refused.refusal)(scope, receive, send)
            return
        await self._app(scope, receive, send)


def _token(request: Request) -> Secret | Refusal:
    given = request.headers.getlist("authorization")
    if given and not all(one.strip(" ").lower().startswith("bearer ") for one in given):
        return Refusal(401, Code.IDENTITY_MALFORMED, "The authorization header is not of the form 'Bearer <token>'.")
    return present([("authorization", one) for one in given], path="")


def _refused(refusal: Refusal) -> Response:
    # RFC 6750 section 3: a request without a token is told of no error.
    error = "" if refusal.code is Code.IDENTITY_MISSING else ' error="invalid_token"'
    headers = {"www-authenticate": f"Bearer{error}"} if refusal.status == 401 else {}
    return _error(refusal.status, refusal.code, refusal.message, headers)


def _who(request: Request) -> Principal:
    principal: Principal = request.state.principal
    return principal


def _may_see(approval: Approval, who: Principal) -> bool:
    asked = approval.request
    return who.id == asked.principal or bool(who.groups & asked.rule.approvers)


def _address(request: Request) -> str | None:
    return None if request.client is None else request.client.host


# --- what is asked ---------------------------------------------------------------------------------------------------


def _query(request: Request) -> Query:
    given = dict(request.query_params)
    return _valid(lambda: msgspec.convert(given, Query, strict=False), "query")


async def _answer_of(request: Request) -> Answer:
    body = bytearray()
    try:
        async with asyncio.timeout(BODY_SECONDS):
            async for piece in request.stream():
                body += piece
                if len(body) > MAX_BODY_BYTES:
                    raise Fault(413, "body", f"The body is longer than {MAX_BODY_BYTES} bytes.")
    except TimeoutError:
        raise Fault(408, "body", f"The body did not arrive within {BODY_SECONDS:.0f} s.") from None
    return _valid(lambda: msgspec.json.decode(body, type=Answer), "body")


def _valid(read: Callable[[], T], what: str) -> T:
    try:
        return read()
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as fault:
        told = str(fault) if isinstance(fault, msgspec.MsgspecError) else "it is no JSON in UTF-8"
        raise Fault(422, what, f"The {what} is not as expected: {told[:200]}") from None


# --- answers ---------------------------------------------------------------------------------------------------------


def _json(value: object, status: int = 200, headers: Mapping[str, str] | None = None) -> Response:
    return JSONResponse(value, status, {**(headers or {}), **_HEADERS})


def _error(status: int, code: str, message: str, headers: Mapping[str, str] | None = None) -> Response:
    return _json({"error": {"code": code, "message": message}}, status, headers)


def _unknown() -> Fault:
    return Fault(404, Why.UNKNOWN, "No approval has this id.")


async def _fault(_request: Request, fault: Any) -> Response:  # noqa: ANN401 - the framework's signature
    return _error(fault.status, fault.code, fault.message)


async def _no_route(_request: Request, error: Any) -> Response:  # noqa: ANN401
    return _error(error.status_code, "request", f"{error.detail}.", error.headers)


async def _no_store(_request: Request, error: Exception) -> Response:
    log.error("the store failed: %s", error)
    return _error(
        503, "store", "The store of approvals cannot be used at the moment; look up whether a verdict counts."
    )


async def _gone(_request: Request, _failure: Exception) -> Response:
    # Nobody hears it; without an answer the server would log a fault of ours.
    return Response(status_code=400)


async def _internal(_request: Request, _failure: Exception) -> Response:
    return _error(500, "internal", "The console failed.")
