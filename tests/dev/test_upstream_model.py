"""What holds for every dialect of the demo upstream: the gateway's own dialects read it, whole and streamed alike."""

from __future__ import annotations

import contextlib
import dataclasses
import json
from typing import Any

import pytest
from aiohttp import web
from aiohttp.test_utils import TestClient, TestServer

from extproc.conversation import Answer
from extproc.dev.upstream_chat import ChatWire
from extproc.dev.upstream_completions import CompletionsWire
from extproc.dev.upstream_messages import MessagesWire
from extproc.dev.upstream_model import ModelEndpoint, Wire, is_sealed, sealed, to_json
from extproc.dev.upstream_responses import ResponsesWire
from extproc.dev.upstream_script import script_for
from extproc.dialect.chat import ChatDialect
from extproc.dialect.completions import CompletionsDialect
from extproc.dialect.messages import MessagesDialect
from extproc.dialect.port import Dialect
from extproc.dialect.responses import ResponsesDialect
from tests.streaming import play

FUNCTION = {"type": "function", "name": "create"}
PATCH = {"type": "custom", "name": "apply_patch"}


def chat(text: str) -> dict[str, Any]:
    tools = [{"type": "function", "function": FUNCTION}]
    return {"model": "m", "messages": [{"role": "user", "content": text}], "tools": tools}


def responses(text: str, tool: dict[str, Any]) -> dict[str, Any]:
    return {"model": "m", "input": text, "tools": [tool], "reasoning": {}, "include": ["reasoning.encrypted_content"]}


def messages(text: str) -> dict[str, Any]:
    asked = {"model": "m", "max_tokens": 9, "messages": [{"role": "user", "content": text}]}
    return asked | {"tools": [{"name": "create", "input_schema": {}}], "thinking": {"type": "enabled"}}


DIALECTS: dict[str, tuple[Wire, Dialect, Any]] = {
    "chat": (ChatWire(), ChatDialect(), chat),
    "completions": (
        CompletionsWire(),
        CompletionsDialect(),
        lambda text: {"model": "m", "n": 3, "prompt": f"x\n# {text}"},
    ),
    "responses": (ResponsesWire(), ResponsesDialect(), lambda text: responses(text, FUNCTION)),
    "responses-custom": (ResponsesWire(), ResponsesDialect(), lambda text: responses(text, PATCH)),
    "messages": (MessagesWire(), MessagesDialect(), messages),
}


@pytest.mark.parametrize("text", ["hi", "create a.py", "leak", "echo credential"])
@pytest.mark.parametrize("name", DIALECTS)
def test_the_stream_and_the_whole_say_the_same_to_the_gateway(name: str, text: str) -> None:
    wire, dialect, request = DIALECTS[name]
    dialect.parse_request(to_json(request(text)))
    asked = wire.read(request(text))
    script = script_for(asked.messages, asked.tools, "Bearer x")
    stream = dialect.stream()
    play(stream, *wire.events(asked, script, 1))
    streamed, whole = stream.answer(), dialect.parse_answer(to_json(wire.whole(asked, script, 1)))
    assert _parsed(streamed) == _parsed(whole)
    assert streamed.complete
    assert streamed.unparsed is None
    assert script.text() in streamed.choices[0].text
    called = script.tool_call is not None
    assert called == (name != "completions" and text in {"create a.py", "leak"})
    assert [call.name for call in streamed.choices[0].tool_calls] == (
        [script.tool_call.name] if script.tool_call else []
    )


def _parsed(answer: Answer) -> Any:
    """Return an answer with the arguments of calls decoded where they are JSON: messages has them as objects."""
    tree = dataclasses.asdict(answer)
    for call in tree["choices"][0]["tool_calls"]:
        with contextlib.suppress(ValueError):
            call["arguments"] = json.loads(call["arguments"])
    return tree


@pytest.mark.parametrize("name", DIALECTS)
async def test_every_dialect_fails_in_its_own_form(name: str) -> None:
    wire, _, request = DIALECTS[name]
    app = web.Application()
    app.add_routes([web.post("/", ModelEndpoint(wire, 0, lambda: 1.0).handle)])
    async with TestClient(TestServer(app, host="127.0.0.1")) as client:
        failed = await client.post("/", json=request("fail"))
        assert (failed.status, (await failed.json())["error"]["message"]) == (
            500,
            "The demo upstream failed, as asked.",
        )
        refused = await client.post("/", json=request("hi") | {"model": 7})
        error = (await refused.json())["error"]
        assert (refused.status, error["type"]) == (400, "invalid_request_error")
        assert "'model'" in error["message"]
        for mode in ("slow", "gzip", "br"):
            answer = await client.post("/", json=request(f"{mode} hi"))
            assert "demo upstream" in json.dumps(await answer.json())


def test_what_is_sealed_is_known_again_only_unchanged() -> None:
    seal = sealed("a")
    assert is_sealed(seal)
    for bad in (seal[:-3], seal.upper(), f"{seal}x", "", "gAAAAAB==", None, 7):
        assert not is_sealed(bad)
