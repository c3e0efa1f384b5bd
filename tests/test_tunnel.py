"""CONNECT at the forward proxy: what is opened, for whom, and what the record says."""

from __future__ import annotations

import base64
import json
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from extproc.conditions import condition
from extproc.effects import Finish, Identify, PassRequestHeaders, PassResponseHeaders, Record, Respond
from extproc.endpoint import EndpointKind
from extproc.errors import Code, Refusal
from extproc.events import (
    Connect,
    CredentialReady,
    End,
    Ended,
    Event,
    Headers,
    Identified,
    Recorded,
    RecordingFailed,
    Refused,
    RequestBody,
    RequestHeaders,
    ResponseBody,
    Tick,
    TlsFailed,
)
from extproc.exchange import IllegalEvent, Phase
from extproc.headers import UPSTREAM_HEADER
from extproc.intercepted import DEFAULT_HOSTS
from extproc.policy import Effect, rule
from extproc.recording.document import Outcome
from extproc.replies import DECISION_HEADER
from extproc.rules import Rules
from extproc.secret import Secret
from extproc.tunnel import INTERCEPTED, Tunnel, tls_failure
from tests.playbook import (
    ALICE,
    CREDENTIAL,
    IDENTIFY,
    MALLORY,
    MASKED,
    OPENING,
    POLICY,
    SECRET,
    START,
    TOKEN,
    Answered,
    Playbook,
    closing,
    refused,
    response,
    rules,
)

ID = "7" * 32
LISTED = "packages.example.com"
BASIC = base64.b64encode(f"me:{TOKEN}".encode()).decode()
OPENS = rule(
    "packages",
    Effect.ALLOW,
    [condition("groups", ["developers"]), condition("endpoints", ["tunnel"]), condition("hosts", [LISTED])],
)
PASS_LISTED = PassRequestHeaders([(UPSTREAM_HEADER, "tunnel"), (DECISION_HEADER, ID)], [], ID)
PASS_INTERCEPTED = PassRequestHeaders([(UPSTREAM_HEADER, INTERCEPTED), (DECISION_HEADER, ID)], [], ID)
OPENED = PassResponseHeaders([(DECISION_HEADER, ID)], [])


def tunnelling(**changes: Any) -> Rules:
    return rules(policy=replace(POLICY, rules=(*POLICY.rules, OPENS)), **changes)


def book(**changes: Any) -> Playbook:
    return Playbook(Tunnel(ID, tunnelling(**changes)))


def connect(
    authority: str = f"{LISTED}:443", *authorizations: str, method: str = "CONNECT", anonymous: bool = False
) -> RequestHeaders:
    headers: Headers = [(":method", method), (":authority", authority), ("user-agent", "node")]
    if not anonymous:
        headers += [("proxy-authorization", value) for value in authorizations or (f"Basic {BASIC}",)]
    # Its body has no ext_proc mode: what goes through a tunnel is not ours to read.
    return RequestHeaders(headers, end_of_stream=False, client_address="192.0.2.7:5555", full_duplex=False)


def opening(found: Playbook | None = None) -> Playbook:
    """Return a tunnel to a listed host, up to where its opening entry is being recorded."""
    return (found or book()) >> connect() << IDENTIFY >> Identified(ALICE) << OPENING


def awaiting() -> Playbook:
    return opening() >> Recorded() << PASS_LISTED


def opened() -> Playbook:
    return awaiting() >> response(200, None) << OPENED


def answer(found: Playbook) -> Respond:
    one = found.first(Respond)
    assert isinstance(one, Respond)
    return one


def was_passed(found: Playbook) -> bool:
    return any(isinstance(effect, PassRequestHeaders) for effect in found.effects)


# --- who may ask -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("method", ["GET", "POST", "OPTIONS", "connect", ""])
def test_anything_but_connect_is_answered_405_with_what_is_allowed(method: str) -> None:
    found = book() >> connect(method=method) << refused(Outcome.DENIED, Code.CONNECT_REFUSED) >> Recorded()
    assert found << Answered(405, Code.CONNECT_REFUSED) << Finish
    assert ("allow", "CONNECT") in answer(found).headers
    assert found.exchange.phase is Phase.DONE


@pytest.mark.parametrize("status", [400, 403, 426])
def test_what_envoy_refuses_before_it_shows_it_is_answered_in_our_shape(status: int) -> None:
    found = book() >> response(status, None, details="http1.codec_error")
    assert found << Answered(status, Code.REQUEST_REFUSED) << Finish
    assert found.entries == (None, None)
    assert (found.exchange.phase, found.exchange.story.outcome) == (Phase.DONE, Outcome.DENIED)


@pytest.mark.parametrize(
    ("event", "code"),
    [
        (connect(anonymous=True), Code.IDENTITY_MISSING),
        (connect(f"{LISTED}:443", f"Basic {BASIC}", f"Basic {BASIC}"), Code.IDENTITY_MALFORMED),
        (connect(f"{LISTED}:443", ""), Code.IDENTITY_MALFORMED),
        (connect(f"{LISTED}:443", "Basic"), Code.IDENTITY_MALFORMED),
        (connect(f"{LISTED}:443", "Basic !!!!"), Code.IDENTITY_MALFORMED),
        (connect(f"{LISTED}:443", "Basic " + base64.b64encode(b"no-colon").decode()), Code.IDENTITY_MALFORMED),
        (connect(f"{LISTED}:443", "Basic " + base64.b64encode(b"me:gho_secret").decode()), Code.IDENTITY_MALFORMED),
        (connect(f"{LISTED}:443", "Bearer"), Code.IDENTITY_MALFORMED),
        (connect(f"{LISTED}:443", f"Negotiate {TOKEN}"), Code.IDENTITY_MALFORMED),
        (connect(f"{LISTED}:443", f"token {TOKEN}"), Code.IDENTITY_MALFORMED),
        (connect(f"{LISTED}:443", "Bearer " + "a" * 20_000), Code.IDENTITY_MALFORMED),
    ],
    ids=lambda value: str(value)[:60] if isinstance(value, Code) else "",
)
def test_without_one_good_credential_a_client_is_asked_for_it_with_407(event: RequestHeaders, code: Code) -> None:
    found = book() >> event << refused(Outcome.DENIED, code) >> Recorded()
    assert found << Answered(407, code) << Finish
    assert ("proxy-authenticate", 'Basic realm="copilot-extproc"') in answer(found).headers
    assert not [name for name, _ in answer(found).headers if name == "www-authenticate"]
    assert found.opening["principal"] is None
    assert found.closing["response"]["status"] == 407


def test_who_brings_no_credentials_learns_how_to_get_some() -> None:
    found = book().skip(connect(anonymous=True)).skip(Recorded())
    assert "extproc run" in json.loads(answer(found).body)["error"]["message"]


@pytest.mark.parametrize("value", [f"Basic {BASIC}", f"basic  {BASIC}", f"Bearer {TOKEN}", f"Bearer gho_{TOKEN}"])
def test_basic_and_bearer_credentials_are_taken(value: str) -> None:
    assert book() >> connect(f"{LISTED}:443", value) << IDENTIFY


@pytest.mark.parametrize(
    ("refusal", "status", "outcome"),
    [
        (Refusal(401, Code.IDENTITY_EXPIRED, "The token has expired."), 407, Outcome.DENIED),
        (Refusal(403, Code.IDENTITY_GROUPS_UNAVAILABLE, "Too many."), 403, Outcome.DENIED),
        (Refusal(503, Code.IDENTITY_UNAVAILABLE, "The keys cannot be read."), 503, Outcome.FAILED),
    ],
)
def test_a_refused_identity_is_answered_as_its_refusal_says_but_for_401_which_is_a_servers(
    refusal: Refusal, status: int, outcome: Outcome
) -> None:
    found = book() >> connect() << IDENTIFY >> Refused(refusal) << refused(outcome, refusal.code) >> Recorded()
    assert found << Answered(status, refusal.code) << Finish
    assert json.loads(answer(found).body)["error"]["message"] == refusal.message
    assert (status == 407) is ("proxy-authenticate" in dict(answer(found).headers))


# --- where to --------------------------------------------------------------------------------------------------------

ELSEWHERE = [
    *("192.0.2.1:443", "[::1]:443", "[2001:db8::1]:443", "::1:443", "2130706433:443", "0x7f000001:443"),
    *("0177.0.0.1:443", "127.1:443", "0x7f.1:443", "127.0.0.0x1:443", "api.github.com.0x7f:443", "a.1:443", "a.0X:443"),
    *("127.0.0.1.:443", "api.github.com.:443", ".github.com:443", "a..b:443", "-a.com:443", "a_b.com:443"),
    *("api.github.com:80", "api.github.com:8443", "api.github.com:22", "api.github.com:0443", "api.github.com:"),
    *("api.github.com", "api.github.com:443:443", "api.github.com:443 ", " api.github.com:443", ":443", ""),
    *("me@api.github.com:443", "https://api.github.com:443", "api.github.com/:443", "api.github.com:443\n"),
    *("api.github.com%00:443", "api.gi\u0131thub.com:443", "api.github.com:\u0664\u0664\u0663", "*.github.com:443"),
]


@pytest.mark.parametrize("authority", ELSEWHERE)
def test_only_host_names_on_the_port_of_https_can_be_reached(authority: str) -> None:
    found = book(intercepted=(*DEFAULT_HOSTS, "*.github.com", "127.0.0.1")) >> connect(authority)
    found = found << refused(Outcome.DENIED, Code.CONNECT_REFUSED) >> Recorded()
    assert found << Answered(403, Code.CONNECT_REFUSED) << Finish
    assert found.opening["request"]["path"] == authority


def test_who_is_not_known_does_not_learn_where_tunnels_lead() -> None:
    found = book().skip(connect("127.0.0.1:443", anonymous=True)).skip(Recorded())
    assert answer(found).status == 407


@pytest.mark.parametrize("host", ["example.com", "github.com", f"x{LISTED}", f"a.{LISTED}", "api.github.com.evil.com"])
def test_a_host_that_policy_does_not_list_is_refused_as_a_decision(host: str) -> None:
    found = book() >> connect(f"{host}:443") << IDENTIFY >> Identified(ALICE)
    found = found << refused(Outcome.DENIED, Code.POLICY_DENIED) >> Recorded()
    assert found << Answered(403, Code.POLICY_DENIED) << Finish
    assert (found.opening["decision"]["rule"], found.opening["decision"]["effect"]) == ("default", "deny")
    assert found.opening["principal"]["name"] == "alice"


def test_a_host_that_policy_lists_for_others_is_refused() -> None:
    found = book() >> connect() << IDENTIFY >> Identified(MALLORY)
    assert found << refused(Outcome.DENIED, Code.POLICY_DENIED) >> Recorded() << Respond << Finish
    assert (answer(found).status, was_passed(found)) == (403, False)


def test_what_allows_everything_opens_no_tunnel() -> None:
    everything = rules(policy=replace(POLICY, rules=(rule("all", Effect.ALLOW, []),)))
    found = Playbook(Tunnel(ID, everything)) >> connect() << IDENTIFY >> Identified(ALICE)
    assert found << refused(Outcome.DENIED, Code.POLICY_DENIED)


# --- tunnels that are read -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("host", ["api.github.com", "API.GitHub.com", *DEFAULT_HOSTS, "api.acme.ghe.com"])
def test_a_host_that_is_read_is_opened_for_whoever_is_identified_and_left_to_the_exchanges_inside(host: str) -> None:
    found = book(intercepted=(*DEFAULT_HOSTS, "*.acme.ghe.com")) >> connect(f"{host}:443") << IDENTIFY
    assert found >> Identified(MALLORY) << PASS_INTERCEPTED << Finish
    assert found.entries == (None, None)
    assert found >> Ended(End.CLIENT)


def test_a_host_that_is_read_is_not_tunnelled_past_the_gateway_even_if_policy_lists_it() -> None:
    listed = rule("oops", Effect.ALLOW, [condition("endpoints", ["tunnel"]), condition("hosts", ["api.github.com"])])
    found = Playbook(Tunnel(ID, rules(policy=replace(POLICY, rules=(listed,))))) >> connect("api.github.com:443")
    assert found << IDENTIFY >> Identified(ALICE) << PASS_INTERCEPTED << Finish


# --- tunnels that pass untouched -------------------------------------------------------------------------------------


def test_a_listed_tunnel_is_recorded_before_it_is_opened_and_its_bytes_when_it_ends() -> None:
    found = book()
    assert (
        found
        >> connect()
        << IDENTIFY
        >> Identified(ALICE)
        << OPENING
        >> Recorded()
        << PASS_LISTED
        >> response(200, None)
        << OPENED
        >> Ended(End.CLIENT, received=1234, sent=1 << 33)
        << closing(Outcome.COMPLETED)
        >> Recorded()
    )
    assert found.exchange.phase is Phase.DONE
    opened_with, ended_with = found.opening, found.closing
    assert opened_with["request"] == {
        "method": "CONNECT",
        "host": LISTED,
        "path": f"{LISTED}:443",
        "upstream": "tunnel",
        "endpoint": EndpointKind.TUNNEL,
        "repository": None,
        "body_bytes": 0,
        "model": None,
    }
    assert opened_with["decision"]["rule"] == "packages"
    assert (opened_with["principal"]["name"], opened_with["client"]["address"]) == ("alice", "192.0.2.7:5555")
    assert opened_with["client"]["user_agent"] == "node"
    assert ended_with["tunnelled"] == {"received": 1234, "sent": 1 << 33}
    assert ended_with["response"]["status"] == 200
    assert 0 < ended_with["timing"]["released"] < ended_with["timing"]["closed"]


@pytest.mark.parametrize("status", [200, 204, 299])
def test_any_answer_of_success_opens_a_tunnel(status: int) -> None:
    found = awaiting() >> response(status, None) << OPENED
    assert found.exchange.phase is Phase.READING_RESPONSE


@pytest.mark.parametrize(("status", "said"), [(503, 503), (504, 504), (502, 502), (403, 502), (101, 502), (0, 502)])
def test_a_host_that_does_not_answer_is_told_and_recorded_as_such(status: int, said: int) -> None:
    found = awaiting() >> response(status, None, details="upstream_reset_before_response_started")
    found = found << closing(Outcome.UPSTREAM_ERROR, Code.UPSTREAM_UNAVAILABLE) >> Recorded()
    assert found << Answered(said, Code.UPSTREAM_UNAVAILABLE) << Finish
    assert found.closing["response"]["status"] == said


@pytest.mark.parametrize("end", [End.CLIENT, End.UPSTREAM, End.ENVOY])
def test_either_side_may_end_an_open_tunnel(end: End) -> None:
    found = opened() >> Ended(end, received=1, sent=2) << closing(Outcome.COMPLETED) >> Recorded()
    assert found
    assert found.closing["error"] is None


@pytest.mark.parametrize(
    ("end", "outcome", "code"),
    [
        (End.TIMEOUT, Outcome.FAILED, Code.GATEWAY_TIMEOUT),
        (End.DRAIN, Outcome.INTERRUPTED, Code.GATEWAY_DRAINING),
        (End.FAULT, Outcome.FAILED, Code.GATEWAY_INTERNAL),
        (End.RECORDING, Outcome.FAILED, Code.RECORDING_UNAVAILABLE),
    ],
)
def test_an_open_tunnel_that_the_gateway_ends_is_recorded_as_that(end: End, outcome: Outcome, code: Code) -> None:
    found = opened() >> Ended(end, received=1, sent=2) << closing(outcome, code) >> Recorded()
    assert found
    # The client was told that it is open.
    assert found.closing["response"]["status"] == 200
    assert found.closing["tunnelled"] == {"received": 1, "sent": 2}


@pytest.mark.parametrize(
    ("end", "outcome", "code"),
    [
        (End.CLIENT, Outcome.ABORTED, Code.CLIENT_GONE),
        (End.UPSTREAM, Outcome.UPSTREAM_ERROR, Code.UPSTREAM_RESET),
        (End.TIMEOUT, Outcome.FAILED, Code.GATEWAY_TIMEOUT),
    ],
)
def test_a_tunnel_that_ends_before_it_is_open_was_none(end: End, outcome: Outcome, code: Code) -> None:
    found = awaiting() >> Ended(end) << closing(outcome, code) >> Recorded()
    assert found
    assert found.closing["response"]["status"] not in {None, 200}


def test_a_client_that_leaves_while_it_is_identified_is_recorded_whole() -> None:
    found = book() >> connect() << IDENTIFY >> Ended(End.CLIENT)
    assert found << refused(Outcome.ABORTED, Code.CLIENT_GONE) >> Recorded()


def test_nothing_is_opened_for_a_client_that_leaves_while_its_tunnel_is_recorded() -> None:
    found = opening() >> Ended(End.CLIENT) << closing(Outcome.ABORTED, Code.CLIENT_GONE) >> Recorded()
    assert found
    assert not was_passed(found)


def test_before_its_headers_there_is_nothing_to_record() -> None:
    found = book() >> Ended(End.CLIENT)
    assert found
    assert found.exchange.phase is Phase.DONE


def test_an_end_that_is_told_twice_is_recorded_once() -> None:
    found = opened() >> Ended(End.CLIENT) << closing(Outcome.COMPLETED) >> Recorded() >> Ended(End.CLIENT)
    assert found


def test_only_an_open_tunnel_may_be_silent_and_only_what_was_let_go_can_fail_at_its_host() -> None:
    found = book()
    assert (found.exchange.may_idle, found.exchange.released_to_upstream) == (False, False)
    found = opening(found)
    assert (found.exchange.may_idle, found.exchange.released_to_upstream) == (False, False)
    found = found >> Recorded() << PASS_LISTED
    assert (found.exchange.may_idle, found.exchange.released_to_upstream) == (False, True)
    found = found >> response(200, None) << OPENED
    assert (found.exchange.may_idle, found.exchange.released_to_upstream) == (True, True)
    assert not (found >> Ended(End.CLIENT) << Record).exchange.may_idle


# --- recording that fails --------------------------------------------------------------------------------------------


def test_a_tunnel_that_cannot_be_recorded_is_answered_503_and_not_opened() -> None:
    found = opening() >> RecordingFailed()
    assert found << Answered(503, Code.RECORDING_UNAVAILABLE) << Finish
    assert not was_passed(found)
    assert found.exchange.phase is Phase.DONE


@pytest.mark.parametrize("event", [connect(anonymous=True), connect("127.0.0.1:443"), connect(method="GET")])
def test_a_refusal_that_cannot_be_recorded_is_answered_503(event: RequestHeaders) -> None:
    found = book() >> event << Record >> RecordingFailed()
    assert found << Answered(503, Code.RECORDING_UNAVAILABLE) << Finish


def test_after_the_end_nobody_is_told_that_recording_failed() -> None:
    found = opened() >> Ended(End.CLIENT) << Record >> RecordingFailed()
    assert found
    assert found.exchange.story.outcome is Outcome.FAILED


# --- the record ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("authority", [f"{SECRET}:443", f"a.{SECRET}.example.com:443", f"{LISTED}:{SECRET}"])
def test_a_secret_in_the_authority_is_masked_in_the_record(authority: str) -> None:
    found = book().skip(connect(authority)).skip(Recorded())
    assert SECRET.lower() not in json.dumps(found.opening).lower()
    assert MASKED in found.opening["request"]["path"]
    assert [one["where"] for one in found.opening["findings"]] == ["path"]
    assert SECRET not in answer(found).body.decode()


def test_a_host_that_is_a_secret_is_not_recorded_beside_its_mask() -> None:
    key = "glpat-aB3dE5gH7jK9mN1pQ3sT"
    found = book().skip(connect(f"{key}:443")).skip(Identified(ALICE)).skip(Recorded())
    assert found.opening["findings"]
    assert key.lower() not in json.dumps(found.opening).lower()


def test_neither_token_is_in_the_record_nor_shown() -> None:
    found = opened().skip(Ended(End.CLIENT))
    text = json.dumps([found.opening, found.closing]) + repr(found.effects)
    assert TOKEN not in text
    assert BASIC not in text


# --- TLS inside ------------------------------------------------------------------------------------------------------


FAILURE = TlsFailed(
    Connect("d1", "API.github.com:443", Secret(f"Basic {BASIC}")), "192.0.2.7:5555", "TLSV1_ALERT_UNKNOWN_CA"
)


@pytest.mark.parametrize("principal", [ALICE, None])
def test_a_client_that_does_not_trust_the_authority_is_recorded_with_what_it_wanted(principal: Any) -> None:
    story, record = tls_failure("9" * 32, FAILURE, principal, tunnelling(), START)
    # By this it is counted and logged.
    assert (story.id, story.outcome, story.principal) == ("9" * 32, Outcome.FAILED, principal)
    assert record.opening is not None
    assert record.closing is not None
    assert (record.opening["principal"] is None) is (principal is None)
    request = record.opening["request"]
    assert (request["method"], request["host"], request["endpoint"]) == ("CONNECT", "api.github.com", "tunnel")
    assert record.opening["client"]["address"] == "192.0.2.7:5555"
    assert (record.opening["id"], record.opening["opened_at"]) == ("9" * 32, START)
    assert (record.closing["id"], record.closing["outcome"]) == ("9" * 32, Outcome.FAILED)
    assert record.closing["error"]["code"] == Code.CONNECT_TLS
    assert "TLSV1_ALERT_UNKNOWN_CA" in record.closing["error"]["message"]
    assert TOKEN not in json.dumps([record.opening, record.closing])


# --- no way around it ------------------------------------------------------------------------------------------------

IN_PHASE: dict[Phase, Callable[[], Playbook]] = {
    Phase.NEW: book,
    Phase.IDENTIFYING: lambda: book() >> connect() << IDENTIFY,
    Phase.OPENING: opening,
    Phase.AWAITING_RESPONSE: awaiting,
    Phase.READING_RESPONSE: opened,
    Phase.CLOSING: lambda: opened() >> Ended(End.CLIENT) << Record,
    Phase.DONE: lambda: opened() >> Ended(End.CLIENT) << Record >> Recorded(),
}
LEGAL = {
    Phase.NEW: {"RequestHeaders", "ResponseHeaders"},
    Phase.IDENTIFYING: {"Identified", "Refused"},
    Phase.OPENING: {"Recorded", "RecordingFailed"},
    Phase.AWAITING_RESPONSE: {"ResponseHeaders"},
    Phase.READING_RESPONSE: set(),
    Phase.CLOSING: {"Recorded", "RecordingFailed"},
    Phase.DONE: set(),
}
EVENTS: list[Event] = [
    connect(),
    RequestBody(b"x", end_of_stream=True),
    response(200, None),
    ResponseBody(b"x", end_of_stream=True),
    Identified(ALICE),
    Refused(Refusal(401, Code.IDENTITY_EXPIRED, "Late.")),
    CredentialReady(CREDENTIAL),
    Recorded(),
    RecordingFailed(),
    Tick(),
]


@pytest.mark.parametrize("event", EVENTS, ids=lambda event: type(event).__name__)
@pytest.mark.parametrize("phase", IN_PHASE, ids=lambda phase: phase.name)
def test_every_event_outside_its_phase_is_illegal_and_every_other_is_not(phase: Phase, event: Event) -> None:
    tunnel = IN_PHASE[phase]().exchange
    assert tunnel.phase is phase
    if type(event).__name__ in LEGAL[phase]:
        tunnel.receive(event, START + 1)
    else:
        with pytest.raises(IllegalEvent, match=phase.name):
            tunnel.receive(event, START + 1)


@given(st.text(max_size=40) | st.from_regex(r"[a-z0-9.\[\]:-]{0,30}(:443)?", fullmatch=True), st.booleans())
@example("[::1]:443", True)  # noqa: FBT003 - the second argument below
def test_no_authority_however_odd_breaks_it_or_is_passed_before_somebody_is_identified(
    authority: str,
    known: bool,  # noqa: FBT001
) -> None:
    found = book()
    found.skip(connect(authority, anonymous=not known))
    assert not was_passed(found)
    if found.exchange.phase is Phase.IDENTIFYING:
        assert known
        assert found.first(Identify).token == Secret(TOKEN)
        found.skip(Identified(MALLORY))
        assert was_passed(found) is (authority.lower().removesuffix(":443") in DEFAULT_HOSTS)
    else:
        found.skip(Recorded())
        assert answer(found).status == (403 if known else 407)


@given(st.lists(st.text(st.characters(max_codepoint=0xFF), max_size=60), min_size=1, max_size=3))
def test_no_credentials_however_odd_break_it_or_pass_unverified(values: list[str]) -> None:
    found = book().skip(connect("api.github.com:443", *values))
    assert not was_passed(found)
    assert [type(effect) for effect in found.effects] in ([Identify], [Record])
