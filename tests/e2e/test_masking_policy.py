"""What a policy says about findings, and what happens to a held secret when the service dies: on the real Envoy."""

from __future__ import annotations

import asyncio
import dataclasses
import json
import sys
from collections.abc import AsyncIterator
from typing import Any

import aiohttp
import openai
import pytest
import pytest_asyncio

from extproc.dev.upstream_model import to_json
from tests.e2e.gateway import Gateway, decision_id, until
from tests.e2e.test_masking import answers, post, streams
from tests.e2e.upstream import DONE, Call, event
from tests.e2e.wires import CASES, TOKEN, leaked, trees

pytestmark = [pytest.mark.e2e, pytest.mark.asyncio(loop_scope="session")]

POLICY = """
version: 1
credential: github
rules:
  - id: everything
    when: { groups: [developers] }
    effect: allow
masking:
  personal-data: { prompts: observe, answers: observe }
  rule-files:
    - { name: forbidden, file: forbidden.yaml, prompts: block, answers: block }
    - { name: tickets, file: tickets.toml, prompts: mask, answers: mask }
"""
FORBIDDEN = """
rules:
  - id: acme.project.1
    name: Project name
    pattern: '\\b(prj-[0-9]{6}-[a-z]{4})\\b'
    examples: ["prj-123456-abcd"]
"""
TICKETS = """
[[rules]]
id = "ticket"
description = "Ticket of the help desk"
regex = '''\\bTICKET-[0-9]{8}\\b'''
"""
PROJECT, TICKET, MAIL = "prj-482913-qrst", "TICKET-48291375", "jane.roe@acme-corp.org"


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def strict() -> AsyncIterator[Gateway]:
    """A gateway whose policy blocks, masks and observes with rules of its own."""
    gateway = Gateway()
    await gateway.prepare()
    (gateway.state / "policy.yaml").write_text(POLICY)
    (gateway.state / "forbidden.yaml").write_text(FORBIDDEN)
    (gateway.state / "tickets.toml").write_text(TICKETS)
    await gateway.start()
    yield gateway
    await gateway.stop()


PATHS = {
    "/chat/completions": {"model": "m", "messages": [{"role": "user", "content": f"see {PROJECT}"}]},
    "/v1/engines/m/completions": {"prompt": f"see {PROJECT}"},
    "/responses": {"model": "m", "input": f"see {PROJECT}"},
    "/v1/messages": {"model": "m", "max_tokens": 9, "messages": [{"role": "user", "content": f"see {PROJECT}"}]},
    "/embeddings": {"model": "m", "input": f"see {PROJECT}"},
    "/mcp/": {"jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": {"name": "a", "arguments": {"q": PROJECT}}},
    "/graphql": {"query": "{ viewer { login } }", "variables": {"name": PROJECT}},
}


@pytest.mark.parametrize("path", PATHS)
async def test_a_blocked_prompt_is_422_in_the_clients_form_and_never_leaves(strict: Gateway, path: str) -> None:
    strict.upstream.play(answers(b"{}"))
    async with post(strict, path, PATHS[path]) as response:
        assert response.status == 422
        text = await response.text()
        document = await strict.document(decision_id(response))
    body = json.loads(text)
    error = body if path == "/graphql" else body["error"]
    assert "acme.project.1" in error["message"]
    assert (error.get("data") or error)["code"] == "masking.blocked"
    assert (body.get("type") == "error") == (path == "/v1/messages")
    assert ("jsonrpc" in body) == (path == "/mcp/")
    assert strict.upstream.seen == []
    assert PROJECT not in text + json.dumps(document)
    assert (document["outcome"], document["error"]["code"]) == ("denied", "masking.blocked")
    assert [(one["rule"], one["action"]) for one in document["findings"]] == [("acme.project.1", "block")]


def _stream(dialect: str, text: str) -> bytes:
    """Stream a dialect's answer with `text` in the middle of it, in pieces of three characters."""
    case = CASES[dialect]
    said = f"It is {text}, and then some more of it."
    script = dataclasses.replace(
        case.script(3), pieces=tuple(said[at : at + 3] for at in range(0, len(said), 3)), reasoning=("Well.",)
    )
    return b"".join(case.wire.events(case.wire.read(case.request), script, 1))


BLOCKED = "a secret was found here (rule acme.project.1)"


@pytest.mark.parametrize("dialect", CASES)
async def test_a_blocked_stream_ends_properly_and_leaves_no_call_to_run(strict: Gateway, dialect: str) -> None:
    case = CASES[dialect]
    strict.upstream.play(streams(_stream(dialect, PROJECT), 3))
    async with post(strict, case.path, case.asked(stream=True)) as response:
        received = await response.read()
        document = await strict.document(decision_id(response))
    said = "".join(text for kind, text in case.read_events(trees(received)) if kind == "text")
    assert "It is" in said
    assert BLOCKED in said
    assert PROJECT[:8] not in received.decode()
    assert b'"create"' not in received
    assert document["error"]["code"] == "masking.blocked"
    assert PROJECT not in json.dumps(document)
    match case.path:
        case "/v1/messages":
            stop, end = trees(received)[-2:]
            assert (stop["delta"]["stop_reason"], end["type"]) == ("end_turn", "message_stop")
        case "/responses" | "/v1/responses":
            assert trees(received)[-1]["response"]["status"] == "completed"
        case _:
            assert received.endswith(DONE)


@pytest.mark.parametrize("dialect", ["chat", "completions", "responses"])
async def test_the_openai_client_reads_a_blocked_stream_to_its_end(strict: Gateway, dialect: str) -> None:
    case = CASES[dialect]
    strict.upstream.play(streams(_stream(dialect, PROJECT), 5))
    async with openai.AsyncOpenAI(base_url=strict.url, api_key=strict.token(), max_retries=0) as client:
        if dialect == "responses":
            async with client.responses.stream(**case.request) as stream:
                said = (await stream.get_final_response()).output_text
        else:
            create: Any = client.chat.completions.create if dialect == "chat" else client.completions.create
            parts = [part.model_dump(exclude_unset=True) async for part in await create(**case.request, stream=True)]
            said = case.read_events(parts)[0][1]
            reasons = [
                choice["finish_reason"] for part in parts for choice in part["choices"] if choice["finish_reason"]
            ]
            assert set(reasons) == {"stop"}
    assert BLOCKED in said


@pytest.mark.parametrize("dialect", CASES)
async def test_a_blocked_json_answer_is_422(strict: Gateway, dialect: str) -> None:
    case = CASES[dialect]
    strict.upstream.play(answers(to_json({"choices": [], "note": f"see {PROJECT}"})))
    async with post(strict, case.path, case.asked(stream=False)) as response:
        assert response.status == 422
        text = await response.text()
    assert "masking.blocked" in text
    assert PROJECT not in text


async def test_what_is_observed_passes_unchanged_and_is_recorded(strict: Gateway) -> None:
    case = CASES["messages"]
    sent = _stream("messages", MAIL)
    strict.upstream.play(streams(sent, 2))
    asked = case.asked(stream=True) | {"messages": [{"role": "user", "content": f"write to {MAIL}"}]}
    async with post(strict, case.path, asked) as response:
        received = await response.read()
        document = await strict.document(decision_id(response))
    assert json.loads(strict.upstream.seen[0].body) == asked
    # The tool call of the script has secrets, which are masked as ever.
    assert received.split(b"tool_use")[0] == sent.split(b"tool_use")[0]
    observed = [one for one in document["findings"] if one["action"] == "observe"]
    assert {one["direction"] for one in observed} == {"prompt", "answer"}
    assert len({one["fingerprint"] for one in observed}) == 1


async def test_rules_of_ones_own_in_toml_mask_both_ways(strict: Gateway) -> None:
    strict.upstream.play(streams(_stream("chat", TICKET), 2))
    async with strict.chat(stream=True, text=f"look at {TICKET}!") as response:
        received = await response.read()
    said = dict(CASES["chat"].read_events(trees(received)))["text"]
    assert said == "It is [MASKED:ticket], and then some more of it."
    assert json.loads(strict.upstream.seen[0].body)["messages"][0]["content"] == "look at [MASKED:ticket]!"


async def test_graphql_answers_are_masked(strict: Gateway) -> None:
    strict.upstream.play(answers(to_json({"data": {"viewer": {"bio": f"I am {TICKET} and {TOKEN}"}}})))
    async with post(strict, "/graphql", {"query": "{ viewer { bio } }"}) as response:
        bio = (await response.json())["data"]["viewer"]["bio"]
    assert bio.startswith("I am [MASKED:ticket] and [MASKED:")
    assert leaked(bio.encode()) == []


BROKEN = {
    "broken.yaml": (FORBIDDEN.replace("(prj", "((prj"), "acme.project.1"),
    "broken.toml": (TICKETS.replace("[0-9]{8}", "[0-9"), "ticket"),
}


@pytest.mark.parametrize("name", BROKEN)
@pytest.mark.parametrize("command", ["serve", "check"])
async def test_a_broken_rule_file_stops_the_start_and_the_check_naming_file_and_rule(
    own_gateway: Gateway, name: str, command: str
) -> None:
    await own_gateway.prepare()
    text, rule = BROKEN[name]
    (own_gateway.state / name).write_text(text)
    policy = own_gateway.state / "policy.yaml"
    head, _, _ = POLICY.partition("  rule-files:")
    policy.write_text(f"{head}  rule-files: [{{ name: own, file: {name} }}]\n")
    settings = str(own_gateway.state / "gateway.yaml")
    arguments = ["serve", "--config", settings] if command == "serve" else ["policy", "check", str(policy)]
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "extproc", *arguments, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT
    )
    output = (await process.communicate())[0].decode()
    assert process.returncode == 2, output
    assert "Traceback" not in output
    assert name in output
    assert rule in output


async def test_a_killed_service_takes_a_held_secret_with_it(own_gateway: Gateway) -> None:
    received = bytearray()

    async def play(call: Call) -> None:
        await call.head(content_type="text/event-stream", transfer_encoding="chunked")
        await call.chunk(event("this is ") + event(TOKEN[:30]))
        await until(lambda: b"this is " in received, "the first event at the client")
        assert own_gateway.service is not None
        own_gateway.service.kill()
        await own_gateway.service.wait()
        await call.chunk(event(TOKEN[30:]) + event(finish="stop") + DONE)
        await call.end()

    await own_gateway.prepare()
    await own_gateway.start()
    own_gateway.upstream.play(play)
    with pytest.raises(aiohttp.ClientPayloadError):
        async with own_gateway.chat(stream=True) as response:
            async for data in response.content.iter_any():
                received += data
    assert received == event("this is ")
