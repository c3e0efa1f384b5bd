"""Mixed load on a gateway: what each client asked, what it must get, and how its exchange must be recorded."""

from __future__ import annotations

import asyncio
import json
from collections import Counter
from collections.abc import Awaitable, Callable
from contextlib import suppress
from dataclasses import dataclass, field
from random import Random
from urllib.parse import urlsplit

import aiohttp

from tests.e2e.gateway import Gateway
from tests.e2e.upstream import DONE, Call, answer_json, event

CLIENTS = 12
LARGE_BYTES = 300_000
FILLER = "some words that mean nothing, "


@dataclass(frozen=True, slots=True)
class Question:
    """What is asked, in words that the upstream reads: `size` is of the answer, in pieces."""

    number: int
    kind: str
    size: int
    padding: int = 0

    @property
    def text(self) -> str:
        return f"{self.number} {self.kind} {self.size} {FILLER * (self.padding // len(FILLER))}"

    @property
    def pieces(self) -> list[str]:
        return [f"piece {at} for {self.number}, {FILLER}" for at in range(self.size)]

    @property
    def whole(self) -> bytes:
        return answer_json("".join(self.pieces))

    @property
    def events(self) -> list[bytes]:
        ends = [] if self.kind == "hang" else [event(finish="stop"), DONE]
        return [*map(event, self.pieces), *ends]


def question_of(body: bytes) -> Question:
    number, kind, size, *_ = json.loads(body)["messages"][0]["content"].split(" ")
    return Question(int(number), kind, int(size))


async def answering(call: Call) -> None:
    """Answer as the question says, pieces cut anywhere; of one whose client hangs up, never to the end."""
    asked = question_of(call.seen.body)
    random = Random(asked.number)  # noqa: S311 - test data
    if asked.kind == "late":
        await asyncio.sleep(1)
        return
    if asked.kind in {"json", "large"}:
        await call.whole(asked.whole)
        return
    await call.head(content_type="text/event-stream", transfer_encoding="chunked")
    sent = b"".join(asked.events)
    while sent:
        size = random.randint(1, 2000)
        await call.chunk(sent[:size])
        sent = sent[size:]
        await asyncio.sleep(random.random() / 200)
    while asked.kind == "hang":
        # It takes part in no answer any more: the client goes away, and the connection with it.
        await call.chunk(b": still here\n\n")
        await asyncio.sleep(0.05)
    await call.end()


@dataclass
class Load:
    """Clients that ask until they are stopped; `expected` has by number which outcomes an exchange may have."""

    gateway: Gateway
    random: Random
    expected: dict[int, set[str]] = field(default_factory=dict)
    done: Counter[str] = field(default_factory=Counter)
    faults: list[str] = field(default_factory=list)
    asked: int = 0

    async def run(self, seconds: float) -> None:
        stop = asyncio.get_running_loop().time() + seconds
        await asyncio.gather(*(self._client(stop) for _ in range(CLIENTS)))

    async def _client(self, stop: float) -> None:
        ways: tuple[tuple[int, Callable[[Question], Awaitable[None]], str], ...] = (
            (40, self._whole, "json"),
            (30, self._whole, "stream"),
            (10, self._hung_up, "hang"),
            (4, self._gave_up, "late"),
            (4, self._denied, "json"),
            (2, self._whole, "large"),
            (2, self._cut_off, "json"),
        )
        while asyncio.get_running_loop().time() < stop:
            _, way, kind = self.random.choices(ways, [weight for weight, *_ in ways])[0]
            self.asked += 1
            size = 8000 if kind == "large" else self.random.randint(1, 40)
            asked = Question(self.asked, kind, size, LARGE_BYTES if kind == "large" else self.random.randint(0, 3000))
            await way(asked)
            self.done[f"{way.__name__} {kind}"] += 1
            await asyncio.sleep(self.random.random() / 20)

    async def _whole(self, asked: Question) -> None:
        self.expected[asked.number] = {"completed"}
        is_stream = asked.kind == "stream"
        async with self.gateway.chat(stream=is_stream, text=asked.text) as response:
            got = await response.read()
        if (response.status, got) != (200, b"".join(asked.events) if is_stream else asked.whole):
            self.faults.append(f"{asked.kind} {asked.number}: {response.status}, {len(got)} bytes")

    async def _hung_up(self, asked: Question) -> None:
        """Read some of an answer, and go."""
        self.expected[asked.number] = {"aborted"}
        wanted = self.random.randint(0, 5)
        got = b""
        async with self.gateway.chat(stream=True, text=asked.text) as response:
            while wanted:
                got += await response.content.readany()
                wanted -= 1
            response.close()
        if response.status != 200 or not (b"".join(asked.events) + b": still here\n\n" * 1000).startswith(got):
            self.faults.append(f"{asked.kind} {asked.number}: {response.status}, {got[:300]!r}")

    async def _gave_up(self, asked: Question) -> None:
        """Go before there is an answer, perhaps before anybody saw the question."""
        # Where Envoy gives the call up while our first reply is under way to it, nobody can tell whose fault it was:
        # its log has no decision id.
        self.expected[asked.number] = {"aborted", "failed", "never seen"}
        with suppress(TimeoutError):
            async with asyncio.timeout(self.random.random() / 5), self.gateway.chat(stream=True, text=asked.text):
                self.faults.append(f"{asked.kind} {asked.number}: answered")

    async def _denied(self, asked: Question) -> None:
        self.expected[asked.number] = {"denied"}
        async with self.gateway.chat(text=asked.text, user="mallory") as response:
            await response.read()
        if response.status != 422:
            self.faults.append(f"denied {asked.number}: {response.status}")

    async def _cut_off(self, asked: Question) -> None:
        """Send a part of the question, and go."""
        where = urlsplit(self.gateway.url)
        headers = {**self.gateway.headers(), "host": "gateway", "content-length": "100000"}
        head = "".join(f"{name}: {value}\r\n" for name, value in headers.items())
        _, writer = await asyncio.open_connection(where.hostname, where.port)
        writer.write(f"POST /chat/completions HTTP/1.1\r\n{head}\r\n{asked.text}".encode())
        await writer.drain()
        await asyncio.sleep(self.random.random() / 20)
        writer.transport.abort()
        with suppress(ConnectionError, aiohttp.ClientError):
            await writer.wait_closed()
