"""An agent on the Anthropic SDK, streamed; the prompt is its argument."""

# ruff: noqa: T201 - a client shows what it is told
from __future__ import annotations

import json
import sys

import anthropic
from anthropic.types import MessageParam, ToolParam, ToolResultBlockParam

from tests.clients.programs import tools

_TOOLS: list[ToolParam] = [
    {"name": name, "description": tools.DESCRIPTIONS[name], "input_schema": dict(parameters)}
    for name, parameters in tools.PARAMETERS.items()
]


def main(prompt: str) -> None:
    """Ask, run the tools that are called, and ask again until there is only text."""
    client = anthropic.Anthropic()
    messages: list[MessageParam] = [{"role": "user", "content": prompt}]
    for _ in range(tools.TURNS):
        with client.messages.stream(
            model="claude-sonnet-4.5", max_tokens=4096, messages=messages, tools=_TOOLS
        ) as stream:
            for text in stream.text_stream:
                print(text, end="", flush=True)
            content = stream.get_final_message().content
        print()
        calls = [block for block in content if block.type == "tool_use"]
        if not calls:
            return
        results: list[ToolResultBlockParam] = [
            {"type": "tool_result", "tool_use_id": call.id, "content": tools.run(call.name, json.dumps(call.input))}
            for call in calls
        ]
        messages += [{"role": "assistant", "content": content}, {"role": "user", "content": results}]


if __name__ == "__main__":
    try:
        main(sys.argv[1])
    except anthropic.APIStatusError as refused:
        sys.exit(str(refused))
