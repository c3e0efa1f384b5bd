"""A scripted upstream that is never the bottleneck: answers made beforehand, sent by a bare asyncio protocol.

The request header `x-bench-answer` names the answer. It runs as a script: `python upstream.py PORT`.
"""

from __future__ import annotations

import asyncio
import json
import re
import sys
from dataclasses import dataclass
from functools import cached_property
from typing import Any, cast

_CREATED = 1_760_000_000
_WANTED = re.compile(rb"\r\nx-bench-answer: ?(\w+)", re.IGNORECASE)
_LENGTH = re.compile(rb"\r\ncontent-length: ?(\d+)", re.IGNORECASE)
_LAST_CHUNK = b"0\r\n\r\n"  # RFC 9112 section 7.1, without trailers


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


def _json(value: object) -> bytes:
    return json.dumps(value, separators=(",", ":")).encode()


def _completion(words: int) -> Answer:
    text = " ".join(f"word{number:03}" for number in range(words))
    message = {"role": "assistant", "content": text}
    usage = {"prompt_tokens": 200, "completion_tokens": words, "total_tokens": 200 + words}
    choice = {"index": 0, "message": message, "finish_reason": "stop"}
    body = _json(_object("chat.completion", choice) | {"usage": usage})
    return Answer("application/json", (body,), b'"finish_reason":"stop"')


def _events(count: int, *, together: int = 1, gap: float = 0.0) -> Answer:
    """Return a stream of `count` events, the closing ones included, so many of them `together` in each part."""
    deltas = [_event({"content": f"word{number:03} "}, None) for number in range(count - 2)]
    events = [*deltas, _event({}, "stop"), b"data: [DONE]\n\n"]
    parts = tuple(b"".join(events[at : at + together]) for at in range(0, count, together))
    return Answer("text/event-stream", parts, b"data: ", gap)


def _event(delta: dict[str, str], finish_reason: str | None) -> bytes:
    choice = {"index": 0, "delta": delta, "finish_reason": finish_reason}
    return b"data: " + _json(_object("chat.completion.chunk", choice)) + b"\n\n"


def _object(kind: str, choice: dict[str, Any]) -> dict[str, Any]:
    return {"id": "chatcmpl-0123456789", "object": kind, "created": _CREATED, "model": "gpt-5", "choices": [choice]}


ANSWERS = {
    "plain": _completion(words=50),
    # What comes at full speed comes in packets: 8 events are about 1.6 KB.
    "burst": _events(200, together=8),
    "paced": _events(50, gap=0.02),
    "open": _events(600, gap=0.2),
}


class _Wire:
    """An answer as bytes of HTTP/1.1: the head with the first part, then each part as a chunk of its own."""

    def __init__(self, answer: Answer) -> None:
        head = f"HTTP/1.1 200 OK\r\ncontent-type: {answer.content_type}\r\nx-request-id: 0123456789abcdef\r\n"
        self.gap = answer.gap
        if len(answer.parts) == 1:
            self.writes = [f"{head}content-length: {len(answer.body)}\r\n\r\n".encode() + answer.body]
        else:
            self.writes = [b"%x\r\n%s\r\n" % (len(part), part) for part in answer.parts]
            self.writes[0] = f"{head}transfer-encoding: chunked\r\n\r\n".encode() + self.writes[0]
            self.writes[-1] += _LAST_CHUNK


_WIRES = {name.encode(): _Wire(answer) for name, answer in ANSWERS.items()}


class _Upstream(asyncio.Protocol):
    """One connection; HTTP/1.1 without pipelining, as Envoy speaks it."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)
        self._loop = asyncio.get_running_loop()
        self._buffer = bytearray()

    def data_received(self, data: bytes) -> None:
        self._buffer += data
        head, blank, body = self._buffer.partition(b"\r\n\r\n")
        length = _LENGTH.search(head)
        whole = len(body) >= int(length[1]) if length else body.endswith(_LAST_CHUNK)
        if blank and whole:
            wanted = _WANTED.search(head)
            self._buffer.clear()
            self._send(_WIRES[bytes(wanted[1]) if wanted else b"plain"], 0)

    def _send(self, wire: _Wire, at: int) -> None:
        """Send a part and see to the next; the loop turns in between, so that other connections have theirs."""
        if self._transport.is_closing():
            return
        self._transport.write(wire.writes[at])
        if at + 1 == len(wire.writes):
            return
        if wire.gap:
            self._loop.call_later(wire.gap, self._send, wire, at + 1)
        else:
            self._loop.call_soon(self._send, wire, at + 1)


async def serve(port: int) -> None:
    """Serve on 127.0.0.1 until killed."""
    server = await asyncio.get_running_loop().create_server(_Upstream, "127.0.0.1", port, backlog=1024)
    await server.serve_forever()


if __name__ == "__main__":
    asyncio.run(serve(int(sys.argv[1])))
