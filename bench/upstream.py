"""A scripted upstream that is never the bottleneck: answers made beforehand, sent by a bare protocol on uvloop.

The request header `x-bench-answer` names the answer. Of a request with `x-bench-stream` it is noted when each part of
the answer was sent, by the clock that all processes share; `GET /sent` tells it, once. It runs as a script:
`python upstream.py PORT`.
"""

from __future__ import annotations

import asyncio
import json
import re
import sys
import time
from collections import deque
from dataclasses import dataclass
from functools import cache, cached_property
from typing import Any, cast

import uvloop

_CREATED = 1_760_000_000
_HEAD_END = b"\r\n\r\n"
_WANTED = re.compile(rb"\r\nx-bench-answer: ?(\w+)", re.IGNORECASE)
_NOTED = re.compile(rb"\r\nx-bench-stream: ?(\d+)", re.IGNORECASE)
_LENGTH = re.compile(rb"\r\ncontent-length: ?(\d+)", re.IGNORECASE)
_CHUNKED = re.compile(rb"\r\ntransfer-encoding: ?chunked", re.IGNORECASE)
_LAST_CHUNK = b"0\r\n\r\n"  # RFC 9112 section 7.1, without trailers
_TICK_SECONDS = 0.001
"""No timer is set for less: uvloop counts milliseconds, and a shorter one would come at once, over and over."""


@dataclass(frozen=True)
class Answer:
    """An answer: its body in the `parts` it is sent in, `gap` seconds apart; `mark` shows that an event began."""

    content_type: str
    parts: tuple[bytes, ...]
    mark: bytes
    gap: float = 0.0

    @cached_property
    def body(self) -> bytes:
        """Return the whole body."""
        return b"".join(self.parts)


def encoded(value: object) -> bytes:
    """Return JSON as JSON.stringify and the SDKs write it: compact, characters as they are."""
    return json.dumps(value, separators=(",", ":"), ensure_ascii=False).encode()


def _completion(words: int) -> Answer:
    text = " ".join(f"word{number:03}" for number in range(words))
    message = {"role": "assistant", "content": text}
    usage = {"prompt_tokens": 200, "completion_tokens": words, "total_tokens": 200 + words}
    choice = {"index": 0, "message": message, "finish_reason": "stop"}
    body = encoded(_object("chat.completion", choice) | {"usage": usage})
    return Answer("application/json", (body,), b'"finish_reason":"stop"')


def _events(count: int, *, together: int = 1, gap: float = 0.0) -> Answer:
    """Return a stream of `count` events, the closing ones included, so many of them `together` in each part."""
    deltas = [_event({"content": f"word{number:03} "}, None) for number in range(count - 2)]
    events = [*deltas, _event({}, "stop"), b"data: [DONE]\n\n"]
    parts = tuple(b"".join(events[at : at + together]) for at in range(0, count, together))
    return Answer("text/event-stream", parts, b"data: ", gap)


def _event(delta: dict[str, str], finish_reason: str | None) -> bytes:
    choice = {"index": 0, "delta": delta, "finish_reason": finish_reason}
    return b"data: " + encoded(_object("chat.completion.chunk", choice)) + b"\n\n"


def _object(kind: str, choice: dict[str, Any]) -> dict[str, Any]:
    return {"id": "chatcmpl-0123456789", "object": kind, "created": _CREATED, "model": "gpt-5", "choices": [choice]}


GAP = 0.02
"""Seconds between the events of a paced stream: 50 a second."""

ANSWERS = {
    "plain": _completion(words=50),
    # What comes at full speed comes in packets: 8 events are about 1.6 KB.
    "burst": _events(200, together=8),
    "open": _events(600, gap=0.2),
}


@cache
def answer(name: str) -> Answer:
    """Return an answer by its name; `paced_N` is a stream of N events, 50 a second."""
    kind, _, events = name.partition("_")
    return _events(int(events), gap=GAP) if kind == "paced" else ANSWERS[name]


class _Wire:
    """An answer as bytes of HTTP/1.1: the head with the first part, then each part as a chunk of its own."""

    def __init__(self, script: Answer) -> None:
        head = f"HTTP/1.1 200 OK\r\ncontent-type: {script.content_type}\r\nx-request-id: 0123456789abcdef\r\n"
        self.gap = script.gap
        if len(script.parts) == 1:
            self.writes = [f"{head}content-length: {len(script.body)}\r\n\r\n".encode() + script.body]
        else:
            self.writes = [b"%x\r\n%s\r\n" % (len(part), part) for part in script.parts]
            self.writes[0] = f"{head}transfer-encoding: chunked\r\n\r\n".encode() + self.writes[0]
            self.writes[-1] += _LAST_CHUNK


@cache
def _wire(name: bytes) -> _Wire:
    return _Wire(answer(name.decode()))


class _Pace:
    """The connections that get their next part at times `gap` apart.

    The gap is one for all, so whoever got a part last is last in the queue: one timer, for the first in it, serves all.
    """

    def __init__(self, gap: float) -> None:
        self._gap = gap
        self._queue: deque[tuple[float, _Upstream]] = deque()
        self._waiting = False

    def add(self, connection: _Upstream) -> None:
        """Have the next part of a connection's answer sent after the gap, and those that follow."""
        self._queue.append((time.monotonic() + self._gap, connection))
        self._wait()

    def _wait(self) -> None:
        if self._queue and not self._waiting:
            self._waiting = True
            seconds = max(_TICK_SECONDS, self._queue[0][0] - time.monotonic())
            asyncio.get_running_loop().call_later(seconds, self._tick)

    def _tick(self) -> None:
        self._waiting = False
        now, queue = time.monotonic(), self._queue
        while queue and queue[0][0] <= now:
            due, connection = queue.popleft()
            if connection.send_part():
                queue.append((due + self._gap, connection))
        self._wait()


_PACES: dict[float, _Pace] = {}
_SENT: dict[int, list[float]] = {}


class _Upstream(asyncio.Protocol):
    """One connection; HTTP/1.1 without pipelining, as Envoy speaks it."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)
        self._buffer = bytearray()
        self._need: int | None = None
        self._sent: list[float] | None = None

    def data_received(self, data: bytes) -> None:
        self._buffer += data
        if self._need is None:
            self._need = self._needed()
        if self._need is None:
            return
        # A chunked body, of unknown length, ends with its last chunk.
        if self._buffer.endswith(_LAST_CHUNK) if self._need < 0 else len(self._buffer) >= self._need:
            self._answer()

    def _needed(self) -> int | None:
        """Return how long the request is with its head, -1 for chunked ones, None while the head is not whole."""
        end = self._buffer.find(_HEAD_END)
        if end < 0:
            return None
        head = self._buffer[:end]
        if _CHUNKED.search(head):
            return -1
        length = _LENGTH.search(head)
        return end + len(_HEAD_END) + (int(length[1]) if length else 0)

    def _answer(self) -> None:
        head = bytes(self._buffer[: self._buffer.find(_HEAD_END)])
        self._buffer.clear()
        self._need = None
        if head.startswith(b"GET /sent "):
            body = json.dumps(_SENT).encode()
            _SENT.clear()
            self._transport.write(b"HTTP/1.1 200 OK\r\ncontent-length: %d\r\n\r\n%s" % (len(body), body))
            return
        wanted, noted = _WANTED.search(head), _NOTED.search(head)
        self._wire, self._at = _wire(wanted[1] if wanted else b"plain"), 0
        self._sent = _SENT.setdefault(int(noted[1]), []) if noted else None
        if not self.send_part():
            return
        if not self._wire.gap:
            asyncio.get_running_loop().call_soon(self._send_next)
        else:
            _PACES.setdefault(self._wire.gap, _Pace(self._wire.gap)).add(self)

    def send_part(self) -> bool:
        """Send the next part; return whether another one follows."""
        if self._transport.is_closing():
            return False
        writes, at = self._wire.writes, self._at
        if self._sent is not None:
            self._sent.append(time.monotonic())
        self._transport.write(writes[at])
        self._at = at + 1
        return at + 1 < len(writes)

    def _send_next(self) -> None:
        """Send a part and see to the next; the loop turns in between, so that other connections have theirs."""
        if self.send_part():
            asyncio.get_running_loop().call_soon(self._send_next)


async def serve(port: int) -> None:
    """Serve on 127.0.0.1 until killed."""
    server = await asyncio.get_running_loop().create_server(_Upstream, "127.0.0.1", port, backlog=2048)
    await server.serve_forever()


if __name__ == "__main__":
    uvloop.run(serve(int(sys.argv[1])))
