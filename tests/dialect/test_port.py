"""What is promised of every dialect."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from openai.types import Completion
from openai.types.chat import ChatCompletion
from openai.types.responses import Response

from extproc.conversation import Usage
from extproc.dialect.json_api import may_be_call
from extproc.dialect.port import Dialect
from extproc.endpoint import EndpointKind
from extproc.rules import DIALECTS
from tests.masking.fields import STREAMED, Streamed
from tests.responses_events import added, completed, delta, sse
from tests.streaming import play

GOLDEN = Path(__file__).parents[1] / "golden"
TOLD = 'Denied by alice: "not näw".'

TALKING = ("chat", "agents", "completions", "responses", "messages", "mcp")
SILENT = ("embeddings", "models", "github", "graphql", "account", "telemetry", "metadata")
ANSWERS = {
    kind: sorted((GOLDEN / ("chat" if kind == "agents" else kind)).glob("*.json")) for kind in TALKING if kind != "mcp"
}
BODIES = [(kind, path) for kind, paths in ANSWERS.items() for path in paths]


def dialect(kind: str) -> Dialect:
    return DIALECTS[EndpointKind(kind)]


def refused(kind: str, body: object) -> Any:
    raw = body if isinstance(body, bytes) else json.dumps(body).encode()
    return json.loads(dialect(kind).refused_answer(raw, TOLD))


def test_every_dialect_is_looked_at() -> None:
    assert {*TALKING, *SILENT} == set(DIALECTS)


# --- the whole answer that says a refusal ----------------------------------------------------------------------------


@pytest.mark.parametrize(("kind", "path"), BODIES, ids=lambda value: getattr(value, "name", value))
def test_a_refused_answer_says_the_refusal_alone_and_keeps_model_and_usage(kind: str, path: Path) -> None:
    before = dialect(kind).parse_answer(path.read_bytes())
    answer = dialect(kind).parse_answer(dialect(kind).refused_answer(path.read_bytes(), TOLD))
    said = [(choice.text, choice.reasoning, choice.tool_calls) for choice in answer.choices]
    assert said == [(TOLD, "", [])] * max(1, len(before.choices))
    assert (answer.complete, answer.error, answer.unparsed) == (True, None, None)
    # Neither an error nor a count of tokens has a message; that of Anthropic's has always a usage.
    none = Usage(0, 0) if kind == "messages" else None
    assert (answer.model, answer.usage) == ((before.model, before.usage) if before.choices else (answer.model, none))


@pytest.mark.parametrize(
    ("kind", "path", "identity"),
    [
        ("chat", "chat/shared_index.json", "chatcmpl-7d1"),
        ("responses", "responses/calls.json", "resp_7d1"),
        ("messages", "messages/message.json", "msg_02"),
    ],
)
def test_nothing_of_a_call_is_left_and_the_id_stays(kind: str, path: str, identity: str) -> None:
    said = refused(kind, (GOLDEN / path).read_bytes())
    assert said["id"] == identity
    assert not any(word in json.dumps(said) for word in ("call_a", "toolu", "bash", "arguments", '"tool_calls"'))


def test_a_chat_answer_ends_every_choice_normally() -> None:
    call = {"role": "assistant", "content": None, "tool_calls": [{"id": "c", "function": {"name": "edit"}}]}
    body = {
        "id": "x",
        "choices": [{"index": n, "message": call, "finish_reason": "tool_calls"} for n in (1, 0, 1)]
        + [5, {"index": True}],
        "usage": {"prompt_tokens": 1, "completion_tokens": 2, "total_tokens": 3, "details": {"cached": 1}},
        "error": {"message": "x"},
    }
    assert refused("chat", body) == {
        "id": "x",
        "object": "chat.completion",
        "created": 0,
        "model": "",
        "usage": body["usage"],
        "choices": [
            {"index": n, "message": {"role": "assistant", "content": TOLD}, "finish_reason": "stop"} for n in (1, 0)
        ],
    }
    assert refused("agents", body) == refused("chat", body)


def test_an_answer_has_no_more_choices_than_can_be_read() -> None:
    body = json.dumps({"choices": [{"index": n} for n in range(200)]}).encode()
    answer = dialect("chat").parse_answer(dialect("chat").refused_answer(body, TOLD))
    assert len(answer.choices) == 128


@pytest.mark.parametrize(("kind", "path"), [("chat", None), *[one for one in BODIES if one[0] in {"chat", "agents"}]])
def test_the_official_client_takes_it_for_a_chat_that_stopped(kind: str, path: Path | None) -> None:
    body = path.read_bytes() if path else b"no JSON"
    [choice, *_] = ChatCompletion.model_validate_json(dialect(kind).refused_answer(body, TOLD)).choices
    assert (choice.finish_reason, choice.message.content, choice.message.tool_calls) == ("stop", TOLD, None)


@pytest.mark.parametrize("path", [*ANSWERS["completions"], None])
def test_the_official_client_takes_it_for_a_completion_that_stopped(path: Path | None) -> None:
    body = path.read_bytes() if path else b"no JSON"
    [choice, *_] = Completion.model_validate_json(dialect("completions").refused_answer(body, TOLD)).choices
    assert (choice.finish_reason, choice.text) == ("stop", TOLD)


@pytest.mark.parametrize("path", [*ANSWERS["responses"], None])
def test_the_official_client_takes_it_for_a_completed_response(path: Path | None) -> None:
    body = path.read_bytes() if path else b"no JSON"
    # Newer clients know more counts than the goldens have; clients themselves demand none of them.
    response = Response.model_validate(refused("responses", body) | {"usage": None})
    assert (response.status, response.error, response.incomplete_details) == ("completed", None, None)
    assert [item.type for item in response.output] == ["message"]
    assert response.output_text == TOLD


def test_a_message_ends_its_turn() -> None:
    said = refused("messages", (GOLDEN / "messages" / "message.json").read_bytes())
    assert said == {
        "id": "msg_02",
        "type": "message",
        "role": "assistant",
        "model": "claude-sonnet-4.6",
        "content": [{"type": "text", "text": TOLD}],
        "stop_reason": "end_turn",
        "stop_sequence": None,
        "usage": {"input_tokens": 30, "cache_read_input_tokens": 7, "output_tokens": 44},
    }


RESULT = {"content": [{"type": "text", "text": TOLD}], "isError": True}


def test_every_response_of_an_mcp_server_is_a_tool_that_failed() -> None:
    assert refused("mcp", (GOLDEN / "mcp" / "batch.json").read_bytes()) == [
        {"jsonrpc": "2.0", "id": each, "result": RESULT} for each in (1, 3, 9, 2)
    ]
    whole = {"jsonrpc": "2.0", "id": "a", "result": {"content": [{"type": "text", "text": "secret"}]}}
    assert refused("mcp", whole) == {"jsonrpc": "2.0", "id": "a", "result": RESULT}


@pytest.mark.parametrize(
    "body", [b"", b"x", {"jsonrpc": "2.0", "id": 1, "method": "sampling/createMessage"}, {"id": {"a": 1}, "result": 1}]
)
def test_an_mcp_answer_without_a_response_to_a_known_request_has_a_null_id(body: object) -> None:
    assert refused("mcp", body) == {"jsonrpc": "2.0", "id": None, "result": RESULT}


@pytest.mark.parametrize("kind", SILENT)
@pytest.mark.parametrize("body", [b"", b"x", b'{"data":{"mergePullRequest":{}}}'])
def test_other_json_becomes_a_message(kind: str, body: bytes) -> None:
    assert refused(kind, body) == {"message": TOLD}


NAMES = st.sampled_from(
    (
        *(
            "id",
            "object",
            "created",
            "created_at",
            "model",
            "usage",
            "error",
            "index",
            "choices",
            "message",
            "tool_calls",
        ),
        *("output", "status", "content", "type", "jsonrpc", "result", "method", "prompt_tokens", "input_tokens"),
    )
)
JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.sampled_from(["\ud800", "tool_use", "function_call", "m"]),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(NAMES, inner, max_size=5),
    max_leaves=12,
)
BYTES = st.one_of(JSON.map(lambda tree: json.dumps(tree).encode()), st.binary(max_size=30))


@pytest.mark.parametrize("kind", [*TALKING, *SILENT])
@given(body=BYTES)
@example(body=b"[" * 100_000)
@example(body=b'{"a":' * 500 + b"1" + b"}" * 500)
def test_of_any_body_an_answer_is_made_that_says_the_refusal_alone(kind: str, body: bytes) -> None:
    raw = dialect(kind).refused_answer(body, TOLD)
    answer = dialect(kind).parse_answer(raw)
    assert (answer.complete, answer.error, answer.unparsed) == (True, None, None)
    assert [call for choice in answer.choices for call in choice.tool_calls] == []
    if kind == "mcp":
        assert {*answer.choices[0].text.split("\n")} == {TOLD}
    elif kind in TALKING:
        assert answer.choices
        assert {choice.text for choice in answer.choices} == {TOLD}
    else:
        assert json.loads(raw) == {"message": TOLD}


# --- the first event of a call is known by its piece -----------------------------------------------------------------


def chat(**members: object) -> dict[str, Any]:
    return {"id": "x", "choices": [{"index": 0, "delta": members, "finish_reason": None}]}


def tool(**members: object) -> dict[str, Any]:
    return chat(tool_calls=[{"index": 0, "id": "c", **members}])


def block(kind: str, **members: object) -> dict[str, Any]:
    return {"type": "content_block_start", "index": 1, "content_block": {"type": kind, "id": "t", **members}}


def item(kind: str, **members: object) -> dict[str, Any]:
    return added({"type": kind, "id": "i", "status": "in_progress", **members})


# All items of the API that call something, at the client, at the server, or in a sandbox.
CALL_ITEMS: dict[str, dict[str, Any]] = {
    "function_call": {"call_id": "c", "name": "edit", "arguments": ""},
    "custom_tool_call": {"call_id": "c", "name": "apply_patch", "input": ""},
    "mcp_call": {"server_label": "s", "name": "push_files", "arguments": ""},
    "mcp_approval_request": {"server_label": "s", "name": "push_files", "arguments": "{}"},
    "computer_call": {"call_id": "c", "action": {"type": "click", "x": 1, "y": 2}},
    "shell_call": {"call_id": "c", "action": {"commands": ["ls"]}},
    "local_shell_call": {"call_id": "c", "action": {"type": "exec", "command": ["ls"], "env": {}}},
    "apply_patch_call": {"call_id": "c", "operation": {"type": "delete_file", "path": "a"}},
    "tool_search_call": {"arguments": {}},
    "code_interpreter_call": {"code": "", "container_id": "k"},
    "image_generation_call": {},
    "web_search_call": {},
    "file_search_call": {"queries": []},
}
RESPONSE_EVENTS: dict[str, dict[str, Any]] = {
    **{f"an item {kind}": item(kind, **members) for kind, members in CALL_ITEMS.items()},
    **{f"a done item {kind}": added({"type": kind, **members}, 0, "done") for kind, members in CALL_ITEMS.items()},
    **{f"an output {kind}": completed({"type": kind, **members}) for kind, members in CALL_ITEMS.items()},
    **{
        f"an early {status}": {"type": f"response.{status}", "response": {"output": [{"type": "function_call"}]}}
        for status in ("created", "in_progress", "queued", "incomplete", "failed")
    },
    **{
        f"a delta {stem}": delta("x", stem)
        for stem in (
            *("function_call_arguments", "custom_tool_call_input", "mcp_call_arguments", "shell_call_command"),
            *("code_interpreter_call_code", "apply_patch_call_operation_diff"),
        )
    },
    **{
        f"a step {step}": {"type": f"response.{step}", "output_index": 0, "item_id": "i"}
        for step in (
            *("web_search_call.searching", "mcp_call.in_progress", "code_interpreter_call.interpreting"),
            *("image_generation_call.partial_image", "shell_call_command.added", "function_call_arguments.done"),
        )
    },
}
FIRST: dict[str, dict[str, dict[str, Any]]] = {
    "chat": {
        "a function": tool(type="function", function={"name": "edit", "arguments": ""}),
        "only an index": tool(),
        "a custom tool": tool(type="custom", custom={"name": "apply_patch", "input": ""}),
        "a legacy function": chat(function_call={"name": "edit", "arguments": ""}),
        "a whole message": {"choices": [{"message": {"tool_calls": [{"function": {"name": "edit"}}]}}]},
        "behind a text": chat(content="I edit.", tool_calls=[{"index": 0, "function": {"name": "edit"}}]),
        "an index that is no number": chat(tool_calls=[{"index": "0", "function": {"name": "edit"}}]),
        "arguments that are no text": chat(tool_calls=[{"index": 0, "function": {"name": "edit", "arguments": {}}}]),
        "a legacy function that is none": chat(function_call="edit"),
    },
    "messages": {
        **{kind: block(kind, name="edit", input={}) for kind in ("tool_use", "server_tool_use", "mcp_tool_use")},
        "in the start": {
            "type": "message_start",
            "message": {"content": [{"type": "tool_use", "id": "t", "name": "edit", "input": {"path": "a"}}]},
        },
        "an id that is no text": {
            **block("tool_use", name="edit"),
            "index": 0,
            "content_block": {"type": "tool_use", "id": 5},
        },
        "no index": {"type": "content_block_start", "content_block": {"type": "tool_use", "name": "edit"}},
        "input of no block": {
            "type": "content_block_delta",
            "index": 0,
            "delta": {"type": "input_json_delta", "partial_json": "{"},
        },
    },
    "responses": RESPONSE_EVENTS,
    "mcp": {"a request of the server": {"jsonrpc": "2.0", "id": 1, "method": "sampling/createMessage", "params": {}}},
}
FIRST["agents"] = FIRST["completions"] = FIRST["chat"]


@pytest.mark.parametrize(
    ("kind", "tree"),
    [pytest.param(kind, tree, id=f"{kind}: {name}") for kind, all_ in FIRST.items() for name, tree in all_.items()],
)
def test_the_first_event_of_a_call_has_a_piece_of_a_tool(kind: str, tree: dict[str, Any]) -> None:
    stream = dialect(kind).stream()
    stream.read("message", tree)
    pieces = stream.take("message", tree)
    assert any(".tool." in piece.channel for piece in pieces)
    answer = stream.answer()
    unparsed = [text for text in answer.unparsed or [] if may_be_call(text)]
    assert unparsed or any(choice.tool_calls for choice in answer.choices)


HARMLESS: list[tuple[str, dict[str, Any]]] = [
    ("chat", chat(content='"tool_calls": [{"index":"0"}]', odd=1)),
    ("chat", chat(content=5, tool_calls=None, function_call=None)),
    ("chat", chat(content=5, tool_calls=[])),
    ("messages", block("text", text='"type":"tool_use"')),
    ("messages", block("web_search_tool_result", tool_use_id="t", content=[])),
    ("messages", {"type": "content_block_start", "index": -1, "content_block": {"type": "text", "text": "a"}}),
    ("responses", item("message", role="assistant", content=[])),
    ("responses", item("reasoning", summary=[])),
    ("responses", item("shell_call_output", output=[])),
    ("responses", {"type": "response.shell_call_output_content.delta", "output_index": 0, "delta": {"stdout": "a"}}),
    ("responses", {"type": "response.mcp_list_tools.completed", "output_index": 0}),
    ("mcp", {"jsonrpc": "2.0", "id": 1, "result": {"content": [{"type": "text", "text": "a"}]}}),
]


@pytest.mark.parametrize(("kind", "tree"), HARMLESS)
def test_an_event_that_calls_nothing_has_no_piece_of_a_tool(kind: str, tree: dict[str, Any]) -> None:
    stream = dialect(kind).stream()
    stream.read("message", tree)
    assert not any(".tool." in piece.channel for piece in stream.take("message", tree))


@pytest.mark.parametrize("kind", ["chat", "agents", "messages"])
def test_data_that_is_no_json_but_may_be_a_call_has_a_piece_of_a_tool(kind: str) -> None:
    text = '{"choices":[{"delta":{"tool_calls" : [{}]}}],"type": "tool_use","n":1e999}'
    assert [piece.channel for piece in dialect(kind).stream().take_unparsed(text)] == ["0.tool.unparsed"]
    assert [piece.channel for piece in dialect(kind).stream().take_unparsed("text")] == ["unparsed"]


def framed(kind: str, *trees: dict[str, Any]) -> bytes:
    return sse(*trees) + (b"data: [DONE]\n\n" if kind == "done" else b"")


ENDS: dict[str, tuple[str, bytes]] = {
    "chat, its mark": ("chat", framed("done", chat(content="a"))),
    "chat, its reasons": ("chat", sse({"choices": [{"index": 0, "delta": {}, "finish_reason": "tool_calls"}]})),
    "agents, its mark": ("agents", framed("done", chat(content="a"))),
    "completions, its mark": ("completions", framed("done", {"choices": [{"index": 0, "text": "a"}]})),
    "messages": ("messages", sse({"type": "message_stop"})),
    "mcp, a result": ("mcp", sse({"jsonrpc": "2.0", "id": 1, "result": {}})),
    "mcp, an error": ("mcp", sse({"jsonrpc": "2.0", "id": 1, "error": {"code": 1, "message": "no"}})),
    **{
        f"responses, {status}": ("responses", sse({"type": f"response.{status}", "response": {"status": status}}))
        for status in ("completed", "incomplete", "failed")
    },
}


@pytest.mark.parametrize("case", ENDS)
def test_an_answer_is_complete_with_its_terminal_event(case: str) -> None:
    kind, data = ENDS[case]
    stream = dialect(kind).stream()
    assert not stream.answer().complete
    play(stream, data)
    assert stream.answer().complete


# --- events that are like the last one -------------------------------------------------------------------------------

ALIKE = [one for one in STREAMED if one.name != "content parts"]


@pytest.mark.parametrize("where", ALIKE, ids=lambda one: f"{one.kind}-{one.name}")
@given(texts=st.lists(st.text(max_size=9), max_size=5))
def test_to_take_more_is_to_take_another_event_that_only_adds_to_a_text(where: Streamed, texts: list[str]) -> None:
    usual, faster = DIALECTS[where.kind].stream(), DIALECTS[where.kind].stream()
    before, after = where.around("")
    first = where.event("begin ")
    name = first.get("type", "message")
    for stream in (usual, faster):
        for tree in [*before, first]:
            stream.read(tree.get("type", "message"), tree)
            stream.take(tree.get("type", "message"), tree)
    more = faster.more(name, first)
    assert more is not None
    for text in texts:
        assert faster.take_more(more.where, text, {}) == usual.take(name, where.event(text))
    assert faster.answer() == usual.answer()
    assert faster.ending("end") == usual.ending("end")
    for tree in after:
        assert faster.take(tree.get("type", "message"), tree) == usual.take(tree.get("type", "message"), tree)


@pytest.mark.parametrize("where", ALIKE, ids=lambda one: f"{one.kind}-{one.name}")
def test_only_what_is_opaque_or_a_number_may_vary(where: Streamed) -> None:
    tree = where.event("text") | {"sequence_number": "one", "obfuscation": "x", "output_index": "0"}
    stream = DIALECTS[where.kind].stream()
    for one in [*where.around("")[0], tree]:
        stream.read(one.get("type", "message"), one)
    more = stream.more(tree.get("type", "message"), tree)
    assert more is not None
    assert set(more.varying) <= DIALECTS[where.kind].opaque
    # Without a number that says which item it is, its id does.
    assert "item_id" not in more.varying


@pytest.mark.parametrize("where", ALIKE, ids=lambda one: f"{one.kind}-{one.name}")
@pytest.mark.parametrize("also", ["error", "usage", "item", "response", "finish_reason", "two", "name", "unknown"])
def test_an_event_that_may_say_more_is_not_taken_for_one_that_only_adds_to_a_text(where: Streamed, also: str) -> None:
    tree = where.event("text")
    stream = DIALECTS[where.kind].stream()
    for one in where.around("")[0]:
        stream.read(one.get("type", "message"), one)
        stream.take(one.get("type", "message"), one)
    entry = tree["choices"][0] if "choices" in tree else {}
    calls = entry.get("delta", {}).get("tool_calls")
    match also:
        case "error":
            tree["error"] = {"message": "no"}
        case "usage" if entry:
            tree["usage"] = {"prompt_tokens": 1}
        case "finish_reason" if entry:
            entry["finish_reason"] = "stop"
        case "two" if entry:
            tree["choices"].append({**entry, "index": 1})
        case "name" if calls:
            (calls[0].get("function") or calls[0]["custom"])["name"] = "run"
        case "item" | "response" | "unknown" if where.kind is EndpointKind.RESPONSES:
            tree[also] = {"id": "x"}
        case _:
            return
    assert stream.more(tree.get("type", "message"), tree) is None
