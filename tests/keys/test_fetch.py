from __future__ import annotations

import asyncio

import aiohttp
import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer

from extproc.keys.fetch import FetchFailed, fetch_json


async def fetch(handler: object, *, timeout_seconds: float = 5.0) -> dict[str, object]:
    app = web.Application()
    app.router.add_get("/", handler)  # type: ignore[arg-type]  # both kinds of handler below
    async with TestServer(app) as server, aiohttp.ClientSession() as session:
        return await fetch_json(session, str(server.make_url("/")), timeout_seconds=timeout_seconds, max_bytes=100)


def answering(body: str, status: int = 200) -> object:
    async def handler(_request: web.Request) -> web.Response:
        return web.Response(text=body, status=status)

    return handler


async def test_a_json_object_is_returned() -> None:
    assert await fetch(answering('{"a":1}')) == {"a": 1}


@pytest.mark.parametrize(
    ("body", "status", "reason"),
    [
        ('{"a":1}', 500, "status 500"),
        ('{"a":1}', 201, "status 201"),
        ("<html>", 200, "not JSON"),
        ("[1]", 200, "not a JSON object"),
        ("[" * 99, 200, "not JSON"),
        ('{"a":"' + "x" * 100 + '"}', 200, "longer than 100 bytes"),
    ],
)
async def test_any_other_answer_is_a_failure_that_says_why(body: str, status: int, reason: str) -> None:
    with pytest.raises(FetchFailed, match=reason):
        await fetch(answering(body, status))


async def test_a_redirect_is_not_followed() -> None:
    async def handler(request: web.Request) -> web.Response:
        if request.query:
            return web.Response(text='{"a":1}')
        raise web.HTTPFound("/?again")

    with pytest.raises(FetchFailed, match="status 302"):
        await fetch(handler)


async def test_a_silent_server_is_given_up() -> None:
    async def handler(_request: web.Request) -> web.Response:
        await asyncio.Event().wait()
        return web.Response()

    with pytest.raises(FetchFailed, match="TimeoutError"):
        await fetch(handler, timeout_seconds=0.05)


async def test_a_dead_address_is_a_failure() -> None:
    async with aiohttp.ClientSession() as session:
        with pytest.raises(FetchFailed, match="request failed"):
            await fetch_json(session, "http://127.0.0.1:1/", timeout_seconds=5, max_bytes=100)
