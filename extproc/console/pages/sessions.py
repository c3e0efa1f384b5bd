"""Sessions: find them by what was in them, page by page, or watch them come."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final
from urllib.parse import urlencode

from starlette.requests import Request
from starlette.responses import Response

from extproc.console.asked import choice_of, moment_of, text_of
from extproc.console.guard import PageRoute
from extproc.console.page import PageFault, console_of, is_fragment, page, viewer_of
from extproc.console.roles import READERS
from extproc.recording.document import Outcome
from extproc.store.port import Search, SessionPage

ROWS: Final = 50
"""Sessions on a page."""

MAX_TRAIL: Final = 20
"""Pages that `Newer` leads back through, one by one; from further back it leads to the newest."""

LIVE_MILLISECONDS: Final = 2000

_TEXTS: Final = ("user", "group", "model", "repository", "path", "finding", "text")
_FILTERS: Final = (*_TEXTS, "outcome", "since", "until")
_PATH: Final = "/sessions"


@dataclass(frozen=True, slots=True)
class Links:
    """Where one can go from a page of the list; None where there is nothing."""

    newer: str | None
    older: str | None
    live: str | None
    still: str | None
    here: str


async def show(request: Request) -> Response:
    """Show the list, or its rows alone; what is not understood is said in the page, beside what was asked."""
    given = request.query_params
    asked = {name: given[name] for name in _FILTERS if given.get(name, "").strip()}
    trail = [one for one in given.getlist("trail") if one][-MAX_TRAIL:]
    after = given.get("after") or None
    found, fault, status = SessionPage([], None), None, 200
    try:
        found = await _find(request, given, after)
    except PageFault as wrong:
        fault, status = wrong.message, wrong.status
    live = given.get("live") == "1" and after is None and fault is None
    return page(
        request,
        "sessions_rows.html" if is_fragment(request) else "sessions.html",
        status=status,
        rows=found.rows,
        links=_links(asked, after, trail, found.after, live=live),
        asked=asked,
        outcomes=list(Outcome),
        fault=fault,
        live=live,
        every=LIVE_MILLISECONDS,
    )


async def _find(request: Request, given: Mapping[str, str], after: str | None) -> SessionPage:
    console, viewer = console_of(request), viewer_of(request)
    now = console.now()
    texts = {name: text_of(given, name) for name in _TEXTS}
    search = Search(
        **texts,
        outcome=choice_of(given, "outcome", Outcome),
        since=moment_of(given, "since", now),
        until=moment_of(given, "until", now),
    )
    try:
        return await console.reading.sessions(viewer, search, limit=ROWS, after=after)
    except ValueError:
        raise PageFault(422, "This page of the list is not known; begin again with the newest sessions.") from None


def _links(
    asked: Mapping[str, str], after: str | None, trail: Sequence[str], next_one: str | None, *, live: bool
) -> Links:
    is_first = after is None
    older = None
    if next_one is not None:
        # The cursors of the pages before this one, so that there is a way back through them.
        passed = trail if after is None else [*trail, after][-MAX_TRAIL:]
        older = _link(asked, after=next_one, trail=passed)
    newer = None if is_first else _link(asked, after=trail[-1] if trail else None, trail=trail[:-1])
    return Links(
        newer=newer,
        older=older,
        live=_link(asked, live="1") if is_first and not live else None,
        still=_link(asked) if live else None,
        here=_link(asked, after=after, trail=trail, live="1" if live else None),
    )


def _link(
    asked: Mapping[str, str], *, after: str | None = None, trail: Sequence[str] = (), live: str | None = None
) -> str:
    given = [*asked.items(), ("live", live), ("after", after), *(("trail", one) for one in trail)]
    query = urlencode([(name, value) for name, value in given if value is not None], errors="replace")
    return f"{_PATH}?{query}" if query else _PATH


ROUTES: Final = (PageRoute(_PATH, show, READERS),)
