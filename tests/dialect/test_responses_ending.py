from __future__ import annotations

import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web
from openai import AsyncOpenAI

from extproc.dialect.responses import ResponsesDialect
from tests.streaming import play

DIALECT = ResponsesDialect()
GOLDEN = Path(__file__).parents[1] / "golden" / "responses"
END = "Not allowed: ask alice."

# The official client takes no stream in which ids change, items are repeated otherwise, or data is not an event.
REFUSED = {"changed_ids", "differing", "unknown"}
STREAMS = {path.stem: path.read_bytes() for path in sorted(GOLDEN.glob("*.sse")) if path.stem not in REFUSED}
TERMINAL = ("response.completed", "response.incomplete", "response.failed", "error")


def events_of(data: bytes) -> list[dict[str, Any]]:
    return [json.loads(block.partition(b"data: ")[2]) for block in data.split(b"\n\n") if block]


def ended(prefix: bytes) -> bytes:
    stream = DIALECT.stream()
    play(stream, prefix)
    return stream.ending(END)


def prefixes(data: bytes) -> list[bytes]:
    """Return every beginning of a stream, but those that its terminal event has ended."""
    blocks = [block + b"\n\n" for block in data.split(b"\n\n") if block]
    last = next(n for n, event in enumerate(events_of(data)) if event["type"] in TERMINAL)
    return [b"".join(blocks[:count]) for count in range(last + 1)]


class Upstream:
    """Answer every request with the same stream."""

    def __init__(self) -> None:
        self.body = b""
        self.client = AsyncOpenAI(base_url="http://127.0.0.1:1", api_key="none")

    async def answer(self, request: web.Request) -> web.Response:
        await request.read()
        return web.Response(body=self.body, content_type="text/event-stream")

    async def ask(self, body: bytes) -> tuple[list[str], Any]:
        """Let the official client read `body`; return the types of its events, and the response it ends with."""
        self.body = body
        async with self.client.responses.stream(model="m", input="hi") as stream:
            kinds: list[str] = [event.type async for event in stream]
            final = await stream.get_final_response() if "response.completed" in kinds else None
            return kinds, final


@pytest.fixture
async def upstream() -> AsyncIterator[Upstream]:
    server = Upstream()
    app = web.Application()
    app.router.add_post("/responses", server.answer)
    runner = web.AppRunner(app)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    port = runner.addresses[0][1]
    async with AsyncOpenAI(base_url=f"http://127.0.0.1:{port}", api_key="none", max_retries=0) as client:
        server.client = client
        yield server
    await runner.cleanup()


@pytest.mark.parametrize("name", STREAMS)
async def test_the_official_client_takes_the_goldens(upstream: Upstream, name: str) -> None:
    kinds, final = await upstream.ask(STREAMS[name])
    assert kinds == [event["type"] for event in events_of(STREAMS[name])]
    if final is not None:
        expected = json.loads((GOLDEN / f"{name}.sse.expected").read_bytes())["answer"]["choices"][0]
        if name != "refusal":
            assert final.output_text == expected["text"]


@pytest.mark.parametrize("name", STREAMS)
async def test_the_official_client_takes_every_stream_that_was_ended(upstream: Upstream, name: str) -> None:
    for prefix in prefixes(STREAMS[name]):
        _, final = await upstream.ask(prefix + ended(prefix))
        assert (final.status, final.error, final.incomplete_details) == ("completed", None, None)
        assert [item.type for item in final.output] == ["message"] * len(final.output)
        assert final.output_text.endswith(END)
        begun = DIALECT.stream()
        play(begun, prefix)
        spoken = "".join(choice.text for choice in begun.answer().choices)
        if name != "refusal":
            assert final.output_text == spoken + END


@pytest.mark.parametrize("path", sorted(GOLDEN.glob("*.sse")), ids=lambda path: path.stem)
def test_an_ended_answer_is_what_was_said_and_the_end(path: Path) -> None:
    data = path.read_bytes().partition(b"data: not JSON")[0]
    for prefix in prefixes(data + b'data: {"type":"error"}\n\n'):
        stream = DIALECT.stream()
        play(stream, prefix)
        before = "".join(choice.text for choice in stream.answer().choices)
        play(stream, stream.ending(END))
        answer = stream.answer()
        assert (answer.complete, answer.error, answer.choices[0].finish_reason) == (True, None, "completed")
        assert answer.choices[0].text == before + END


@pytest.mark.parametrize("path", sorted(GOLDEN.glob("*.sse")), ids=lambda path: path.stem)
def test_the_events_of_an_ending_are_numbered_on_and_close_everything_once(path: Path) -> None:
    data = path.read_bytes().partition(b"data: not JSON")[0]
    for prefix in prefixes(data + b'data: {"type":"error"}\n\n'):
        events = events_of(prefix) + events_of(ended(prefix))
        numbers = [event["sequence_number"] for event in events if "sequence_number" in event]
        assert numbers == list(range(len(numbers)))
        for opened, closed in (("output_item.added", "output_item.done"), ("content_part.added", "content_part.done")):
            places = [
                [(e["output_index"], e.get("content_index")) for e in events if e["type"] == f"response.{kind}"]
                for kind in (opened, closed)
            ]
            assert sorted(places[0]) == sorted(places[1])
        assert events[-1]["type"] == "response.completed"


@pytest.mark.parametrize("name", ["function_call", "custom_tool_call", "hosted_calls", "several_items"])
def test_a_call_that_was_open_has_nothing_left_that_could_be_run(name: str) -> None:
    data = (GOLDEN / f"{name}.sse").read_bytes()
    closed = [
        event["item"]
        for prefix in prefixes(data)
        for event in events_of(ended(prefix))
        if event["type"] == "response.output_item.done" and event["item"]["type"] not in {"message", "reasoning"}
    ]
    assert closed
    for item in closed:
        assert item["status"] == "incomplete"
        assert item.get("arguments", "{") == "{"
        assert not any(item.get(member) for member in ("input", "code", "result", "output"))
        assert item.get("action") in (None, {"type": "exec", "command": [], "env": {}})


def test_the_end_of_a_call_names_the_call_that_was_opened() -> None:
    [prefix] = [p for p in prefixes(STREAMS["function_call"]) if p.count(b"arguments.delta") == 4][:1]
    [item, _] = [event["item"] for event in events_of(ended(prefix)) if event["type"] == "response.output_item.done"]
    assert item == {
        "id": "fc_0",
        "type": "function_call",
        "status": "incomplete",
        "call_id": "call_a",
        "name": "create",
        "arguments": "{",
    }


def test_an_answer_that_has_ended_gets_no_second_end() -> None:
    for name, data in STREAMS.items():
        assert ended(data) == b"", name


def test_an_ending_before_the_first_event_is_a_whole_answer() -> None:
    kinds = [event["type"].removeprefix("response.") for event in events_of(ended(b""))]
    assert kinds == [
        *("created", "in_progress", "output_item.added", "content_part.added", "output_text.delta"),
        *("output_text.done", "content_part.done", "output_item.done", "completed"),
    ]


def test_parts_that_nobody_opened_are_closed_with_what_was_said() -> None:
    item = {"type": "message", "id": "m", "role": "assistant", "content": []}
    begun = {"type": "response.output_item.added", "output_index": 3, "item": item}
    delta = {"type": "response.output_text.delta", "output_index": 3, "content_index": 0, "delta": "Hel"}
    data = b"".join(b"data: " + json.dumps(event).encode() + b"\n\n" for event in (begun, delta))
    output = events_of(ended(data))[-1]["response"]["output"]
    assert [item["content"][0]["text"] for item in output] == ["Hel", END]
    assert [event["output_index"] for event in events_of(ended(data)) if "output_index" in event][-1] == 4
