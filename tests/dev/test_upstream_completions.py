from __future__ import annotations

import json
from typing import Any

import pytest

from extproc.dev.upstream_completions import CompletionsWire
from extproc.dev.upstream_model import BadRequestError
from extproc.dev.upstream_script import script_for

WIRE = CompletionsWire()


def test_the_last_line_is_the_prompt_and_every_choice_differs() -> None:
    asked = WIRE.read({"engine": "gpt-41-copilot", "prompt": "import os\n# count to 3\n\n", "n": 2})
    script = script_for(asked.messages, asked.tools, "")
    answer = WIRE.whole(asked, script, 1)
    assert [choice["text"] for choice in answer["choices"]] == ["1 2 3 ", "1: 1 2 3 "]
    assert answer["model"] == "gpt-41-copilot"


def test_choices_take_turns_in_a_stream() -> None:
    asked = WIRE.read({"model": "m", "prompt": "count to 2", "n": 2})
    frames = [*WIRE.events(asked, script_for(asked.messages, [], ""), 1)]
    assert frames[-1] == b"data: [DONE]\n\n"
    choices = [choice for frame in frames[:-1] for choice in json.loads(frame[6:])["choices"]]
    assert [(choice["index"], choice["text"]) for choice in choices] == [
        (0, "1 "), (1, "1: "), (0, "2 "), (1, "1 "), (1, "2 "), (0, ""), (1, ""),
    ]  # fmt: skip


@pytest.mark.parametrize(
    "change", [{"prompt": None}, {"prompt": []}, {"prompt": [1]}, {"suffix": 1}, {"n": 0}, {"n": True}, {"model": ""}]
)
def test_what_is_no_completion_request_is_refused(change: dict[str, Any]) -> None:
    with pytest.raises(BadRequestError):
        WIRE.read({"model": "m", "prompt": "x"} | change)
