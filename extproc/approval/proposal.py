"""What an answer or a request would do, and how approvers are shown it. Pure."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final

from extproc.approval.fences import TOOL as CODE_BLOCK
from extproc.approval.fences import touches_of_text
from extproc.approval.requests import touches_of_request
from extproc.approval.tools import touches_of
from extproc.approval.touch import Act, Touch
from extproc.conversation import Answer, ToolCall
from extproc.dialect.json_api import as_text, may_be_call
from extproc.dialect.responses_transcript import MAX_CALLS
from extproc.endpoint import EndpointKind
from extproc.json_body import decoded

UNREAD: Final = "unread call"
"""What touches name as their tool where nobody could read the call."""
_ANYTHING: Final = tuple(Touch(act, UNREAD) for act in Act)

# Of other endpoints, what a request does is in its path or nowhere; their bodies are the largest.
_BY_BODY: Final = frozenset({EndpointKind.MCP, EndpointKind.GITHUB, EndpointKind.GRAPHQL, EndpointKind.METADATA})


@dataclass(frozen=True, slots=True)
class Proposal:
    """What would be done: `touches`, each once, by `calls` of tools, by code blocks or by the request itself.

    `text` is for `extproc.approval.change`: a JSON list of `{"name", "arguments"}`. Calls that touch nothing are in
    none of them. A text with code blocks is shown whole, with the `paths` that they name.
    """

    touches: tuple[Touch, ...]
    calls: tuple[ToolCall, ...]
    text: str


def of_answer(answer: Answer) -> Proposal | None:
    """Return what all choices of an answer would do, or None where it is nothing.

    What nobody understood and what may be a call could do anything, and so could calls beyond those that are kept.
    """
    touches: list[Touch] = []
    calls: list[ToolCall] = []
    shown: list[dict[str, Any]] = []
    for choice in answer.choices:
        for call in choice.tool_calls:
            if found := touches_of(call):
                touches += found
                calls.append(call)
                shown.append({"name": call.name, "arguments": call.arguments})
        if blocks := touches_of_text(choice.text):
            touches += blocks
            shown.append({"name": CODE_BLOCK, "arguments": choice.text, "paths": [block.path for block in blocks]})
        if len(choice.tool_calls) >= MAX_CALLS:
            touches += _ANYTHING
            shown.append({"name": UNREAD, "arguments": f"There are {MAX_CALLS} calls or more, too many to be read."})
    for text in filter(may_be_call, answer.unparsed or ()):
        touches += _ANYTHING
        shown.append({"name": UNREAD, "arguments": text})
    return _proposal(touches, calls, shown)


def of_request(method: str, path: str, body: bytes, kind: EndpointKind) -> Proposal | None:
    """Return what a request would do by itself, or None where it is nothing; `path` may have a query."""
    tree = decoded(body) if kind in _BY_BODY else None
    touches = touches_of_request(method, path, tree, kind)
    calls = _tool_calls(tree) if kind is EndpointKind.MCP else []
    if calls:
        shown = [{"name": call.name, "arguments": call.arguments} for call in calls]
    else:
        said = f"{len(body)} bytes that are no JSON" if tree is None else as_text(tree)
        shown = [{"name": f"{method} {path}", "arguments": said if body else "{}"}]
    return _proposal(touches, calls, shown)


def _proposal(touches: list[Touch], calls: list[ToolCall], shown: list[dict[str, Any]]) -> Proposal | None:
    return Proposal(tuple(dict.fromkeys(touches)), tuple(calls), as_text(shown)) if touches else None


def _tool_calls(tree: Any) -> list[ToolCall]:  # noqa: ANN401 - decoded JSON
    """Return the calls of MCP messages that are all well-formed calls, else nothing."""
    messages = tree if isinstance(tree, list) else [tree]
    calls: list[ToolCall] = []
    for message in messages:
        match message:
            case {"method": "tools/call", "params": {"name": str() as name, **params}}:
                calls.append(ToolCall(str(message.get("id", "")), name, as_text(params.get("arguments") or {})))
            case _:
                return []
    return calls
