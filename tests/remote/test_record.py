from __future__ import annotations

import asyncio
from typing import Any

import pytest
from aiohttp import web

from extproc.errors import ExtprocError
from extproc.remote.record import Remote
from extproc.remote.server import Declined
from extproc.secret import Secret
from extproc.signin.authority import trusting
from extproc.store.port import FindingSearch, Search
from tests.signin.serving import Answering, answering

ROW: dict[str, Any] = {
    "id": "s1",
    "user": None,
    "principal": None,
    "started_at": 1,
    "ended_at": 2.5,
    "exchanges": 1,
    "models": [],
    "outcomes": {},
    "client": None,
    "repositories": [],
    "input_tokens": 0,
    "output_tokens": 0,
    "findings": 0,
    "approvals": 0,
}


async def ask(server: Answering, what: Any) -> Any:
    """Return what comes of asking a console that is not ours."""
    async with answering(server) as url:
        return await asyncio.to_thread(what, Remote(url, Secret("t.o.k"), trusting(None)))


async def test_pages_are_asked_for_until_there_are_enough() -> None:
    queries: list[dict[str, str]] = []

    async def page(request: web.Request) -> web.Response:
        queries.append(dict(request.query))
        rows = [ROW] * int(request.query["limit"])
        return web.json_response({"sessions": rows, "after": f"p{len(queries)}", "unknown": "to this version"})

    search = Search(user="al ice&x", since=-1e15, until=1_760_000_000.5)
    rows = await ask(page, lambda remote: remote.sessions(search, 1100))
    assert len(rows) == 1100
    common = {"user": "al ice&x", "since": "1970-01-01T00:00:00+00:00", "until": "2025-10-09T08:53:20.500000+00:00"}
    assert queries == [
        {**common, "limit": "500"},
        {**common, "limit": "500", "after": "p1"},
        {**common, "limit": "100", "after": "p2"},
    ]


async def test_a_console_that_says_go_on_and_nothing_else_is_left() -> None:
    asked: list[str] = []

    async def page(request: web.Request) -> web.Response:
        asked.append(request.path)
        if "sessions/" in request.path:
            return web.json_response({"session": "s", "start": 0, "documents": [], "more": True})
        return web.json_response({"sessions": [], "findings": [], "after": "more"})

    assert await ask(page, lambda remote: remote.sessions(Search(), 10)) == []
    assert await ask(page, lambda remote: remote.findings(FindingSearch(), 10)) == []
    assert await ask(page, lambda remote: remote.documents("s")) == []
    assert len(asked) == 3


async def test_more_than_was_asked_for_is_not_taken() -> None:
    async def page(_request: web.Request) -> web.Response:
        return web.json_response({"sessions": [ROW] * 50, "after": None})

    assert len(await ask(page, lambda remote: remote.sessions(Search(), 3))) == 3


async def test_a_session_that_ends_in_the_middle_is_told_and_not_shown_in_part() -> None:
    async def part(request: web.Request) -> web.Response:
        if request.query["start"] == "0":
            return web.json_response({"session": "s", "start": 0, "documents": [{"id": "x"}], "more": True})
        return web.json_response({"error": {"code": "unknown", "message": "gone"}}, status=404)

    with pytest.raises(Declined, match="gone"):
        await ask(part, lambda remote: remote.documents("s"))


async def test_what_is_neither_a_session_nor_an_exchange_is_unknown() -> None:
    paths: list[str] = []

    async def none(request: web.Request) -> web.Response:
        paths.append(request.raw_path.partition("?")[0])
        return web.json_response({"error": {"code": "unknown", "message": "no"}}, status=404)

    with pytest.raises(ExtprocError, match=r"no session or exchange has the id '\.\./x'"):
        await ask(none, lambda remote: remote.documents("../x"))
    assert paths == ["/api/v1/sessions/..%2Fx", "/api/v1/exchanges/..%2Fx"]
