from __future__ import annotations

import itertools
import json
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from extproc.conversation import Prompt
from extproc.dialect.completions import CompletionsDialect
from extproc.dialect.port import BadAnswer, BadRequest, Dialect
from extproc.errors import Code, Refusal
from tests.streaming import channels, events_of, play

DIALECT: Dialect = CompletionsDialect()
GOLDEN = Path(__file__).parents[1] / "golden" / "completions"
STREAMS = sorted(path.name for path in GOLDEN.glob("*.sse"))
ANSWERS = sorted(path.name for path in GOLDEN.glob("*.json"))
NOTICE = "The gateway ended this answer."


def golden(name: str) -> tuple[bytes, Any]:
    return (GOLDEN / name).read_bytes(), json.loads((GOLDEN / f"{name}.expected").read_bytes())


def run(*chunks: bytes) -> dict[str, Any]:
    stream = DIALECT.stream()
    readings, pieces = play(stream, *chunks)
    return {
        "channels": channels(readings),
        "closes": [name for reading in readings for name in reading.closes],
        "pieces": [[piece.channel, piece.text] for piece in pieces],
        "answer": asdict(stream.answer()),
    }


def test_a_request_of_the_language_server_is_read_as_its_golden_says() -> None:
    body, expected = golden("ghost_text.request")
    assert asdict(DIALECT.parse_request(body)) == expected


def test_a_model_in_the_body_several_prompts_and_empty_fields_are_read() -> None:
    body = b'{"model":"m","prompt":["a","b"],"suffix":"","extra":null,"stream":null,"n":2}'
    messages = [{"role": "user", "content": "a"}, {"role": "user", "content": "b"}]
    assert DIALECT.parse_request(body) == Prompt("m", messages, [], stream=False)
    assert DIALECT.parse_request(b'{"prompt":""}').messages == [{"role": "user", "content": ""}]


def request(**changes: object) -> bytes:
    return json.dumps({"prompt": "SECRET", **changes}).encode()


BAD_REQUESTS = {
    "an empty body": (b"", "the body is empty; expected a JSON object"),
    "two prompts": (b'{"prompt":"a","prompt":"b"}', "the body has a top-level field twice"),
    "no prompt": (b"{}", "prompt: expected a string or a non-empty list of strings"),
    "no prompts": (request(prompt=[]), "prompt: expected a string or a non-empty list of strings"),
    "tokens": (request(prompt=[17, 4]), "prompt: expected a string or a non-empty list of strings"),
    "lists of tokens": (request(prompt=[[17], [4]]), "prompt: expected a string or a non-empty list of strings"),
    "a text and tokens": (request(prompt=["SECRET", [4]]), "prompt: expected a string or a non-empty list of strings"),
    "an empty model": (request(model=""), "model: expected a non-empty string"),
    "a suffix that is a list": (request(suffix=["SECRET"]), "suffix: expected a string"),
    "extra as a string": (request(extra="SECRET"), "extra: expected an object"),
    "stream as a string": (request(stream="true"), "stream: expected true or false"),
}


@pytest.mark.parametrize(("body", "message"), BAD_REQUESTS.values(), ids=BAD_REQUESTS.keys())
def test_a_bad_request_is_refused_with_the_field_and_the_type_it_needs(body: bytes, message: str) -> None:
    with pytest.raises(BadRequest) as refused:
        DIALECT.parse_request(body)
    assert str(refused.value) == message


def test_the_goldens_are_there() -> None:
    assert (len(STREAMS), len(ANSWERS)) == (4, 2)


@pytest.mark.parametrize("name", ANSWERS)
def test_a_json_answer_says_what_its_golden_says(name: str) -> None:
    body, expected = golden(name)
    assert asdict(DIALECT.parse_answer(body)) == expected["answer"]


def test_a_json_answer_that_is_not_understood_is_refused_without_quoting_it() -> None:
    with pytest.raises(BadAnswer) as refused:
        DIALECT.parse_answer(b'{"choices":[{"text":["SECRET"]}]}')
    assert str(refused.value) == "the answer: Expected `str | null`, got `array` - at `$.choices[0].text`"


@pytest.mark.parametrize("name", STREAMS)
def test_a_streamed_answer_says_what_its_golden_says(name: str) -> None:
    data, expected = golden(name)
    assert run(data) == expected


@given(
    st.lists(
        st.sampled_from([event + b"\n\n" for name in STREAMS for event in golden(name)[0].split(b"\n\n") if event])
    ),
    st.lists(st.integers(min_value=0)),
)
def test_what_is_gathered_never_depends_on_where_chunks_are_cut(events: list[bytes], positions: list[int]) -> None:
    data = b"".join(events)
    edges = [0, *sorted(position % (len(data) + 1) for position in positions), len(data)]
    gathered = run(*(data[start:end] for start, end in itertools.pairwise(edges)))
    assert gathered == run(data)
    for choice in gathered["answer"]["choices"]:
        assert gathered["channels"][f"{choice['index']}.text"] == choice["text"]


@pytest.mark.parametrize("name", STREAMS)
def test_an_ending_completes_the_stream_after_every_event_with_the_text_last(name: str) -> None:
    given_events = [event.raw for event in events_of([golden(name)[0]])]
    for count in range(len(given_events) + 1):
        before = b"".join(given_events[:count])
        stream = DIALECT.stream()
        play(stream, before)
        # The last event may have come without its blank line.
        after = run(before + b"\n\n" + stream.ending(NOTICE))
        ended = [choice.index for choice in stream.answer().choices if choice.finish_reason is None] or [0]
        assert after["answer"]["complete"]
        assert after["pieces"][-1] == [f"{ended[-1]}.text", NOTICE]
        for choice in after["answer"]["choices"]:
            assert choice["finish_reason"]
            assert choice["text"].endswith(NOTICE) == (choice["index"] in ended)


def test_the_events_of_an_ending_have_the_form_of_the_last_one() -> None:
    stream = DIALECT.stream()
    play(stream, golden("cut.sse")[0])
    shared = {"id": "cmpl-4c2", "object": "text_completion", "created": 1767225600, "model": "gpt-41-copilot"}
    said, finish, done = [event.data for event in events_of([stream.ending(NOTICE)])]
    assert [json.loads(data or b"") for data in (said, finish)] == [
        {**shared, "choices": [{"index": 0, "text": NOTICE, "logprobs": None, "finish_reason": None}]},
        {**shared, "choices": [{"index": 0, "text": "", "logprobs": None, "finish_reason": "stop"}]},
    ]
    assert done == b"[DONE]"
    first = json.loads(events_of([DIALECT.stream().ending(NOTICE)])[0].data or b"")
    assert first["object"] == "text_completion"


def test_a_refusal_is_an_error_object_of_the_api() -> None:
    error = json.loads(DIALECT.error_body(Refusal(422, Code.POLICY_DENIED, "No."), "d-1"))["error"]
    assert (error["message"], error["code"], error["decision_id"]) == ("No.", "policy.denied", "d-1")
