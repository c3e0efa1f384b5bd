"""`extproc drain` on the real Envoy."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import aiohttp
import pytest
import pytest_asyncio

from extproc.draining import Running, drain
from tests.e2e.gateway import Gateway
from tests.e2e.tunnels import LISTED, Far, encrypted, http2, leading_to, list_hosts, tunnel
from tests.e2e.upstream import DONE, Call, event, plain

pytestmark = [pytest.mark.e2e, pytest.mark.asyncio(loop_scope="session")]


@pytest_asyncio.fixture(loop_scope="session")
async def draining(far: Far) -> AsyncIterator[Gateway]:
    """A gateway of its own: nothing goes back from draining."""
    gateway = Gateway()
    await gateway.prepare(leading_to(far.port))
    list_hosts(gateway, LISTED)
    await gateway.start()
    yield gateway
    await gateway.stop()


def start(gateway: Gateway, *, seconds: float = 30, pause: float = 0.0) -> asyncio.Task[Running | None]:
    admin = f"http://127.0.0.1:{gateway.ports.admin}"
    return asyncio.create_task(drain(gateway.session, admin, seconds=seconds, pause=pause, poll=0.05))


@asynccontextmanager
async def streaming(gateway: Gateway, go: asyncio.Event) -> AsyncIterator[aiohttp.ClientResponse]:
    """Have a stream that ends when `go` is set; other exchanges are answered as always."""

    async def script(call: Call) -> None:
        if b'"stream": true' not in call.seen.body:
            await plain(call)
            return
        await call.head(content_type="text/event-stream", transfer_encoding="chunked")
        await call.chunk(event("hel"))
        await go.wait()
        await call.chunk(event("lo", finish="stop") + DONE)
        await call.end()

    gateway.upstream.play(script)
    async with gateway.chat(stream=True) as response:
        assert response.status == 200
        yield response


async def is_ready(gateway: Gateway) -> bool:
    async with gateway.session.get(f"http://127.0.0.1:{gateway.ports.admin}/ready") as response:
        return response.status == 200


async def not_ready(gateway: Gateway) -> None:
    for _ in range(3000):
        if not await is_ready(gateway):
            return
        await asyncio.sleep(0.01)
    raise AssertionError("Envoy stayed ready")


async def goaway(reader: asyncio.StreamReader) -> int:
    """Read frames until a GOAWAY (RFC 9113 section 6.8), which the library takes for the end; return its code."""
    async with asyncio.timeout(30):
        while True:
            head = await reader.readexactly(9)
            payload = await reader.readexactly(int.from_bytes(head[:3]))
            if head[3] == 7:
                return int.from_bytes(payload[4:8])


async def connection_of(gateway: Gateway) -> str | None:
    async with gateway.chat() as response:
        await response.read()
        assert response.status == 200
        closing: str | None = response.headers.get("connection")
        return closing


async def test_a_stream_goes_to_its_end_and_new_connections_are_served_meanwhile(draining: Gateway) -> None:
    go = asyncio.Event()
    async with streaming(draining, go) as response, encrypted(draining) as idle:
        assert (await idle.ask("/models")).status == 200
        assert await connection_of(draining) is None
        ended = start(draining, pause=1.0)
        await not_ready(draining)
        # In the pause, then with drained listeners: the first is on a connection that was kept, the others on new ones.
        assert [await connection_of(draining) for _ in range(2)] == ["close", "close"]
        await asyncio.sleep(1.2)
        assert await connection_of(draining) == "close"
        async with encrypted(draining) as wire:
            assert (await wire.ask("/models")).headers["connection"] == "close"
        assert not ended.done()
        go.set()
        assert (await response.read()).endswith(DONE)
        # The idle tunnel is still open, and holds nothing.
        assert await asyncio.wait_for(ended, 30) is None
        assert not idle.reader.at_eof()


async def test_http2_clients_are_told_to_go_away(draining: Gateway) -> None:
    async with http2(draining) as client:
        assert (await client.answer(await client.ask("/models"))).status == 200
        ended = start(draining, pause=0.2)
        await not_ready(draining)
        await client.ask("/models")
        assert await goaway(client.wire.reader) == 0  # NO_ERROR, RFC 9113 section 7
        assert await asyncio.wait_for(ended, 30) is None


async def test_at_the_bound_it_says_what_still_runs(draining: Gateway) -> None:
    go = asyncio.Event()
    async with streaming(draining, go) as response, tunnel(draining, LISTED):
        assert await start(draining, seconds=0.3) == Running(exchanges=1, tunnels=1)
        go.set()
        await response.read()
