from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from extproc import json_body
from extproc.recording.interrupted import Answering, interrupted
from extproc.rules import STREAMING
from tests.recording_of import NOW, exchange

GOLDEN = Path(__file__).parents[1] / "golden"
STREAM = Answering(200, "text/event-stream; charset=utf-8")

Json = dict[str, Any]


def closed(kind: str | None, answering: Answering | None, *pieces: bytes) -> Json:
    opening, _ = exchange("x", endpoint=kind)
    timed = [(float(number), piece) for number, piece in enumerate(pieces)]
    return interrupted(opening, answering, timed, now=NOW + 5)


def trees(stream: bytes) -> Iterator[Json]:
    """Yield what a simple client reads of a stream: whole events, the data of which is one JSON object."""
    for event in stream.split(b"\n\n")[:-1]:
        for line in event.split(b"\n"):
            if line.startswith(b"data: {"):
                with suppress(msgspec.DecodeError):
                    yield msgspec.json.decode(line[6:])


def chat(tree: Json) -> str:
    return "".join(choice["delta"].get("content") or "" for choice in tree.get("choices", ()) if choice["index"] == 0)


def completions(tree: Json) -> str:
    return "".join(choice["text"] for choice in tree.get("choices", ()) if choice["index"] == 0)


def messages(tree: Json) -> str:
    return str(tree["delta"].get("text", "")) if tree["type"] == "content_block_delta" else ""


def responses(tree: Json) -> str:
    return str(tree["delta"]) if tree["type"] == "response.output_text.delta" else ""


CLIENTS: dict[str, tuple[str, str, Callable[[Json], str]]] = {
    "chat": ("chat", "plain.sse", chat),
    "chat with tools": ("chat", "tool_calls.sse", chat),
    "agents": ("agents", "plain.sse", chat),
    "completions": ("completions", "ghost_text.sse", completions),
    "messages": ("messages", "text.sse", messages),
    "responses": ("responses", "text.sse", responses),
}


@pytest.mark.parametrize("case", CLIENTS)
def test_a_stream_that_ended_anywhere_has_the_text_that_its_client_has(case: str) -> None:
    kind, name, read = CLIENTS[case]
    stream = (GOLDEN / kind.replace("agents", "chat") / name).read_bytes()
    seen = set()
    for cut in range(0, len(stream) + 1, 7):
        sent = stream[:cut]
        response = closed(kind, STREAM, sent[: cut // 2], sent[cut // 2 :])["response"]
        # Clients differ in whether they read an event without the blank line after it.
        assert (response["text"] or "") in {"".join(map(read, trees(sent + end))) for end in (b"", b"\n\n")}
        assert response["body_bytes"] == cut
        seen.add(response["text"])
    assert len(seen) > 1


@pytest.mark.parametrize("kind", sorted(STREAMING))
def test_every_streaming_endpoint_is_read_wherever_its_stream_ended(kind: str) -> None:
    found = sorted((GOLDEN / kind).glob("*.sse")) or sorted((GOLDEN / "chat").glob("*.sse"))
    for path in found:
        stream = path.read_bytes()
        for cut in range(0, len(stream), 61):
            closing = closed(kind, STREAM, stream[:cut])
            assert closing["outcome"] == "interrupted"
            # Of an event that was cut in its data nothing is lost.
            rest = stream[:cut].rpartition(b"\n\n")[2]
            data = rest.rpartition(b"\n")[2].removeprefix(b"data: ").decode("utf-8", "replace").strip()
            if b"\ndata: " in b"\n" + rest and data and data != "[DONE]" and json_body.decoded(data.encode()) is None:
                assert data in closing["response"]["unparsed"][-1]


@given(st.data())
def test_it_does_not_matter_how_the_bytes_were_released(data: st.DataObject) -> None:
    stream = (GOLDEN / "chat" / "tool_calls.sse").read_bytes()[: data.draw(st.integers(0, 1500))]
    cuts = sorted(data.draw(st.lists(st.integers(0, len(stream)), max_size=8)))
    pieces = [stream[start:stop] for start, stop in zip([0, *cuts], [*cuts, len(stream)], strict=True)]
    assert closed("chat", STREAM, *pieces)["response"] == closed("chat", STREAM, stream)["response"]


def test_the_closing_says_what_happened_and_when() -> None:
    stream = (GOLDEN / "chat" / "plain.sse").read_bytes()
    events = stream.split(b"\n\n")
    closing = closed("chat", STREAM, events[0] + b"\n\n", events[1] + b"\n\n")
    assert closing["id"] == "x"
    assert closing["closed_at"] == NOW + 5
    assert closing["error"]["code"] == "gateway.internal"
    assert closing["response"]["status"] == 200
    assert closing["response"]["upstream_status"] is None
    assert closing["response"]["complete"] is False
    assert [at for at, _, _ in closing["timing"]["pieces"]] == sorted(at for at, _, _ in closing["timing"]["pieces"])
    assert closing["timing"]["closed"] == 5000


@pytest.mark.parametrize("content_type", ["application/json", "text/plain", None])
def test_an_answer_that_is_no_stream_is_kept_as_text(content_type: str | None) -> None:
    response = closed("chat", Answering(200, content_type), b'{"choices": [{"mess', b"age\xc3")["response"]
    assert response["unparsed"] == ['{"choices": [{"message\N{REPLACEMENT CHARACTER}']
    assert response["complete"] is False
    assert response["body_bytes"] == 23


def test_a_stream_of_an_endpoint_that_has_none_is_kept_as_text() -> None:
    assert closed("github", STREAM, b"data: {}\n\n")["response"]["unparsed"] == ["data: {}"]


def test_an_endpoint_that_this_version_does_not_know_is_kept_as_text() -> None:
    assert closed("of-tomorrow", STREAM, b"data: {}\n\n")["response"]["unparsed"] == ["data: {}"]


@pytest.mark.parametrize("kind", ["metadata", None])
def test_bodies_that_are_not_recorded_are_not_recorded_here(kind: str | None) -> None:
    response = closed(kind, Answering(200, "text/plain"), b"data")["response"]
    assert response == {
        "status": 200, "upstream_status": None, "content_type": "text/plain", "body_bytes": 4,
    }  # fmt: skip


def test_an_exchange_without_an_answer_has_none() -> None:
    response = closed("chat", None)["response"]
    assert response == {"status": None, "upstream_status": None, "content_type": None, "body_bytes": 0}
    assert closed("chat", STREAM)["response"]["text"] in {None, ""}


@given(st.sampled_from(sorted(STREAMING)), st.lists(st.binary(max_size=60), max_size=4))
def test_no_bytes_make_it_fail(kind: str, pieces: list[bytes]) -> None:
    assert closed(kind, STREAM, *pieces)["outcome"] == "interrupted"
