"""`/v1/messages` of the demo upstream: thinking with its signature, text, calls of tools.

Source: Anthropic API reference, "Messages", "Streaming messages", "Extended thinking" and "Errors".
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

from extproc.dev.upstream_model import Asked, event, is_objects, is_sealed, need, need_common, sealed
from extproc.dev.upstream_script import Script

_BLOCKS = {"text", "image", "document", "tool_use", "tool_result", "thinking", "redacted_thinking"}
_THINKING = {"enabled", "adaptive"}


class MessagesWire:
    """Implement `Wire` for Anthropic's messages."""

    def read(self, body: dict[str, Any]) -> Asked:
        """Check a request and say what is asked; raises BadRequestError."""
        limit = body.get("max_tokens")
        need(type(limit) is int and limit > 0, "max_tokens", "a positive integer")
        return _asked(body)

    def whole(self, asked: Asked, script: Script, _created: int) -> dict[str, Any]:
        """Return the answer as one message."""
        return _message(asked, script, _blocks(asked, script))

    def events(self, asked: Asked, script: Script, _created: int) -> Iterator[bytes]:
        """Yield the answer block by block."""

        def named(kind: str, **members: object) -> bytes:
            return event({"type": kind, **members}, kind)

        ended = _message(asked, script, [])
        usage = ended["usage"] | {"output_tokens": 1}
        yield named("message_start", message=ended | {"stop_reason": None, "usage": usage})
        yield named("ping")
        for index, block in enumerate(_blocks(asked, script)):
            yield named("content_block_start", index=index, content_block=block | _empty(block))
            for delta in _deltas(block, script):
                yield named("content_block_delta", index=index, delta=delta)
            yield named("content_block_stop", index=index)
        stop = {"stop_reason": ended["stop_reason"], "stop_sequence": None}
        yield named("message_delta", delta=stop, usage={"output_tokens": ended["usage"]["output_tokens"]})
        yield named("message_stop")

    def error(self, status: int, code: str, message: str, _param: str | None) -> dict[str, Any]:
        """Return the body of an error."""
        kind = "invalid_request_error" if status < 500 else "api_error"
        return {"type": "error", "error": {"type": kind, "message": message, "code": code}}


class CountTokensWire(MessagesWire):
    """Implement `Wire` for `/v1/messages/count_tokens`."""

    def read(self, body: dict[str, Any]) -> Asked:
        """Check a request, which needs no limit, and say what is to be counted; raises BadRequestError."""
        return _asked(body | {"stream": False})

    def whole(self, asked: Asked, _script: Script, _created: int) -> dict[str, Any]:
        """Return the count."""
        return {"input_tokens": asked.prompt_tokens()}


def _asked(body: dict[str, Any]) -> Asked:
    need_common(body)
    messages, system, thinking = body.get("messages"), body.get("system"), body.get("thinking")
    need(messages and is_objects(messages), "messages", "a non-empty list of objects")
    need(system is None or isinstance(system, str) or is_objects(system), "system", "a string or a list of blocks")
    need(body["messages"][0].get("role") == "user", "messages.0.role", "user")
    calls: set[str] = set()
    turns = [turn for at, one in enumerate(body["messages"]) for turn in _turns(f"messages.{at}", one, calls)]
    for at, tool in enumerate(body.get("tools") or []):
        need(isinstance(tool.get("name"), str), f"tools.{at}.name", "a string")
    return Asked(
        body,
        body["model"],
        ([] if system is None else [{"role": "system", "content": system}]) + turns,
        [
            {"function": {"name": tool["name"], "parameters": tool.get("input_schema")}}
            for tool in body.get("tools") or []
        ],
        stream=body.get("stream") is True,
        wants_reasoning=isinstance(thinking, dict) and thinking.get("type") in _THINKING,
    )


def _turns(at: str, message: dict[str, Any], calls: set[str]) -> list[dict[str, Any]]:
    """Check a message and return it as chat messages, results of tools each as its own; `calls` are ids before it."""
    role, content = message.get("role"), message.get("content")
    need(role in {"user", "assistant"}, f"{at}.role", "user or assistant")
    need(content and (isinstance(content, str) or is_objects(content)), f"{at}.content", "a string or a list of blocks")
    turns = []
    for number, block in enumerate([] if isinstance(content, str) else message["content"]):
        where, kind = f"{at}.content.{number}", block.get("type")
        need(kind in _BLOCKS, f"{where}.type", f"one of {', '.join(sorted(_BLOCKS))}")
        if kind == "text":
            need(isinstance(block.get("text"), str) and block["text"], f"{where}.text", "a non-empty string")
        elif kind == "thinking":
            need(is_sealed(block.get("signature")), f"{where}.signature", "the signature that came with the thinking")
        elif kind == "tool_use":
            need(isinstance(block.get("input"), dict), f"{where}.input", "an object")
            calls.add(str(block.get("id")))
        elif kind == "tool_result":
            need(block.get("tool_use_id") in calls, f"{where}.tool_use_id", "the id of a tool_use before it")
            turns.append({"role": "tool", "content": block.get("content")})
    is_results = bool(turns) and all(block["type"] == "tool_result" for block in message["content"])
    return turns if is_results else [*turns, message]


def _blocks(asked: Asked, script: Script) -> list[dict[str, Any]]:
    blocks: list[dict[str, Any]] = []
    if asked.wants_reasoning:
        signature = sealed(asked.id())
        blocks.append({"type": "thinking", "thinking": "".join(script.reasoning), "signature": signature})
    if script.pieces:
        blocks.append({"type": "text", "text": script.text()})
    if (call := script.tool_call) is not None:
        tool_input = json.loads(call.arguments)
        blocks.append({"type": "tool_use", "id": f"toolu_{call.id}", "name": call.name, "input": tool_input})
    return blocks


def _empty(block: dict[str, Any]) -> dict[str, Any]:
    """Return what of a block is different when it starts."""
    match block["type"]:
        case "thinking":
            return {"thinking": "", "signature": ""}
        case "text":
            return {"text": ""}
        case _:
            return {"input": {}}


def _deltas(block: dict[str, Any], script: Script) -> Iterator[dict[str, Any]]:
    match block["type"]:
        case "thinking":
            for piece in script.reasoning:
                yield {"type": "thinking_delta", "thinking": piece}
            yield {"type": "signature_delta", "signature": block["signature"]}
        case "text":
            for piece in script.pieces:
                yield {"type": "text_delta", "text": piece}
        case _:
            yield {"type": "input_json_delta", "partial_json": ""}
            for fragment in script.argument_pieces():
                yield {"type": "input_json_delta", "partial_json": fragment}


def _message(asked: Asked, script: Script, content: list[dict[str, Any]]) -> dict[str, Any]:
    thought = len("".join(script.reasoning).split()) if asked.wants_reasoning else 0
    return {
        "id": f"msg_{asked.id()}",
        "type": "message",
        "role": "assistant",
        "model": asked.model,
        "content": content,
        "stop_reason": "end_turn" if script.tool_call is None else "tool_use",
        "stop_sequence": None,
        "usage": {"input_tokens": asked.prompt_tokens(), "output_tokens": script.tokens() + thought},
    }
