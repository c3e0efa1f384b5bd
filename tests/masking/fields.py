"""Every field of every streamed answer that can hold a text, and how a client reads that text back.

Written from what upstreams send, not from the code that is measured with it. A streamed field is sent in pieces, one
event for each, with the events around them that a client needs, those among them that repeat the whole.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from extproc.endpoint import EndpointKind

Tree = dict[str, Any]
Path = tuple[str | int, ...]


@dataclass(frozen=True, slots=True)
class Streamed:
    """A field of a stream: `event` makes the event of one piece, `path` is where a client finds the piece in it.

    `is_json` says that the joined pieces are JSON. `named` says that events carry their type outside the data too.
    """

    kind: EndpointKind
    name: str
    event: Callable[[str], Tree]
    path: Path
    around: Callable[[str], tuple[list[Tree], list[Tree]]]
    is_json: bool = False
    named: bool = False

    def stream(self, pieces: Sequence[str]) -> bytes:
        """Return the bytes of a stream that says `pieces`, one event each."""
        before, after = self.around("".join(pieces))
        events = [*before, *map(self.event, pieces), *after]
        done = b"data: [DONE]\n\n" if not self.named else b""
        return b"".join(self.frame(tree) for tree in events) + done

    def joined(self, trees: Sequence[Any]) -> str:
        """Return the text as a client assembles it."""
        kind = self.event("").get("type")
        return "".join(
            text
            for tree in trees
            if isinstance(text := _at(tree, self.path), str) and (kind is None or tree["type"] == kind)
        )

    def frame(self, tree: Tree) -> bytes:
        """Return the bytes of one event."""
        name = b"event: %b\n" % tree["type"].encode() if self.named and "type" in tree else b""
        return b"%bdata: %b\n\n" % (name, compact(tree))


def compact(tree: object) -> bytes:
    """Return JSON as upstreams write it."""
    return json.dumps(tree, separators=(",", ":"), ensure_ascii=False).encode()


def trees_of(stream: bytes) -> Iterator[Any]:
    """Yield what the events of a stream say, decoded; what is no JSON as text."""
    for event in stream.replace(b"\r\n", b"\n").split(b"\n\n"):
        data = b"\n".join(line[5:].removeprefix(b" ") for line in event.split(b"\n") if line.startswith(b"data:"))
        if data:
            yield decoded(data)


def decoded(data: bytes) -> Any:
    """Return the JSON in `data`, or its text where it is none."""
    try:
        return json.loads(data)
    except (ValueError, RecursionError):
        return data.decode("utf-8", "replace")


def strings(tree: Any) -> Iterator[str]:
    """Yield every string in decoded JSON, names of members included."""
    todo = [tree]
    while todo:
        value = todo.pop()
        if isinstance(value, str):
            yield value
        elif isinstance(value, dict):
            yield from value
            todo += value.values()
        elif isinstance(value, list):
            todo += value


def _at(tree: Any, path: Path) -> Any:
    for key in path:
        try:
            tree = tree[key]
        except (KeyError, IndexError, TypeError):
            return None
    return tree


# --- Streams ---------------------------------------------------------------------------------------------------------


def _chunk(delta: Tree, finish_reason: str | None = None) -> Tree:
    choice = {"index": 0, "delta": delta, "finish_reason": finish_reason}
    head = {"id": "chatcmpl-7d1", "object": "chat.completion.chunk", "created": 1767225600, "model": "gpt-5"}
    return {**head, "choices": [choice]}


def _chat(name: str, delta: Callable[[str], Tree], path: Path, start: Tree, *, is_json: bool = False) -> Streamed:
    around: tuple[list[Tree], list[Tree]] = ([_chunk({"role": "assistant", **start})], [_chunk({}, "stop")])
    where = ("choices", 0, "delta", *path)
    return Streamed(EndpointKind.CHAT, name, lambda text: _chunk(delta(text)), where, lambda _: around, is_json)


def _call(**fields: Any) -> Tree:
    return {"tool_calls": [{"index": 0, **fields}]}


def completion(text: str, finish_reason: str | None = None) -> Tree:
    choice = {"text": text, "index": 0, "finish_reason": finish_reason, "logprobs": None}
    return {"id": "cmpl-4c2", "object": "text_completion", "created": 1767225600, "choices": [choice]}


def _responses(stem: str, member: str, item: Callable[[str], Tree], *, part: str = "content") -> Streamed:
    """Make a field of the responses dialect: its `done` event has the text as `member`, its item has it once more."""
    place: Tree = {"item_id": "it_0", "output_index": 0}
    if part:
        place[f"{part}_index"] = 0

    def around(whole: str) -> tuple[list[Tree], list[Tree]]:
        before: list[Tree] = [
            {"type": "response.created", "response": {"id": "resp_1", "status": "in_progress", "output": []}},
            {"type": "response.output_item.added", "output_index": 0, "item": item("")},
        ]
        after: list[Tree] = [
            {"type": f"response.{stem}.done", **place, member: whole},
            {"type": "response.output_item.done", "output_index": 0, "item": item(whole)},
            {
                "type": "response.completed",
                "response": {"id": "resp_1", "status": "completed", "output": [item(whole)]},
            },
        ]
        return before, after

    return Streamed(
        EndpointKind.RESPONSES,
        stem,
        lambda text: {"type": f"response.{stem}.delta", **place, "delta": text},
        ("delta",),
        around,
        is_json="arguments" in stem,
        named=True,
    )


def item_of(kind: str, **fields: Any) -> Tree:
    return {"id": "it_0", "type": kind, "status": "completed", **fields}


def message_item(part: Tree) -> Tree:
    return item_of("message", role="assistant", content=[part])


def reasoning_item(**fields: Any) -> Tree:
    return item_of("reasoning", **fields)


def _text_part(text: str) -> Tree:
    return {"type": "reasoning_text", "text": text}


def _messages(delta_type: str, member: str, block: Tree) -> Streamed:
    start = {"id": "msg_1", "type": "message", "role": "assistant", "model": "claude", "content": []}
    before: list[Tree] = [
        {"type": "message_start", "message": {**start, "usage": {"input_tokens": 1, "output_tokens": 1}}},
        {"type": "content_block_start", "index": 0, "content_block": block},
    ]
    after: list[Tree] = [
        {"type": "content_block_stop", "index": 0},
        {"type": "message_delta", "delta": {"stop_reason": "end_turn"}, "usage": {"output_tokens": 9}},
        {"type": "message_stop"},
    ]
    return Streamed(
        EndpointKind.MESSAGES,
        delta_type,
        lambda text: {"type": "content_block_delta", "index": 0, "delta": {"type": delta_type, member: text}},
        ("delta", member),
        lambda _: (before, after),
        is_json=member == "partial_json",
        named=True,
    )


STREAMED: tuple[Streamed, ...] = (
    _chat("content", lambda text: {"content": text}, ("content",), {}),
    _chat("content parts", lambda text: {"content": [{"type": "text", "text": text}]}, ("content", 0, "text"), {}),
    _chat("reasoning_text", lambda text: {"reasoning_text": text}, ("reasoning_text",), {}),
    _chat("refusal", lambda text: {"refusal": text}, ("refusal",), {}),
    _chat(
        "arguments",
        lambda text: _call(function={"arguments": text}),
        ("tool_calls", 0, "function", "arguments"),
        _call(id="call_a", type="function", function={"name": "bash", "arguments": ""}),
        is_json=True,
    ),
    _chat(
        "custom input",
        lambda text: _call(custom={"input": text}),
        ("tool_calls", 0, "custom", "input"),
        _call(id="call_a", type="custom", custom={"name": "apply_patch", "input": ""}),
    ),
    Streamed(
        EndpointKind.COMPLETIONS,
        "text",
        completion,
        ("choices", 0, "text"),
        lambda _: ([], [completion("", "stop")]),
    ),
    _responses("output_text", "text", lambda text: message_item({"type": "output_text", "text": text})),
    _responses("refusal", "refusal", lambda text: message_item({"type": "refusal", "refusal": text})),
    _responses("reasoning_text", "text", lambda text: reasoning_item(content=[_text_part(text)])),
    _responses(
        "reasoning_summary_text",
        "text",
        lambda text: reasoning_item(summary=[{"type": "summary_text", "text": text}]),
        part="summary",
    ),
    _responses(
        "function_call_arguments",
        "arguments",
        lambda text: item_of("function_call", call_id="call_a", name="bash", arguments=text),
        part="",
    ),
    _responses(
        "mcp_call_arguments",
        "arguments",
        lambda text: item_of("mcp_call", name="search", server_label="docs", arguments=text),
        part="",
    ),
    _responses(
        "custom_tool_call_input",
        "input",
        lambda text: item_of("custom_tool_call", call_id="call_a", name="apply_patch", input=text),
        part="",
    ),
    _responses(
        "code_interpreter_call_code",
        "code",
        lambda text: item_of("code_interpreter_call", container_id="c", code=text),
        part="",
    ),
    _messages("text_delta", "text", {"type": "text", "text": ""}),
    _messages("thinking_delta", "thinking", {"type": "thinking", "thinking": "", "signature": ""}),
    _messages("input_json_delta", "partial_json", {"type": "tool_use", "id": "tu_1", "name": "bash", "input": {}}),
)
