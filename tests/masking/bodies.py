"""Every field of every request and of every JSON answer that can hold a text."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from extproc.endpoint import EndpointKind
from extproc.masking.finding import Direction
from tests.masking.fields import Tree, completion, item_of, message_item, reasoning_item


@dataclass(frozen=True, slots=True)
class Whole:
    """A field of a JSON body, or of a stream in which every event is a whole message."""

    kind: EndpointKind
    name: str
    direction: Direction
    tree: Callable[[str], Any]
    is_json: bool = False


def _object(text: str) -> Tree:
    return {"command": text, "mode": "sync"}


def _asked(message: Tree) -> Tree:
    return {"model": "m", "messages": [{"role": "user", "content": "Go on."}, message], "stream": True}


def _said(message: Tree) -> Tree:
    return {"id": "c", "model": "m", "choices": [{"index": 0, "message": message, "finish_reason": "stop"}]}


def _function(text: str) -> Tree:
    return {"id": "call_a", "type": "function", "function": {"name": "bash", "arguments": text}}


def _custom(text: str) -> Tree:
    return {"id": "call_a", "type": "custom", "custom": {"name": "apply_patch", "input": text}}


def _block(**fields: Any) -> Tree:
    return {"id": "msg_1", "type": "message", "role": "assistant", "content": [fields], "stop_reason": "end_turn"}


def _inputs(*items: Tree) -> Tree:
    return {"model": "m", "input": [{"role": "user", "content": "Go on."}, *items], "stream": True}


def _outputs(item: Tree) -> Tree:
    return {"id": "resp_1", "object": "response", "status": "completed", "output": [item]}


def _rpc(**fields: Any) -> Tree:
    return {"jsonrpc": "2.0", "id": 1, **fields}


_PROMPTS: dict[EndpointKind, dict[str, Callable[[str], Any]]] = {
    EndpointKind.CHAT: {
        "content": lambda text: _asked({"role": "user", "content": text}),
        "content parts": lambda text: _asked({"role": "user", "content": [{"type": "text", "text": text}]}),
        "tool result": lambda text: _asked({"role": "tool", "tool_call_id": "call_a", "content": text}),
        "arguments": lambda text: _asked({"role": "assistant", "content": None, "tool_calls": [_function(text)]}),
        "custom input": lambda text: _asked({"role": "assistant", "content": None, "tool_calls": [_custom(text)]}),
        "tool description": lambda text: (
            _asked({}) | {"tools": [{"type": "function", "function": {"description": text}}]}
        ),
    },
    EndpointKind.COMPLETIONS: {
        "prompt": lambda text: {"prompt": text, "suffix": ""},
        "suffix": lambda text: {"prompt": "def f():", "suffix": text},
    },
    EndpointKind.RESPONSES: {
        "input": lambda text: {"model": "m", "input": text},
        "instructions": lambda text: {"model": "m", "input": "Go on.", "instructions": text},
        "input parts": lambda text: _inputs({"role": "user", "content": [{"type": "input_text", "text": text}]}),
        "output": lambda text: _inputs({"type": "function_call_output", "call_id": "call_a", "output": text}),
        "arguments": lambda text: _inputs(item_of("function_call", call_id="call_a", name="bash", arguments=text)),
        "custom input": lambda text: _inputs(item_of("custom_tool_call", call_id="call_a", name="edit", input=text)),
    },
    EndpointKind.MESSAGES: {
        "system": lambda text: _asked({"role": "user", "content": "Hi."}) | {"system": text},
        "content": lambda text: _asked({"role": "user", "content": text}),
        "thinking": lambda text: _asked(
            {"role": "assistant", "content": [{"type": "thinking", "thinking": text, "signature": ""}]}
        ),
        "tool result": lambda text: _asked(
            {"role": "user", "content": [{"type": "tool_result", "tool_use_id": "tu_1", "content": text}]}
        ),
        "tool input": lambda text: _asked(
            {"role": "assistant", "content": [{"type": "tool_use", "id": "tu_1", "name": "b", "input": _object(text)}]}
        ),
    },
    EndpointKind.MCP: {
        "tool call": lambda text: _rpc(method="tools/call", params={"name": "search", "arguments": _object(text)}),
    },
}
_ANSWERS: dict[EndpointKind, dict[str, Callable[[str], Any]]] = {
    EndpointKind.CHAT: {
        "content": lambda text: _said({"role": "assistant", "content": text}),
        "reasoning_text": lambda text: _said({"role": "assistant", "content": "", "reasoning_text": text}),
        "arguments": lambda text: _said({"role": "assistant", "content": None, "tool_calls": [_function(text)]}),
        "custom input": lambda text: _said({"role": "assistant", "content": None, "tool_calls": [_custom(text)]}),
    },
    EndpointKind.COMPLETIONS: {"text": lambda text: completion(text, "stop")},
    EndpointKind.RESPONSES: {
        "output_text": lambda text: _outputs(message_item({"type": "output_text", "text": text})),
        "summary": lambda text: _outputs(reasoning_item(summary=[{"type": "summary_text", "text": text}])),
        "arguments": lambda text: _outputs(item_of("function_call", call_id="call_a", name="bash", arguments=text)),
        "custom input": lambda text: _outputs(item_of("custom_tool_call", call_id="call_a", name="edit", input=text)),
    },
    EndpointKind.MESSAGES: {
        "text": lambda text: _block(type="text", text=text),
        "thinking": lambda text: _block(type="thinking", thinking=text, signature=""),
        "tool input": lambda text: _block(type="tool_use", id="tu_1", name="bash", input=_object(text)),
    },
    EndpointKind.MCP: {
        "content": lambda text: _rpc(result={"content": [{"type": "text", "text": text}]}),
        "resource": lambda text: _rpc(
            result={"content": [{"type": "resource", "resource": {"uri": "repo://a/b", "text": text}}]}
        ),
        "structured": lambda text: _rpc(result={"content": [], "structuredContent": {"rows": [{"value": text}]}}),
        "error": lambda text: _rpc(error={"code": -32603, "message": text}),
        "server request": lambda text: _rpc(method="elicitation/create", params={"message": text}),
    },
}

WHOLE: tuple[Whole, ...] = tuple(
    Whole(kind, name, direction, tree, is_json=name == "arguments")
    for direction, kinds in ((Direction.PROMPT, _PROMPTS), (Direction.ANSWER, _ANSWERS))
    for kind, fields in kinds.items()
    for name, tree in fields.items()
)
