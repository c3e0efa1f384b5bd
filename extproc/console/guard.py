"""Let only those see a page who may: every route of the console is one of these."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Literal
from urllib.parse import quote

from starlette.requests import Request
from starlette.responses import RedirectResponse, Response

from extproc.console.page import PageFault, checked_form, console_of, is_fragment
from extproc.console.roles import Role, may

Handler = Callable[[Request], Awaitable[Response]]


@dataclass(frozen=True, slots=True)
class PageRoute:
    """A page: who may see it, and what makes it."""

    path: str
    handler: Handler
    roles: frozenset[Role]
    method: Literal["GET", "POST"] = "GET"


def guarded(route: PageRoute) -> Handler:
    """Return the route's handler behind the checks of session, roles and, for a form, its origin and token."""

    async def run(request: Request) -> Response:
        principal = request.session.get("principal")
        if principal is None:
            return _to_sign_in(request)
        viewer = console_of(request).roles.viewer(principal)
        request.state.viewer = viewer
        if not may(viewer, route.roles):
            raise PageFault(403, _not_for(route.roles))
        if route.method == "POST":
            request.state.form = await checked_form(request)
        return await route.handler(request)

    return run


def _to_sign_in(request: Request) -> Response:
    if request.method not in {"GET", "HEAD"} or is_fragment(request):
        raise PageFault(401, "You are signed out; load the page again.")
    here = request.url.path + (f"?{request.url.query}" if request.url.query else "")
    return RedirectResponse(f"/sign-in?next={quote(here, safe='')}", 303)


def _not_for(roles: frozenset[Role]) -> str:
    wanted = " or ".join(sorted(roles))
    return f"This page is for the role {wanted}. Roles come from the groups in your token; an administrator maps them."
