"""A running server with small services, and what must come for what is sent."""

from __future__ import annotations

import asyncio
import tempfile
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

from extproc.http2.server import Http2Server
from tests.http2.services import Calls
from tests.http2.wire import Code, block, data, message, opened, request
from tests.http2.wire_client import SECONDS, WireClient, connected

MAX_STREAMS = 200


@dataclass(frozen=True, slots=True)
class Served:
    path: str
    calls: Calls
    server: Http2Server


@asynccontextmanager
async def serving(max_streams: int = MAX_STREAMS) -> AsyncIterator[Served]:
    """Serve on a unix socket; at the end check that every call knows how it ended, and none was told too much."""
    calls = Calls()
    server = Http2Server(calls.services, max_streams=max_streams)
    # Short, because a unix socket's path has at most 107 bytes.
    with tempfile.TemporaryDirectory(prefix="h2-") as folder:
        path = str(Path(folder) / "s")
        await server.start([f"unix:{path}"])
        try:
            yield Served(path, calls, server)
            await eventually(lambda: all(call.over for call in calls.made))
        finally:
            await server.stop()
    calls.check()


async def eventually(condition: Callable[[], object]) -> None:
    """Wait until the server, which runs in this loop, has got so far."""
    async with asyncio.timeout(SECONDS):
        while not condition():  # noqa: ASYNC110 - nothing in there says that it has
            await asyncio.sleep(0)


# --- What must come --------------------------------------------------------------------------------------------------

BYSTANDER = 1
"""The stream that is open when a case begins: it lives as long as the connection, and no longer."""

BLOCK = block(request())
"""The header block of a call that is sent back what it says."""
SILENT = opened(3, "/test.Silent/Call")
"""A call that is told nothing."""
HELLO = data(3, message(b"hello"), end=True)
"""What a case's own call says, and its end."""


@dataclass(frozen=True, slots=True)
class BrokenConnection:
    """GOAWAY with one of the codes, and the connection is closed (RFC 9113, section 5.4.1)."""

    codes: tuple[Code, ...]

    async def check(self, client: WireClient) -> None:
        await client.closed()
        assert client.goaways, "closed without GOAWAY"
        assert client.goaways[-1] in self.codes, Code(client.goaways[-1]).name


@dataclass(frozen=True, slots=True)
class StreamError:
    """RST_STREAM with one of the codes; or a connection error with one, which section 5.4 allows."""

    codes: tuple[Code, ...]
    stream: int = 3

    async def check(self, client: WireClient) -> None:
        answer = client.answer(self.stream)
        if await client.until(lambda: answer.reset is not None):
            assert answer.reset in self.codes, Code(answer.reset or 0).name
            await client.echoed()
        else:
            await BrokenConnection(self.codes).check(client)


@dataclass(frozen=True, slots=True)
class Malformed:
    """A stream error PROTOCOL_ERROR, or a response that says so (RFC 9113, section 8.1.1)."""

    stream: int = 3

    async def check(self, client: WireClient) -> None:
        answer = client.answer(self.stream)
        if await client.until(lambda: answer.over) and answer.reset is None:
            assert 400 <= int(answer.blocks[0][":status"]) < 500, answer.blocks
            await client.echoed()
        else:
            await StreamError((Code.PROTOCOL_ERROR,), self.stream).check(client)


@dataclass(frozen=True, slots=True)
class Ignored:
    """Nothing: the connection lives, and no stream was touched."""

    async def check(self, client: WireClient) -> None:
        await client.echoed()
        assert client.goaways == []
        assert [number for number, answer in client.answers.items() if answer.over] == []


@dataclass(frozen=True, slots=True)
class Echoed:
    """The call is served, and its message comes back."""

    body: bytes = b"hello"
    stream: int = 3

    async def check(self, client: WireClient) -> None:
        answer = await client.over(self.stream)
        assert (answer.messages, answer.status) == ([self.body], "0")
        await client.echoed()


Outcome = BrokenConnection | StreamError | Malformed | Ignored | Echoed


def goaway_with(*codes: Code) -> BrokenConnection:
    return BrokenConnection(codes)


def reset_with(*codes: Code, stream: int = 3) -> StreamError:
    return StreamError(codes, stream)


@dataclass(frozen=True, slots=True)
class Case:
    """A section of RFC 9113, what is wrong or just unusual, the bytes, and what must come."""

    section: str
    what: str
    sent: bytes | Callable[[WireClient], bytes]
    outcome: Outcome

    def __str__(self) -> str:
        return f"{self.section} {self.what}"


async def run(case: Case, served: Served) -> None:
    """Send what a case says while another stream is open, and check both."""
    async with connected(served.path) as client:
        await client.send(opened(BYSTANDER, "/test.Silent/Call"), data(BYSTANDER, message(b"here")))
        await client.echoed(b"bystand.")
        (bystander,) = served.calls.made
        await client.send(case.sent(client) if callable(case.sent) else case.sent)
        await case.outcome.check(client)
        check_no_false_ok(client, served.calls)
        if client.goaways:
            await eventually(lambda: bystander.resets)
        assert bystander.resets == bool(client.goaways)
        assert bystander.messages == [b"here"]


def check_no_false_ok(client: WireClient, calls: Calls) -> None:
    """Check that OK was said for calls only that ended so: to Envoy it means that the exchange may go on unseen."""
    said = [number for number, answer in client.answers.items() if answer.status == "0"]
    meant = [call for call in calls.made if call.ok]
    assert len(said) <= len(meant), f"OK on streams {said}, and nobody said so"
