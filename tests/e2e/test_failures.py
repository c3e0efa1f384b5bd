"""What happens when the ext_proc service dies, stops, hangs or breaks: the client gets an error or a reset, never an
unprocessed byte, and the upstream never a request that was not decided. All on the real Envoy.
"""

from __future__ import annotations

import asyncio
import json
import threading
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import aiohttp
import grpc
import grpc.aio
import pytest
import pytest_asyncio

from extproc import wire
from extproc._pb import ext_proc_pb2 as pb
from extproc.approval.approval import Request as ApprovalRequest
from extproc.approval.waiting import NotHeld
from extproc.config import UPSTREAM_HOSTS
from extproc.conversation import Piece
from extproc.credential import Credential
from extproc.dialect.chat import ChatDialect, ChatStream
from extproc.dialect.port import AnswerStream, Reading
from extproc.endpoint import EndpointKind, Upstream
from extproc.errors import StoreUnavailable
from extproc.identity.principal import Principal
from extproc.masking.finding import Hit
from extproc.masking.masker import Masking
from extproc.metrics import Metrics
from extproc.outside import Bounds, Outside
from extproc.policy_file import load
from extproc.processor import Processor
from extproc.recording.session import Sessions
from extproc.rules import Rules
from extproc.secret import Secret
from extproc.server import Server
from tests.detecting import FINGERPRINTS, masking
from tests.e2e.gateway import READY_SECONDS, TRANSPORT, Gateway, decision_id, until
from tests.e2e.upstream import DONE, Call, answer_json, event, plain

pytestmark = [pytest.mark.e2e, pytest.mark.asyncio(loop_scope="session")]

SECRET_TEXT = "never to be seen unprocessed"
NPM = "npm_aB3dE5gH7jK9mN1pQ3sT5vW7xY9zA2cD4eF6"
LARGE = 20_000
"""Words of so many characters are more than is inspected at once, and no other text of these tests is as long."""


async def outcome_of(request: Any, arriving: bytearray | None = None) -> tuple[int | None, bytes]:
    """Return the status (None for an answer that broke off) and the bytes the client got, which `arriving` shows."""
    received = bytearray() if arriving is None else arriving
    try:
        async with request as response:
            try:
                async for data in response.content.iter_any():
                    received += data
            except aiohttp.ClientPayloadError:
                return None, bytes(received)
            return response.status, bytes(received)
    except aiohttp.ClientError:
        return None, bytes(received)


# --- the process dies ------------------------------------------------------------------------------------------------


async def test_kill_while_the_request_is_read_lets_nothing_through(own_gateway: Gateway) -> None:
    await own_gateway.prepare()
    await own_gateway.start()
    own_gateway.upstream.play(leaky)
    half_sent = asyncio.Event()

    async def body() -> AsyncIterator[bytes]:
        yield b'{"model":"gpt-5",'
        half_sent.set()
        await killed.wait()
        yield b'"messages":[{"role":"user","content":"x"}]}'

    killed = asyncio.Event()
    url = f"{own_gateway.url}/chat/completions"
    request = asyncio.create_task(outcome_of(own_gateway.session.post(url, headers=own_gateway.headers(), data=body())))
    await half_sent.wait()
    await own_gateway.kill_service()
    killed.set()
    status, received = await request
    assert status in {None, 500, 503}
    assert own_gateway.upstream.seen == []
    assert SECRET_TEXT.encode() not in received


@pytest.mark.parametrize(
    ("phase", "streamed"), [("before headers", None), ("in held json", None), ("in stream", "fine ")]
)
async def test_kill_during_the_answer_lets_no_unprocessed_byte_through_and_is_recorded_as_interrupted(
    own_gateway: Gateway, phase: str, streamed: str | None
) -> None:
    await own_gateway.prepare()
    await own_gateway.start()
    asked, killed = asyncio.Event(), asyncio.Event()

    async def script(call: Call) -> None:
        if phase == "before headers":
            asked.set()
            await killed.wait()
            await call.whole(answer_json(SECRET_TEXT))
        elif phase == "in held json":
            body = answer_json(SECRET_TEXT)
            await call.head(content_type="application/json", content_length=str(len(body)))
            await call.send(body[:-5])
            asked.set()
            await killed.wait()
            await call.send(body[-5:])
        else:
            await call.head(content_type="text/event-stream", transfer_encoding="chunked")
            await call.chunk(event("fine "))
            asked.set()
            await killed.wait()
            await call.chunk(event(SECRET_TEXT))
            await call.chunk(DONE)
            await call.end()

    own_gateway.upstream.play(script)
    arriving = bytearray()
    request = asyncio.create_task(outcome_of(own_gateway.chat(stream=phase == "in stream"), arriving))
    await asked.wait()
    if streamed is not None:
        await until(lambda: arriving == event(streamed), "the first event at the client")
    await own_gateway.kill_service()
    killed.set()
    status, received = await request
    assert status in {None, 500, 502, 503}
    assert SECRET_TEXT.encode() not in received
    # The next start closes the record that the dead process left open, with what the client got to see.
    await own_gateway.start_service()
    [document] = await until(own_gateway.documents, "the record of what was interrupted")
    assert document["outcome"] == "interrupted"
    assert document["request"]["messages"] == [{"role": "user", "content": "hi"}]
    assert (document["response"] or {}).get("text") == streamed
    own_gateway.upstream.play(plain)
    async with own_gateway.chat() as response:
        assert response.status == 200


async def test_without_the_service_every_request_fails_visibly(own_gateway: Gateway) -> None:
    await own_gateway.prepare()
    await own_gateway.start_envoy()
    async with own_gateway.chat() as response:
        assert response.status in {500, 503}
        assert (await response.json())["error"]["code"] == "gateway.unavailable"
    assert own_gateway.upstream.seen == []


# --- the process is told to stop -------------------------------------------------------------------------------------


async def test_sigterm_lets_running_streams_finish_and_takes_no_new_ones(own_gateway: Gateway) -> None:
    await own_gateway.prepare()
    await own_gateway.start()
    go_on = asyncio.Event()

    async def script(call: Call) -> None:
        await call.head(content_type="text/event-stream", transfer_encoding="chunked")
        await call.chunk(event("before "))
        await go_on.wait()
        await call.chunk(event("after"))
        await call.chunk(DONE)
        await call.end()

    own_gateway.upstream.play(script)
    streams = [asyncio.create_task(outcome_of(own_gateway.chat(stream=True))) for _ in range(8)]
    await until(lambda: len(own_gateway.upstream.seen) == 8, "all streams upstream")
    assert own_gateway.service is not None
    own_gateway.service.terminate()
    await until(lambda: b'"draining"' in (own_gateway.state / "serve.log").read_bytes(), "the drain")
    status, _ = await outcome_of(own_gateway.chat())
    assert status in {500, 503}
    assert await own_gateway.readiness() == (503, "not ready: draining\n")
    assert len(own_gateway.upstream.seen) == 8
    go_on.set()
    for status, received in await asyncio.gather(*streams):
        assert status == 200
        assert received == event("before ") + event("after") + DONE
    assert await own_gateway.service.wait() == 0
    completed = [one for one in own_gateway.documents() if one["outcome"] == "completed"]
    assert [one["response"]["text"] for one in completed] == ["before after"] * 8


async def test_streams_that_outlast_the_drain_are_cut_and_recorded_as_interrupted(own_gateway: Gateway) -> None:
    await own_gateway.prepare()
    own_gateway.configure(limits={"drain_seconds": 0.2})
    await own_gateway.start()
    forever = asyncio.Event()

    async def script(call: Call) -> None:
        await call.head(content_type="text/event-stream", transfer_encoding="chunked")
        await call.chunk(event("before "))
        await forever.wait()

    own_gateway.upstream.play(script)
    arriving = bytearray()
    stream = asyncio.create_task(outcome_of(own_gateway.chat(stream=True), arriving))
    await until(lambda: arriving == event("before "), "the first event at the client")
    assert own_gateway.service is not None
    own_gateway.service.terminate()
    assert await own_gateway.service.wait() == 0
    assert await stream == (None, event("before "))
    forever.set()
    [document] = own_gateway.documents()
    assert (document["outcome"], document["error"]["code"]) == ("interrupted", "gateway.draining")
    assert document["response"]["text"] == "before "


# --- something in the service breaks ---------------------------------------------------------------------------------

ALICE = Principal("issuer#alice", "alice", "person", "issuer", "alice", frozenset({"developers"}))
CREDENTIAL = Credential(Secret("Bearer gho_upstream"), {}, {}, None, (Secret("gho_upstream"),))


class Broken(Exception):
    pass


class Parts:
    """All that a processor asks of the outside, each of which a test can break or hold."""

    def __init__(self) -> None:
        self.broken: str | None = None
        self.scans_left: int | None = None
        """How many scans go well before one breaks; None for all."""
        self.scanning = threading.Event()
        self.scan_may_go_on = threading.Event()
        self.hang = asyncio.Event()
        self.entries: list[tuple[Any, Any]] = []
        self.pieces: list[bytes] = []
        """What was noted of answers, before it went out."""

    def check(self, name: str) -> None:
        if self.broken == name:
            raise Broken(SECRET_TEXT)

    def on_scan(self, data: bytes) -> None:
        if self.broken == "scan hangs" and len(data) > LARGE:
            self.scanning.set()
            assert self.scan_may_go_on.wait(READY_SECONDS)
        if self.scans_left is not None:
            self.scans_left -= 1
            if self.scans_left < 0:
                raise Broken(SECRET_TEXT)

    def cached(self, token: Secret) -> Principal | None:
        self.check("identity")
        return None

    async def verify(self, token: Secret) -> Principal:
        if self.broken == "identity hangs":
            await self.hang.wait()
        return ALICE

    def ready(self, name: str, upstream: Upstream) -> Credential | None:
        self.check("credential")
        return CREDENTIAL

    async def get(self, name: str, upstream: Upstream) -> Credential:
        raise NotImplementedError

    async def wait(self, request: ApprovalRequest) -> NotHeld:
        return NotHeld("Nobody approves here.")

    async def aclose(self) -> None:
        """Nobody waits."""

    async def append(self, opening: Any, closing: Any) -> None:
        self.check("opening" if opening and not closing else "closing")
        if self.broken == "spool" or (self.broken == "spool at the end" and closing is not None):
            raise StoreUnavailable("disk full")
        self.entries.append((opening, closing))

    def answering(self, exchange_id: str, status: int, content_type: str | None) -> None:
        if self.broken == "spool before the answer":
            raise StoreUnavailable("disk full")

    def piece(self, exchange_id: str, at: float, data: bytes) -> None:
        if self.broken == "spool in the answer" and SECRET_TEXT.encode() in data:
            raise StoreUnavailable("disk full")
        self.pieces.append(data)


class BreakableDialect(ChatDialect):
    def __init__(self, parts: Parts) -> None:
        self._parts = parts

    def parse_request(self, body: bytes) -> Any:
        self._parts.check("request dialect")
        return super().parse_request(body)

    def parse_answer(self, body: bytes) -> Any:
        self._parts.check("answer dialect")
        return super().parse_answer(body)

    def stream(self) -> AnswerStream:
        parts = self._parts

        class Breakable(ChatStream):
            def read(self, event: str, tree: dict[str, Any]) -> Reading:
                if SECRET_TEXT in repr(tree):
                    parts.check("reading of the stream")
                return super().read(event, tree)

            def take(self, event: str, tree: dict[str, Any]) -> list[Piece]:
                if SECRET_TEXT in repr(tree):
                    parts.check("taking of the stream")
                return super().take(event, tree)

            def more(self, event: str, tree: dict[str, Any]) -> None:
                """Have each event read and taken."""

        return Breakable()


class BreakableDetector:
    """The real detector, but for a scan that breaks or waits, as `Parts` say."""

    def __init__(self, parts: Parts) -> None:
        real = masking().detector
        self._real = real
        self._parts = parts
        self.patterns = real.patterns
        self.digest = real.digest
        self.set_of = real.set_of

    def scan(self, data: bytes, since: int = 0) -> list[Hit]:
        self._parts.on_scan(data)
        return self._real.scan(data, since)

    def suspects(self, data: bytes) -> list[Hit]:
        self._parts.on_scan(data)
        return self._real.suspects(data)


class BreakablePolicy:
    def __init__(self, parts: Parts, policy: Any) -> None:
        self._parts = parts
        self._policy = policy

    def decide(self, principal: Any, facts: Any) -> Any:
        self._parts.check("policy")
        return self._policy.decide(principal, facts)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._policy, name)


class Inside:
    """A processor in the test's own process, behind the real Envoy."""

    def __init__(self, gateway: Gateway, parts: Parts, processor: Processor, clock: list[float]) -> None:
        self.gateway = gateway
        self.parts = parts
        self.processor = processor
        self.clock = clock


@asynccontextmanager
async def inside(gateway: Gateway) -> AsyncIterator[Inside]:
    parts = Parts()
    clock = [1_700_000_000.0]
    policy = load(gateway.state / "policy.yaml")
    rules = Rules(
        policy=BreakablePolicy(parts, policy),  # type: ignore[arg-type]
        masking=Masking(BreakableDetector(parts), policy.masking, FINGERPRINTS),
        upstream_hosts=UPSTREAM_HOSTS,
        max_request_bytes=200_000,
        max_answer_bytes=200_000,
        max_event_bytes=50_000,
        sessions=Sessions(gap_seconds=60),
        dialects={EndpointKind.CHAT: BreakableDialect(parts)},
    )
    bounds = Bounds(max_exchanges=4, idle_seconds=60, total_seconds=600, drain_seconds=0.2, end_reason_seconds=0.5)
    outside = Outside(
        rules=rules,
        identities=parts,
        credentials=parts,
        approvers=parts,
        recorder=parts,
        metrics=Metrics(),
        bounds=bounds,
        now=lambda: clock[0],
    )
    processor = Processor(outside, hand_on=lambda _message: None)
    server = Server(processor, bounds, addresses=[f"unix:{gateway.socket}"], transport=TRANSPORT)
    await server.start()
    try:
        yield Inside(gateway, parts, processor, clock)
    finally:
        parts.hang.set()
        await server.stop()
        gateway.socket.unlink(missing_ok=True)


@pytest_asyncio.fixture(loop_scope="session")
async def held(own_gateway: Gateway) -> AsyncIterator[Inside]:
    await own_gateway.prepare()
    async with inside(own_gateway) as running_inside:
        await own_gateway.start_envoy()
        yield running_inside


async def leaky(call: Call) -> None:
    """Answer in JSON or as a stream, with the text that must not pass when something is broken."""
    if not json.loads(call.seen.body).get("stream"):
        await call.whole(answer_json(SECRET_TEXT))
        return
    await call.head(content_type="text/event-stream", transfer_encoding="chunked")
    for frame in (event("fine "), event(SECRET_TEXT), DONE):
        await call.chunk(frame)
    await call.end()


async def test_the_processor_in_this_process_serves_when_nothing_is_broken(held: Inside) -> None:
    held.gateway.upstream.play(leaky)
    for stream in (False, True):
        status, received = await outcome_of(held.gateway.chat(stream=stream))
        assert status == 200
        assert SECRET_TEXT.encode() in received


async def test_an_exception_before_the_release_stops_the_request(held: Inside) -> None:
    held.gateway.upstream.play(leaky)
    for part in ("identity", "request dialect", "policy", "credential", "opening"):
        held.parts.broken = part
        status, received = await outcome_of(held.gateway.chat())
        assert status == 500, part
        assert SECRET_TEXT.encode() not in received, part
    assert held.gateway.upstream.seen == []


async def begun_stream(held: Inside) -> tuple[int | None, bytes]:
    """Ask for a stream that goes on with the text that must not pass once its first event is at the client."""
    arriving = bytearray()

    async def script(call: Call) -> None:
        await call.head(content_type="text/event-stream", transfer_encoding="chunked")
        await call.chunk(event("fine "))
        await until(lambda: arriving == event("fine "), "the first event at the client")
        await call.chunk(event(SECRET_TEXT))
        await call.chunk(DONE)
        await call.end()

    held.gateway.upstream.play(script)
    return await outcome_of(held.gateway.chat(stream=True), arriving)


async def test_an_exception_during_the_answer_lets_no_unprocessed_byte_out(held: Inside) -> None:
    held.gateway.upstream.play(leaky)
    held.parts.broken = "answer dialect"
    status, received = await outcome_of(held.gateway.chat())
    assert status == 500
    assert SECRET_TEXT.encode() not in received
    assert [one["error"]["code"] for _, one in held.parts.entries if one] == ["gateway.internal"]
    for part in ("reading of the stream", "taking of the stream"):
        held.parts.broken = part
        held.parts.entries.clear()
        assert await begun_stream(held) == (None, event("fine ")), part
        assert [one["error"]["code"] for _, one in held.parts.entries if one] == ["gateway.internal"]


# The first scan is of the path, which is remembered when nothing is in it, the next one of the body.
@pytest.mark.parametrize(("good", "path"), [(0, ""), (1, "/chat/completions")])
async def test_a_scan_that_breaks_stops_the_request(held: Inside, good: int, path: str) -> None:
    held.gateway.upstream.play(leaky)
    for text, left in (("a short prompt", good), ("word " * LARGE, 0)):
        held.parts.scans_left = left
        status, received = await outcome_of(held.gateway.chat(text=text))
        assert status == 500
        assert SECRET_TEXT.encode() not in received
    assert held.gateway.upstream.seen == []
    assert [one["error"]["code"] for _, one in held.parts.entries] == ["gateway.internal"] * 2
    assert [one["request"]["path"] for one, _ in held.parts.entries] == [path] * 2
    assert all(one["request"]["model"] is None for one, _ in held.parts.entries)


@pytest.mark.parametrize("text", [f"{SECRET_TEXT} ", SECRET_TEXT * 5000])
async def test_a_scan_that_breaks_withholds_a_json_answer(held: Inside, text: str) -> None:
    async def script(call: Call) -> None:
        # From here on: those of the prompt are done.
        held.parts.scans_left = 0
        await call.whole(answer_json(text))

    held.gateway.upstream.play(script)
    status, received = await outcome_of(held.gateway.chat())
    assert status == 500
    assert SECRET_TEXT.encode() not in received
    assert [one["error"]["code"] for _, one in held.parts.entries if one] == ["gateway.internal"]
    assert "text" not in held.parts.entries[-1][1]["response"]


@pytest.mark.parametrize("good", range(4))
async def test_a_scan_that_breaks_in_a_stream_cuts_it_and_no_byte_leaves_unmasked(held: Inside, good: int) -> None:
    arriving = bytearray()
    words = [event(f"{NPM} number {number} ") for number in range(6)]

    async def script(call: Call) -> None:
        await call.head(content_type="text/event-stream", transfer_encoding="chunked")
        await call.chunk(event("fine "))
        await until(lambda: arriving == event("fine "), "the first event at the client")
        held.parts.scans_left = good
        for frame in words:
            await call.chunk(frame)
        await call.chunk(DONE)
        await call.end()

    held.gateway.upstream.play(script)
    status, received = await outcome_of(held.gateway.chat(stream=True), arriving)
    assert status is None
    assert received.startswith(event("fine "))
    assert NPM.encode() not in received
    assert DONE not in received
    assert [one["error"]["code"] for _, one in held.parts.entries if one] == ["gateway.internal"]
    assert NPM not in repr(held.parts.entries)


@pytest.mark.parametrize("way", ["prompt", "answer"])
async def test_while_a_large_body_is_scanned_other_exchanges_go_on(held: Inside, way: str) -> None:
    large = "word " * LARGE

    async def script(call: Call) -> None:
        asked = json.loads(call.seen.body)["messages"][0]["content"]
        await call.whole(answer_json(large if asked == "large answer, please" else "hello"))

    held.gateway.upstream.play(script)
    held.parts.broken = "scan hangs"
    text = large if way == "prompt" else "large answer, please"
    slow = asyncio.create_task(outcome_of(held.gateway.chat(text=text)))
    try:
        await until(held.parts.scanning.is_set, "the scan of the large body")
        status, _ = await outcome_of(held.gateway.chat(text="and me?"))
        assert status == 200
        assert not slow.done()
    finally:
        held.parts.scan_may_go_on.set()
    status, _ = await slow
    assert status == 200


async def test_a_client_that_leaves_while_its_prompt_is_scanned_is_recorded_and_nothing_leaves(held: Inside) -> None:
    held.parts.broken = "scan hangs"
    slow = asyncio.create_task(outcome_of(held.gateway.chat(text="word " * LARGE)))
    try:
        await until(held.parts.scanning.is_set, "the scan")
        slow.cancel()
        await asyncio.gather(slow, return_exceptions=True)
        await until(lambda: held.parts.entries, "the record")
    finally:
        held.parts.scan_may_go_on.set()
    [(opening, closing)] = held.parts.entries
    assert (closing["outcome"], closing["error"]["code"]) == ("aborted", "client.gone")
    assert opening["request"]["model"] is None
    assert held.gateway.upstream.seen == []


async def test_an_exception_while_the_record_is_closed_lets_no_answer_end_well(held: Inside) -> None:
    held.gateway.upstream.play(leaky)
    held.parts.broken = "closing"
    status, received = await outcome_of(held.gateway.chat())
    assert status == 500
    assert SECRET_TEXT.encode() not in received
    status, received = await begun_stream(held)
    assert status is None
    # Its events were let go as they came; only the end waits for the record.
    assert (event("fine ") + event(SECRET_TEXT) + DONE).startswith(received)
    assert [closing for _, closing in held.parts.entries] == [None, None]


async def test_what_cannot_be_recorded_gets_503_and_does_not_leave(held: Inside) -> None:
    held.gateway.upstream.play(leaky)
    held.parts.broken = "spool"
    async with held.gateway.chat() as response:
        assert response.status == 503
        assert (await response.json())["error"]["code"] == "recording.unavailable"
    assert held.gateway.upstream.seen == []


async def test_an_answer_whose_end_cannot_be_recorded_is_not_given(held: Inside) -> None:
    held.gateway.upstream.play(leaky)
    held.parts.broken = "spool at the end"
    async with held.gateway.chat() as response:
        assert response.status == 503
        assert SECRET_TEXT not in await response.text()
    status, _ = await outcome_of(held.gateway.chat(stream=True))
    assert status is None or status >= 500


async def test_every_byte_that_a_client_gets_is_noted_before(held: Inside) -> None:
    held.gateway.upstream.play(leaky)
    for stream in (False, True):
        held.parts.pieces.clear()
        _, received = await outcome_of(held.gateway.chat(stream=stream))
        assert received == b"".join(held.parts.pieces) != b""


async def test_what_cannot_be_noted_of_an_answer_does_not_go_out(held: Inside) -> None:
    held.gateway.upstream.play(leaky)
    held.parts.broken = "spool before the answer"
    status, received = await outcome_of(held.gateway.chat(stream=True))
    assert status == 500
    assert event("fine ") not in received
    assert SECRET_TEXT.encode() not in received
    held.parts.broken = "spool in the answer"
    assert await begun_stream(held) == (None, event("fine "))
    endings = [(one["outcome"], one["error"]["code"]) for _, one in held.parts.entries if one]
    assert endings == [("failed", "recording.unavailable")] * 2


async def test_a_stuck_exchange_is_cut_by_the_watchdog_and_recorded(held: Inside) -> None:
    held.parts.broken = "identity hangs"
    request = asyncio.create_task(outcome_of(held.gateway.chat()))
    await until(lambda: held.processor.open_exchanges == 1, "the exchange")
    held.processor.sweep()
    assert held.processor.open_exchanges == 1
    held.clock[0] += 61
    held.processor.sweep()
    status, _ = await request
    assert status == 500
    await until(lambda: held.parts.entries, "the record")
    assert held.parts.entries[-1][1]["error"]["code"] == "gateway.timeout"
    assert held.gateway.upstream.seen == []


async def test_over_the_bound_of_exchanges_requests_fail_visibly(held: Inside) -> None:
    held.parts.broken = "identity hangs"
    requests = [asyncio.create_task(outcome_of(held.gateway.chat())) for _ in range(4)]
    # The access log's own stream counts as one, so the bound is met at the latest with the fourth.
    await until(lambda: held.processor.open_exchanges >= 3, "the exchanges")
    status, _ = await outcome_of(held.gateway.chat())
    assert status == 500
    assert held.gateway.upstream.seen == []
    held.parts.broken = None
    held.parts.hang.set()
    await asyncio.gather(*requests)


async def test_a_request_over_the_bound_is_413(held: Inside) -> None:
    async with held.gateway.chat(text="x" * 300_000) as response:
        assert response.status == 413
        assert (await response.json())["error"]["code"] == "request.too_large"
        assert decision_id(response) == held.parts.entries[-1][1]["id"]
    assert held.gateway.upstream.seen == []


async def test_an_answer_over_the_bound_is_502(held: Inside) -> None:
    async def large(call: Call) -> None:
        await call.whole(answer_json("x" * 300_000))

    held.gateway.upstream.play(large)
    async with held.gateway.chat() as response:
        assert response.status == 502
        assert (await response.json())["error"]["code"] == "upstream.too_large"


async def test_an_upstream_that_is_down_is_a_clean_503(held: Inside) -> None:
    await held.gateway.upstream.stop()
    async with held.gateway.chat() as response:
        assert response.status == 503
        assert (await response.json())["error"]["code"] == "upstream.unavailable"
    assert held.parts.entries[-1][1]["outcome"] == "upstream_error"


# --- Envoy is not configured as it must be, or the service ends a stream with OK -------------------------------------


def _set_modes(**modes: str) -> Callable[[dict[str, Any]], None]:
    def change(config: dict[str, Any]) -> None:
        for listener in config["static_resources"]["listeners"]:
            for chain in listener["filter_chains"]:
                ext_proc = chain["filters"][0]["typed_config"]["http_filters"][0]["typed_config"]
                if "processing_mode" in ext_proc:
                    ext_proc["processing_mode"].update(modes)

    return change


@pytest.mark.parametrize(
    "modes",
    [
        {"response_body_mode": "STREAMED"},
        {"request_body_mode": "BUFFERED", "request_trailer_mode": "SKIP"},
        {"response_body_mode": "NONE"},
    ],
)
async def test_an_envoy_with_other_body_modes_is_refused_at_the_first_message(
    own_gateway: Gateway, modes: dict[str, str]
) -> None:
    await own_gateway.prepare(_set_modes(**modes))
    await own_gateway.start()
    async with own_gateway.chat() as response:
        assert response.status == 500
    assert own_gateway.upstream.seen == []


@pytest.mark.parametrize("at", ["request_headers", "request_body"])
async def test_a_stream_that_ends_with_ok_before_the_decision_ends_in_the_undecided_route(
    own_gateway: Gateway, at: str
) -> None:
    """What a bug in the service would do; Envoy lets the exchange go on, to a route that leads nowhere."""

    async def ends_with_ok(_requests: object, context: Any) -> None:
        while True:
            message = await context.read()
            if message is grpc.aio.EOF or pb.ProcessingRequest.FromString(message).WhichOneof("request") == at:
                return

    await own_gateway.prepare()
    server = grpc.aio.server()
    handler: Any = grpc.stream_stream_rpc_method_handler(ends_with_ok)
    server.add_generic_rpc_handlers(
        (grpc.method_handlers_generic_handler(wire.PROCESSOR_SERVICE, {"Process": handler}),)
    )
    server.add_insecure_port(f"unix:{own_gateway.socket}")
    await server.start()
    await own_gateway.start_envoy()
    async with own_gateway.chat() as response:
        assert response.status == 503
        assert (await response.json())["error"]["code"] == "gateway.unavailable"
    assert own_gateway.upstream.seen == []
    await server.stop(0)
