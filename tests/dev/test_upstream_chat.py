from __future__ import annotations

import asyncio
import json
import re
from collections.abc import AsyncIterator
from typing import Any

import pytest
from aiohttp import ClientPayloadError, ClientResponse, web
from aiohttp.test_utils import TestClient, TestServer

from extproc.dev.upstream_chat import ChatWire
from extproc.dev.upstream_model import ModelEndpoint

NOW = 1_800_000_000.5
CREDENTIAL = "Bearer gho_secretcredential"
CREATE = {"type": "function", "function": {"name": "create"}}


class Sleeps(list[float]):
    """Remember how long was to be waited, and do not wait."""

    async def __call__(self, seconds: float) -> None:
        self.append(seconds)
        await asyncio.sleep(0)


@pytest.fixture
def sleeps() -> Sleeps:
    return Sleeps()


@pytest.fixture
async def upstream(sleeps: Sleeps) -> AsyncIterator[TestClient[Any, Any]]:
    app = web.Application()
    app.add_routes(
        [
            web.post("/chat/completions", ModelEndpoint(ChatWire(), 0.02, lambda: NOW, sleeps).handle),
            web.post("/really-waiting", ModelEndpoint(ChatWire(), 0.0, lambda: NOW).handle),
        ]
    )
    async with TestClient(TestServer(app, host="127.0.0.1")) as client:
        yield client


async def _ask(
    upstream: TestClient[Any, Any],
    text: str,
    *,
    path: str = "/chat/completions",
    stream: bool = False,
    tools: list[Any] | None = None,
) -> ClientResponse:
    messages = [{"role": "user", "content": text}]
    body = {"model": "gpt-5", "messages": messages, "stream": stream, "tools": tools}
    return await upstream.post(path, json=body, headers={"Authorization": CREDENTIAL})


async def _stream(upstream: TestClient[Any, Any], text: str, tools: list[Any] | None = None) -> list[dict[str, Any]]:
    response = await _ask(upstream, text, stream=True, tools=tools)
    assert (response.status, response.content_type) == (200, "text/event-stream")
    return _frames(await response.text())


async def _read_until_cut(response: ClientResponse) -> tuple[bytes, str]:
    received = b""
    try:
        async for chunk in response.content.iter_any():
            received += chunk
    except ClientPayloadError as error:
        return received, str(error)
    return received, "the answer ended cleanly"


def _frames(text: str) -> list[dict[str, Any]]:
    events = text.split("\n\n")
    assert events[-2:] == ["data: [DONE]", ""]
    return [json.loads(event.removeprefix("data: ")) for event in events[:-2]]


def _deltas(frames: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return [frame["choices"][0]["delta"] for frame in frames if frame["choices"]]


def _text(frames: list[dict[str, Any]]) -> str:
    return "".join(delta.get("content", "") for delta in _deltas(frames))


async def test_a_stream_has_the_frames_of_copilot_in_order(upstream: TestClient[Any, Any]) -> None:
    frames = await _stream(upstream, "count to 3")
    assert (frames[0]["choices"], "prompt_filter_results" in frames[0]) == ([], True)
    assert _deltas(frames) == [
        {"role": "assistant", "content": ""},
        {"content": "1 "},
        {"content": "2 "},
        {"content": "3 "},
        {},
    ]
    assert frames[-2]["choices"][0]["finish_reason"] == "stop"
    assert frames[-1]["choices"] == []
    assert frames[-1]["usage"] == {"prompt_tokens": 3, "completion_tokens": 3, "total_tokens": 6}
    assert {frame["model"] for frame in frames[1:]} == {"gpt-5"}
    assert len({frame["id"] for frame in frames[1:]}) == 1


async def test_the_whole_answer_says_the_same_as_the_stream(upstream: TestClient[Any, Any]) -> None:
    frames = await _stream(upstream, "wie geht's, Jürgen?")
    answer = await (await _ask(upstream, "wie geht's, Jürgen?")).json()
    message = answer["choices"][0]["message"]
    assert message == {"role": "assistant", "content": _text(frames)}
    assert "You asked: wie geht's, Jürgen?" in message["content"]
    assert (answer["object"], answer["created"], answer["id"]) == ("chat.completion", int(NOW), frames[1]["id"])
    assert answer["usage"] == frames[-1]["usage"]


async def test_the_same_prompt_gets_the_same_bytes(upstream: TestClient[Any, Any]) -> None:
    first, second = await _ask(upstream, "hi", stream=True), await _ask(upstream, "hi", stream=True)
    assert await first.read() == await second.read()


async def test_a_tool_call_comes_in_small_fragments(upstream: TestClient[Any, Any]) -> None:
    frames = await _stream(upstream, "create src/a.py", tools=[CREATE])
    calls = [delta["tool_calls"][0] for delta in _deltas(frames) if "tool_calls" in delta]
    assert calls[0]["type"] == "function"
    assert calls[0]["id"].startswith("call_")
    assert calls[0]["function"] == {"name": "create", "arguments": ""}
    fragments = [call["function"]["arguments"] for call in calls[1:]]
    assert max(map(len, fragments)) <= 7
    assert json.loads("".join(fragments))["path"] == "src/a.py"
    assert frames[-2]["choices"][0]["finish_reason"] == "tool_calls"

    whole = (await (await _ask(upstream, "create src/a.py", tools=[CREATE])).json())["choices"][0]
    assert whole["message"]["content"] is None
    assert whole["message"]["tool_calls"][0]["id"] == calls[0]["id"]
    assert whole["message"]["tool_calls"][0]["function"]["arguments"] == "".join(fragments)
    assert whole["finish_reason"] == "tool_calls"


async def test_long_answers_have_200_text_events(upstream: TestClient[Any, Any]) -> None:
    assert sum("content" in delta for delta in _deltas(await _stream(upstream, "long"))) == 201  # and the role's


@pytest.mark.parametrize(("text", "seconds"), [("count to 2", 0.02), ("slow count to 2", 0.05)])
async def test_events_are_paced(upstream: TestClient[Any, Any], sleeps: Sleeps, text: str, seconds: float) -> None:
    frames = await _stream(upstream, text)
    assert sleeps == [seconds] * (len(frames) + 1)


@pytest.mark.parametrize("stream", [True, False])
async def test_fail_answers_a_json_error(upstream: TestClient[Any, Any], stream: bool) -> None:  # noqa: FBT001 - cases
    response = await _ask(upstream, "fail", stream=stream)
    assert (response.status, (await response.json())["error"]["code"]) == (500, "internal_error")


async def test_html_answers_a_page(upstream: TestClient[Any, Any]) -> None:
    response = await _ask(upstream, "html", stream=True)
    assert (response.status, response.content_type) == (200, "text/html")
    assert (await response.text()).startswith("<!doctype html>")


@pytest.mark.parametrize("coding", ["gzip", "deflate", "br", "zstd"])
@pytest.mark.parametrize("stream", [True, False])
async def test_a_coding_is_used_though_identity_was_asked_for(
    upstream: TestClient[Any, Any],
    coding: str,
    stream: bool,  # noqa: FBT001 - cases
) -> None:
    body = {"model": "m", "messages": [{"role": "user", "content": f"{coding} count to 3"}], "stream": stream}
    response = await upstream.post("/chat/completions", json=body, headers={"Accept-Encoding": "identity"})
    assert response.headers["Content-Encoding"] == coding
    text = await response.text()  # decoded by the client
    assert "3 " in (_text(_frames(text)) if stream else text)


@pytest.mark.parametrize("stream", [True, False])
async def test_reset_cuts_the_connection_in_the_middle_of_the_answer(
    upstream: TestClient[Any, Any],
    stream: bool,  # noqa: FBT001 - cases
) -> None:
    response = await _ask(upstream, "reset count to 20", path="/really-waiting", stream=stream)
    received, fault = await _read_until_cut(response)
    assert "Connection reset by peer" in fault
    assert b'"model":"gpt-5"' in received
    assert b"20 " not in received
    assert (b"[DONE]" if stream else b'"usage"') not in received


async def test_the_credential_is_echoed_in_text_in_parts_and_in_a_header(upstream: TestClient[Any, Any]) -> None:
    response = await _ask(upstream, "echo credential", stream=True)
    assert response.headers["x-echo-authorization"] == CREDENTIAL
    contents = [delta.get("content", "") for delta in _deltas(_frames(await response.text()))]
    assert CREDENTIAL in contents
    assert "".join(contents).count(CREDENTIAL) == 2


async def test_only_the_echo_prompt_echoes(upstream: TestClient[Any, Any]) -> None:
    response = await _ask(upstream, "hi", stream=True)
    assert CREDENTIAL not in str(response.headers) + await response.text()


async def test_a_leak_is_spread_over_text_and_the_call_of_an_offered_tool(upstream: TestClient[Any, Any]) -> None:
    frames = await _stream(upstream, "leak", tools=[CREATE])
    contents = [delta["content"] for delta in _deltas(frames) if delta.get("content")]
    assert max(map(len, contents)) <= 7
    assert re.search(r"GITHUB_TOKEN=ghp_[A-Za-z0-9]{36}\n", "".join(contents))
    calls = [delta["tool_calls"][0]["function"]["arguments"] for delta in _deltas(frames) if "tool_calls" in delta]
    assert "GITHUB_TOKEN=ghp_" in json.loads("".join(calls))["file_text"]


async def test_a_custom_tool_is_called_with_free_text(upstream: TestClient[Any, Any]) -> None:
    tools = [{"type": "custom", "custom": {"name": "apply_patch"}}]
    calls = [
        delta["tool_calls"][0]
        for delta in _deltas(await _stream(upstream, "create a.py", tools))
        if "tool_calls" in delta
    ]
    assert (calls[0]["type"], calls[0]["custom"]) == ("custom", {"name": "apply_patch", "input": ""})
    text = "".join(call["custom"]["input"] for call in calls)
    assert text.startswith("*** Begin Patch\n*** Add File: a.py\n+")


USER = {"role": "user", "content": "hi"}


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"not json",
        b"[]",
        b"\xff",
        {"model": "m"},
        {"messages": [USER]},
        {"model": 1, "messages": [USER]},
        {"model": "m", "messages": []},
        {"model": "m", "messages": ["hi"]},
        {"model": "m", "messages": [{"role": "nobody", "content": "hi"}]},
        {"model": "m", "messages": [{"role": "user", "content": None}]},
        {"model": "m", "messages": [USER, {"role": "tool", "tool_call_id": "c", "content": "x"}]},
        {"model": "m", "messages": [USER], "stream": "yes"},
        {"model": "m", "messages": [USER], "tools": [{"type": "function"}]},
    ],
)
async def test_a_body_that_is_no_chat_request_is_refused(upstream: TestClient[Any, Any], body: object) -> None:
    data = body if isinstance(body, bytes) else json.dumps(body).encode()
    response = await upstream.post("/chat/completions", data=data)
    error = (await response.json())["error"]
    assert (response.status, error["type"], error["code"]) == (400, "invalid_request_error", "invalid_request_body")
