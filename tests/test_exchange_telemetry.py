"""Telemetry in an exchange: whoever sends it, it passes masked and bounded, or is answered and goes nowhere."""

from __future__ import annotations

import gzip
import json
from collections import deque
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from extproc.conditions import path_glob
from extproc.effects import Compute, Effect, Finish, PassRequestBody, PassRequestHeaders, Respond
from extproc.endpoint import EndpointKind, Upstream
from extproc.errors import Code, Refusal
from extproc.events import (
    Computed,
    End,
    Ended,
    Event,
    Identified,
    Recorded,
    RecordingFailed,
    Refused,
    RequestBody,
    RequestHeaders,
    RequestTrailers,
    ResponseBody,
    ResponseTrailers,
)
from extproc.exchange import Exchange, IllegalEvent, Phase
from extproc.inspection import Inspected
from extproc.masking.finding import Action
from extproc.policy import Passthrough
from extproc.recording.document import Outcome
from extproc.rules import Rules
from extproc.telemetry import MAX_AT_ONCE, MAX_BYTES, Slots
from tests.playbook import (
    ALICE,
    IDENTIFY,
    MASKED,
    OPENING,
    POLICY,
    SECRET,
    START,
    TOKEN,
    Answered,
    Playbook,
    asked,
    masking_rules,
    refused,
    request,
    response,
    rules,
)
from tests.test_exchange_clients import inside, intercepted, own_answer

ID = "5" * 32
REPORT = json.dumps({"name": "event", "data": f"use {SECRET}"}).encode() + b"\n" + b'{"name":"other"}\n'
BLOCKING = replace(POLICY, telemetry="block")
HOST = "copilot-telemetry.githubusercontent.com"
GZIP = ("content-encoding", "gzip")
JSON_STREAM = ("content-type", "application/x-json-stream")
CROWDED = "More telemetry came at once than the gateway passes on."
EXPERIMENTS = request("GET", "/telemetry", token=None, end_of_stream=True)
# The usual bound of bodies is larger than that of telemetry, as it is in service.
LARGE = 10 * MAX_BYTES


def begun(rules_: Rules | None = None, *extra: tuple[str, str], token: str | None = None, to: str = HOST) -> Playbook:
    """Return a report whose body is still to come."""
    return Playbook(Exchange(ID, rules_ or rules())) >> request("POST", "/telemetry", *extra, token=token, host=to)


def reported(
    body: bytes, *extra: tuple[str, str], rules_: Rules | None = None, token: str | None = None, to: str = HOST
) -> Playbook:
    return begun(rules_, *extra, token=token, to=to) >> RequestBody(body, end_of_stream=True)


def left(slots: Slots) -> int:
    """Return how many exchanges of telemetry may begin, one more than `MAX_AT_ONCE` at most."""
    taken = 0
    while taken <= MAX_AT_ONCE and slots.take():
        taken += 1
    for _ in range(taken):
        slots.give()
    return taken


# --- what passes -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("token", [None, TOKEN, "rubbish"])
@pytest.mark.parametrize("to", ["127.0.0.1:8080", HOST])
def test_telemetry_passes_without_identity_masked_decoded_and_without_anybodys_credential(
    token: str | None, to: str
) -> None:
    masked = REPORT.replace(SECRET.encode(), MASKED.encode())
    found = reported(gzip.compress(REPORT), GZIP, JSON_STREAM, token=token, to=to) << OPENING
    assert found >> Recorded() << PassRequestHeaders << PassRequestBody(masked, end_of_stream=True)
    passed = found.first(PassRequestHeaders)
    fields = dict(passed.set_headers)
    assert fields["content-length"] == str(len(masked))
    assert not {"authorization", "content-type"} & set(fields)
    assert "content-encoding" in passed.remove_headers
    assert ("authorization" in passed.remove_headers) is (token is not None)


def test_telemetry_is_recorded_with_its_findings_and_without_its_bodies() -> None:
    found = (reported(REPORT) << OPENING).skip(Recorded()).skip(response())
    found.skip(ResponseBody(b'{"itemsReceived":2}', end_of_stream=True))
    opening = found.opening
    assert opening["principal"] is None
    assert (opening["request"]["endpoint"], opening["decision"]["rule"]) == ("telemetry", "telemetry")
    assert opening["decision"]["effect"] == "allow"
    assert [one["rule"] for one in opening["findings"]] == ["npmjsaccesstoken"]
    assert "other" not in json.dumps([opening, found.closing])
    assert found.closing["response"].keys() == {"status", "upstream_status", "content_type", "body_bytes"}


def test_telemetry_inside_a_tunnel_is_that_of_who_opened_it() -> None:
    found = Playbook(Exchange(ID, rules())) >> intercepted("/telemetry", HOST, "POST") << IDENTIFY >> Identified(ALICE)
    found = found >> RequestBody(b"{}", end_of_stream=True) << OPENING
    assert found.opening["principal"]["name"] == "alice"


@pytest.mark.parametrize(("method", "path", "host"), [("PUT", "/telemetry", "127.0.0.1"), ("POST", "/other", HOST)])
def test_nothing_but_telemetry_goes_without_identity(method: str, path: str, host: str) -> None:
    found = Playbook(Exchange(ID, rules())) >> request(method, path, token=None, host=host)
    assert found << refused(Outcome.DENIED, Code.IDENTITY_MISSING)


# --- what is blocked -------------------------------------------------------------------------------------------------


def test_telemetry_that_is_blocked_is_answered_before_its_body_and_goes_nowhere() -> None:
    blocking = rules(policy=BLOCKING)
    found = begun(blocking, GZIP) << refused(Outcome.DENIED, Code.POLICY_DENIED) >> Recorded() << Respond << Finish
    assert found
    assert (found.first(Respond).status, own_answer(found)["errors"]) == (200, [])
    assert (found.opening["decision"]["effect"], found.closing["response"]["status"]) == ("deny", 200)
    # Nobody looked at it.
    assert found.opening["masking"] is None
    assert left(blocking.telemetry) == MAX_AT_ONCE


def test_experiments_that_are_blocked_are_none() -> None:
    found = Playbook(Exchange(ID, rules(policy=BLOCKING))) >> EXPERIMENTS
    assert found << refused(Outcome.DENIED, Code.POLICY_DENIED) >> Recorded() << Respond << Finish
    assert own_answer(found)["Configs"] == []


def test_telemetry_that_is_blocked_and_cannot_be_recorded_is_told_so() -> None:
    found = begun(rules(policy=BLOCKING)) << refused(Outcome.DENIED, Code.POLICY_DENIED) >> RecordingFailed()
    assert found << Answered(503, Code.RECORDING_UNAVAILABLE) << Finish


# --- what is refused -------------------------------------------------------------------------------------------------


def test_telemetry_with_a_secret_is_refused_where_masking_blocks() -> None:
    found = reported(REPORT, rules_=masking_rules(Action.BLOCK, Action.MASK))
    found = found << refused(Outcome.DENIED, Code.MASKING_BLOCKED) >> Recorded()
    assert found << Answered(422, Code.MASKING_BLOCKED) << Finish


@pytest.mark.parametrize(
    "body",
    [b"no gzip", gzip.compress(b"a" * (MAX_BYTES + 1)), gzip.compress(REPORT)[:-9]],
    ids=["no gzip", "too long", "cut off"],
)
def test_telemetry_that_cannot_be_read_is_refused(body: bytes) -> None:
    found = reported(body, GZIP) << refused(Outcome.DENIED, Code.REQUEST_BODY) >> Recorded()
    assert found << Answered(400, Code.REQUEST_BODY) << Finish


@pytest.mark.parametrize("charset", ["utf-16", "utf-16-le", "utf-32-be"])
def test_telemetry_in_a_charset_in_which_a_secret_would_not_be_found_is_refused(charset: str) -> None:
    found = reported(gzip.compress(REPORT.decode().encode(charset)), GZIP)
    found = found << refused(Outcome.DENIED, Code.REQUEST_BODY) >> Recorded()
    assert found << Answered(400, Code.REQUEST_BODY) << Finish
    assert "UTF-8" in found.first(Respond).body.decode()


def test_telemetry_is_refused_as_soon_as_more_arrived_than_it_may_have() -> None:
    found = begun(rules(max_request_bytes=LARGE)) >> RequestBody(b" " * MAX_BYTES, end_of_stream=False)
    found = found >> RequestBody(b" ", end_of_stream=False) << refused(Outcome.DENIED, Code.REQUEST_TOO_LARGE)
    assert found >> Recorded() << Answered(413, Code.REQUEST_TOO_LARGE) << Finish
    assert str(MAX_BYTES) in found.first(Respond).body.decode()


def test_telemetry_of_the_largest_size_passes() -> None:
    assert reported(b" " * MAX_BYTES, rules_=rules(max_request_bytes=LARGE)) << OPENING
    assert reported(gzip.compress(b" " * MAX_BYTES), GZIP) << OPENING


def test_what_no_request_may_have_telemetry_may_not_either() -> None:
    assert reported(b" " * 11, rules_=rules(max_request_bytes=10)) << refused(Outcome.DENIED, Code.REQUEST_TOO_LARGE)


def test_the_bound_of_telemetry_is_no_other_requests_bound() -> None:
    body = b'{"model":"gpt-5","messages":[{"role":"user","content":"' + b"a" * MAX_BYTES + b'"}]}'
    assert asked(Playbook(Exchange(ID, rules(max_request_bytes=LARGE))), body)


# --- where it is read ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("body", [b"{}", gzip.compress(REPORT), gzip.compress(b" " * MAX_BYTES)])
def test_telemetry_is_decoded_apart_from_all_else_however_small_it_is(body: bytes) -> None:
    encoding = [] if body == b"{}" else [GZIP]
    exchange = begun(None, *encoding).exchange
    (effect,) = exchange.receive(RequestBody(body, end_of_stream=True), START)
    assert isinstance(effect, Compute)
    assert effect.apart
    # It is this work that decodes it.
    inspected = effect.work()
    assert isinstance(inspected, Inspected)
    assert (inspected.body == body) is (not encoding)


def test_prompts_of_who_is_known_do_not_wait_behind_telemetry() -> None:
    exchange = (Playbook() >> request() << IDENTIFY >> Identified(ALICE)).exchange
    (effect,) = exchange.receive(RequestBody(b"{}", end_of_stream=True), START)
    assert isinstance(effect, Compute)
    assert not effect.apart


# --- how many --------------------------------------------------------------------------------------------------------


def test_what_comes_beyond_the_exchanges_that_may_run_is_answered_and_goes_nowhere() -> None:
    shared = rules()
    running = [begun(shared) for _ in range(MAX_AT_ONCE)]
    assert all(one.exchange.phase is Phase.READING_REQUEST for one in running)
    found = begun(shared) << refused(Outcome.DENIED, Code.POLICY_DENIED) >> Recorded() << Respond << Finish
    assert found
    assert (found.first(Respond).status, own_answer(found)["errors"]) == (200, [])
    assert (found.closing["error"]["message"], found.closing["response"]["upstream_status"]) == (CROWDED, None)
    asked_too = Playbook(Exchange(ID, shared)).skip(EXPERIMENTS).skip(Recorded())
    assert own_answer(asked_too)["Configs"] == []
    # Nobody else is held up.
    assert asked(Playbook(Exchange(ID, shared)))


def test_when_one_ends_the_next_passes() -> None:
    shared = rules()
    running = [begun(shared) for _ in range(MAX_AT_ONCE)]
    running[3].skip(Ended(End.CLIENT))
    assert reported(b"{}", rules_=shared) << OPENING
    assert begun(shared) << refused(Outcome.DENIED, Code.POLICY_DENIED)


BODY = RequestBody(b"{}", end_of_stream=True)
WHOLE = [BODY, Recorded(), response(), ResponseBody(b"{}", end_of_stream=True)]


@pytest.mark.parametrize(
    "events",
    [
        WHOLE,
        [RequestBody(b"\xff", end_of_stream=True)],
        [RequestBody(b" " * 100_001, end_of_stream=False)],
        [response(408, details="request_timeout")],
        [BODY, RecordingFailed()],
        [BODY, Recorded(), response(503, details="no_healthy_upstream")],
        [*WHOLE[:-1], ResponseBody(b"data: {", end_of_stream=True)],
        *[[*WHOLE[:passed], Ended(end)] for end in End for passed in range(4)],
    ],
)
def test_whatever_ends_it_the_next_one_passes(events: list[Event]) -> None:
    slots = Slots()
    found = begun(rules(telemetry=slots))
    for event in events:
        assert left(slots) == MAX_AT_ONCE - 1
        found.skip(event)
    assert left(slots) == MAX_AT_ONCE


def test_it_counts_until_its_answer_is_whole() -> None:
    slots = Slots()
    found = (reported(b"{}", rules_=rules(telemetry=slots)) << OPENING).skip(Recorded()).skip(response())
    assert left(slots) == MAX_AT_ONCE - 1
    found.skip(ResponseBody(b"{}", end_of_stream=True))
    assert left(slots) == MAX_AT_ONCE
    found.skip(Recorded()).skip(Ended(End.CLIENT))
    assert left(slots) == MAX_AT_ONCE


WORK = object()
EVENTS = st.sampled_from(
    [
        *[RequestBody(b"{}", end_of_stream=end) for end in (True, False)],
        *[RequestBody(bad, end_of_stream=True) for bad in (b"\xff", b" " * (MAX_BYTES + 1))],
        RequestTrailers(["x"]),
        Identified(ALICE),
        Refused(Refusal(503, Code.IDENTITY_UNAVAILABLE, "not now")),
        *[WORK, WORK],
        *[Recorded(), Recorded(), RecordingFailed()],
        *[response(), response(401), response(end_of_stream=True), response(503, details="no_healthy_upstream")],
        *[ResponseBody(b"{}", end_of_stream=end) for end in (True, False)],
        ResponseTrailers(["x"]),
        Ended(End.CLIENT),
    ]
)
HEADS: list[RequestHeaders] = [
    request("POST", "/telemetry", token=None),
    request("POST", "/telemetry", GZIP, token=None),
    EXPERIMENTS,
    intercepted("/telemetry", HOST, "POST"),
    request("POST", "/telemetry", token=None, full_duplex=False),
]


@given(st.sampled_from(HEADS), st.lists(EVENTS, max_size=30), st.sampled_from(End))
def test_whatever_happens_in_whatever_order_it_counts_once_and_no_longer_than_it_runs(
    head: RequestHeaders, events: list[Any], end: End
) -> None:
    slots = Slots()
    exchange = Exchange(ID, rules(telemetry=slots, max_request_bytes=LARGE))
    todo = deque(exchange.receive(head, START))
    for event in events:
        if (said := _said(event, todo)) is None:
            continue
        try:
            todo = deque(exchange.receive(said, START))
        except IllegalEvent:
            # The shell would end it; here it goes on as if it had not been said.
            continue
        assert left(slots) in {MAX_AT_ONCE - 1, MAX_AT_ONCE}
    exchange.receive(Ended(end), START)
    assert left(slots) == MAX_AT_ONCE


def _said(event: Any, todo: deque[Effect]) -> Event | None:
    if event is not WORK:
        said: Event = event
        return said
    work = next((effect for effect in todo if isinstance(effect, Compute)), None)
    return None if work is None else Computed(work.work())


# --- nothing else of these hosts -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("upstream", "host", "path", "passes"),
    [
        (None, "github.com", "/login/x", False),
        (Upstream.GITHUB_WEB, "github.com", "/login/x", True),
        (Upstream.GITHUB_WEB, "github.com", "/other", False),
        (None, HOST, "/_ping", False),
        (Upstream.GITHUB_WEB, HOST, "/login/x", False),
        (None, "api.githubcopilot.com", "/login/x", True),
    ],
)
def test_what_is_listed_for_the_apis_leads_to_no_other_upstream(
    upstream: Upstream | None, host: str, path: str, *, passes: bool
) -> None:
    listed = Passthrough("GET", upstream, path_glob("/**" if upstream is None else "/login/**"))
    policy = replace(POLICY, metadata=(listed,))
    head = inside(request("GET", path, host=host, token=None, end_of_stream=True), host)
    found = Playbook(Exchange(ID, rules(policy=policy))).skip(head).skip(Identified(ALICE))
    endpoint = found.exchange.story.endpoint
    if passes:
        assert endpoint is not None
        assert endpoint.kind is EndpointKind.METADATA
    else:
        assert found.closing["error"]["code"] == Code.ENDPOINT_UNKNOWN
