"""The load generator: HTTP/1.1 keep-alive connections, each asking again as soon as it is answered (closed loop)."""

from __future__ import annotations

import asyncio
import operator
import time
from collections.abc import Awaitable, Callable, Iterator
from dataclasses import dataclass, field
from itertools import repeat
from typing import Any, cast

from bench.upstream import ANSWERS, Answer, encoded

REQUEST_BODY_BYTES = 1024
_STALL_SECONDS = 30.0
_LAST_CHUNK = b"\r\n0\r\n\r\n"

Same = Callable[[bytes, bytes], bool]
"""Whether an answer's body, the first, is the one that was scripted."""


class BenchError(Exception):
    """Say what went wrong: a measurement that is not of what it claims to be is no measurement."""


@dataclass(slots=True)
class Samples:
    """What was observed, in seconds: of each exchange its time to the first part of the answer and to the end."""

    first: list[float] = field(default_factory=list)
    whole: list[float] = field(default_factory=list)


def request(answer: str, token: str, body: bytes | None = None, *, client: int = 0, stream: int | None = None) -> bytes:
    """Return a chat completions request of a Copilot client, asking the upstream for the named answer.

    `client` is the number of the editor that asks: each has a session of its own. Of the answer to a request with a
    `stream` number the upstream notes when it sent each part.
    """
    body = body or question(REQUEST_BODY_BYTES, stream=answer != "plain")
    noted = "" if stream is None else f"x-bench-stream: {stream}\r\n"
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
        f"vscode-sessionid: 5c3a6f0e-0d1e-4b7e-9a51-{client:012x}\r\n"
        "openai-intent: conversation-panel\r\n"
        "x-initiator: user\r\n"
        "x-interaction-id: 5c3a6f0e-0d1e-4b7e-9a51-0e6f9c1c2d3b\r\n"
        f"x-bench-answer: {answer}\r\n"
        f"{noted}\r\n"
    )
    return head.encode() + body


def question(size: int, *, stream: bool) -> bytes:
    """Return the body of a chat of one question, `size` bytes long."""

    def padded(padding: int) -> bytes:
        text = f"Why does this test fail? {'x' * padding}"
        messages: list[dict[str, Any]] = [
            {"role": "system", "content": "You are concise."},
            {"role": "user", "content": text},
        ]
        return encoded({"model": "gpt-5", "stream": stream, "messages": messages})

    return padded(size - len(padded(0)))


class Connection(asyncio.Protocol):
    """Ask, wait for the whole answer, ask again until `deadline` (a `time.perf_counter`); then `done` resolves."""

    def __init__(
        self,
        asked: bytes | Iterator[bytes],
        answer: Answer,
        samples: Samples,
        deadline: float,
        same: Same = operator.eq,
    ) -> None:
        self.done: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        # When all is torn down nobody asks any more how this one ended; that is not worth a warning.
        self.done.add_done_callback(lambda done: done.cancelled() or done.exception())
        self.received = bytearray()
        self._requests = repeat(asked) if isinstance(asked, bytes) else asked
        self._samples, self._deadline, self._same = samples, deadline, same
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
            self.done.set_exception(BenchError(f"the connection was closed after {bytes(self.received[:300])!r}"))

    def close(self) -> None:
        """Hang up, whatever is under way."""
        self._finish(None)

    def body(self) -> bytes:
        """Return what has arrived of the body, which must be whole chunks where it is chunked."""
        body = bytes(self.received[self._head_end + 4 :])
        return dechunked(body) if self._length is None else body

    def events(self) -> int:
        """Return how many events of the present answer have arrived (about: a chunk may cut a mark in two)."""
        return self.received.count(self._answer.mark)

    def _ask(self) -> None:
        self.received.clear()
        self._first, self._head_end, self._length = None, -1, None
        asked = next(self._requests)
        self._sent = time.perf_counter()
        self._transport.write(asked)

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
        right = self.received.startswith(b"HTTP/1.1 200 ") and self._same(self.body(), self._answer.body)
        if not right or self._first is None:
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


async def drive(
    opened: Callable[[int, Samples, float], Awaitable[Connection]], *, connections: int, seconds: float
) -> Samples:
    """Ask on so many connections for so long; every answer that was begun is waited for. Raises BenchError.

    `opened` opens a connection, given its number.
    """
    samples = Samples()
    deadline = time.perf_counter() + seconds
    await finished([await opened(number, samples, deadline) for number in range(connections)], seconds + _STALL_SECONDS)
    return samples


async def connect(
    port: int,
    asked: bytes | Iterator[bytes],
    answer: Answer,
    samples: Samples,
    deadline: float,
    *,
    same: Same = operator.eq,
) -> Connection:
    """Open a connection, which asks at once."""
    loop = asyncio.get_running_loop()
    _, connection = await loop.create_connection(
        lambda: Connection(asked, answer, samples, deadline, same), "127.0.0.1", port
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


async def once(port: int, token: str, same: Same = operator.eq) -> None:
    """Ask once for the plain answer; raises BenchError or OSError when it does not come."""
    connection = await connect(port, request("plain", token), ANSWERS["plain"], Samples(), 0.0, same=same)
    await finished([connection], _STALL_SECONDS)


def dechunked(body: bytes) -> bytes:
    """Join chunks (RFC 9112 section 7.1)."""
    pieces, at = [], 0
    while at < len(body):
        line_end = body.index(b"\r\n", at)
        size = int(body[at:line_end], 16)
        pieces.append(body[line_end + 2 : line_end + 2 + size])
        at = line_end + 2 + size + 2
    return b"".join(pieces)
