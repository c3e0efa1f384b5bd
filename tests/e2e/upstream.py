"""A scripted upstream on a real socket: it does what a test tells it, byte by byte, and keeps what it was sent."""

from __future__ import annotations

import asyncio
import json
import socket
import struct
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Any


@dataclass
class Seen:
    method: str
    target: str
    headers: list[tuple[str, str]]
    body: bytes

    def header(self, name: str) -> str | None:
        return next((value for key, value in self.headers if key == name), None)


@dataclass
class Call:
    """One request that waits for its answer."""

    seen: Seen
    writer: asyncio.StreamWriter

    async def send(self, data: bytes) -> None:
        self.writer.write(data)
        await self.writer.drain()

    async def head(self, status: str = "200 OK", **headers: str) -> None:
        fields = {name.replace("_", "-"): value for name, value in headers.items()}
        lines = [f"HTTP/1.1 {status}", *(f"{name}: {value}" for name, value in fields.items())]
        await self.send(("\r\n".join(lines) + "\r\n\r\n").encode())

    async def chunk(self, data: bytes) -> None:
        await self.send(f"{len(data):x}\r\n".encode() + data + b"\r\n")

    async def end(self, trailers: bytes = b"") -> None:
        await self.send(b"0\r\n" + trailers + b"\r\n")

    async def whole(
        self, body: bytes, status: str = "200 OK", content_type: str = "application/json", **more: str
    ) -> None:
        await self.head(status, content_type=content_type, content_length=str(len(body)), **more)
        await self.send(body)

    def reset(self) -> None:
        """Break the connection with an RST."""
        linger = struct.pack("ii", 1, 0)
        self.writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
        self.writer.transport.abort()


Script = Callable[[Call], Awaitable[None]]


def answer_json(text: str = "hello", **more: Any) -> bytes:
    choice = {"index": 0, "message": {"role": "assistant", "content": text}, "finish_reason": "stop"}
    usage = {"prompt_tokens": 3, "completion_tokens": 5, "total_tokens": 8}
    return json.dumps(
        {
            "id": "x",
            "object": "chat.completion",
            "created": 1,
            "model": "gpt-5",
            "choices": [choice],
            "usage": usage,
            **more,
        }
    ).encode()


def event(text: str | None = None, *, finish: str | None = None) -> bytes:
    delta = {} if text is None else {"content": text}
    choice = {"index": 0, "delta": delta, "finish_reason": finish}
    frame = {"id": "x", "object": "chat.completion.chunk", "created": 1, "model": "gpt-5", "choices": [choice]}
    return b"data: " + json.dumps(frame).encode() + b"\n\n"


DONE = b"data: [DONE]\n\n"


async def plain(call: Call) -> None:
    """Answer JSON, or a short stream where one is asked for; the default script."""
    if call.seen.method == "GET":
        await call.whole(b'{"object":"list","data":[]}')
        return
    if not json.loads(call.seen.body).get("stream"):
        await call.whole(answer_json())
        return
    await call.head(content_type="text/event-stream", transfer_encoding="chunked")
    for frame in (event("hel"), event("lo"), event(finish="stop"), DONE):
        await call.chunk(frame)
    await call.end()


@dataclass
class Upstream:
    seen: list[Seen] = field(default_factory=list)
    script: Script = plain
    port: int = 0
    _server: asyncio.Server | None = None

    async def start(self) -> None:
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        self.port = self._server.sockets[0].getsockname()[1]

    async def stop(self) -> None:
        if self._server is not None:
            self._server.close()

    def play(self, script: Script) -> None:
        """Forget what was seen and answer with `script` from now on."""
        self.seen.clear()
        self.script = script

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while True:
                seen = await _read(reader)
                self.seen.append(seen)
                await self.script(Call(seen, writer))
                if writer.transport.is_closing():
                    return
        except (asyncio.IncompleteReadError, ConnectionError):
            return
        finally:
            writer.close()


async def _read(reader: asyncio.StreamReader) -> Seen:
    head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1")
    first, *lines = head.split("\r\n")[:-2]
    method, target, _ = first.split(" ")
    headers = [(name.lower(), value.strip()) for name, _, value in (line.partition(":") for line in lines)]
    fields = dict(headers)
    body = b""
    if "content-length" in fields:
        body = await reader.readexactly(int(fields["content-length"]))
    elif fields.get("transfer-encoding") == "chunked":
        while size := int(await reader.readline(), 16):
            body += await reader.readexactly(size)
            await reader.readline()
        await reader.readuntil(b"\r\n")
    return Seen(method, target, headers, body)
