"""Short ways to write the events of a responses stream."""

from __future__ import annotations

import json
from typing import Any

from hypothesis import strategies as st

from extproc.conversation import Answer
from extproc.dialect.responses import ResponsesDialect
from tests.streaming import play


def sse(*events: dict[str, Any]) -> bytes:
    return b"".join(b"data: " + json.dumps(event).encode() + b"\n\n" for event in events)


def said(*events: dict[str, Any]) -> Answer:
    stream = ResponsesDialect().stream()
    play(stream, sse(*events))
    return stream.answer()


def delta(text: object, stem: str = "output_text", **members: object) -> dict[str, Any]:
    return {"type": f"response.{stem}.delta", "output_index": 0, "content_index": 0, "delta": text} | members


def added(item: dict[str, Any], index: int = 0, kind: str = "added") -> dict[str, Any]:
    return {"type": f"response.output_item.{kind}", "output_index": index, "item": item}


def completed(*output: dict[str, Any]) -> dict[str, Any]:
    return {"type": "response.completed", "response": {"id": "r", "status": "completed", "output": list(output)}}


def message(*texts: str, **members: object) -> dict[str, Any]:
    return {"type": "message", "content": [{"type": "output_text", "text": text} for text in texts]} | members


def function_call(arguments: str, name: str = "bash", **members: object) -> dict[str, Any]:
    return {"type": "function_call", "call_id": "c", "name": name, "arguments": arguments} | members


KINDS = st.sampled_from(
    [
        *(f"response.{name}" for name in ("created", "in_progress", "queued", "completed", "incomplete", "failed")),
        *(f"response.output_item.{end}" for end in ("added", "done")),
        *(f"response.{part}.{end}" for part in ("content_part", "reasoning_summary_part") for end in ("added", "done")),
        *(
            f"response.{stem}.{end}"
            for stem in ("output_text", "refusal", "reasoning_text", "reasoning_summary_text", "audio", "dream")
            for end in ("delta", "done")
        ),
        *(
            f"response.{stem}.{end}"
            for stem in ("function_call_arguments", "custom_tool_call_input", "shell_call_command")
            for end in ("delta", "done")
        ),
        "error",
        "message",
    ]
)
ITEM_TYPES = st.sampled_from(
    ["message", "reasoning", "function_call", "custom_tool_call", "image_generation_call", "output_text", "refusal"]
)
