"""Findings: what was masked, blocked or observed where, and where a given secret was seen. It is shown nowhere."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Final

from starlette.requests import Request
from starlette.responses import RedirectResponse, Response

from extproc.console.asked import choice_of, exchange_link, link, moment_of, text_of
from extproc.console.guard import PageRoute
from extproc.console.page import PageFault, console_of, form_of, page, viewer_of
from extproc.console.roles import READERS
from extproc.masking.finding import Action, Direction
from extproc.store.port import FindingRow, FindingSearch

ROWS: Final = 50
MAX_SECRET_CHARS: Final = 1 << 20
SUMMED: Final = 8
"""Lines of each summary."""

_TEXTS: Final = ("rule", "user", "session", "fingerprint", "since", "until")
_FINGERPRINT: Final = re.compile(r"[0-9a-f]{32}")


@dataclass(frozen=True, slots=True)
class Sum:
    """How many findings each value has, most first; `filter` is what to ask for to see those of one alone."""

    name: str
    filter: str | None
    counts: list[tuple[str, int]]


async def show(request: Request) -> Response:
    """Show a page of findings; developers their own."""
    console, viewer, query = console_of(request), viewer_of(request), request.query_params
    search = _search(request)
    try:
        found = await console.reading.findings(viewer, search, limit=ROWS, after=text_of(query, "after"))
    except ValueError:
        raise PageFault(422, "after: expected the place where another page ended; begin at the first page.") from None
    asked = {name: text_of(query, name) for name in (*_TEXTS, "direction", "action")}
    return page(
        request,
        "findings.html",
        rows=found.rows,
        asked=asked,
        is_asked=any(asked.values()),
        directions=list(Direction),
        actions=[one for one in Action if one is not Action.OFF],
        sums=_sums(found.rows, with_users=viewer.sees_everyone),
        everyone=viewer.sees_everyone,
        first=link("/findings", **asked) if "after" in query else None,
        next=None if found.after is None else link("/findings", **asked, after=found.after),
        link=link,
        exchange_link=exchange_link,
    )


async def match(request: Request) -> Response:
    """Lead to the findings of a secret, by its fingerprint: the secret is in no address, and in no answer."""
    secret = form_of(request).get("secret", "")
    if not secret:
        raise PageFault(422, "secret: expected the secret that is looked for.")
    if len(secret) > MAX_SECRET_CHARS:
        raise PageFault(422, "secret: expected one secret, of at most a million characters.")
    fingerprint = await console_of(request).reading.fingerprint(secret.replace("\r\n", "\n"))
    return RedirectResponse(link("/findings", fingerprint=fingerprint), 303)


def _search(request: Request) -> FindingSearch:
    query, now = request.query_params, console_of(request).now()
    fingerprint = text_of(query, "fingerprint")
    if fingerprint is not None and not _FINGERPRINT.fullmatch(fingerprint):
        # It may be the secret itself: it is not repeated.
        raise PageFault(422, "fingerprint: expected 32 digits of 0-9 and a-f; the other form takes a secret.")
    return FindingSearch(
        rule=text_of(query, "rule"),
        user=text_of(query, "user"),
        direction=choice_of(query, "direction", Direction),
        action=choice_of(query, "action", Action),
        session=text_of(query, "session"),
        fingerprint=fingerprint,
        since=moment_of(query, "since", now),
        until=moment_of(query, "until", now),
    )


def _sums(rows: Sequence[FindingRow], *, with_users: bool) -> list[Sum]:
    """Return how many of these findings each rule, user and repository has."""
    return [
        Sum("rule", "rule", _most(one.rule for one in rows)),
        *([Sum("user", "user", _most(one.user for one in rows))] if with_users else []),
        Sum("repository", None, _most(one.repository for one in rows)),
    ]


def _most(values: Iterable[str | None]) -> list[tuple[str, int]]:
    return Counter(one or "-" for one in values).most_common(SUMMED)


ROUTES: Final = (PageRoute("/findings", show, READERS), PageRoute("/findings/match", match, READERS, "POST"))
