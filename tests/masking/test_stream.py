from __future__ import annotations

import json
import time
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from extproc.dialect.chat import ChatDialect
from extproc.dialect.completions import CompletionsDialect
from extproc.dialect.mcp import McpDialect
from extproc.dialect.messages import MessagesDialect
from extproc.dialect.port import Dialect
from extproc.dialect.responses import ResponsesDialect
from extproc.dialect.sse import EventTooLarge
from extproc.masking.channel import Channel
from extproc.masking.finding import Action
from extproc.masking.masker import Masker
from extproc.masking.stream import MaskedStream
from tests.masking.running import PASSWORD, TOKEN, masker, rules, run
from tests.streaming import channels, events_of, play

GOLDEN = Path(__file__).parent.parent / "golden"
DIALECTS: dict[str, Dialect] = {
    "chat": ChatDialect(),
    "completions": CompletionsDialect(),
    "mcp": McpDialect(),
    "messages": MessagesDialect(),
    "responses": ResponsesDialect(),
}
GOLDENS = [(name, path) for name in DIALECTS for path in sorted((GOLDEN / name).glob("*.sse"))]
SECRET_TEXT = f"See é {TOKEN}, and password = '{PASSWORD}'.\nThen go on."


def masked(chunks: list[bytes], dialect: Dialect | None = None, by: Masker | None = None) -> bytes:
    stream = MaskedStream(dialect or ChatDialect(), by or masker(), max_event_bytes=1 << 20)
    return b"".join([*map(stream.feed, chunks), stream.finish()])


def event(tree: Any, name: str | None = None) -> bytes:
    head = b"" if name is None else f"event: {name}\n".encode()
    return head + b"data: " + json.dumps(tree).encode() + b"\n\n"


def content(text: str, index: int = 0, **more: Any) -> bytes:
    return event({"choices": [{"index": index, "delta": {"content": text}, **more}]})


def arguments(text: str) -> bytes:
    call = {"index": 0, "id": "c1", "function": {"name": "run", "arguments": text}}
    return event({"choices": [{"index": 0, "delta": {"tool_calls": [call]}}]})


def assembled(data: bytes, dialect: Dialect | None = None) -> dict[str, str]:
    readings, _ = play((dialect or ChatDialect()).stream(), data)
    return channels(readings)


@pytest.mark.parametrize(("name", "path"), GOLDENS, ids=lambda value: getattr(value, "stem", value))
def test_answers_without_secrets_pass_event_by_event_as_they_came(name: str, path: Path) -> None:
    data = path.read_bytes()
    out = masked([data], DIALECTS[name])
    assert masked([data[at : at + 1] for at in range(len(data))], DIALECTS[name]) == out
    before, after = (Counter(one.data for one in events_of([stream])) for stream in (data, out))
    assert before.total() == after.total()
    assert {one for one in before - after if one is not None and b"\n" not in one} == set()


@pytest.mark.parametrize(("name", "path"), GOLDENS, ids=lambda value: getattr(value, "stem", value))
def test_secrets_in_answers_of_every_dialect_are_masked_wherever_bytes_are_cut(name: str, path: Path) -> None:
    readings, _ = play(DIALECTS[name].stream(), path.read_bytes())
    slots = [slot for reading in readings for slot in reading.slots]
    if not slots:
        return
    data = path.read_bytes()
    text = json.dumps(slots[-1].holder[slots[-1].key], ensure_ascii=False).encode()
    data = data.replace(text, json.dumps(f" {TOKEN} ").encode())
    out = masked([data], DIALECTS[name])
    assert TOKEN[4:].encode() not in out
    assert masked([data[at : at + 1] for at in range(len(data))], DIALECTS[name]) == out
    assert masked([data[at : at + 7] for at in range(0, len(data), 7)], DIALECTS[name]) == out


@given(st.lists(st.integers(0, len(SECRET_TEXT)), max_size=30), st.sampled_from([b"\n", b"\r\n", b"\r"]), st.booleans())
@settings(max_examples=60, deadline=None)
def test_the_text_a_client_assembles_is_the_same_however_the_upstream_cut_it(
    places: list[int],
    line_end: bytes,
    mark: bool,  # noqa: FBT001
) -> None:
    whole, _ = run(Channel(rules()), [SECRET_TEXT])
    cuts = sorted(places)
    parts = [SECRET_TEXT[a:b] for a, b in zip([0, *cuts], [*cuts, len(SECRET_TEXT)], strict=True)]
    data = b"".join(content(part) + content("other ", 1) for part in parts) + b"data: [DONE]\n\n"
    data = (b"\xef\xbb\xbf" if mark else b"") + data.replace(b"\n", line_end)
    out = masked([data])
    assert assembled(out) == {"0.content": whole, "1.content": "other " * len(parts)}
    assert len(events_of([out])) == len(events_of([data]))
    assert out.endswith(b"data: [DONE]" + 2 * line_end)


@given(st.lists(st.integers(0, 200), max_size=20))
@settings(max_examples=40, deadline=None)
def test_arguments_cut_anywhere_stay_json(places: list[int]) -> None:
    text = json.dumps({"cmd": f"line\n{TOKEN}\n\U0001f600 \\", "password": PASSWORD})
    cuts = sorted(place % len(text) for place in places)
    parts = [text[a:b] for a, b in zip([0, *cuts], [*cuts, len(text)], strict=True)]
    out = assembled(masked([b"".join(map(arguments, parts))]))
    told = json.loads(out["0.tool.0.arguments"])
    assert told == {"cmd": "line\n[MASKED:github-pat]\n\U0001f600 \\", "password": "[MASKED:password]"}


def test_nothing_of_a_secret_leaves_while_it_is_still_coming() -> None:
    stream = MaskedStream(ChatDialect(), masker(), max_event_bytes=1 << 20)
    assert stream.feed(content("It is ")) == content("It is ")
    assert b"".join(stream.feed(content(char)) for char in TOKEN) == b""
    assert stream.holding
    assert b"".join(stream.feed(content(" x"))[:0] for _ in "x") == b""
    stream.finish()


def test_a_comment_passes_at_once_and_every_event_waits_its_turn() -> None:
    stream = MaskedStream(ChatDialect(), masker(), max_event_bytes=1 << 20)
    stream.feed(content("ghp_aB3dE6"))
    assert stream.feed(b": still there\n") == b": still there\n"
    after = content("hello ", 1) + event({"usage": {"total_tokens": 1}})
    assert stream.feed(after) == b""
    assert stream.feed(content(" is it")).startswith(content("ghp_aB3dE6") + after)


def test_a_last_word_leaves_when_its_speaker_goes_on_with_another_text() -> None:
    stream = MaskedStream(ChatDialect(), masker(), max_event_bytes=1 << 20)
    said = content("now the API key handling")
    assert stream.feed(said) == b""
    call = event({"choices": [{"index": 0, "delta": {"tool_calls": [{"index": 0, "function": {"name": "view "}}]}}]})
    assert stream.feed(call) == said + call


def test_what_may_begin_a_secret_waits_even_then() -> None:
    stream = MaskedStream(ChatDialect(), masker(), max_event_bytes=1 << 20)
    stream.feed(content("it is ghp_aB3dE6"))
    call = event({"choices": [{"index": 0, "delta": {"tool_calls": [{"index": 0, "function": {"name": "view "}}]}}]})
    assert stream.feed(call) == b""
    rest = stream.feed(content(f"{TOKEN[10:]} ") + b"data: [DONE]\n\n")
    assert b"aB3dE6" not in rest
    assert b"[MASKED:github-pat]" in rest


@pytest.mark.parametrize(
    "data",
    [
        b": " + TOKEN.encode() + b"\n",
        b"event: " + TOKEN.encode() + b"\ndata: {}\n\n",
        b"id: " + TOKEN.encode() + b"\ndata: {}\n\n",
        b"id: " + TOKEN.encode() + b"\n\n",
        TOKEN.encode() + b"\ndata: {}\n\n",
        b"other: " + TOKEN.encode() + b"\n\n",
        b"event: " + TOKEN.encode() + b"\ndata: {}",
        b"data: " + TOKEN.encode() + b"\n\n",
        b'data: "' + TOKEN.encode() + b'"\n\n',
    ],
)
def test_nothing_beside_the_data_carries_a_secret(data: bytes) -> None:
    out = masked([data[at : at + 1] for at in range(len(data))])
    assert TOKEN[4:].encode() not in out
    assert out == masked([data])


def test_lines_of_data_that_some_clients_read_one_by_one_are_masked_one_by_one() -> None:
    lines = [content("It is ghp_").strip(), content(TOKEN[4:]).strip(), b"data: no JSON", b"data: [DONE]"]
    for end in (b"\n\n", b"\n", b""):
        out = masked([b"\n".join(lines) + end])
        assert TOKEN[4:].encode() not in out
        assert assembled(out)["0.content"] == "It is [MASKED:github-pat]"
        assert b"data: no JSON" in out
        assert b"data: [DONE]" in out


def test_json_over_several_lines_of_data_is_written_on_one() -> None:
    out = masked([b'data: {"a":\ndata: {"choices":[{"delta":{"content":"x"}}]}\ndata: }\n\n'])
    assert out == b'data: {"a":{"choices":[{"delta":{"content":"x"}}]}}\n\n'


@pytest.mark.parametrize(
    "data",
    [
        b'data: {"x":"' + TOKEN.encode() + b'","x":1}\n\n',
        b'data: {"y":[{"x":"' + TOKEN.encode() + b'","\\u0078":1}]}\n\n',
        b'data: {"x":"' + TOKEN.encode() + b'","x":1,"b\\\\":2}\n\n',
    ],
)
def test_a_member_that_comes_twice_never_passes_unseen(data: bytes) -> None:
    assert TOKEN[4:].encode() not in masked([data])


def test_once_something_was_masked_no_logprobs_pass() -> None:
    tokens = [{"token": char, "bytes": [ord(char)], "top_logprobs": [{"token": char}]} for char in TOKEN]
    data = content("It ", logprobs={"content": [{"token": "It ", "bytes": [73]}]})
    data += b"".join(content(char, logprobs={"content": [one]}) for char, one in zip(TOKEN, tokens, strict=True))
    out = masked([data + content(" so", logprobs={"content": [{"token": " so"}]})])
    trees = [json.loads(one.data or b"") for one in events_of([out])]
    logprobs = [tree["choices"][0]["logprobs"] for tree in trees]
    assert logprobs[0] is not None
    assert set(map(json.dumps, logprobs[1:])) == {"null"}
    assert assembled(out)["0.content"] == "It [MASKED:github-pat] so"


@pytest.mark.parametrize("tail", [b"data: [DONE]\n\n", b"data: [DONE]\n\ndata: [DONE]\n\n", b"", b"data: [DONE]"])
def test_the_end_may_come_twice_or_never(tail: bytes) -> None:
    stream = MaskedStream(ChatDialect(), masker(), max_event_bytes=1 << 20)
    out = stream.feed(content(f"It is {TOKEN}") + tail) + stream.finish()
    assert stream.finish() == b""
    assert out.endswith(tail)
    assert assembled(out)["0.content"] == "It is [MASKED:github-pat]"


@pytest.mark.parametrize("name", list(DIALECTS))
def test_what_policy_blocks_ends_the_answer_once_and_nothing_follows(name: str) -> None:
    stream = MaskedStream(DIALECTS[name], masker(Action.BLOCK), max_event_bytes=1 << 20)
    out = stream.feed(event({"other": f"It is {TOKEN} x"}))
    assert TOKEN[4:].encode() not in out
    assert b"github-pat" in out
    assert stream.feed(content("more ")) == stream.finish() == b""


def test_an_ending_never_joins_an_unfinished_line() -> None:
    stream = MaskedStream(ChatDialect(), masker(Action.BLOCK), max_event_bytes=1 << 20)
    out = stream.feed(b": a\n") + stream.feed(content(f"{TOKEN} x"))
    assert out.startswith(b": a\n\n\ndata: ")


@given(st.lists(st.binary(max_size=60), max_size=6))
@settings(max_examples=100, deadline=None)
def test_no_bytes_make_it_raise(chunks: list[bytes]) -> None:
    for prefix in (b"", b"data: ", b'data: {"choices":[{"delta":'):
        data = prefix + b"".join(chunks)
        assert masked([data]) == masked([data[at : at + 1] for at in range(len(data))])


def test_an_unfinished_event_that_passes_a_waiting_one_does_not_join_it() -> None:
    for last in (b"data: no JSON", b"data: no JSON\n", b": comment"):
        data = content("ghp_aB") + last
        before, after = ({one.data for one in events_of([stream])} for stream in (data, masked([data])))
        assert before - {None} == after - {None}


def test_an_event_beyond_the_bound_is_refused() -> None:
    with pytest.raises(EventTooLarge):
        MaskedStream(ChatDialect(), masker(), max_event_bytes=10).feed(content("more than ten"))


def test_thousands_of_events_and_channels_take_linear_time() -> None:
    start = time.process_time()
    masked([content("a1B2", 0) for _ in range(4000)])
    masked([content("lorem ipsum ", at % 3000) for at in range(4000)])
    masked([content("a1B2", 0)] + [content("lorem ipsum ", 1 + at % 50) for at in range(4000)])
    masked([content("ghp_aB3dE6", 0)] + [event({"usage": {}}) for _ in range(10_000)])
    assert time.process_time() - start < 10


def test_what_was_kept_does_not_join_a_comment_that_was_cut_off() -> None:
    stream = MaskedStream(ChatDialect(), masker(), max_event_bytes=1 << 20, is_privileged=lambda _: True)
    call = event({"choices": [{"index": 0, "delta": {"tool_calls": [{"index": 0, "function": {"name": "edit "}}]}}]})
    assert stream.feed(call + b": cut") == b""
    left = stream.finish()
    assert left == b": cut"
    assert stream.release() == b"\n" + call


def test_what_is_kept_for_an_approver_begins_at_the_same_event_while_another_text_waits() -> None:
    stream = MaskedStream(
        ChatDialect(), masker(), max_event_bytes=1 << 20, is_privileged=lambda touch: touch.path == "infra/a.tf"
    )
    # The other choice holds what follows back, so that the gate has not seen that a code block began.
    waiting = content("hi\n") + content(f"token {TOKEN[:20]}", 1)
    block = [content(text) for text in ("x ", "= 1\n", "# filepath: infra/a.tf\n", "z = 3\n")]
    out = b"".join(map(stream.feed, [waiting, content("```hcl\n"), b"".join(block), content(" and more", 1)]))
    assert out.endswith(block[1])
