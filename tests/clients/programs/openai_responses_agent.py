"""An agent on the OpenAI SDK's responses, streamed; the prompt is its argument."""

# ruff: noqa: T201 - a client shows what it is told
from __future__ import annotations

import sys

import openai
from openai.types.responses import ResponseFunctionToolCall, ResponseInputParam, ToolParam

from tests.clients.programs import tools

_TOOLS: list[ToolParam] = [
    {
        "type": "function",
        "name": name,
        "description": tools.DESCRIPTIONS[name],
        "parameters": dict(parameters),
        "strict": False,
    }
    for name, parameters in tools.PARAMETERS.items()
]


def main(prompt: str) -> None:
    """Ask, run the tools that are called, and ask again until there is only text."""
    client = openai.OpenAI()
    items: ResponseInputParam = [{"role": "user", "content": prompt}]
    for _ in range(tools.TURNS):
        with client.responses.stream(model="gpt-5", input=items, tools=_TOOLS, store=False) as stream:
            for event in stream:
                if event.type == "response.output_text.delta":
                    print(event.delta, end="", flush=True)
            output = stream.get_final_response().output
        print()
        calls = [item for item in output if isinstance(item, ResponseFunctionToolCall)]
        if not calls:
            return
        for call in calls:
            known = {"type": "function_call", "call_id": call.call_id, "name": call.name, "arguments": call.arguments}
            result = tools.run(call.name, call.arguments)
            items.append(known)  # type: ignore[arg-type]
            items.append({"type": "function_call_output", "call_id": call.call_id, "output": result})


if __name__ == "__main__":
    try:
        main(sys.argv[1])
    except openai.APIStatusError as refused:
        sys.exit(str(refused))
