"""What touches something privileged waits for an approver, in every dialect and at GitHub: on the real Envoy."""

from __future__ import annotations

import asyncio
import dataclasses
import json
import os
import re
import signal
import sys
import time
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import aiohttp
import openai
import pytest
import pytest_asyncio

from extproc.approval.approval import Approval, Scope, State, Verdict, VerdictRefusal, Why
from extproc.approval.fences import TOOL as CODE_BLOCK
from extproc.approval.waiting import Waiting
from extproc.config import UPSTREAM_HOSTS, load_settings
from extproc.conversation import ToolCall
from extproc.credential import Credential
from extproc.dev.upstream_model import to_json
from extproc.dev.upstream_script import Script as Answer
from extproc.dev.upstream_script import fragments
from extproc.endpoint import Upstream
from extproc.identity.principal import Principal
from extproc.masking.masker import Masking
from extproc.metrics import Metrics
from extproc.outside import Bounds, Outside
from extproc.policy_file import load
from extproc.processor import Processor
from extproc.recorder import recording
from extproc.recording.session import Sessions
from extproc.rules import Rules
from extproc.secret import Secret
from extproc.server import Server
from extproc.store.sqlite_approvals import SqliteApprovals
from tests.detecting import FINGERPRINTS, masking
from tests.e2e.gateway import TRANSPORT, Gateway, decision_id, until
from tests.e2e.upstream import Call, Script
from tests.e2e.wires import CASES, TOKEN, Case, leaked, trees

pytestmark = [pytest.mark.e2e, pytest.mark.asyncio(loop_scope="session")]

DIALECTS = ["chat", "responses", "messages"]
BEFORE = "Let me change the instances for you."
CHANGE = {"path": "/w/infra/prod.tf", "old_str": "count = 2", "new_str": "count = 40"}
COMMENT = b": waiting for approval\n\n"
MERGE = "/repos/octo/shop/pulls/7/merge"
MERGE_CALL = {"owner": "octo", "repo": "shop", "pullNumber": 7}
RPC = {
    "jsonrpc": "2.0",
    "id": 1,
    "method": "tools/call",
    "params": {"name": "merge_pull_request", "arguments": MERGE_CALL},
}
# What a held request is, where it goes, and where its error says why it was refused.
REQUESTS: Mapping[str, tuple[str, str, Any, Callable[[Any], tuple[str, str]]]] = {
    "rest": ("PUT", MERGE, {"merge_method": "squash"}, lambda tree: (tree["code"], tree["message"])),
    "mcp": ("POST", "/mcp/", RPC, lambda tree: (tree["error"]["data"]["code"], tree["error"]["message"])),
}


# --- answers that propose an edit ------------------------------------------------------------------------------------


def proposing(arguments: Any = CHANGE, *, tool: str = "edit") -> Answer:
    return Answer(tuple(fragments(BEFORE)), (), ToolCall("call_1", tool, json.dumps(arguments)))


def events(case: Case, script: Answer) -> bytes:
    return b"".join(case.wire.events(case.wire.read(case.request), script, 1))


def body(case: Case, script: Answer) -> bytes:
    return to_json(case.wire.whole(case.wire.read(case.request), script, 1))


def sends(data: bytes, *, stream: bool) -> Script:
    async def play(call: Call) -> None:
        if not stream:
            await call.whole(data)
            return
        await call.head(content_type="text/event-stream", transfer_encoding="chunked")
        await call.chunk(data)
        await call.end()

    return play


def answers(gateway: Gateway, case: Case, script: Answer, *, stream: bool) -> bytes:
    """Let the upstream answer so, whole at once; return what it sends."""
    data = events(case, script) if stream else body(case, script)
    gateway.upstream.play(sends(data, stream=stream))
    return data


def ask(gateway: Gateway, case: Case, *, stream: bool, user: str = "alice", **headers: str) -> Any:
    sent = to_json(case.asked(stream=stream))
    return gateway.session.post(f"{gateway.url}{case.path}", headers=gateway.headers(user) | headers, data=sent)


def send(gateway: Gateway, request: str, user: str = "alice") -> Any:
    method, path, said, _ = REQUESTS[request]
    headers = gateway.headers(user) | {"accept": "application/json, text/event-stream"}
    return gateway.session.request(method, f"{gateway.url}{path}", headers=headers, data=to_json(said))


async def received(request: Any, arriving: bytearray | None = None) -> tuple[int | None, bytes]:
    """Return the status, None for an answer that broke off, and the bytes, which `arriving` shows."""
    got = bytearray() if arriving is None else arriving
    status = None
    try:
        async with request as response:
            async for data in response.content.iter_any():
                got += data
            status = response.status
    except aiohttp.ClientError:
        return None, bytes(got)
    return status, bytes(got)


# --- approvers -------------------------------------------------------------------------------------------------------


class Desk:
    """Where approvers answer: the gateway's store, as the command line opens it."""

    def __init__(self, state: Path, now: Callable[[], float] = time.time) -> None:
        self.state = state
        self.now = now
        self.store = SqliteApprovals(state / "approvals.db", instance=None, now=now())

    async def pending(self, count: int = 1) -> list[Approval]:
        """Return what waits once it is so many, the oldest first."""
        deadline = time.monotonic() + 10
        while len(found := await self.store.newest(state=State.PENDING)) != count:
            assert time.monotonic() < deadline, f"{len(found)} approvals wait, not {count}"
            await asyncio.sleep(0.01)
        return found[::-1]

    async def one(self) -> Approval:
        [approval] = await self.pending()
        return approval

    async def says(
        self, approval: Approval, *, approved: bool, reason: str = "", scope: Scope = Scope.ONCE, **who: Any
    ) -> Approval | VerdictRefusal:
        name, groups = who.get("name", "issuer#bob"), who.get("groups", frozenset({"approvers"}))
        verdict = Verdict(name, name.rpartition("#")[2], approved, reason, scope, self.now(), "192.0.2.9")
        return await self.store.verdict(approval.request.id, verdict, groups)

    async def approve(self, approval: Approval, scope: Scope = Scope.ONCE) -> None:
        assert isinstance(await self.says(approval, approved=True, reason="reviewed", scope=scope), Approval)

    async def deny(self, approval: Approval) -> None:
        assert isinstance(await self.says(approval, approved=False, reason="not on Fridays"), Approval)

    async def state_of(self, approval: Approval) -> State:
        found = await self.store.get(approval.request.id)
        assert found is not None
        return found.state

    async def ended(self, approval: Approval) -> State:
        deadline = time.monotonic() + 10
        while (state := await self.state_of(approval)) is State.PENDING:
            assert time.monotonic() < deadline, "the approval stays pending"
            await asyncio.sleep(0.01)
        return state

    async def command(self, *words: str) -> tuple[int | None, str]:
        """Run `extproc approvals` as another process."""
        process = await asyncio.create_subprocess_exec(
            sys.executable, "-m", "extproc", "approvals", *words, "--state-dir", str(self.state),
            stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT,
            env={**os.environ, "PYTHONPATH": str(Path.cwd())},
        )  # fmt: skip
        said, _ = await process.communicate()
        return process.returncode, said.decode()


@pytest_asyncio.fixture(loop_scope="session")
async def desk(gateway: Gateway) -> AsyncIterator[Desk]:
    one = Desk(gateway.state)
    yield one
    # What a failed test left must not fail the next one.
    for left in await one.store.newest(state=State.PENDING):
        await one.deny(left)
    await one.store.aclose()


# --- approved --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("dialect", DIALECTS)
async def test_a_streamed_edit_waits_and_then_goes_on_byte_for_byte(gateway: Gateway, desk: Desk, dialect: str) -> None:
    sent = answers(gateway, CASES[dialect], proposing(), stream=True)
    # Of the call itself not even the beginning arrives before the verdict.
    begins = sent.rindex(b"\n\n", 0, sent.index(b"call_1")) + 2
    arriving = bytearray()
    async with ask(gateway, CASES[dialect], stream=True) as response:
        while len(arriving) < begins:
            arriving += await response.content.readany()
        assert arriving == sent[:begins]
        approval = await desk.one()
        assert approval.request.exchange == decision_id(response)
        await desk.approve(approval)
        assert arriving + await response.read() == sent
        document = await gateway.document(decision_id(response))
    [proposed] = json.loads(approval.request.proposal)
    assert (proposed["name"], json.loads(proposed["arguments"])) == ("edit", CHANGE)
    check_recorded(document, approval, "approved")
    assert document["outcome"] == "completed"


@pytest.mark.parametrize("dialect", DIALECTS)
async def test_a_json_edit_waits_and_then_arrives_byte_for_byte(gateway: Gateway, desk: Desk, dialect: str) -> None:
    sent = answers(gateway, CASES[dialect], proposing(), stream=False)
    arriving = bytearray()
    answer = asyncio.create_task(received(ask(gateway, CASES[dialect], stream=False), arriving))
    approval = await desk.one()
    assert not arriving
    await desk.approve(approval)
    assert await answer == (200, sent)
    document = await gateway.document(approval.request.exchange)
    check_recorded(document, approval, "approved")
    assert document["outcome"] == "completed"


def check_recorded(document: Any, approval: Approval, state: str) -> None:
    """Check that a record says what was held, why, who decided, how long it took and the reason."""
    [held] = document["approvals"]
    assert (held["id"], held["state"], held["rule"]) == (approval.request.id, state, approval.request.rule.rule_id)
    assert [touch["act"] for touch in held["touches"]] == [str(touch.act) for touch in approval.request.touches]
    assert held["waited_ms"] > 0
    reasons = {"approved": "reviewed", "denied": "not on Fridays"}
    decided = [("bob", state == "approved", reasons[state])] if state in reasons else []
    assert [(one["name"], one["approved"], one["reason"]) for one in held["verdicts"]] == decided


async def test_the_command_approves_for_a_verified_approver_and_for_nobody_else(gateway: Gateway, desk: Desk) -> None:
    sent = answers(gateway, CASES["chat"], proposing(), stream=True)
    answer = asyncio.create_task(received(ask(gateway, CASES["chat"], stream=True, user="bob")))
    approval = await desk.one()
    own, stranger = await asyncio.gather(
        desk.command("approve", approval.request.id, "--as", "bob"),
        desk.command("approve", approval.request.id, "--as", "alice"),
    )
    assert (own[0], "own_request" in own[1]) == (1, True), own[1]
    assert (stranger[0], "not_approver" in stranger[1]) == (1, True)
    assert not answer.done()
    await desk.approve(approval)
    assert await answer == (200, sent)

    answer = asyncio.create_task(received(ask(gateway, CASES["chat"], stream=True)))
    approval = await desk.one()
    code, said = await desk.command("approve", approval.request.id, "--as", "bob", "--reason", "reviewed")
    assert (code, said.strip()) == (0, f"{approval.request.id} approved")
    assert await answer == (200, sent)


async def test_who_asks_and_who_lacks_the_group_are_refused_and_the_answer_stays_held(
    gateway: Gateway, desk: Desk
) -> None:
    answers(gateway, CASES["messages"], proposing(), stream=True)
    answer = asyncio.create_task(received(ask(gateway, CASES["messages"], stream=True)))
    approval = await desk.one()
    own = await desk.says(approval, approved=True, name=approval.request.principal)
    stranger = await desk.says(approval, approved=True, groups=frozenset({"developers"}))
    assert isinstance(own, VerdictRefusal)
    assert isinstance(stranger, VerdictRefusal)
    assert (own.why, stranger.why) == (Why.OWN_REQUEST, Why.NOT_APPROVER)
    assert not answer.done()
    await desk.deny(approval)
    _, got = await answer
    assert b"infra/prod.tf" not in got


async def test_what_touches_nothing_privileged_passes_without_an_approval(gateway: Gateway, desk: Desk) -> None:
    for stream in (True, False):
        sent = answers(gateway, CASES["chat"], proposing(CHANGE | {"path": "/w/docs/guide.md"}), stream=stream)
        async with ask(gateway, CASES["chat"], stream=stream) as response:
            assert await response.read() == sent
            document = await gateway.document(decision_id(response))
        assert not document.get("approvals")
        asked = [one for one in await desk.store.newest() if one.request.exchange == decision_id(response)]
        assert asked == []


FENCED = 'Put this there:\n\n```hcl title="infra/prod.tf"\ncount = 40\n```\n\nThen apply it.'


@pytest.mark.parametrize("dialect", DIALECTS)
@pytest.mark.parametrize("stream", [True, False])
async def test_a_code_block_that_names_a_privileged_file_waits(
    gateway: Gateway,
    desk: Desk,
    dialect: str,
    stream: bool,  # noqa: FBT001
) -> None:
    sent = answers(gateway, CASES[dialect], Answer(tuple(fragments(FENCED))), stream=stream)
    arriving = bytearray()
    answer = asyncio.create_task(received(ask(gateway, CASES[dialect], stream=stream), arriving))
    approval = await desk.one()
    assert {(touch.tool, touch.path) for touch in approval.request.touches} == {(CODE_BLOCK, "infra/prod.tf")}
    assert b"```" not in arriving
    await desk.approve(approval)
    assert await answer == (200, sent)


async def test_two_that_wait_at_once_are_decided_apart(gateway: Gateway, desk: Desk) -> None:
    sent = answers(gateway, CASES["chat"], proposing(), stream=True)
    async with ask(gateway, CASES["chat"], stream=True) as one, ask(gateway, CASES["chat"], stream=True) as other:
        held = {approval.request.exchange: approval for approval in await desk.pending(2)}
        await desk.deny(held[decision_id(other)])
        refused = await other.read()
        assert await desk.state_of(held[decision_id(one)]) is State.PENDING
        await desk.approve(held[decision_id(one)])
        assert await one.read() == sent
    assert b"not on Fridays" in refused
    assert b"call_1" not in refused


async def test_an_approval_for_the_session_covers_the_same_touch_of_the_same_session_only(
    gateway: Gateway, desk: Desk
) -> None:
    case = CASES["chat"]
    sent = answers(gateway, case, proposing(), stream=True)
    headers = {"x-client-session-id": "a-session-of-this-test"}
    first = asyncio.create_task(received(ask(gateway, case, stream=True, **headers)))
    approval = await desk.one()
    await desk.approve(approval, Scope.SESSION)
    assert await first == (200, sent)

    async with ask(gateway, case, stream=True, **headers) as response:
        assert await response.read() == sent
        document = await gateway.document(decision_id(response))
    [covered] = document["approvals"]
    assert (covered["state"], covered["granted"]) == ("approved", approval.request.id)
    assert [one["name"] for one in covered["verdicts"]] == ["bob"]

    other = asyncio.create_task(received(ask(gateway, case, stream=True, **{"x-client-session-id": "another"})))
    await desk.deny(await desk.one())
    assert b"call_1" not in (await other)[1]
    answers(gateway, case, proposing(CHANGE | {"path": "/w/infra/dev.tf"}), stream=True)
    elsewhere = asyncio.create_task(received(ask(gateway, case, stream=True, **headers)))
    await desk.deny(await desk.one())
    assert b"call_1" not in (await elsewhere)[1]


# --- denied: what clients make of it ---------------------------------------------------------------------------------


def check_told(text: str, approval: Approval, told: str = "not on Fridays") -> None:
    assert approval.request.rule.message in text
    assert approval.request.id in text
    assert told in text


@pytest.mark.parametrize("stream", [True, False])
async def test_the_openai_client_reads_a_denial_in_chat_as_a_normal_end(
    gateway: Gateway,
    desk: Desk,
    stream: bool,  # noqa: FBT001
) -> None:
    answers(gateway, CASES["chat"], proposing(), stream=stream)

    async def read(client: openai.AsyncOpenAI) -> Any:
        if not stream:
            return await client.chat.completions.create(**CASES["chat"].request)
        async with client.chat.completions.stream(**CASES["chat"].request) as answer:
            return await answer.get_final_completion()

    async with openai.AsyncOpenAI(base_url=gateway.url, api_key=gateway.token(), max_retries=0) as client:
        answer = asyncio.create_task(read(client))
        approval = await desk.one()
        await desk.deny(approval)
        [choice] = (await answer).choices
    assert (choice.finish_reason, choice.message.tool_calls) == ("stop", None)
    assert choice.message.content.startswith(BEFORE) is stream
    check_told(choice.message.content, approval)
    check_recorded(await gateway.document(approval.request.exchange), approval, "denied")


@pytest.mark.parametrize("stream", [True, False])
async def test_the_openai_client_reads_a_denial_in_responses_as_a_normal_end(
    gateway: Gateway,
    desk: Desk,
    stream: bool,  # noqa: FBT001
) -> None:
    answers(gateway, CASES["responses"], proposing(), stream=stream)

    async def read(client: openai.AsyncOpenAI) -> Any:
        if not stream:
            return await client.responses.create(**CASES["responses"].request)
        async with client.responses.stream(**CASES["responses"].request) as answer:
            return await answer.get_final_response()

    async with openai.AsyncOpenAI(base_url=gateway.url, api_key=gateway.token(), max_retries=0) as client:
        answer = asyncio.create_task(read(client))
        approval = await desk.one()
        await desk.deny(approval)
        response = await answer
    assert response.status == "completed"
    assert {item.type for item in response.output} <= {"message", "reasoning"}
    assert (BEFORE in response.output_text) is stream
    check_told(response.output_text, approval)
    check_recorded(await gateway.document(approval.request.exchange), approval, "denied")


async def test_a_denied_message_stream_ends_as_the_reference_has_it(gateway: Gateway, desk: Desk) -> None:
    answers(gateway, CASES["messages"], proposing(), stream=True)
    answer = asyncio.create_task(received(ask(gateway, CASES["messages"], stream=True)))
    approval = await desk.one()
    await desk.deny(approval)
    _, got = await answer
    found = [tree for tree in trees(got) if tree["type"] != "ping"]
    assert [tree["type"] for tree in found[-2:]] == ["message_delta", "message_stop"]
    assert found[-2]["delta"]["stop_reason"] == "end_turn"
    assert found[0]["type"] == "message_start"
    # Every block is opened, grows and is closed before the next one, in the order of its index.
    order = "".join({"start": "<", "delta": ".", "stop": ">"}[one["type"].rpartition("_")[2]] for one in found[1:-2])
    assert re.fullmatch(r"(<\.*>)+", order)
    assert sorted(indexes := [one["index"] for one in found[1:-2]]) == indexes
    blocks = [one["content_block"]["type"] for one in found if one["type"] == "content_block_start"]
    assert set(blocks) <= {"text", "thinking"}
    said = "".join(one["delta"]["text"] for one in found[1:-2] if one.get("delta", {}).get("type") == "text_delta")
    assert said.startswith(BEFORE)
    check_told(said, approval)


async def test_a_denied_message_says_the_reason_alone(gateway: Gateway, desk: Desk) -> None:
    answers(gateway, CASES["messages"], proposing(), stream=False)
    answer = asyncio.create_task(received(ask(gateway, CASES["messages"], stream=False)))
    approval = await desk.one()
    await desk.deny(approval)
    status, got = await answer
    message = json.loads(got)
    assert (status, message["type"], message["stop_reason"]) == (200, "message", "end_turn")
    [block] = message["content"]
    check_told(block["text"], approval)


# --- requests --------------------------------------------------------------------------------------------------------


async def merged(call: Call) -> None:
    await call.whole(b'{"merged":true}')


@pytest.mark.parametrize("request_of", REQUESTS)
async def test_a_merge_leaves_with_the_credential_once_it_is_approved(
    gateway: Gateway, desk: Desk, request_of: str
) -> None:
    gateway.upstream.play(merged)
    answer = asyncio.create_task(received(send(gateway, request_of)))
    approval = await desk.one()
    [touch] = approval.request.touches
    assert (touch.act, touch.repository) == ("merge", "octo/shop")
    assert gateway.upstream.seen == []
    await desk.approve(approval)
    assert await answer == (200, b'{"merged":true}')
    [seen] = gateway.upstream.seen
    assert gateway.credential in (seen.header("authorization") or "")
    assert json.loads(seen.body) == REQUESTS[request_of][2]
    check_recorded(await gateway.document(approval.request.exchange), approval, "approved")


@pytest.mark.parametrize("request_of", REQUESTS)
async def test_a_denied_merge_never_leaves_and_says_why_in_the_form_of_its_endpoint(
    gateway: Gateway, desk: Desk, request_of: str
) -> None:
    gateway.upstream.play(merged)
    answer = asyncio.create_task(received(send(gateway, request_of)))
    approval = await desk.one()
    await desk.deny(approval)
    status, got = await answer
    code, message = REQUESTS[request_of][3](json.loads(got))
    assert (status, code) == (403, "approval.denied")
    check_told(message, approval)
    assert gateway.upstream.seen == []
    document = await gateway.document(approval.request.exchange)
    check_recorded(document, approval, "denied")
    assert (document["outcome"], document["error"]["code"]) == ("denied", "approval.denied")


async def test_approvers_are_shown_the_branch_that_a_query_names(gateway: Gateway, desk: Desk) -> None:
    url = f"{gateway.url}/repos/octo/shop/contents/docs/guide.md?branch=release&sha=1"
    answer = asyncio.create_task(received(gateway.session.delete(url, headers=gateway.headers())))
    approval = await desk.one()
    [touch] = approval.request.touches
    assert (touch.act, touch.path, touch.branch) == ("push", "docs/guide.md", "release")
    await desk.deny(approval)
    assert (await answer)[0] == 403


# --- secrets ---------------------------------------------------------------------------------------------------------


async def test_the_store_of_approvals_holds_no_secret_of_a_proposal(gateway: Gateway, desk: Desk) -> None:
    answers(gateway, CASES["chat"], proposing(CHANGE | {"new_str": f"token = {TOKEN}"}), stream=True)
    answer = asyncio.create_task(received(ask(gateway, CASES["chat"], stream=True)))
    approval = await desk.one()
    assert "[MASKED:" in approval.request.proposal
    await desk.deny(approval)
    await answer
    path = f"/repos/octo/shop/contents/infra/{TOKEN}.tf"
    request = gateway.session.put(
        f"{gateway.url}{path}?access_token={TOKEN}", headers=gateway.headers(), data=to_json({"content": TOKEN})
    )
    answer = asyncio.create_task(received(request))
    held = await desk.one()
    await desk.deny(held)
    assert (await answer)[0] == 403
    for one in (approval, held):
        stored = [await desk.store.get(one.request.id), *await desk.store.events(one.request.id)]
        document = await gateway.document(one.request.exchange)
        assert leaked(repr(stored).encode()) == []
        assert leaked(json.dumps(document).encode()) == []
    files = [path.read_bytes() for path in gateway.state.glob("*.db*")]
    assert not any(TOKEN.encode() in data for data in files)


# --- somebody goes away ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("what", ["stream", "json", "rest"])
async def test_a_client_that_leaves_cancels_the_approval(gateway: Gateway, desk: Desk, what: str) -> None:
    if what == "rest":
        gateway.upstream.play(merged)
        request = send(gateway, "rest")
    else:
        answers(gateway, CASES["chat"], proposing(), stream=what == "stream")
        request = ask(gateway, CASES["chat"], stream=what == "stream")
    answer = asyncio.create_task(received(request))
    approval = await desk.one()
    answer.cancel()
    await asyncio.gather(answer, return_exceptions=True)
    assert await desk.ended(approval) is State.CANCELLED
    late = await desk.says(approval, approved=True)
    assert isinstance(late, VerdictRefusal)
    assert late.why is Why.ENDED
    document = await gateway.document(approval.request.exchange)
    assert (document["outcome"], document["error"]["code"]) == ("aborted", "client.gone")
    check_recorded(document, approval, "cancelled")
    if what == "rest":
        assert gateway.upstream.seen == []


async def hold_three(gateway: Gateway) -> tuple[Desk, list[asyncio.Task[tuple[int | None, bytes]]], list[Approval]]:
    """Hold a stream, a JSON answer and a request."""
    case = CASES["chat"]

    async def play(call: Call) -> None:
        asked = json.loads(call.seen.body)
        stream = asked.get("stream") is True
        if "messages" in asked:
            await sends(events(case, proposing()) if stream else body(case, proposing()), stream=stream)(call)
        else:
            await merged(call)

    await gateway.prepare()
    await gateway.start()
    gateway.upstream.play(play)
    requests = [ask(gateway, case, stream=True), ask(gateway, case, stream=False), send(gateway, "rest")]
    desk = Desk(gateway.state)
    tasks = []
    for number, request in enumerate(requests, 1):
        tasks.append(asyncio.create_task(received(request)))
        # One after the other, so that the approvals are in this order.
        await desk.pending(number)
    return desk, tasks, await desk.pending(len(tasks))


async def test_a_service_that_stops_interrupts_what_waits_and_clients_are_told(own_gateway: Gateway) -> None:
    desk, tasks, approvals = await hold_three(own_gateway)
    assert own_gateway.service is not None
    own_gateway.service.send_signal(signal.SIGTERM)
    (streamed, whole, refused) = await asyncio.gather(*tasks)
    await asyncio.wait_for(own_gateway.service.wait(), 10)
    assert [await desk.state_of(one) for one in approvals] == [State.INTERRUPTED] * 3
    await desk.store.aclose()
    for status, got in (streamed, whole):
        assert status == 200
        assert b"call_1" not in got
        assert b"gateway stopped" in got
    assert streamed[1].endswith(b"data: [DONE]\n\n")
    assert json.loads(whole[1])["choices"][0]["finish_reason"] == "stop"
    assert (refused[0], json.loads(refused[1])["code"]) == (503, "approval.unavailable")
    assert [seen.method for seen in own_gateway.upstream.seen] == ["POST", "POST"]
    states = {one["id"]: held["state"] for one in own_gateway.documents() for held in one["approvals"]}
    assert states == {one.request.exchange: "interrupted" for one in approvals}


async def test_a_service_that_is_killed_releases_nothing_and_the_next_start_interrupts_what_waited(
    own_gateway: Gateway,
) -> None:
    desk, tasks, approvals = await hold_three(own_gateway)
    await own_gateway.kill_service()
    for status, got in await asyncio.gather(*tasks):
        assert status in {None, 500, 503}
        assert b"call_1" not in got
    assert [await desk.state_of(one) for one in approvals] == [State.PENDING] * 3
    await own_gateway.start_service()
    assert [await desk.state_of(one) for one in approvals] == [State.INTERRUPTED] * 3
    late = await desk.says(approvals[0], approved=True)
    await desk.store.aclose()
    assert isinstance(late, VerdictRefusal)
    assert late.why is Why.ENDED
    assert [seen.method for seen in own_gateway.upstream.seen] == ["POST", "POST"]


# --- time, in this process -------------------------------------------------------------------------------------------


ALICE = Principal("issuer#alice", "alice", "person", "issuer", "alice", frozenset({"developers"}))
CREDENTIAL = Credential(Secret("Bearer gho_upstream"), {}, {}, None, (Secret("gho_upstream"),))


class Known:
    """The identity and the credential of everybody."""

    def cached(self, token: Secret) -> Principal | None:
        return ALICE

    async def verify(self, token: Secret) -> Principal:
        return ALICE

    def ready(self, name: str, upstream: Upstream) -> Credential:
        return CREDENTIAL

    async def get(self, name: str, upstream: Upstream) -> Credential:
        raise NotImplementedError


@dataclasses.dataclass
class Inside:
    """A processor in the test's own process, behind the real Envoy, with a clock that stands."""

    gateway: Gateway
    processor: Processor
    desk: Desk
    clock: list[float]

    def has_woken(self) -> bool:
        """Say whether an exchange has seen anything since the clock moved."""
        return any(live.last_event >= self.clock[0] for live in self.processor._calls.values())


@asynccontextmanager
async def inside(gateway: Gateway) -> AsyncIterator[Inside]:
    clock = [1_700_000_000.0]

    def now() -> float:
        return clock[0]

    policy = load(gateway.state / "policy.yaml")
    rules = Rules(
        policy=policy,
        masking=Masking(masking().detector, policy.masking, FINGERPRINTS),
        upstream_hosts=UPSTREAM_HOSTS,
        max_request_bytes=200_000,
        max_answer_bytes=200_000,
        max_event_bytes=50_000,
        sessions=Sessions(gap_seconds=60),
    )
    bounds = Bounds(
        max_exchanges=9, idle_seconds=60, total_seconds=9999, drain_seconds=0.2, sign_of_life_seconds=0.02
    )  # fmt: skip
    places = load_settings(gateway.state / "gateway.yaml").places(gateway.state)
    async with recording(places, epoch="inside", worker="0", session=gateway.session, now=time.time) as recorded:
        approvals = SqliteApprovals(places.approvals, instance="inside", now=now())
        waiting = Waiting(approvals, now, 2, poll_seconds=0.01)
        outside = Outside(
            rules=rules, identities=Known(), credentials=Known(), approvers=waiting, recorder=recorded.spool,
            metrics=Metrics(), bounds=bounds, now=now,
        )  # fmt: skip
        processor = Processor(outside, hand_on=lambda _message: None)
        server = Server(processor, bounds, addresses=[f"unix:{gateway.socket}"], transport=TRANSPORT)
        await server.start()
        desk = Desk(gateway.state, now)
        try:
            yield Inside(gateway, processor, desk, clock)
        finally:
            await server.stop()
            for closes in (desk.store, approvals):
                await closes.aclose()
            gateway.socket.unlink(missing_ok=True)


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def here() -> AsyncIterator[Inside]:
    gateway = Gateway()
    await gateway.prepare()
    async with inside(gateway) as running:
        await gateway.start_envoy()
        yield running
    await gateway.stop()


@pytest.mark.parametrize("dialect", DIALECTS)
@pytest.mark.parametrize("stream", [True, False])
async def test_nobody_decides_in_time_and_the_answer_ends_without_the_call(
    here: Inside,
    dialect: str,
    stream: bool,  # noqa: FBT001
) -> None:
    answers(here.gateway, CASES[dialect], proposing(), stream=stream)
    answer = asyncio.create_task(received(ask(here.gateway, CASES[dialect], stream=stream)))
    approval = await here.desk.one()
    here.clock[0] = approval.request.expires_at - 0.01
    await signs_of_life(here, 2)
    assert not answer.done()
    here.clock[0] = approval.request.expires_at
    status, got = await answer
    assert status == 200
    assert b"call_1" not in got
    check_told(got.decode(), approval, "was not decided in time")
    assert await here.desk.state_of(approval) is State.EXPIRED
    check_recorded(await here.gateway.document(approval.request.exchange), approval, "expired")


async def signs_of_life(here: Inside, count: int) -> None:
    """Let the processor wake so many times."""
    for _ in range(count):
        here.clock[0] += 1e-6
        await until(here.has_woken, "a sign of life")


async def test_a_request_nobody_decides_about_in_time_is_refused(here: Inside) -> None:
    here.gateway.upstream.play(merged)
    answer = asyncio.create_task(received(send(here.gateway, "rest")))
    approval = await here.desk.one()
    here.clock[0] = approval.request.expires_at
    status, got = await answer
    assert (status, json.loads(got)["code"]) == (403, "approval.expired")
    assert here.gateway.upstream.seen == []


@pytest.mark.parametrize("dialect", DIALECTS)
async def test_a_stream_that_waits_is_kept_alive_by_comments(here: Inside, dialect: str) -> None:
    sent = answers(here.gateway, CASES[dialect], proposing(), stream=True)
    arriving = bytearray()
    answer = asyncio.create_task(received(ask(here.gateway, CASES[dialect], stream=True), arriving))
    approval = await here.desk.one()
    await until(lambda: arriving.count(COMMENT) >= 2, "comments")
    await here.desk.approve(approval)
    _, got = await answer
    assert got.replace(COMMENT, b"") == sent


async def test_json_that_waits_is_kept_alive_by_blanks_that_clients_read_over(here: Inside) -> None:
    sent = answers(here.gateway, CASES["chat"], proposing(), stream=False)
    arriving = bytearray()
    answer = asyncio.create_task(received(ask(here.gateway, CASES["chat"], stream=False), arriving))
    approval = await here.desk.one()
    await until(lambda: len(arriving) >= 2, "blanks")
    await here.desk.approve(approval)
    _, got = await answer
    assert got.startswith(b"  ")
    assert got.lstrip(b" ") == sent

    async with openai.AsyncOpenAI(base_url=here.gateway.url, api_key=here.gateway.token(), max_retries=0) as client:
        reading = asyncio.create_task(client.chat.completions.create(**CASES["chat"].request))
        approval = await here.desk.one()
        await signs_of_life(here, 2)
        await here.desk.approve(approval)
        [choice] = (await reading).choices
    assert [call.id for call in choice.message.tool_calls or []] == ["call_1"]


async def test_an_upstream_may_take_longer_for_an_approved_request_than_signs_of_life_do(here: Inside) -> None:
    async def slow(call: Call) -> None:
        # Longer than the processor waits for anything but a message while somebody is asked.
        await asyncio.sleep(0.1)
        await merged(call)

    here.gateway.upstream.play(slow)
    answer = asyncio.create_task(received(send(here.gateway, "rest")))
    await here.desk.approve(await here.desk.one())
    assert await answer == (200, b'{"merged":true}')


async def test_over_the_bound_of_waiting_exchanges_nobody_is_asked_and_the_client_is_told(here: Inside) -> None:
    case = CASES["chat"]
    answers(here.gateway, case, proposing(), stream=True)
    held = [asyncio.create_task(received(ask(here.gateway, case, stream=True))) for _ in range(2)]
    approvals = await here.desk.pending(2)
    status, got = await received(ask(here.gateway, case, stream=True))
    assert status == 200
    assert b"Too many changes wait" in got
    assert b"call_1" not in got
    for approval in approvals:
        await here.desk.deny(approval)
    await asyncio.gather(*held)


async def test_text_goes_on_while_the_upstream_still_sends_and_the_call_waits_for_its_end(here: Inside) -> None:
    arriving, may_end = bytearray(), asyncio.Event()
    sent = events(CASES["chat"], proposing())
    begins = sent.rindex(b"\n\n", 0, sent.index(b"call_1")) + 2

    async def play(call: Call) -> None:
        await call.head(content_type="text/event-stream", transfer_encoding="chunked")
        await call.chunk(sent[: begins + 400])
        await may_end.wait()
        await call.chunk(sent[begins + 400 :])
        await call.end()

    here.gateway.upstream.play(play)
    answer = asyncio.create_task(received(ask(here.gateway, CASES["chat"], stream=True), arriving))
    await until(lambda: len(arriving) >= begins, "the text")
    assert arriving == sent[:begins]
    assert await here.desk.store.newest(state=State.PENDING) == []
    may_end.set()
    await here.desk.approve(await here.desk.one())
    assert (await answer)[1].replace(COMMENT, b"") == sent
