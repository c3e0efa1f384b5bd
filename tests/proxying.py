"""A strict fake of the gateway's forward proxy, with real sockets, for what goes through the relay of `extproc run`."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

Handler = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


@dataclass
class FakeProxy:
    """Take CONNECT as the gateway does, and tunnel each to `target`, whatever host it names.

    `tokens` are good; without one of them the answer is 407, for a host in `refused` it is that answer, bytes and all.
    """

    target: tuple[str, int] | None
    tokens: set[str]
    refused: dict[str, bytes] = field(default_factory=dict)
    heads: list[str] = field(default_factory=list)
    tunnels: set[asyncio.StreamWriter] = field(default_factory=set)
    ended: asyncio.Event = field(default_factory=asyncio.Event)
    port: int = 0

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            head = (await reader.readuntil(b"\r\n\r\n")).decode()
            self.heads.append(head)
            writer.write(self._answer(head))
            await writer.drain()
            if b" 200 " in self._answer(head) and self.target is not None:
                self.tunnels.add(writer)
                await self._tunnel(reader, writer)
        except (OSError, EOFError):
            pass
        finally:
            self.tunnels.discard(writer)
            self.ended.set()
            writer.close()

    def _answer(self, head: str) -> bytes:
        first, *fields = head.removesuffix("\r\n\r\n").split("\r\n")
        method, authority, version = first.split(" ")
        headers = dict(line.split(": ", 1) for line in fields)
        assert (method, version, headers["Host"]) == ("CONNECT", "HTTP/1.1", authority)
        scheme, _, token = headers.get("Proxy-Authorization", " ").partition(" ")
        if scheme != "Bearer" or token not in self.tokens:
            return refusal(407, "sign in again", "Proxy-Authenticate: Basic realm=gateway\r\n")
        return self.refused.get(authority.rpartition(":")[0], b"HTTP/1.1 200 OK\r\n\r\n")

    async def _tunnel(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        assert self.target is not None
        inner_reader, inner_writer = await asyncio.open_connection(*self.target)

        async def copy(source: asyncio.StreamReader, sink: asyncio.StreamWriter) -> None:
            while piece := await source.read(65536):
                sink.write(piece)
                await sink.drain()
            if sink.can_write_eof():
                sink.write_eof()

        try:
            await asyncio.gather(copy(reader, inner_writer), copy(inner_reader, writer))
        finally:
            inner_writer.transport.abort()


def refusal(status: int, message: str, more: str = "") -> bytes:
    body = f'{{"error":{{"message":"{message}","code":"x"}}}}'
    head = f"HTTP/1.1 {status} No\r\n{more}content-type: application/json\r\ncontent-length: {len(body)}\r\n\r\n"
    return (head + body).encode()


@asynccontextmanager
async def listening(handler: Handler, tls: ssl.SSLContext | None = None) -> AsyncIterator[int]:
    """Serve on 127.0.0.1; yield the port."""
    running: set[asyncio.Task[None]] = set()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            await handler(reader, writer)
        except asyncio.CancelledError:
            writer.transport.abort()
            raise
        finally:
            writer.close()

    def accept(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.get_running_loop().create_task(serve(reader, writer))
        running.add(task)
        task.add_done_callback(running.discard)

    server = await asyncio.start_server(accept, "127.0.0.1", 0, ssl=tls)
    try:
        yield server.sockets[0].getsockname()[1]
    finally:
        server.close()
        for task in running:
            task.cancel()
        await asyncio.gather(*running, return_exceptions=True)


@asynccontextmanager
async def proxy(fake: FakeProxy, tls: ssl.SSLContext | None = None) -> AsyncIterator[FakeProxy]:
    async with listening(fake.serve, tls) as port:
        fake.port = port
        yield fake
