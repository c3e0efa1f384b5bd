"""The load generator: HTTP/1.1 keep-alive connections, each asking again as soon as it is answered (closed loop)."""

from __future__ import annotations

import asyncio
import json
import time
from dataclasses import dataclass, field
from typing import cast

from bench.upstream import ANSWERS, Answer

REQUEST_BODY_BYTES = 1024
_STALL_SECONDS = 30.0
_LAST_CHUNK = b"\r\n0\r\n\r\n"


class BenchError(Exception):
    """Say what went wrong: a measurement that is not of what it claims to be is no measurement."""


@dataclass(slots=True)
class Samples:
    """What was observed, in seconds: of each exchange its time to the first part of the answer and to the end."""

    first: list[float] = field(default_factory=list)
    whole: list[float] = field(default_factory=list)


def request(answer: str, token: str) -> bytes:
    """Return a chat completions request of a Copilot client, asking the upstream for the named answer."""
    stream = len(ANSWERS[answer].parts) > 1
    body = _body(stream=stream)
    head = (
        "POST /chat/completions HTTP/1.1\r\n"
        "host: api.githubcopilot.com\r\n"
        f"authorization: Bearer {token}\r\n"
        "accept: application/json, text/event-stream\r\n"
        "content-type: application/json\r\n"
        f"content-length: {len(body)}\r\n"
        "user-agent: GitHubCopilotChat/0.30.0\r\n"
        "editor-version: vscode/1.104.0\r\n"
        "editor-plugin-version: copilot-chat/0.30.0\r\n"
        "copilot-integration-id: vscode-chat\r\n"
        "openai-intent: conversation-panel\r\n"
        "x-initiator: user\r\n"
        "x-interaction-id: 5c3a6f0e-0d1e-4b7e-9a51-0e6f9c1c2d3b\r\n"
        f"x-bench-answer: {answer}\r\n"
        "\r\n"
    )
    return head.encode() + body


def _body(*, stream: bool) -> bytes:
    def encoded(padding: int) -> bytes:
        question = f"Why does this test fail? {'x' * padding}"
        messages = [{"role": "system", "content": "You are concise."}, {"role": "user", "content": question}]
        return json.dumps({"model": "gpt-5", "stream": stream, "messages": messages}).encode()

    return encoded(REQUEST_BODY_BYTES - len(encoded(0)))


class Connection(asyncio.Protocol):
    """Ask, wait for the whole answer, ask again until `deadline` (a `time.perf_counter`); then `done` resolves."""

    def __init__(self, asked: bytes, answer: Answer, samples: Samples, deadline: float) -> None:
        self.done: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        # When all is torn down nobody asks any more how this one ended; that is not worth a warning.
        self.done.add_done_callback(lambda done: done.cancelled() or done.exception())
        self.received = bytearray()
        self._request, self._samples, self._deadline = asked, samples, deadline
        self._answer = answer
        self._sent = 0.0
        self._first: float | None = None
        self._head_end = -1
        self._length: int | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Ask for the first time."""
        self._transport = cast("asyncio.Transport", transport)
        self._ask()

    def data_received(self, data: bytes) -> None:
        """Take a part of the answer; after the last one, check it and ask again."""
        self.received += data
        if self._first is None and self._answer.mark in self.received:
            self._first = time.perf_counter()
        if self._head_end < 0:
            self._read_head()
        if self._head_end >= 0 and self._is_whole():
            self._take()

    def connection_lost(self, _error: Exception | None) -> None:
        """Fail, unless all was done."""
        if not self.done.done():
            self.done.set_exception(BenchError(f"Envoy closed the connection after {bytes(self.received[:300])!r}"))

    def close(self) -> None:
        """Hang up, whatever is under way."""
        self._finish(None)

    def body(self) -> bytes:
        """Return what has arrived of the body, which must be whole chunks where it is chunked."""
        body = bytes(self.received[self._head_end + 4 :])
        return _dechunked(body) if self._length is None else body

    def events(self) -> int:
        """Return how many events of the present answer have arrived (about: a chunk may cut a mark in two)."""
        return self.received.count(self._answer.mark)

    def _ask(self) -> None:
        self.received.clear()
        self._first, self._head_end, self._length = None, -1, None
        self._sent = time.perf_counter()
        self._transport.write(self._request)

    def _read_head(self) -> None:
        self._head_end = self.received.find(b"\r\n\r\n")
        head = bytes(self.received[: max(self._head_end, 0)]).lower()
        _, found, rest = head.partition(b"\r\ncontent-length: ")
        self._length = int(rest.partition(b"\r\n")[0]) if found else None

    def _is_whole(self) -> bool:
        if self._length is None:
            return self.received.endswith(_LAST_CHUNK)
        return len(self.received) >= self._head_end + 4 + self._length

    def _take(self) -> None:
        now = time.perf_counter()
        if not self.received.startswith(b"HTTP/1.1 200 ") or self.body() != self._answer.body or self._first is None:
            ends = f"{bytes(self.received[:400])!r} ... {bytes(self.received[-400:])!r}"
            self._finish(BenchError(f"not the answer that was scripted, {len(self.received)} bytes: {ends}"))
            return
        self._samples.first.append(self._first - self._sent)
        self._samples.whole.append(now - self._sent)
        if now < self._deadline:
            self._ask()
        else:
            self._finish(None)

    def _finish(self, error: BenchError | None) -> None:
        if not self.done.done():
            if error is None:
                self.done.set_result(None)
            else:
                self.done.set_exception(error)
        self._transport.close()


async def drive(port: int, answer: str, token: str, *, connections: int, seconds: float) -> Samples:
    """Ask on so many connections for so long; every answer that was begun is waited for. Raises BenchError."""
    samples = Samples()
    script = ANSWERS[answer]
    asked = request(answer, token)
    deadline = time.perf_counter() + seconds
    # Streams that last a second begin spread over it: all at once would be a burst, not so many at a time.
    stagger = script.gap * len(script.parts) / connections
    opened = []
    for _ in range(connections):
        opened.append(await connect(port, asked, script, samples, deadline))
        await asyncio.sleep(stagger)
    await finished(opened, seconds + _STALL_SECONDS)
    return samples


async def connect(port: int, asked: bytes, answer: Answer, samples: Samples, deadline: float) -> Connection:
    """Open a connection, which asks at once."""
    loop = asyncio.get_running_loop()
    _, connection = await loop.create_connection(
        lambda: Connection(asked, answer, samples, deadline), "127.0.0.1", port
    )
    return connection


async def finished(connections: list[Connection], seconds: float) -> None:
    """Wait until all are done; raises BenchError when one failed or took longer."""
    try:
        await asyncio.wait_for(asyncio.gather(*(one.done for one in connections)), seconds)
    except TimeoutError:
        raise BenchError(f"no end of an answer within {seconds:.0f} s") from None
    finally:
        for one in connections:
            one.close()


async def once(port: int, token: str) -> None:
    """Ask once for the plain answer; raises BenchError or OSError when it does not come."""
    connection = await connect(port, request("plain", token), ANSWERS["plain"], Samples(), 0.0)
    await finished([connection], _STALL_SECONDS)


def _dechunked(body: bytes) -> bytes:
    """Join chunks (RFC 9112 section 7.1)."""
    pieces, at = [], 0
    while at < len(body):
        line_end = body.index(b"\r\n", at)
        size = int(body[at:line_end], 16)
        pieces.append(body[line_end + 2 : line_end + 2 + size])
        at = line_end + 2 + size + 2
    return b"".join(pieces)
