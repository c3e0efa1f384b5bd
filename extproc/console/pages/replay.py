"""The replay of a session, or of one exchange, and the proof that the record of an exchange is what was signed."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Mapping, Sequence
from typing import Any, Final

from starlette.requests import Request
from starlette.responses import Response

from extproc.console.asked import text_of
from extproc.console.guard import PageRoute
from extproc.console.page import PageFault, console_of, is_fragment, page, viewer_of
from extproc.console.reading import MAX_SHOWN, Signed, Unknown
from extproc.console.roles import READERS
from extproc.console.showing import exchange as showing
from extproc.console.showing.proof import Proof, proof_of
from extproc.console.showing.rhythm import data, scenes
from extproc.errors import ConfigError, ExtprocError, StoreUnavailable

_MAX_START: Final = 10_000_000


async def session(request: Request) -> Response:
    """Show a session's exchanges, from number `start` on."""
    start = _start_of(request)
    reading = console_of(request).reading
    found = await reading.session(viewer_of(request), request.path_params["id"], start=start)
    signed, unchecked = await _signed(request, found.documents)

    def make() -> Response:
        exchanges = showing.session(found.documents, numbered=start == 0)
        return page(
            request,
            "replay.html",
            session=found.session,
            one=None,
            exchanges=exchanges,
            played=data(scenes(found.documents)),
            first=start + 1,
            before=max(0, start - MAX_SHOWN) if start else None,
            after=start + len(found.documents) if found.more else None,
            signed=signed,
            unchecked=unchecked,
        )

    # Text of a megabyte takes a while: meanwhile others are served.
    return await asyncio.to_thread(make)


async def exchange(request: Request) -> Response:
    """Show one exchange with all of its prompt."""
    document = await console_of(request).reading.exchange(viewer_of(request), request.path_params["id"])
    signed, unchecked = await _signed(request, [document])

    def make() -> Response:
        shown = showing.alone(document)
        return page(
            request,
            "replay.html",
            session=shown.session,
            one=shown,
            exchanges=[shown],
            played=data(scenes([document])),
            first=1,
            before=None,
            after=None,
            signed=signed,
            unchecked=unchecked,
        )

    return await asyncio.to_thread(make)


async def prove(request: Request) -> Response:
    """Prove an exchange: say what leads to which signed root, or why nothing does."""
    exchange_id = request.path_params["id"]
    proof: Proof | None = None
    fault = None
    try:
        proof = proof_of(await console_of(request).reading.receipt(viewer_of(request), exchange_id))
    except (Unknown, StoreUnavailable):
        raise
    except ExtprocError as error:
        fault = str(error)
    template = "proof_part.html" if is_fragment(request) else "proof.html"
    return page(request, template, exchange=exchange_id, proof=proof, fault=fault)


async def receipt(request: Request) -> Response:
    """Send the receipt of an exchange, without its content, as a file."""
    exchange_id = request.path_params["id"]
    made = await console_of(request).reading.receipt(viewer_of(request), exchange_id)
    name = re.sub(r"[^A-Za-z0-9._-]", "_", exchange_id)[:100]
    headers = {"content-disposition": f'attachment; filename="receipt-{name}.json"'}
    return Response(made, media_type="application/json", headers=headers)


async def _signed(request: Request, documents: Sequence[Mapping[str, Any]]) -> tuple[dict[str, Signed], str | None]:
    """Return what is signed; where no key is there to check it with, why nothing can be said."""
    try:
        return await console_of(request).reading.signed(documents), None
    except ConfigError as error:
        return {}, str(error)


def _start_of(request: Request) -> int:
    told = text_of(request.query_params, "start") or "0"
    if not re.fullmatch(r"[0-9]{1,8}", told) or int(told) > _MAX_START:
        raise PageFault(422, "start: expected the number of an exchange, counted from 0.")
    return int(told)


ROUTES: Final = (
    PageRoute("/sessions/{id}", session, READERS),
    PageRoute("/exchanges/{id}", exchange, READERS),
    PageRoute("/exchanges/{id}/receipt", receipt, READERS),
    PageRoute("/exchanges/{id}/prove", prove, READERS, "POST"),
)
