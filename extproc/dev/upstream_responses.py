"""`/responses` of the demo upstream: reasoning, text, calls of functions and of custom tools.

Source: OpenAI API reference, "Responses" and "Responses streaming events".
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import count
from typing import Any

from extproc.dev.upstream_model import Asked, event, is_objects, is_sealed, need, need_common, openai_error, sealed
from extproc.dev.upstream_script import Script

_CALLS = {"function_call", "custom_tool_call"}
_OUTPUTS = {"function_call_output": "function_call", "custom_tool_call_output": "custom_tool_call"}
_ENCRYPTED = "reasoning.encrypted_content"


class ResponsesWire:
    """Implement `Wire` for responses."""

    def read(self, body: dict[str, Any]) -> Asked:
        """Check a request and say what is asked; raises BadRequestError."""
        need_common(body)
        asked, tools = body.get("input"), body.get("tools") or []
        need(isinstance(body.get("instructions", ""), str | None), "instructions", "a string")
        need(asked and (isinstance(asked, str) or is_objects(asked)), "input", "a non-empty string or list of items")
        items = [{"role": "user", "content": asked}] if isinstance(asked, str) else body["input"]
        calls: set[tuple[str, str]] = set()
        messages = [_message(f"input[{at}]", item, calls) for at, item in enumerate(items)]
        for at, tool in enumerate(tools):
            is_named = tool.get("type") not in {"function", "custom"} or isinstance(tool.get("name"), str)
            need(isinstance(tool.get("type"), str) and is_named, f"tools[{at}]", "a type, and a name where it has one")
        instructions = [{"role": "system", "content": body["instructions"]}] if body.get("instructions") else []
        return Asked(
            body,
            body["model"],
            instructions + messages,
            [{"type": tool["type"], tool["type"]: tool} for tool in tools],
            stream=body.get("stream") is True,
            wants_reasoning=body.get("reasoning") is not None,
        )

    def whole(self, asked: Asked, script: Script, created: int) -> dict[str, Any]:
        """Return the answer as one response."""
        return _response(asked, created, "completed", _items(asked, script), usage=_usage(asked, script))

    def events(self, asked: Asked, script: Script, created: int) -> Iterator[bytes]:
        """Yield the answer: every item is added, grows, and is repeated whole when it is done, and again at the end."""
        numbers = count()

        def named(kind: str, **members: object) -> bytes:
            return event({"type": kind, "sequence_number": next(numbers), **members}, kind)

        begun = _response(asked, created, "in_progress", [])
        yield named("response.created", response=begun)
        yield named("response.in_progress", response=begun)
        items = _items(asked, script)
        for index, item in enumerate(items):
            yield named("response.output_item.added", output_index=index, item=item | _empty(item))
            for kind, members in _growth(item, script):
                yield named(f"response.{kind}", output_index=index, item_id=item["id"], **members)
            yield named("response.output_item.done", output_index=index, item=item)
        whole = _response(asked, created, "completed", items, usage=_usage(asked, script))
        yield named("response.completed", response=whole)

    def error(self, _status: int, code: str, message: str, param: str | None) -> dict[str, Any]:
        """Return the body of an error."""
        return openai_error(code, message, param)


def _message(at: str, item: dict[str, Any], calls: set[tuple[str, str]]) -> dict[str, Any]:
    """Check an item of the input and return it as a chat message; `calls` are the calls before it."""
    kind, call_id = item.get("type", "message"), item.get("call_id")
    if kind == "message":
        need(item.get("role") in {"system", "developer", "user", "assistant"}, f"{at}.role", "a known role")
        need(isinstance(item.get("content"), str) or is_objects(item.get("content")), f"{at}.content", "text or parts")
        return item
    if kind in _CALLS:
        need(isinstance(call_id, str) and isinstance(item.get("name"), str), at, "a call with call_id and name")
        calls.add((kind, str(call_id)))
    elif kind in _OUTPUTS:
        need((_OUTPUTS[kind], call_id) in calls, f"{at}.call_id", "the id of a call before it")
        need(isinstance(item.get("output"), str | list), f"{at}.output", "text or parts")
        return {"role": "tool", "content": item["output"]}
    elif kind == "reasoning" and item.get("encrypted_content") is not None:
        need(is_sealed(item["encrypted_content"]), f"{at}.encrypted_content", "what this server encrypted")
    return {"role": "assistant", "content": ""}


def _items(asked: Asked, script: Script) -> list[dict[str, Any]]:
    items: list[dict[str, Any]] = []
    if asked.wants_reasoning:
        summary = [{"type": "summary_text", "text": "".join(script.reasoning)}]
        item = {"id": f"rs_{asked.id()}", "type": "reasoning", "summary": summary}
        if _ENCRYPTED in (asked.body.get("include") or []):
            item["encrypted_content"] = sealed(asked.id())
        items.append(item)
    if script.pieces:
        part = {"type": "output_text", "text": script.text(), "annotations": [], "logprobs": []}
        message = {"id": f"msg_{asked.id()}", "type": "message", "status": "completed", "role": "assistant"}
        items.append(message | {"content": [part]})
    if (call := script.tool_call) is not None:
        kind, member, short = ("custom_tool_call", "input", "ctc") if script.is_custom else (
            "function_call", "arguments", "fc"
        )  # fmt: skip
        item = {"id": f"{short}_{call.id}", "type": kind, "status": "completed", "call_id": call.id, "name": call.name}
        items.append(item | {member: call.arguments})
    return items


def _empty(item: dict[str, Any]) -> dict[str, Any]:
    """Return what of an item is different when it is added."""
    match item["type"]:
        case "message":
            return {"status": "in_progress", "content": []}
        case "reasoning":
            return {"summary": []}
        case "function_call":
            return {"status": "in_progress", "arguments": ""}
        case _:
            return {"status": "in_progress", "input": ""}


def _growth(item: dict[str, Any], script: Script) -> Iterator[tuple[str, dict[str, Any]]]:
    """Yield the events of an item between its beginning and its end."""
    match item["type"]:
        case "message":
            yield from _part_growth("content_part", "output_text", item["content"][0], script.pieces, "content_index")
        case "reasoning":
            part = item["summary"][0]
            yield from _part_growth(
                "reasoning_summary_part", "reasoning_summary_text", part, script.reasoning, "summary_index"
            )
        case "function_call":
            for fragment in script.argument_pieces():
                yield "function_call_arguments.delta", {"delta": fragment}
            yield "function_call_arguments.done", {"arguments": item["arguments"]}
        case _:
            for fragment in script.argument_pieces():
                yield "custom_tool_call_input.delta", {"delta": fragment}
            yield "custom_tool_call_input.done", {"input": item["input"]}


def _part_growth(
    stem: str, text_stem: str, part: dict[str, Any], pieces: tuple[str, ...], index: str
) -> Iterator[tuple[str, dict[str, Any]]]:
    yield f"{stem}.added", {index: 0, "part": part | {"text": ""}}
    for piece in pieces:
        yield f"{text_stem}.delta", {index: 0, "delta": piece}
    yield f"{text_stem}.done", {index: 0, "text": part["text"]}
    yield f"{stem}.done", {index: 0, "part": part}


def _response(
    asked: Asked, created: int, status: str, output: list[dict[str, Any]], usage: dict[str, Any] | None = None
) -> dict[str, Any]:
    return {
        "id": f"resp_{asked.id()}",
        "object": "response",
        "created_at": created,
        "status": status,
        "error": None,
        "incomplete_details": None,
        "instructions": asked.body.get("instructions"),
        "metadata": {},
        "model": asked.model,
        "output": output,
        "parallel_tool_calls": True,
        "previous_response_id": None,
        "store": False,
        "temperature": 1.0,
        "tool_choice": "auto",
        "tools": asked.body.get("tools") or [],
        "top_p": 1.0,
        "usage": usage,
    }


def _usage(asked: Asked, script: Script) -> dict[str, Any]:
    prompt, completion = asked.prompt_tokens(), script.tokens()
    reasoning = len("".join(script.reasoning).split()) if asked.wants_reasoning else 0
    return {
        "input_tokens": prompt,
        "input_tokens_details": {"cached_tokens": 0},
        "output_tokens": completion + reasoning,
        "output_tokens_details": {"reasoning_tokens": reasoning},
        "total_tokens": prompt + completion + reasoning,
    }
