"""The configuration: settings and policy as the console was started with them."""

from __future__ import annotations

from typing import Final

from starlette.requests import Request
from starlette.responses import Response

from extproc.console.guard import PageRoute
from extproc.console.page import console_of, page
from extproc.console.roles import OPERATORS


async def show(request: Request) -> Response:
    """Show it; what may be secret is not in it."""
    console = console_of(request)
    return page(request, "configuration.html", configuration=console.configuration, roles=console.roles)


ROUTES: Final = (PageRoute("/configuration", show, OPERATORS),)
