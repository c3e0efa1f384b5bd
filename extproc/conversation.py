"""The neutral form of what is said through the gateway: recording, replay, approval and metrics share it.

Dialects translate their wire format into these values; nothing here knows any wire format. Field names of usage follow
OpenTelemetry's GenAI conventions (`gen_ai.usage.input_tokens`, `gen_ai.usage.output_tokens`).
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import msgspec


@dataclass(frozen=True, slots=True)
class ToolCall:
    """One call of a tool; `arguments` is the text as it was written, JSON or not."""

    id: str
    name: str
    arguments: str


@dataclass(frozen=True, slots=True)
class Prompt:
    """What a client asks: `messages` and `tools` are the JSON values as they were sent, in the dialect's own shape.

    `model` is None where no model is asked; `tool_calls` are the calls that the client itself makes (MCP, GitHub).
    """

    model: str | None
    messages: list[Any]
    tools: list[Any]
    stream: bool
    tool_calls: list[ToolCall] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class Choice:
    """One of the answers to a prompt; most answers have exactly one."""

    index: int
    text: str
    reasoning: str
    tool_calls: list[ToolCall]
    finish_reason: str | None


@dataclass(frozen=True, slots=True)
class Usage:
    """Tokens as the upstream counted them."""

    input_tokens: int
    output_tokens: int


@dataclass(frozen=True, slots=True)
class Answer:
    """Everything a model answered; `unparsed` holds stream data nobody understood, so that nothing goes unrecorded.

    `complete` says whether the dialect's own terminal event was seen; `error` is the error message the upstream put
    into the body or the stream, if any.
    """

    model: str | None
    choices: list[Choice]
    usage: Usage | None
    complete: bool
    error: str | None = None
    unparsed: list[str] | None = None


# Made for every event of a stream: a Struct is made several times faster than a frozen dataclass.
class Piece(msgspec.Struct, frozen=True, gc=False):
    """A fragment of an answer as it arrived: `channel` names where it belongs (`0.text`, `0.reasoning`, `0.tool.1`)."""

    channel: str
    text: str
