"""What the pages of the console share: who looks, what is shown around every page, and forms that are checked."""

from __future__ import annotations

import asyncio
import hmac
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Final
from urllib.parse import parse_qsl, urlsplit

from jinja2 import Environment
from starlette.requests import Request
from starlette.responses import HTMLResponse, Response

from extproc.console.configuration import Configuration
from extproc.console.reading import Reading
from extproc.console.roles import EVERYBODY, INVOLVED, OPERATORS, READERS, Roles, Viewer, may
from extproc.console.services import Services
from extproc.errors import ExtprocError
from extproc.store.approvals_port import Answers

MAX_FORM_BYTES: Final = 8 * 1024 * 1024
"""Longest form: a diff that is traced is pasted into one."""

FORM_SECONDS: Final = 20.0
_NOT_OF_SESSION: Final = "This form is not of your session; load the page again, and send it once more."


@dataclass(frozen=True, slots=True)
class Console:
    """Everything that pages and API use; `approvals` is asked at each request and may raise StoreUnavailable."""

    reading: Reading
    approvals: Callable[[], Answers]
    services: Services
    roles: Roles
    configuration: Configuration
    templates: Environment
    now: Callable[[], float]
    url: str


class PageFault(ExtprocError):
    """Carry an error to the person at the browser: the status, and one sentence that says what to do."""

    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.status, self.message = status, message


_NAVIGATION: Final = (
    ("Overview", "/", EVERYBODY),
    ("Sessions", "/sessions", READERS),
    ("Approvals", "/approvals", INVOLVED),
    ("Findings", "/findings", READERS),
    ("Trace", "/trace", READERS),
    ("Configuration", "/configuration", OPERATORS),
)


def console_of(request: Request) -> Console:
    """Return what the application was made with."""
    console: Console = request.app.state.console
    return console


def viewer_of(request: Request) -> Viewer:
    """Return who looks; only for requests that passed the guard of their route."""
    viewer: Viewer = request.state.viewer
    return viewer


def form_of(request: Request) -> Mapping[str, str]:
    """Return the fields of a form whose origin and token were checked by the guard."""
    form: Mapping[str, str] = request.state.form
    return form


def address_of(request: Request) -> str | None:
    """Return the address of the peer: anybody can write an x-forwarded-for."""
    return None if request.client is None else request.client.host


def is_fragment(request: Request) -> bool:
    """Say whether only a part of the page is asked for, as live parts do."""
    return request.headers.get("x-fragment") == "1"


def page(request: Request, template: str, *, status: int = 200, **values: Any) -> Response:  # noqa: ANN401 - for templates
    """Return a page; `viewer`, `navigation`, `csrf`, `path` and `now` are known to every template."""
    viewer: Viewer | None = getattr(request.state, "viewer", None)
    shown = [] if viewer is None else [one for one in _NAVIGATION if may(viewer, one[2])]
    session = request.scope.get("session") or {}
    console = console_of(request)
    html = console.templates.get_template(template).render(
        viewer=viewer,
        navigation=shown,
        csrf=session.get("csrf", ""),
        path=request.url.path,
        now=console.now(),
        **values,
    )
    return HTMLResponse(html, status)


async def checked_form(request: Request) -> dict[str, str]:
    """Return the fields of a form of ours; raises PageFault for one of another site, or that is too long.

    The browser's word for the origin (Fetch Metadata, else RFC 6454's Origin), and the session's token must both be
    right. Of a field that comes twice the last counts.
    """
    _check_origin(request)
    known = str((request.scope.get("session") or {}).get("csrf", ""))
    # Before the body is read: nobody without a session fills this memory.
    if not known:
        raise PageFault(403, _NOT_OF_SESSION)
    body = bytearray()
    try:
        async with asyncio.timeout(FORM_SECONDS):
            async for piece in request.stream():
                body += piece
                if len(body) > MAX_FORM_BYTES:
                    raise PageFault(413, f"The form is longer than {MAX_FORM_BYTES >> 20} MiB.")
    except TimeoutError:
        raise PageFault(408, "The form did not arrive in time.") from None
    try:
        fields = dict(parse_qsl(body.decode(), keep_blank_values=True, strict_parsing=bool(body), max_num_fields=100))
    except ValueError:
        raise PageFault(400, "The form cannot be read.") from None
    if not hmac.compare_digest(fields.pop("csrf", "").encode(), known.encode()):
        raise PageFault(403, _NOT_OF_SESSION)
    return fields


def _check_origin(request: Request) -> None:
    site = request.headers.get("sec-fetch-site")
    origin = request.headers.get("origin")
    ours = urlsplit(console_of(request).url)
    is_ours = origin is None or origin == f"{ours.scheme}://{ours.netloc}"
    if site not in {None, "same-origin"} or not is_ours:
        raise PageFault(403, "The form comes from another site.")
