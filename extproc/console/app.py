"""Put the console together: pages for people with a session, the REST API for programs with a token."""

from __future__ import annotations

import logging
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import Mount, Route
from starlette.staticfiles import StaticFiles
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from extproc.console.fair import Busy
from extproc.console.guard import guarded
from extproc.console.page import Console, PageFault, is_fragment, page
from extproc.console.pages import approvals, configuration, findings, overview, replay, sessions, trace
from extproc.console.reading import Unknown
from extproc.console.signing_in import SignIn
from extproc.errors import ConfigError, ExtprocError, StoreUnavailable

log = logging.getLogger("extproc.console")

STATIC: Final = Path(__file__).parent / "static"

# Nothing of another origin, nothing inline: recorded text is written by strangers (CSP Level 3).
CONTENT_SECURITY_POLICY: Final = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; form-action 'self'; "
    "base-uri 'none'; frame-ancestors 'none'; require-trusted-types-for 'script'; trusted-types console"
)

HEADERS: Final = {
    "content-security-policy": CONTENT_SECURITY_POLICY,
    "x-content-type-options": "nosniff",
    # Not `no-referrer`: with that, Chromium says "null" for the origin of our own forms.
    "referrer-policy": "same-origin",
    "cross-origin-opener-policy": "same-origin",
    "cross-origin-resource-policy": "same-origin",
    "permissions-policy": "camera=(), microphone=(), geolocation=(), payment=()",
}

PAGES: Final = (
    *overview.ROUTES,
    *sessions.ROUTES,
    *replay.ROUTES,
    *approvals.ROUTES,
    *findings.ROUTES,
    *trace.ROUTES,
    *configuration.ROUTES,
)


def make_app(console: Console, api: ASGIApp, sign_in: SignIn | None, sessions: Callable[[ASGIApp], ASGIApp]) -> ASGIApp:
    """Make the ASGI application; without `sign_in` there are no pages.

    `sessions` puts the server-side session into the scope (`extproc.console.browser_sessions`).
    """
    pages = None if sign_in is None else sessions(_pages(console, sign_in))

    async def dispatch(scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            # There are no websockets here, and nothing to begin or end with the process.
            return
        path = scope["path"]
        if path == "/healthz":
            await PlainTextResponse("ok\n")(scope, receive, send)
        elif path.startswith("/api/") or pages is None:
            await api(scope, receive, send)
        else:
            await pages(scope, receive, send)

    return dispatch


def _pages(console: Console, sign_in: SignIn) -> ASGIApp:
    routes = [Route(one.path, guarded(one), methods=[one.method]) for one in PAGES]
    app = Starlette(
        routes=[*routes, *sign_in.routes(), Mount("/static", StaticFiles(directory=STATIC))],
        exception_handlers={
            PageFault: _fault,
            Unknown: _unknown,
            Busy: _busy,
            HTTPException: _http,
            StoreUnavailable: _no_store,
            # A key that is not there, say: where it should be is for the log.
            ConfigError: _no_store,
            ExtprocError: _failed,
            ClientDisconnect: _gone,
            Exception: _internal,
        },
    )
    app.state.console = console
    app.router.redirect_slashes = False
    return _WithHeaders(app)


class _WithHeaders:
    """Send the security headers with every answer; what is not static is not kept by anybody."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        kept = "no-cache" if scope["path"].startswith("/static/") else "no-store"
        headers = {**HEADERS, "cache-control": kept}
        raw = [(name.encode(), value.encode()) for name, value in headers.items()]

        async def sending(message: Message) -> None:
            if message["type"] == "http.response.start":
                others = [one for one in message["headers"] if one[0].decode().lower() not in headers]
                message = {**message, "headers": [*others, *raw]}
            await send(message)

        await self._app(scope, receive, sending)


# --- Errors ----------------------------------------------------------------------------------------------------------


def _error(request: Request, status: int, message: str) -> Response:
    if is_fragment(request):
        return PlainTextResponse(message, status)
    return page(request, "error.html", status=status, code=status, message=message)


async def _fault(request: Request, fault: Any) -> Response:  # noqa: ANN401 - the framework's signature
    return _error(request, fault.status, fault.message)


async def _unknown(request: Request, _missing: Any) -> Response:  # noqa: ANN401
    return _error(
        request, 404, "There is nothing here that you may see. It may be somebody else's, or removed by rule."
    )


async def _busy(request: Request, error: Exception) -> Response:
    return _error(request, 429, f"{str(error).capitalize()}.")


async def _http(request: Request, error: Any) -> Response:  # noqa: ANN401
    return _error(request, error.status_code, f"{error.detail}.")


async def _no_store(request: Request, error: Exception) -> Response:
    log.error("the store failed: %s", error)
    return _error(request, 503, "The record cannot be read at the moment, so nothing is shown. Try again soon.")


async def _failed(request: Request, error: Exception) -> Response:
    return _error(request, 422, str(error))


async def _gone(_request: Request, _failure: Exception) -> Response:
    # Nobody hears it; without an answer the server would log a fault of ours.
    return Response(status_code=400)


async def _internal(request: Request, _failure: Exception) -> Response:
    return _error(request, 500, "The console failed; its log says where.")
