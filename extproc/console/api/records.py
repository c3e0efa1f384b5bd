"""Sessions, exchanges, findings and traces: everything is read through `Reading`, which confines and records."""

from __future__ import annotations

from collections.abc import Awaitable, Sequence
from itertools import pairwise
from typing import Any, TypeVar

from extproc.console.api.route import Call, Fault, Nothing
from extproc.console.api.shapes import (
    Findings,
    FindingsQuery,
    Match,
    ReceiptQuery,
    Session,
    SessionQuery,
    Sessions,
    SessionsQuery,
    Trace,
    Traced,
)
from extproc.console.fair import Busy
from extproc.console.moments import EXPECTED, moment
from extproc.console.reading import Unknown
from extproc.errors import ConfigError, ExtprocError, StoreUnavailable
from extproc.store.port import FindingSearch, Search
from extproc.tracing.trace import Target

T = TypeVar("T")


async def list_sessions(call: Call[SessionsQuery, Nothing]) -> Sessions:
    """Return a page of sessions."""
    asked = call.query
    since, until = _span(call)
    search = Search(
        user=asked.user,
        group=asked.group,
        model=asked.model,
        outcome=asked.outcome,
        repository=asked.repository,
        path=asked.path,
        finding=asked.finding,
        session=asked.session,
        text=asked.text,
        since=since,
        until=until,
    )
    page = await _paged(
        call.console.reading.sessions(call.viewer, search, limit=asked.limit, after=asked.after), asked.after
    )
    return Sessions(sessions=page.rows, after=page.after)


async def show_session(call: Call[SessionQuery, Nothing]) -> Session:
    """Return documents of a session."""
    asked = call.query
    found = await call.console.reading.session(call.viewer, call.id, start=asked.start, limit=asked.limit)
    return Session(session=found.session, start=found.start, documents=found.documents, more=found.more)


async def show_exchange(call: Call[Nothing, Nothing]) -> dict[str, Any]:
    """Return the document of an exchange."""
    return await call.console.reading.exchange(call.viewer, call.id)


async def show_receipt(call: Call[ReceiptQuery, Nothing]) -> bytes:
    """Return the receipt of an exchange, byte for byte as `extproc receipt` writes it."""
    try:
        return await call.console.reading.receipt(call.viewer, call.id, with_body=call.query.body)
    except (ConfigError, StoreUnavailable, Unknown, Busy):
        raise
    except ExtprocError as error:
        raise Fault(409, "unproven", str(error)) from None


async def list_findings(call: Call[FindingsQuery, Nothing]) -> Findings:
    """Return a page of findings."""
    asked = call.query
    since, until = _span(call)
    search = FindingSearch(
        rule=asked.rule,
        user=asked.user,
        direction=asked.direction,
        action=asked.action,
        session=asked.session,
        fingerprint=asked.fingerprint,
        since=since,
        until=until,
    )
    return await _findings(call, search, asked.limit, asked.after)


async def match_secret(call: Call[Nothing, Match]) -> Findings:
    """Return findings of a secret, which is kept nowhere; its fingerprint is what is looked for."""
    asked = call.body
    search = FindingSearch(fingerprint=await call.console.reading.fingerprint(asked.secret))
    return await _findings(call, search, asked.limit, asked.after)


async def trace_lines(call: Call[Nothing, Trace]) -> Traced:
    """Return the suggestions that lines come from."""
    _check(call.body.targets)
    ranges = await call.console.reading.trace(call.viewer, call.body.targets, call.body.before)
    return Traced(ranges=ranges)


async def _findings(call: Call[Any, Any], search: FindingSearch, limit: int, after: str | None) -> Findings:
    page = await _paged(call.console.reading.findings(call.viewer, search, limit=limit, after=after), after)
    return Findings(findings=page.rows, after=page.after)


async def _paged(page: Awaitable[T], after: str | None) -> T:
    try:
        return await page
    except ValueError:
        if after is None:
            raise
        raise Fault(422, "query", "`after` is no cursor of this list.") from None


def _span(call: Call[Any, Any]) -> tuple[float | None, float | None]:
    asked, now = call.query, call.console.now()
    return _moment("since", asked.since, now), _moment("until", asked.until, now)


def _moment(name: str, text: str | None, now: float) -> float | None:
    try:
        return None if text is None else moment(text, now, in_utc=True)
    except ValueError:
        raise Fault(422, "query", f"`{name}`: {EXPECTED}.") from None


def _check(targets: Sequence[Target]) -> None:
    """Raise Fault for lines whose numbers are not those of a file; tracing relies on them."""
    for at, target in enumerate(targets):
        numbers = target.numbers
        rises = all(one < other for one, other in pairwise(numbers))
        if len(numbers) != len(target.lines) or not rises or (numbers and numbers[0] < 1):
            told = "expected a number for each line, from 1 on and rising"
            raise Fault(422, "body", f"The body is not as expected: {told} - at `$.targets[{at}]`")
