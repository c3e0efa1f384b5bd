"""Exchanges that wait for approvers: what passes meanwhile, what after it, and what the record says."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace

import msgspec
import pytest

from extproc.approval.approval import Request, State
from extproc.conversation import Answer
from extproc.dialect.chat import ChatDialect
from extproc.effects import (
    Ask,
    Fail,
    FetchCredential,
    Finish,
    PassRequestBody,
    PassRequestHeaders,
    PassResponseBody,
    PassResponseHeaders,
    PassResponseTrailers,
    Record,
    Respond,
)
from extproc.errors import Code
from extproc.events import (
    CredentialReady,
    Decided,
    End,
    Ended,
    Identified,
    Recorded,
    ResponseBody,
    ResponseTrailers,
    Tick,
)
from extproc.exchange import IllegalEvent, Phase
from extproc.masking.finding import Action
from extproc.recording.document import Outcome
from tests.holding import (
    END,
    INFRA,
    KEYS,
    MESSAGE,
    PLAIN,
    PROTECTIONS,
    SAID,
    WORKFLOW,
    answer,
    asking_in_stream,
    book,
    call,
    chunk,
    decided,
    events,
    holding_json,
    holding_request,
    holding_stream,
    passed,
    protecting,
    streaming,
)
from tests.playbook import (
    ALICE,
    CREDENTIAL,
    IDENTIFY,
    OPENING,
    SECRET,
    Playbook,
    closing,
    masking_rules,
    refused,
    released,
    request,
    response,
    rules,
)

COMPLETED = closing(Outcome.COMPLETED)
COMMENT = PassResponseBody(b": waiting for approval\n\n", end_of_stream=False)
NOT_APPROVED = [
    (State.DENIED, Code.APPROVAL_DENIED, Outcome.DENIED),
    (State.EXPIRED, Code.APPROVAL_EXPIRED, Outcome.DENIED),
    (State.CANCELLED, Code.APPROVAL_EXPIRED, Outcome.DENIED),
    (State.INTERRUPTED, Code.APPROVAL_UNAVAILABLE, Outcome.FAILED),
]
NOBODY_ASKED = (None, Code.APPROVAL_UNAVAILABLE, Outcome.FAILED)
NOT_HELD = Decided(None, "Too many changes wait.")


def said(stream: bytes) -> Answer:
    """Return what a client reads in a stream."""
    reader = ChatDialect().stream()
    for event in stream.split(b"\n\n"):
        data = event.removeprefix(b"data: ")
        if data == b"[DONE]":
            reader.done()
        elif event.startswith(b"data: "):
            reader.take("message", msgspec.json.decode(data))
    return reader.answer()


def answered(found: Playbook) -> tuple[int, str]:
    """Return status and code of the gateway's own answer."""
    one = found.first(Respond)
    return one.status, one.details


def length_of(found: Playbook) -> str | None:
    """Return the content-length of the answer; None where it has none."""
    headers = found.first(PassResponseHeaders)
    set_ = dict(headers.set_headers)
    assert ("content-length" in set_) is not ("content-length" in headers.remove_headers)
    return set_.get("content-length")


def asked_last(found: Playbook) -> Request:
    return [one for one in found.effects if isinstance(one, Ask)][-1].request


# --- requests --------------------------------------------------------------------------------------------------------


def test_a_merge_that_is_approved_takes_its_way_as_if_nothing_had_been() -> None:
    waiting = holding_request()
    asked = waiting.first(Ask).request
    assert (asked.id, asked.rule.rule_id, asked.name) == (f"{'4' * 32}-1", "merges", "alice")
    assert asked.session
    assert asked.expires_at - asked.requested_at == asked.rule.expires_seconds
    assert waiting.exchange.phase is Phase.HOLDING_REQUEST
    # There is no answer yet to keep alive.
    assert waiting >> Tick()
    passes = waiting >> decided(waiting) << FetchCredential >> CredentialReady(CREDENTIAL) << OPENING
    passes = passes >> Recorded() << PassRequestHeaders << PassRequestBody(b"{}", end_of_stream=True)
    passes = passes >> response() >> ResponseBody(b'{"merged":true}', end_of_stream=True) << COMPLETED
    assert passes >> Recorded() << PassResponseHeaders << PassResponseBody << Finish
    assert waiting.opening["session"] == asked.session
    [entry] = waiting.closing["approvals"]
    assert (entry["id"], entry["rule"], entry["state"]) == (asked.id, "merges", "approved")
    assert [one["name"] for one in entry["verdicts"]] == ["bob"]
    assert entry["touches"][0]["act"] == "merge"
    assert entry["waited_ms"] == pytest.approx(20, abs=1)


@pytest.mark.parametrize(("state", "code", "outcome"), NOT_APPROVED)
def test_a_merge_that_is_not_approved_gets_403_and_never_leaves(state: State, code: Code, outcome: Outcome) -> None:
    waiting = holding_request()
    assert waiting >> decided(waiting, state, "not on Fridays") << refused(outcome, code)
    assert waiting >> Recorded() << Respond << Finish
    assert answered(waiting) == (503 if state is State.INTERRUPTED else 403, code)
    told = waiting.first(Respond).body.decode()
    assert MESSAGE in told
    assert f"{'4' * 32}-1" in told
    assert ("not on Fridays" in told) is (state is State.DENIED)
    assert not [one for one in waiting.effects if isinstance(one, PassRequestHeaders | PassRequestBody)]
    assert [one["state"] for one in waiting.closing["approvals"]] == [state]


def test_a_merge_that_nobody_can_be_asked_about_gets_503() -> None:
    waiting = holding_request() >> NOT_HELD << refused(Outcome.FAILED, Code.APPROVAL_UNAVAILABLE)
    assert waiting >> Recorded() << Respond << Finish
    assert answered(waiting) == (503, Code.APPROVAL_UNAVAILABLE)
    assert [(one["state"], one["why"]) for one in waiting.closing["approvals"]] == [("refused", NOT_HELD.why)]


def test_envoys_own_answer_while_a_request_waits_ends_it() -> None:
    waiting = holding_request() >> response(408, details="request_overall_timeout")
    assert waiting << refused(Outcome.DENIED, Code.REQUEST_REFUSED) >> Recorded() << Respond << Finish
    assert answered(waiting) == (408, Code.REQUEST_REFUSED)
    assert [one["state"] for one in waiting.closing["approvals"]] == ["cancelled"]


def test_an_upstream_that_answers_what_was_not_released_is_not_believed() -> None:
    with pytest.raises(IllegalEvent):
        holding_request().exchange.receive(response(), 0.0)


def test_two_rules_are_asked_one_after_the_other_and_a_denial_of_the_second_is_one() -> None:
    waiting = holding_json(INFRA, WORKFLOW)
    assert waiting.first(Ask).request.rule.rule_id == "infra"
    assert waiting >> decided(waiting) << Ask
    second = asked_last(waiting)
    assert (second.rule.rule_id, second.id) == ("workflows", f"{'4' * 32}-2")
    assert [touch.path for touch in second.touches] == [WORKFLOW]
    assert waiting >> decided(waiting, State.DENIED) << closing(Outcome.DENIED, Code.APPROVAL_DENIED)
    assert [(one["rule"], one["state"]) for one in waiting.closing["approvals"]] == [
        ("infra", "approved"),
        ("workflows", "denied"),
    ]


def test_two_rules_that_are_both_approved_release() -> None:
    waiting = holding_stream(INFRA, WORKFLOW)
    assert waiting >> decided(waiting) << Ask
    waiting = waiting >> decided(waiting) << COMPLETED >> Recorded() << PassResponseBody
    assert waiting << Finish
    assert passed(waiting) == b"".join(events(INFRA, WORKFLOW))


# --- streams ---------------------------------------------------------------------------------------------------------


def test_a_stream_that_is_approved_comes_out_as_the_upstream_sent_it() -> None:
    waiting = asking_in_stream(INFRA)
    waiting = waiting >> decided(waiting) << PassResponseBody(b"".join(events(INFRA)[1:]), end_of_stream=False)
    waiting = waiting >> ResponseBody(b"", end_of_stream=True) << COMPLETED >> Recorded()
    assert waiting << PassResponseBody(b"", end_of_stream=True) << Finish
    assert passed(waiting) == b"".join(events(INFRA))
    assert waiting.closing["response"]["tool_calls"][0]["name"] == "edit"
    assert [one["state"] for one in waiting.closing["approvals"]] == ["approved"]


def test_a_stream_whose_upstream_ends_while_it_waits_is_released_after_that() -> None:
    waiting = holding_stream(INFRA)
    assert waiting.exchange.phase is Phase.HOLDING_RESPONSE
    waiting = waiting >> Tick() << COMMENT >> decided(waiting) << COMPLETED >> Recorded()
    assert waiting << PassResponseBody(b"".join(events(INFRA)[1:]), end_of_stream=True) << Finish


def test_trailers_that_come_while_it_waits_go_on_at_the_end() -> None:
    waiting = asking_in_stream(INFRA) >> ResponseTrailers(["x"])
    waiting = waiting >> decided(waiting) << COMPLETED >> Recorded()
    waiting = waiting << PassResponseBody(b"".join(events(INFRA)[1:]), end_of_stream=False)
    assert waiting << PassResponseTrailers(["x"]) << Finish


@pytest.mark.parametrize("ended", [False, True])
@pytest.mark.parametrize(("state", "code", "outcome"), [*NOT_APPROVED, NOBODY_ASKED])
def test_a_stream_that_is_not_approved_ends_by_itself_without_the_call(
    state: State | None,
    code: Code,
    outcome: Outcome,
    ended: bool,  # noqa: FBT001 - a parameter of the test
) -> None:
    waiting = (holding_stream if ended else asking_in_stream)(INFRA)
    waiting = waiting >> (NOT_HELD if state is None else decided(waiting, state, "no"))
    if not ended:
        waiting = waiting << PassResponseBody >> ResponseBody(b"".join(call(KEYS, 1)), end_of_stream=False)
        waiting = waiting >> ResponseBody(b"", end_of_stream=True)
    assert waiting << closing(outcome, code) >> Recorded() << PassResponseBody << Finish
    told = said(passed(waiting))
    [choice] = told.choices
    assert told.complete
    assert (choice.tool_calls, choice.finish_reason) == ([], "stop")
    assert choice.text.startswith(SAID)
    assert (NOT_HELD.why if state is None else f"{'4' * 32}-1") in choice.text
    assert waiting.closing["response"]["status"] == 200
    assert [one["state"] for one in waiting.closing["approvals"]] == ["refused" if state is None else state]


def test_a_client_that_leaves_after_the_refusal_did_not_give_up() -> None:
    waiting = asking_in_stream(INFRA)
    assert waiting >> decided(waiting, State.DENIED) << PassResponseBody
    assert waiting >> Ended(End.CLIENT) << closing(Outcome.DENIED, Code.APPROVAL_DENIED)


def test_what_a_denying_rule_protects_is_refused_at_once() -> None:
    stream = streaming() >> ResponseBody(b"".join(events(KEYS)), end_of_stream=True) << PassResponseBody
    stream = stream << closing(Outcome.DENIED, Code.POLICY_DENIED) >> Recorded() << PassResponseBody
    assert stream << Finish
    assert said(passed(stream)).choices[0].text.endswith("Nobody touches keys.")
    whole = released(book()) >> response() >> ResponseBody(answer(INFRA, KEYS), end_of_stream=True)
    whole = whole << closing(Outcome.DENIED, Code.POLICY_DENIED) >> Recorded() << PassResponseHeaders
    assert whole << PassResponseBody << Finish
    assert length_of(whole) == str(len(passed(whole)))
    for found in (stream, whole):
        assert found.closing["approvals"] == []
        assert KEYS.encode() not in passed(found)


def test_more_that_comes_while_it_waits_is_asked_too_before_anything_leaves() -> None:
    waiting = asking_in_stream(INFRA) >> ResponseBody(b"".join(call(WORKFLOW, 1)), end_of_stream=False)
    assert waiting >> decided(waiting) << Ask
    second = asked_last(waiting)
    assert second.rule.rule_id == "infra"
    assert WORKFLOW in second.proposal
    assert waiting >> decided(waiting) << Ask
    assert waiting >> decided(waiting) << PassResponseBody
    assert passed(waiting).endswith(b"".join(call(WORKFLOW, 1)))


def test_more_that_comes_while_it_waits_and_is_denied_refuses_all_of_it() -> None:
    waiting = asking_in_stream(INFRA) >> ResponseBody(b"".join(call(KEYS, 1)), end_of_stream=True)
    waiting = waiting >> decided(waiting) << closing(Outcome.DENIED, Code.POLICY_DENIED) >> Recorded()
    assert waiting << PassResponseBody << Finish
    assert said(passed(waiting)).choices[0].tool_calls == []


def test_text_that_is_not_decided_when_it_is_approved_waits_until_it_is() -> None:
    # The beginning of what may become a secret.
    waiting = asking_in_stream(INFRA) >> ResponseBody(chunk(content=SECRET[:9]), end_of_stream=False)
    assert waiting >> decided(waiting)
    waiting = waiting >> ResponseBody(chunk(content=" and on") + END[1], end_of_stream=False) << PassResponseBody
    assert waiting >> ResponseBody(b"", end_of_stream=True) << COMPLETED
    assert len(waiting.closing["approvals"]) == 1


def test_a_finding_that_blocks_the_answer_while_it_waits_ends_it() -> None:
    blocking = masking_rules(Action.MASK, Action.BLOCK)
    waiting = streaming(replace(blocking, policy=replace(blocking.policy, protections=PROTECTIONS)))
    waiting = waiting >> ResponseBody(b"".join(events(INFRA)), end_of_stream=False) << PassResponseBody << Ask
    waiting = waiting >> ResponseBody(chunk(content=f"{SECRET} "), end_of_stream=False) << PassResponseBody
    waiting = waiting >> ResponseBody(b"", end_of_stream=True)
    waiting = waiting >> decided(waiting) << closing(Outcome.DENIED, Code.MASKING_BLOCKED) >> Recorded()
    assert waiting << PassResponseBody(b"", end_of_stream=True) << Finish
    assert INFRA.encode() not in passed(waiting)


def test_a_code_block_that_names_a_privileged_file_is_held_too() -> None:
    block = chunk(content=f"```hcl {INFRA}\nx = 1\n```\n")
    found = streaming() >> ResponseBody(block + chunk("stop"), end_of_stream=False) << Ask
    assert passed(found) == b""
    assert found >> decided(found) << PassResponseBody(block + chunk("stop"), end_of_stream=False)


# --- JSON ------------------------------------------------------------------------------------------------------------


def test_a_json_answer_that_is_approved_follows_its_headers_and_the_blanks() -> None:
    waiting = holding_json(INFRA)
    assert length_of(waiting) is None
    waiting = waiting >> Tick() << PassResponseBody(b" ", end_of_stream=False) >> decided(waiting) << COMPLETED
    assert waiting >> Recorded() << PassResponseBody(answer(INFRA), end_of_stream=True) << Finish
    assert json.loads(passed(waiting)) == json.loads(answer(INFRA))


@pytest.mark.parametrize(("state", "code", "outcome"), [*NOT_APPROVED, NOBODY_ASKED])
def test_a_json_answer_that_is_not_approved_says_so_in_its_place(
    state: State | None, code: Code, outcome: Outcome
) -> None:
    waiting = holding_json(INFRA)
    waiting = waiting >> (NOT_HELD if state is None else decided(waiting, state, "no")) << closing(outcome, code)
    assert waiting >> Recorded() << PassResponseBody << Finish
    [choice] = json.loads(passed(waiting))["choices"]
    assert choice["finish_reason"] == "stop"
    assert "tool_calls" not in choice["message"]
    assert (NOT_HELD.why if state is None else MESSAGE) in choice["message"]["content"]
    assert waiting.closing["response"]["text"] == choice["message"]["content"]


# --- ends while it waits ---------------------------------------------------------------------------------------------

HELD: dict[str, Callable[[], Playbook]] = {
    "request": holding_request,
    "json": lambda: holding_json(INFRA),
    "stream": lambda: holding_stream(INFRA),
    "stream that goes on": lambda: asking_in_stream(INFRA),
}
ENDS = {
    End.CLIENT: (Outcome.ABORTED, Code.CLIENT_GONE),
    End.DRAIN: (Outcome.INTERRUPTED, Code.GATEWAY_DRAINING),
    End.TIMEOUT: (Outcome.FAILED, Code.GATEWAY_TIMEOUT),
    End.UPSTREAM: (Outcome.UPSTREAM_ERROR, Code.UPSTREAM_RESET),
}


@pytest.mark.parametrize("end", ENDS)
@pytest.mark.parametrize("held", HELD)
def test_the_record_of_what_ends_while_it_waits_says_what_was_asked_and_that_it_was_cancelled(
    held: str, end: End
) -> None:
    waiting = HELD[held]()
    before = passed(waiting)
    outcome, code = ENDS[end]
    assert waiting >> Ended(end) << closing(outcome, code, with_opening=held == "request") >> Recorded()
    [entry] = waiting.closing["approvals"]
    assert (entry["state"], entry["verdicts"]) == ("cancelled", [])
    assert entry["id"] == waiting.first(Ask).request.id
    assert passed(waiting) == before
    # What was held is the approval's affair: the client got none of it.
    assert not waiting.closing["response"].get("tool_calls")
    assert waiting.exchange.phase is Phase.DONE


def test_an_answer_that_grows_too_large_while_it_waits_is_cut() -> None:
    waiting = asking_in_stream(INFRA) >> ResponseBody(b":" * 200_000, end_of_stream=False)
    assert waiting << closing(Outcome.UPSTREAM_ERROR, Code.UPSTREAM_TOO_LARGE) >> Recorded() << Fail
    assert [one["state"] for one in waiting.closing["approvals"]] == ["cancelled"]


# --- signs of life, and nothing where nothing waits ------------------------------------------------------------------


def test_ticks_are_heard_only_while_somebody_is_asked() -> None:
    begun = streaming()
    assert begun >> Tick()
    begun = begun >> ResponseBody(events(INFRA)[0], end_of_stream=False) << PassResponseBody >> Tick()
    waiting = asking_in_stream(INFRA)
    waiting = waiting >> Tick() << COMMENT >> Tick() << COMMENT >> decided(waiting) << PassResponseBody
    assert waiting >> Tick()
    assert begun


def test_a_verdict_nobody_waits_for_is_illegal() -> None:
    waiting = asking_in_stream(INFRA)
    verdict = decided(waiting)
    assert waiting >> verdict << PassResponseBody
    with pytest.raises(IllegalEvent):
        waiting.exchange.receive(verdict, waiting.now)
    with pytest.raises(IllegalEvent):
        streaming(rules()).exchange.receive(verdict, waiting.now)


def test_a_long_call_is_not_silent_while_it_is_gathered() -> None:
    found = streaming() >> ResponseBody(events(INFRA)[0], end_of_stream=False) << PassResponseBody
    assert found >> ResponseBody(call(INFRA)[0], end_of_stream=False)
    found.now += 11
    found = found >> ResponseBody(call(INFRA)[1], end_of_stream=False) << PassResponseBody
    comment = passed(found).removeprefix(events(INFRA)[0])
    assert comment.startswith(b":")
    assert comment.endswith(b"\n\n")
    assert found >> ResponseBody(call(INFRA)[2], end_of_stream=False)


@pytest.mark.parametrize("trailers", [False, True])
@pytest.mark.parametrize("streamed", [False, True])
def test_what_touches_nothing_privileged_leads_to_what_it_would_without_protections(
    streamed: bool,  # noqa: FBT001 - a parameter of the test
    trailers: bool,  # noqa: FBT001 - a parameter of the test
) -> None:
    told = []
    for rules_ in (protecting(), rules()):
        found = released(book(rules_)).skip(response(200, "text/event-stream" if streamed else "application/json"))
        body = b"".join(events(PLAIN)) if streamed else answer(PLAIN)
        found = found.skip(ResponseBody(body, end_of_stream=not trailers))
        found = (found.skip(ResponseTrailers(["x"])) if trailers else found).skip(Recorded())
        told.append([one for one in found.effects if not isinstance(one, Record)])
        assert found.closing["approvals"] == []
        assert found.closing["outcome"] == "completed"
        if not streamed:
            assert length_of(found) == str(len(body))
    assert told[0] == told[1]


def test_answers_of_other_endpoints_are_not_looked_at() -> None:
    found = book() >> request("GET", "/repos/acme/app/pulls/1", end_of_stream=True) << IDENTIFY
    found = found >> Identified(ALICE) << FetchCredential >> CredentialReady(CREDENTIAL) << OPENING
    found = found.skip(Recorded()) >> response() >> ResponseBody(answer(KEYS), end_of_stream=True) << COMPLETED
    assert found >> Recorded() << PassResponseHeaders << PassResponseBody(answer(KEYS), end_of_stream=True) << Finish
