"""Serve the REST API: every request is of a verified token, and every route of its table."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from typing import Any, Final, Protocol

import msgspec
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response
from starlette.routing import Route
from starlette.types import ASGIApp, Receive, Scope, Send

from extproc.console.api.openapi import document
from extproc.console.api.route import ApiRoute, Call, Fault, Nothing, body_of, query_of
from extproc.console.api.routes import BASE, OPENAPI, ROUTES
from extproc.console.fair import Busy
from extproc.console.guard import Handler
from extproc.console.page import Console, address_of
from extproc.console.reading import Unknown
from extproc.console.roles import may
from extproc.errors import Code, ConfigError, Refusal, Refused, StoreUnavailable
from extproc.identity.presented import present
from extproc.identity.principal import Principal
from extproc.secret import Secret

log = logging.getLogger("extproc.console")

_HEADERS: Final = {"cache-control": "no-store", "x-content-type-options": "nosniff"}


class Identities(Protocol):
    """Verify tokens; `extproc.keys.verifier.Verifier` does."""

    async def verify(self, token: Secret) -> Principal:
        """Return the principal of `token`; raise Refused."""
        ...


def make_api(console: Console, identities: Identities) -> Starlette:
    """Make the ASGI application.

    Every request, whatever its path, needs a token, but for the description of the API; nothing is answered to other
    origins (no CORS).
    """
    described = msgspec.json.encode(document(ROUTES, BASE, console.url))

    async def describe(_request: Request) -> Response:
        return _json(described)

    app = Starlette(
        routes=[
            Route(OPENAPI, describe, methods=["GET"]),
            *(Route(BASE + one.path, _endpoint(console, one), methods=[one.method]) for one in ROUTES),
        ],
        middleware=[Middleware(_Identified, identities=identities)],
        exception_handlers={
            Fault: _fault,
            Unknown: _unknown,
            Busy: _busy,
            HTTPException: _no_route,
            StoreUnavailable: _no_store,
            ConfigError: _no_store,
            ClientDisconnect: _gone,
            Exception: _internal,
        },
    )
    app.router.redirect_slashes = False
    return app


def _endpoint(console: Console, route: ApiRoute) -> Handler:
    """Return what answers requests for a route: roles first, for nobody else learns what it takes."""

    async def run(request: Request) -> Response:
        viewer = console.roles.viewer(request.state.principal)
        if route.roles is not None and not may(viewer, route.roles):
            raise Fault(403, "role", f"This is for the role {' or '.join(sorted(route.roles))}.")
        call = Call(
            console=console,
            viewer=viewer,
            address=address_of(request),
            id=request.path_params.get("id", ""),
            query=query_of(request, route.query),
            body=Nothing() if route.body is Nothing else await body_of(request, route.body, route.max_body),
        )
        answer = await route.handler(call)
        return _json(answer if isinstance(answer, bytes) else msgspec.json.encode(answer))

    return run


# --- who asks --------------------------------------------------------------------------------------------------------


class _Identified:
    """Let only requests with a verified token in; the application finds the principal in `request.state`."""

    def __init__(self, app: ASGIApp, identities: Identities) -> None:
        self._app = app
        self._identities = identities

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            # There are no websockets here, and nothing to begin or end with the process.
            return
        if scope["path"] == OPENAPI:
            await self._app(scope, receive, send)
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


# --- answers ---------------------------------------------------------------------------------------------------------


def _json(value: bytes, status: int = 200, headers: Mapping[str, str] | None = None) -> Response:
    return Response(value, status, {**(headers or {}), **_HEADERS}, "application/json")


def _error(status: int, code: str, message: str, headers: Mapping[str, str] | None = None) -> Response:
    return _json(msgspec.json.encode({"error": {"code": code, "message": message}}), status, headers)


async def _busy(_request: Request, error: Exception) -> Response:
    return _error(429, "busy", f"{str(error).capitalize()}.", {"retry-after": "5"})


async def _fault(_request: Request, fault: Any) -> Response:  # noqa: ANN401 - the framework's signature
    return _error(fault.status, fault.code, fault.message)


async def _unknown(_request: Request, unknown: Exception) -> Response:
    return _error(404, "unknown", str(unknown))


async def _no_route(_request: Request, error: Any) -> Response:  # noqa: ANN401
    return _error(error.status_code, "request", f"{error.detail}.", error.headers)


async def _no_store(_request: Request, error: Exception) -> Response:
    log.error("the store failed: %s", error)
    told = "The store cannot be used at the moment, so nothing is shown; look up later whether a verdict counts."
    return _error(503, "store", told)


async def _gone(_request: Request, _failure: Exception) -> Response:
    # Nobody hears it; without an answer the server would log a fault of ours.
    return Response(status_code=400)


async def _internal(_request: Request, _failure: Exception) -> Response:
    return _error(500, "internal", "The console failed.")
