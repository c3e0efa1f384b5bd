"""An agent on the OpenAI SDK's chat completions, streamed; the prompt is its argument."""

# ruff: noqa: T201 - a client shows what it is told
from __future__ import annotations

import sys

import openai
from openai.types.chat import ChatCompletionMessageParam, ChatCompletionToolParam

from tests.clients.programs import tools

_TOOLS: list[ChatCompletionToolParam] = [
    {
        "type": "function",
        "function": {"name": name, "description": tools.DESCRIPTIONS[name], "parameters": dict(parameters)},
    }
    for name, parameters in tools.PARAMETERS.items()
]


def main(prompt: str) -> None:
    """Ask, run the tools that are called, and ask again until there is only text."""
    client = openai.OpenAI()
    messages: list[ChatCompletionMessageParam] = [{"role": "user", "content": prompt}]
    for _ in range(tools.TURNS):
        with client.chat.completions.stream(model="gpt-5", messages=messages, tools=_TOOLS) as stream:
            for event in stream:
                if event.type == "content.delta":
                    print(event.delta, end="", flush=True)
            message = stream.get_final_completion().choices[0].message
        print()
        if not message.tool_calls:
            return
        calls = [call.to_dict() for call in message.tool_calls]
        messages.append({"role": "assistant", "content": message.content, "tool_calls": calls})  # type: ignore[typeddict-item]
        for call in message.tool_calls:
            result = tools.run(call.function.name, call.function.arguments)
            messages.append({"role": "tool", "tool_call_id": call.id, "content": result})


if __name__ == "__main__":
    try:
        main(sys.argv[1])
    except openai.APIStatusError as refused:
        sys.exit(str(refused))
