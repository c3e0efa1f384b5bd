from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest
from starlette.requests import Request
from starlette.responses import PlainTextResponse
from starlette.types import Receive, Scope, Send

from extproc.commands.console import server_of
from extproc.console.connections import HeadsInTime

HEAD = b"GET / HTTP/1.1\r\nhost: console\r\n"
WHOLE = HEAD + b"\r\n"


class _App:
    """Answer when told to."""

    def __init__(self) -> None:
        self.may_answer = asyncio.Event()
        self.asked = asyncio.Event()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        self.asked.set()
        await self.may_answer.wait()
        await PlainTextResponse(f"you said {Request(scope, receive).method}")(scope, receive, send)


@asynccontextmanager
async def serving(app: _App) -> AsyncIterator[int]:
    listening = socket.create_server(("127.0.0.1", 0))
    server = server_of(app)
    assert server.config.http is HeadsInTime
    running = asyncio.create_task(server.serve(sockets=[listening]))
    try:
        yield listening.getsockname()[1]
    finally:
        server.stop()
        await running
        listening.close()


@pytest.fixture(autouse=True)
def soon(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(HeadsInTime, "head_seconds", 0.1)


@pytest.mark.parametrize("sent", [b"", b"G", HEAD, HEAD + b"x-slow: "])
async def test_a_connection_without_the_head_of_a_request_is_closed(sent: bytes) -> None:
    async with serving(_App()) as port:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(sent)
        assert await asyncio.wait_for(reader.read(), 10) == b""
        writer.close()


async def test_each_further_piece_of_a_head_buys_no_time() -> None:
    async with serving(_App()) as port:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)

        async def trickle() -> None:
            while True:
                writer.write(b"G")
                await asyncio.sleep(0.01)

        trickling = asyncio.create_task(trickle())
        try:
            # Unread bytes make the end of a connection a reset.
            assert await asyncio.wait_for(reader.read(), 10) == b""
        except ConnectionResetError:
            pass
        finally:
            trickling.cancel()
            writer.close()


async def test_an_answer_may_take_longer_and_then_the_next_request_must_come() -> None:
    app = _App()
    async with serving(app) as port:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(WHOLE)
        await app.asked.wait()
        # Longer than a head may take: nothing else can tell that it is not cut off.
        await asyncio.sleep(0.3)
        app.may_answer.set()
        answer = await asyncio.wait_for(reader.read(), 10)
        assert answer.startswith(b"HTTP/1.1 200 ")
        assert answer.endswith(b"you said GET")
        writer.close()


async def test_a_body_that_nobody_reads_keeps_no_connection() -> None:
    app = _App()
    app.may_answer.set()
    async with serving(app) as port:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(HEAD + b"content-length: 1000\r\n\r\nx")
        assert (await asyncio.wait_for(reader.read(), 10)).endswith(b"you said GET")
        writer.close()


async def test_requests_on_one_connection_are_all_answered() -> None:
    app = _App()
    app.may_answer.set()
    async with serving(app) as port:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(WHOLE * 3)
        assert (await asyncio.wait_for(reader.read(), 10)).count(b"you said GET") == 3
        writer.close()
