"""Refusals of prompts that policy wants said as the answer of a model, read by the official clients."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from typing import Any

import pytest
from aiohttp import web
from anthropic import AsyncAnthropic
from openai import AsyncOpenAI

from extproc.effects import Finish, PassResponseBody, Record, Respond
from extproc.errors import Code
from extproc.events import CredentialReady, Identified, Recorded, RecordingFailed, RequestBody, ResponseBody
from extproc.exchange import Exchange
from extproc.masking.finding import Action
from extproc.policy import Policy
from extproc.recording.document import Outcome
from tests.playbook import (
    ALICE,
    ANSWER,
    CREDENTIAL,
    IDENTIFY,
    MALLORY,
    POLICY,
    SECRET,
    Answered,
    Playbook,
    masking_rules,
    refused,
    request,
    response,
    rules,
)

ID = "5" * 32
ANSWERING = replace(POLICY, refusals="answer")
REASON = "No rule of the gateway's policy allows this request."
MESSAGES: list[Any] = [{"role": "user", "content": "hi"}]
CHAT, RESPONSES, MESSAGES_API = "/chat/completions", "/responses", "/v1/messages"
ASKS: dict[str, dict[str, Any]] = {
    CHAT: {"messages": MESSAGES},
    RESPONSES: {"input": "hi"},
    MESSAGES_API: {"messages": MESSAGES, "max_tokens": 9},
}


def book(policy: Policy = ANSWERING) -> Playbook:
    return Playbook(Exchange(ID, rules(policy=policy)))


def prompt(path: str, **members: Any) -> RequestBody:
    return RequestBody(json.dumps({"model": "gpt-5", **ASKS[path], **members}).encode(), end_of_stream=True)


def refusing(path: str, policy: Policy = ANSWERING, **members: Any) -> Playbook:
    found = book(policy) >> request("POST", path) << IDENTIFY >> Identified(MALLORY) >> prompt(path, **members)
    return found << refused(Outcome.DENIED, Code.POLICY_DENIED) >> Recorded() << Respond << Finish


def own_answer(found: Playbook) -> Any:
    return json.loads(found.first(Respond).body)


async def _refuse(asked: web.Request) -> web.Response:
    """Answer as the gateway would."""
    found = refusing(asked.path, stream=(await asked.json()).get("stream", False))
    assert found
    one = found.first(Respond)
    return web.Response(status=one.status, headers=one.headers, body=one.body)


@asynccontextmanager
async def gateway() -> AsyncIterator[str]:
    """Run what refuses every prompt; give its address."""
    app = web.Application()
    for path in ASKS:
        app.router.add_post(path, _refuse)
    runner = web.AppRunner(app)
    await runner.setup()
    try:
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        yield f"http://127.0.0.1:{runner.addresses[0][1]}"
    finally:
        await runner.cleanup()


@pytest.fixture
async def openai() -> AsyncIterator[AsyncOpenAI]:
    async with gateway() as address, AsyncOpenAI(base_url=address, api_key="none", max_retries=0) as client:
        yield client


@pytest.fixture
async def anthropic() -> AsyncIterator[AsyncAnthropic]:
    async with gateway() as address, AsyncAnthropic(base_url=address, api_key="none", max_retries=0) as client:
        yield client


async def test_a_refused_chat_is_an_answer(openai: AsyncOpenAI) -> None:
    said = await openai.chat.completions.create(model="gpt-5", messages=MESSAGES)
    assert (said.id, said.model) == (ID, "gpt-5")
    assert [(one.message.content, one.finish_reason) for one in said.choices] == [(REASON, "stop")]


async def test_a_refused_chat_is_a_stream_where_one_was_asked_for(openai: AsyncOpenAI) -> None:
    stream = await openai.chat.completions.create(model="gpt-5", messages=MESSAGES, stream=True)
    choices = [choice async for chunk in stream for choice in chunk.choices]
    assert "".join(choice.delta.content or "" for choice in choices) == REASON
    assert choices[-1].finish_reason == "stop"


async def test_a_refused_response_is_an_answer(openai: AsyncOpenAI) -> None:
    said = await openai.responses.create(model="gpt-5", input="hi")
    assert (said.output_text, said.status) == (REASON, "completed")


async def test_a_refused_response_is_a_stream_where_one_was_asked_for(openai: AsyncOpenAI) -> None:
    async with openai.responses.stream(model="gpt-5", input="hi") as stream:
        said = await stream.get_final_response()
    assert (said.output_text, said.status) == (REASON, "completed")


async def test_a_refused_message_is_an_answer(anthropic: AsyncAnthropic) -> None:
    said = await anthropic.messages.create(model="gpt-5", max_tokens=9, messages=MESSAGES)
    assert [(block.type, getattr(block, "text", None)) for block in said.content] == [("text", REASON)]
    assert (said.id, said.model, said.stop_reason) == (ID, "gpt-5", "end_turn")


async def test_a_refused_message_is_a_stream_where_one_was_asked_for(anthropic: AsyncAnthropic) -> None:
    async with anthropic.messages.stream(model="gpt-5", max_tokens=9, messages=MESSAGES) as stream:
        said = await stream.get_final_message()
    assert [(block.type, getattr(block, "text", None)) for block in said.content] == [("text", REASON)]
    assert said.stop_reason == "end_turn"


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("path", ASKS)
def test_it_is_recorded_as_the_refusal_it_is_with_the_status_that_was_sent(path: str, stream: bool) -> None:  # noqa: FBT001
    found = refusing(path, stream=stream)
    assert found
    assert found.closing["error"]["code"] == Code.POLICY_DENIED
    assert found.closing["response"]["status"] == 200
    assert found.opening["decision"]["effect"] == "deny"
    one = found.first(Respond)
    headers = dict(one.headers)
    assert (one.status, one.details) == (200, Code.POLICY_DENIED)
    assert headers["content-type"] == ("text/event-stream" if stream else "application/json")
    assert headers["x-gateway-decision-id"] == headers["x-github-request-id"] == ID


def test_a_secret_that_may_not_pass_is_refused_so_too() -> None:
    blocking = masking_rules(Action.BLOCK, Action.MASK)
    found = Playbook(Exchange(ID, replace(blocking, policy=replace(blocking.policy, refusals="answer"))))
    found = found >> request() << IDENTIFY >> Identified(ALICE)
    found = found >> prompt(CHAT, messages=[{"role": "user", "content": SECRET}])
    found = found << refused(Outcome.DENIED, Code.MASKING_BLOCKED) >> Recorded() << Respond << Finish
    assert found
    assert found.first(Respond).status == 200
    assert "a secret was found" in own_answer(found)["choices"][0]["message"]["content"]
    assert SECRET not in found.first(Respond).body.decode()


@pytest.mark.parametrize("path", ASKS)
def test_by_default_a_refusal_is_an_error(path: str) -> None:
    found = refusing(path, POLICY)
    assert found
    assert (found.first(Respond).status, own_answer(found)["error"]["code"]) == (422, Code.POLICY_DENIED)


def test_what_a_prompt_would_cost_is_refused_with_an_error() -> None:
    found = book() >> request("POST", "/v1/messages/count_tokens") << IDENTIFY >> Identified(MALLORY)
    found = found >> prompt(MESSAGES_API) << Record >> Recorded()
    assert found << Answered(422, Code.POLICY_DENIED) << Finish


@pytest.mark.parametrize(
    ("path", "body", "status"),
    [
        ("/embeddings", b'{"model":"m","input":"hi"}', 422),
        ("/v1/engines/m/completions", b'{"prompt":"hi"}', 422),
        ("/chat/completions", b"{", 400),
        ("/chat/completions", b"x" * 100_001, 413),
        ("/user", b"{}", 403),
    ],
)
def test_everything_else_is_refused_with_an_error(path: str, body: bytes, status: int) -> None:
    found = book().skip(request("POST", path)).skip(Identified(MALLORY)).skip(RequestBody(body, end_of_stream=True))
    assert found.skip(Recorded()).first(Respond).status == status


def test_who_is_not_identified_is_refused_with_an_error() -> None:
    assert book().skip(request(token=None)).skip(Recorded()).first(Respond).status == 401


def test_a_refusal_that_cannot_be_recorded_is_not_said() -> None:
    found = book() >> request() << IDENTIFY >> Identified(MALLORY) >> prompt(CHAT) << Record >> RecordingFailed()
    assert found << Answered(503, Code.RECORDING_UNAVAILABLE) << Finish


def test_what_is_allowed_passes_as_ever() -> None:
    found = book().skip(request()).skip(Identified(ALICE)).skip(prompt(CHAT)).skip(CredentialReady(CREDENTIAL))
    found.skip(Recorded()).skip(response()).skip(ResponseBody(ANSWER, end_of_stream=True)).skip(Recorded())
    assert found.first(PassResponseBody).data == ANSWER
