from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from extproc.effects import (
    Fail,
    FetchCredential,
    Finish,
    Identify,
    PassRequestBody,
    PassRequestHeaders,
    PassRequestTrailers,
    PassResponseBody,
    PassResponseHeaders,
    PassResponseTrailers,
    Record,
    Respond,
)
from extproc.endpoint import Upstream
from extproc.errors import Code, Refusal
from extproc.events import (
    CredentialReady,
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
from extproc.exchange import DECISION_HEADER, PIECE_BYTES, Exchange, IllegalEvent, Phase
from extproc.recording.document import Outcome
from extproc.secret import Secret
from tests.playbook import (
    ALICE,
    ANSWER,
    CREDENTIAL,
    FETCH,
    IDENTIFY,
    MALLORY,
    OPENING,
    PROMPT,
    START,
    STEP,
    STREAM,
    TOKEN,
    UPSTREAM_TOKEN,
    Answered,
    Playbook,
    asked,
    closing,
    refused,
    released,
    request,
    response,
    rules,
)

COMPLETED = closing(Outcome.COMPLETED)
EVENTS = [event + b"\n\n" for event in STREAM.removesuffix(b"\n\n").split(b"\n\n")]


def limited(**bounds: int) -> Playbook:
    return Playbook(Exchange("1" * 32, rules(**bounds)))


# --- what passes -----------------------------------------------------------------------------------------------------


def test_a_json_answer_is_recorded_before_the_request_leaves_and_before_a_byte_of_the_answer_does() -> None:
    book = Playbook()
    assert (
        book
        >> request()
        << IDENTIFY
        >> Identified(ALICE)
        >> RequestBody(PROMPT[:20], end_of_stream=False)
        >> RequestBody(PROMPT[20:], end_of_stream=True)
        << FETCH
        >> CredentialReady(CREDENTIAL)
        << OPENING
        >> Recorded()
        << PassRequestHeaders
        << PassRequestBody(PROMPT, end_of_stream=True)
        >> response()
        >> ResponseBody(ANSWER[:30], end_of_stream=False)
        >> ResponseBody(ANSWER[30:], end_of_stream=True)
        << COMPLETED
        >> Recorded()
        << PassResponseHeaders([(DECISION_HEADER, "0" * 32), ("content-length", str(len(ANSWER)))], [])
        << PassResponseBody(ANSWER, end_of_stream=True)
        << Finish
    )
    assert book.exchange.phase is Phase.DONE
    assert book.closing["response"]["text"] == "Hello"
    assert book.closing["response"]["body_bytes"] == len(ANSWER)


def test_a_stream_passes_as_it_arrives_but_for_its_end_which_waits_for_the_record() -> None:
    book = released()
    assert (
        book
        >> response(200, "text/event-stream; charset=utf-8")
        << PassResponseHeaders
        >> ResponseBody(EVENTS[0], end_of_stream=False)
        << PassResponseBody(EVENTS[0], end_of_stream=False)
        >> ResponseBody(b"".join(EVENTS[1:]), end_of_stream=False)
        << PassResponseBody(b"".join(EVENTS[1:]), end_of_stream=False)
        >> ResponseBody(b"", end_of_stream=True)
        << COMPLETED
        >> Recorded()
        << PassResponseBody(b"", end_of_stream=True)
        << Finish
    )
    said = book.closing["response"]
    assert (said["text"], said["complete"], said["usage"]) == (
        "Hello, wörld",
        True,
        {"input_tokens": 3, "output_tokens": 2},
    )
    assert [piece[1:] for piece in book.closing["timing"]["pieces"]] == [("0.text", 3), ("0.text", 9)]


def test_metadata_without_a_body_is_decided_at_once_and_its_answer_passes_unread() -> None:
    book = Playbook()
    assert (
        book
        >> request("GET", "/models?x=1", end_of_stream=True)
        << IDENTIFY
        >> Identified(ALICE)
        << FETCH
        >> CredentialReady(CREDENTIAL)
        << OPENING
        >> Recorded()
        << PassRequestHeaders
        >> response()
        << PassResponseHeaders
        >> ResponseBody(b"not JSON", end_of_stream=False)
        << PassResponseBody(b"not JSON", end_of_stream=False)
        >> ResponseBody(b"", end_of_stream=True)
        << COMPLETED
        >> Recorded()
        << PassResponseBody(b"", end_of_stream=True)
        << Finish
    )
    assert book.opening["request"]["endpoint"] == "metadata"
    assert "text" not in book.closing["response"]
    assert (":path", "/models?x=1") in book.first(PassRequestHeaders).set_headers


def test_an_answer_without_a_body_is_recorded_before_its_headers_pass() -> None:
    book = Playbook() >> request("GET", "/_ping", end_of_stream=True) << IDENTIFY >> Identified(ALICE) << FETCH
    book = book >> CredentialReady(CREDENTIAL) << OPENING >> Recorded() << PassRequestHeaders
    assert book >> response(204, None, end_of_stream=True) << COMPLETED >> Recorded() << PassResponseHeaders << Finish


def test_trailers_of_both_directions_end_the_body_and_none_of_their_fields_pass() -> None:
    book = Playbook() >> request() << IDENTIFY >> Identified(ALICE) >> RequestBody(PROMPT, end_of_stream=False)
    book = book >> RequestTrailers(["x-checksum"]) << FETCH >> CredentialReady(CREDENTIAL) << OPENING
    assert (
        book
        >> Recorded()
        << PassRequestHeaders
        << PassRequestBody(PROMPT, end_of_stream=False)
        << PassRequestTrailers(["x-checksum"])
        >> response()
        >> ResponseBody(ANSWER, end_of_stream=False)
        >> ResponseTrailers(["grpc-status"])
        << COMPLETED
        >> Recorded()
        << PassResponseHeaders
        << PassResponseBody(ANSWER, end_of_stream=False)
        << PassResponseTrailers(["grpc-status"])
        << Finish
    )


def test_trailers_after_a_stream_wait_for_the_record_like_its_end() -> None:
    book = released() >> response(200, "text/event-stream") << PassResponseHeaders
    book = book >> ResponseBody(STREAM, end_of_stream=False) << PassResponseBody(STREAM, end_of_stream=False)
    assert book >> ResponseTrailers([]) << COMPLETED >> Recorded() << PassResponseTrailers([]) << Finish


def test_large_bodies_are_passed_in_pieces_that_envoy_takes() -> None:
    text = "x" * (PIECE_BYTES + 10)
    prompt = json.dumps({"model": "m", "messages": [{"role": "user", "content": text}]}).encode()
    answer = json.dumps({"choices": [{"index": 0, "message": {"content": text}}]}).encode()
    book = asked(body=prompt) >> Recorded() << PassRequestHeaders
    book = book << PassRequestBody(prompt[:PIECE_BYTES], end_of_stream=False)
    book = book << PassRequestBody(prompt[PIECE_BYTES:], end_of_stream=True)
    book = book >> response() >> ResponseBody(answer, end_of_stream=True) << COMPLETED >> Recorded()
    assert (
        book
        << PassResponseHeaders
        << PassResponseBody(answer[:PIECE_BYTES], end_of_stream=False)
        << PassResponseBody(answer[PIECE_BYTES:], end_of_stream=True)
        << Finish
    )


def test_a_rule_without_a_credential_sends_the_request_on_without_one() -> None:
    open_policy = replace(
        rules().policy,
        rules=tuple(replace(r, decision=replace(r.decision, credential=None)) for r in rules().policy.rules),
    )
    book = Playbook(Exchange("2" * 32, rules(policy=open_policy))) >> request() << IDENTIFY >> Identified(ALICE)
    assert (
        book
        >> RequestBody(PROMPT, end_of_stream=True)
        << OPENING
        >> Recorded()
        << PassRequestHeaders
        << PassRequestBody
    )
    passed = book.first(PassRequestHeaders)
    assert "authorization" in passed.remove_headers
    assert "authorization" not in dict(passed.set_headers)


def test_the_callers_token_is_replaced_and_the_upstream_is_named() -> None:
    passed = released().first(PassRequestHeaders)
    fields = dict(passed.set_headers)
    assert fields["authorization"] == f"Bearer {UPSTREAM_TOKEN}"
    assert fields["x-gateway-upstream"] == "api.githubcopilot.com"
    assert fields["content-length"] == str(len(PROMPT))
    assert fields["accept-encoding"] == "identity"
    assert passed.decision_id == "0" * 32
    assert all(TOKEN not in value for _, value in passed.set_headers)


def test_a_credential_that_names_its_api_host_is_sent_there_and_only_for_the_copilot_api() -> None:
    credential = replace(CREDENTIAL, api_host="api.business.githubcopilot.com")
    book = Playbook() >> request() << IDENTIFY >> Identified(ALICE) >> RequestBody(PROMPT, end_of_stream=True)
    book = (
        book << FETCH >> CredentialReady(credential) << OPENING >> Recorded() << PassRequestHeaders << PassRequestBody
    )
    assert dict(book.first(PassRequestHeaders).set_headers)["x-gateway-upstream"] == "api.business.githubcopilot.com"
    book = Playbook() >> request("GET", "/user", end_of_stream=True) << IDENTIFY >> Identified(ALICE)
    book = book << FetchCredential("github", Upstream.GITHUB_API) >> CredentialReady(credential) << OPENING
    assert book >> Recorded() << PassRequestHeaders
    assert dict(book.first(PassRequestHeaders).set_headers)["x-gateway-upstream"] == "api.github.com"


def test_response_headers_lose_cookies_and_the_gateways_own_names() -> None:
    book = released() >> response(200, "text/event-stream", ("set-cookie", "a=b"), ("x-gateway-decision-id", "forged"))
    assert book << PassResponseHeaders([(DECISION_HEADER, "0" * 32)], ["set-cookie", DECISION_HEADER, "content-length"])


def test_both_entries_say_when_in_unix_seconds_and_milliseconds_after_the_opening() -> None:
    book = released() >> response() >> ResponseBody(ANSWER, end_of_stream=True) << COMPLETED
    book = book.skip(Recorded())
    assert book.opening["opened_at"] == START
    assert book.opening["principal"]["name"] == "alice"
    assert book.opening["decision"]["rule"] == "developers-models"
    assert book.opening["client"]["address"] == "192.0.2.7:5555"
    assert book.opening["request"]["body_bytes"] == len(PROMPT)
    timing = book.closing["timing"]
    assert timing["released"] == pytest.approx(4 * STEP * 1000)
    assert timing["response_headers"] == pytest.approx(5 * STEP * 1000)
    assert timing["closed"] == pytest.approx(6 * STEP * 1000)


# --- what is refused -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("headers", "status", "code"),
    [
        (request(token=None), 401, Code.IDENTITY_MISSING),
        (request(token="gho_not-a-jwt"), 401, Code.IDENTITY_MALFORMED),
        (request(path="/chat/../models"), 400, Code.REQUEST_PATH),
        (request(path="//chat/completions"), 400, Code.REQUEST_PATH),
        (request(path="http://127.0.0.1/chat/completions"), 400, Code.REQUEST_PATH),
        (request("POST", "/chat/completions", (":path", "/models")), 400, Code.REQUEST_HEADERS),
        (request("POST", "/chat/completions", (":authority", "api.github.com")), 400, Code.REQUEST_HEADERS),
        (request("POST", "/chat/completions", ("content-encoding", "gzip")), 400, Code.REQUEST_HEADERS),
    ],
)
def test_a_request_whose_head_is_refused_is_answered_after_both_entries(
    headers: RequestHeaders, status: int, code: Code
) -> None:
    book = Playbook() >> headers << refused(Outcome.DENIED, code) >> Recorded()
    assert book << Answered(status, code) << Finish
    assert book.opening["principal"] is None
    assert book.exchange.phase is Phase.DONE


def test_a_401_of_ours_names_the_scheme_to_use() -> None:
    book = Playbook() >> request(token=None) << Record >> Recorded() << Respond << Finish
    assert ("www-authenticate", "Bearer") in book.first(Respond).headers


def test_a_refused_identity_is_answered_as_its_refusal_says() -> None:
    refusal = Refusal(401, Code.IDENTITY_EXPIRED, "The token has expired.")
    book = Playbook() >> request() << IDENTIFY >> Refused(refusal) << refused(Outcome.DENIED, Code.IDENTITY_EXPIRED)
    assert book >> Recorded() << Answered(401, Code.IDENTITY_EXPIRED) << Finish


def test_an_identity_provider_that_is_down_counts_as_a_failure_of_the_gateway() -> None:
    refusal = Refusal(503, Code.IDENTITY_UNAVAILABLE, "The keys of the issuer cannot be read.")
    book = Playbook() >> request() << IDENTIFY >> Refused(refusal) << refused(Outcome.FAILED, Code.IDENTITY_UNAVAILABLE)
    assert book >> Recorded() << Answered(503, Code.IDENTITY_UNAVAILABLE) << Finish


@pytest.mark.parametrize(
    ("method", "path"), [("POST", "/unknown"), ("GET", "/chat/completions"), ("DELETE", "/repos/a/b")]
)
def test_an_endpoint_nobody_knows_is_not_passed_on(method: str, path: str) -> None:
    book = Playbook() >> request(method, path, end_of_stream=True) << IDENTIFY >> Identified(ALICE)
    book = book << refused(Outcome.DENIED, Code.ENDPOINT_UNKNOWN) >> Recorded()
    assert book << Answered(403, Code.ENDPOINT_UNKNOWN) << Finish


def test_policy_denies_a_chat_with_422_so_that_clients_show_the_reason() -> None:
    book = Playbook() >> request() << IDENTIFY >> Identified(MALLORY) >> RequestBody(PROMPT, end_of_stream=True)
    book = book << refused(Outcome.DENIED, Code.POLICY_DENIED) >> Recorded()
    assert book << Answered(422, Code.POLICY_DENIED) << Finish
    assert book.opening["decision"]["effect"] == "deny"
    assert book.opening["request"]["messages"] == [{"role": "user", "content": "hi"}]
    assert json.loads(book.first(Respond).body)["error"]["message"] == book.opening["decision"]["reason"]


def test_policy_denies_metadata_with_403() -> None:
    book = Playbook() >> request("GET", "/models", end_of_stream=True) << IDENTIFY >> Identified(MALLORY)
    book = book << refused(Outcome.DENIED, Code.POLICY_DENIED) >> Recorded()
    assert book << Answered(403, Code.POLICY_DENIED) << Finish


def test_a_request_body_that_is_too_large_is_refused_as_soon_as_it_is() -> None:
    book = limited(max_request_bytes=20) >> request() << IDENTIFY >> Identified(ALICE)
    book = book >> RequestBody(b"x" * 20, end_of_stream=False) >> RequestBody(b"x", end_of_stream=False)
    book = book << refused(Outcome.DENIED, Code.REQUEST_TOO_LARGE) >> Recorded()
    assert book << Answered(413, Code.REQUEST_TOO_LARGE) << Finish


@pytest.mark.parametrize(
    "body",
    [b"", b"{", b"[]", b'{"model":"m"}', b'{"model":"m","model":"n","messages":[{"role":"user"}]}', b'{"Model":"m"}'],
)
def test_a_chat_body_that_is_not_understood_is_refused(body: bytes) -> None:
    book = Playbook() >> request() << IDENTIFY >> Identified(ALICE) >> RequestBody(body, end_of_stream=True)
    book = book << refused(Outcome.DENIED, Code.REQUEST_BODY) >> Recorded()
    assert book << Answered(400, Code.REQUEST_BODY) << Finish


def test_a_chat_without_any_body_is_refused() -> None:
    book = Playbook() >> request(end_of_stream=True) << IDENTIFY >> Identified(ALICE)
    book = book << refused(Outcome.DENIED, Code.REQUEST_BODY) >> Recorded()
    assert book << Answered(400, Code.REQUEST_BODY) << Finish


def test_without_its_credential_a_request_does_not_go_out() -> None:
    refusal = Refusal(503, Code.CREDENTIAL_UNAVAILABLE, "The credential cannot be read.")
    book = Playbook() >> request() << IDENTIFY >> Identified(ALICE) >> RequestBody(PROMPT, end_of_stream=True)
    book = book << FETCH >> Refused(refusal) << refused(Outcome.FAILED, Code.CREDENTIAL_UNAVAILABLE)
    assert book >> Recorded() << Answered(503, Code.CREDENTIAL_UNAVAILABLE) << Finish


def test_a_request_that_cannot_be_recorded_is_answered_503_and_nothing_of_it_is_released() -> None:
    book = asked() >> RecordingFailed()
    assert book << Answered(503, Code.RECORDING_UNAVAILABLE) << Finish
    assert book.exchange.phase is Phase.DONE
    assert not [effect for effect in book.effects if isinstance(effect, PassRequestHeaders | PassRequestBody)]


def test_a_refusal_that_cannot_be_recorded_is_answered_503_in_place_of_its_own_status() -> None:
    book = Playbook() >> request(token=None) << Record >> RecordingFailed()
    assert book << Answered(503, Code.RECORDING_UNAVAILABLE) << Finish


def test_a_held_answer_that_cannot_be_recorded_becomes_503() -> None:
    book = released() >> response() >> ResponseBody(ANSWER, end_of_stream=True) << COMPLETED
    assert book >> RecordingFailed() << Answered(503, Code.RECORDING_UNAVAILABLE) << Finish


def test_a_stream_that_cannot_be_recorded_is_cut_before_its_end() -> None:
    book = released() >> response(200, "text/event-stream") << PassResponseHeaders
    book = (
        book >> ResponseBody(STREAM, end_of_stream=True) << PassResponseBody(STREAM, end_of_stream=False) << COMPLETED
    )
    assert book >> RecordingFailed() << Fail(Code.RECORDING_UNAVAILABLE)
    assert book.exchange.phase is Phase.DONE


def test_a_wrong_body_mode_fails_the_stream_because_bytes_would_pass_unseen() -> None:
    book = Playbook()
    assert book >> request(full_duplex=False) << Fail(Code.GATEWAY_PROTOCOL)
    assert book.exchange.phase is Phase.DONE


# --- what upstreams do -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("envoy", "shown"), [(502, 502), (503, 503), (504, 504), (500, 502), (404, 502), (200, 502)])
def test_an_answer_of_envoy_itself_is_never_taken_for_the_upstreams(envoy: int, shown: int) -> None:
    book = released() >> response(envoy, "text/plain", details="upstream_reset_before_response_started")
    book = book << closing(Outcome.UPSTREAM_ERROR, Code.UPSTREAM_UNAVAILABLE) >> Recorded()
    assert book << Answered(shown, Code.UPSTREAM_UNAVAILABLE) << Finish
    assert book.closing["response"]["upstream_status"] is None
    assert book.closing["response"]["status"] == shown


def test_an_answer_of_envoy_while_the_request_is_still_read_ends_it_with_both_entries() -> None:
    book = Playbook() >> request() << IDENTIFY >> Identified(ALICE) >> RequestBody(b"{", end_of_stream=False)
    book = book >> response(408, "text/plain", details="request_overall_timeout")
    book = book << refused(Outcome.DENIED, Code.REQUEST_REFUSED) >> Recorded()
    assert book << Answered(408, Code.REQUEST_REFUSED) << Finish


def test_an_upstream_that_answers_before_the_request_was_released_is_a_breach() -> None:
    book = Playbook() >> request() << IDENTIFY >> Identified(ALICE)
    with pytest.raises(IllegalEvent):
        assert book >> response()


def test_what_envoy_refuses_before_it_showed_us_anything_gets_our_form_of_an_error_and_has_no_record() -> None:
    book = Playbook() >> response(403, None, end_of_stream=True, details="upgrade_failed")
    assert book << Answered(403, Code.REQUEST_REFUSED) << Finish
    assert book.exchange.phase is Phase.DONE


def test_an_upstream_that_answers_what_was_never_asked_is_a_breach() -> None:
    with pytest.raises(IllegalEvent):
        assert Playbook() >> response()


def test_a_401_of_the_upstream_is_the_gateways_problem_not_the_developers() -> None:
    book = released() >> response(401) << closing(Outcome.FAILED, Code.CREDENTIAL_REFUSED) >> Recorded()
    assert book << Answered(502, Code.CREDENTIAL_REFUSED) << Finish
    assert book.closing["response"]["upstream_status"] == 401


@pytest.mark.parametrize(
    ("headers", "code"),
    [
        (response(200, "text/html"), Code.UPSTREAM_CONTENT_TYPE),
        (response(500, "text/html"), Code.UPSTREAM_CONTENT_TYPE),
        (response(200, "text/plain"), Code.UPSTREAM_CONTENT_TYPE),
        (response(200, None), Code.UPSTREAM_CONTENT_TYPE),
        (response(302, None, ("location", "https://elsewhere")), Code.UPSTREAM_CONTENT_TYPE),
        (response(200, "application/json", ("content-encoding", "gzip")), Code.UPSTREAM_ENCODED),
        (response(200, "text/event-stream", ("content-encoding", "br")), Code.UPSTREAM_ENCODED),
    ],
)
def test_an_answer_of_another_kind_is_withheld(headers: Event, code: Code) -> None:
    book = released() >> headers << closing(Outcome.UPSTREAM_ERROR, code) >> Recorded()
    assert book << Answered(502, code) << Finish


@pytest.mark.parametrize("body", [b"{", b"", b"[]", b'{"object":"x"}', b"\xff", b"null"])
def test_json_that_is_not_an_answer_is_withheld(body: bytes) -> None:
    book = released() >> response() >> ResponseBody(body, end_of_stream=True)
    book = book << closing(Outcome.UPSTREAM_ERROR, Code.UPSTREAM_MALFORMED) >> Recorded()
    assert book << Answered(502, Code.UPSTREAM_MALFORMED) << Finish


def test_a_held_answer_that_is_too_large_is_withheld_as_soon_as_it_is() -> None:
    book = released(limited(max_answer_bytes=100)) >> response() >> ResponseBody(b"x" * 100, end_of_stream=False)
    book = book >> ResponseBody(b"x", end_of_stream=False)
    book = book << closing(Outcome.UPSTREAM_ERROR, Code.UPSTREAM_TOO_LARGE) >> Recorded()
    assert book << Answered(502, Code.UPSTREAM_TOO_LARGE) << Finish


@pytest.mark.parametrize("bound", ["max_answer_bytes", "max_event_bytes"])
def test_a_stream_that_is_too_large_is_cut(bound: str) -> None:
    book = released(limited(**{bound: 100})) >> response(200, "text/event-stream") << PassResponseHeaders
    book = book >> ResponseBody(b"data: " + b"x" * 200, end_of_stream=False)
    book = book << closing(Outcome.UPSTREAM_ERROR, Code.UPSTREAM_TOO_LARGE) >> Recorded()
    assert book << Fail(Code.UPSTREAM_TOO_LARGE)
    assert book.exchange.phase is Phase.DONE


@pytest.mark.parametrize(
    ("status", "content_type"), [(400, "application/json"), (429, "application/json"), (503, "text/plain"), (500, None)]
)
def test_an_error_of_the_upstream_passes_as_it_is(status: int, content_type: str | None) -> None:
    body = b'{"error":{"message":"quota exceeded","code":"rate_limited"}}'
    book = released() >> response(status, content_type, ("retry-after", "7")) >> ResponseBody(body, end_of_stream=True)
    assert (
        book
        << closing(Outcome.UPSTREAM_ERROR)
        >> Recorded()
        << PassResponseHeaders([(DECISION_HEADER, "0" * 32), ("content-length", str(len(body)))], [])
        << PassResponseBody(body, end_of_stream=True)
        << Finish
    )
    assert book.closing["response"]["status"] == status
    assert book.closing["response"]["error"] == body.decode()


# --- the credential never comes back ---------------------------------------------------------------------------------


def test_a_header_that_repeats_the_credential_is_masked() -> None:
    book = released() >> response(200, "text/event-stream", ("x-echo", f"Bearer {UPSTREAM_TOKEN}"), ("x-other", "kept"))
    mask = ("x-echo", "Bearer [MASKED:gateway-credential]")
    assert book << PassResponseHeaders([(DECISION_HEADER, "0" * 32), mask], ["content-length"])


def answer_saying(text: str) -> bytes:
    return json.dumps({"choices": [{"index": 0, "message": {"content": text}}]}).encode()


def event_saying(text: str) -> bytes:
    return b"data: " + json.dumps({"choices": [{"index": 0, "delta": {"content": text}}]}).encode() + b"\n\n"


def test_a_json_answer_that_repeats_the_credential_is_masked_and_recorded_masked() -> None:
    book = released() >> response() >> ResponseBody(answer_saying(f"it is {UPSTREAM_TOKEN}"), end_of_stream=True)
    masked = answer_saying("it is [MASKED:gateway-credential]")
    length = ("content-length", str(len(masked)))
    book = book << COMPLETED >> Recorded() << PassResponseHeaders([(DECISION_HEADER, "0" * 32), length], [])
    assert book << PassResponseBody(masked, end_of_stream=True) << Finish
    assert UPSTREAM_TOKEN not in repr(book.closing)


def test_a_json_answer_that_spells_the_credential_in_escapes_is_withheld() -> None:
    hidden = "".join(f"\\u{ord(char):04x}" for char in UPSTREAM_TOKEN)
    body = answer_saying("HERE").replace(b"HERE", hidden.encode())
    book = released() >> response() >> ResponseBody(body, end_of_stream=True)
    book = book << closing(Outcome.UPSTREAM_ERROR, Code.UPSTREAM_ECHO) >> Recorded()
    assert book << Answered(502, Code.UPSTREAM_ECHO) << Finish
    assert UPSTREAM_TOKEN not in repr(book.closing)


def test_an_error_body_that_repeats_the_credential_is_masked() -> None:
    book = released() >> response(400) >> ResponseBody(f'"{UPSTREAM_TOKEN}"'.encode(), end_of_stream=True)
    book = book << closing(Outcome.UPSTREAM_ERROR) >> Recorded() << PassResponseHeaders
    assert book << PassResponseBody(b'"[MASKED:gateway-credential]"', end_of_stream=True) << Finish
    assert UPSTREAM_TOKEN not in repr(book.closing)


def test_metadata_that_repeats_the_credential_is_masked() -> None:
    book = Playbook() >> request("GET", "/models", end_of_stream=True) << IDENTIFY >> Identified(ALICE) << FETCH
    book = book >> CredentialReady(CREDENTIAL) << OPENING >> Recorded() << PassRequestHeaders
    book = book >> response() << PassResponseHeaders
    book = book >> ResponseBody(b"ab" + UPSTREAM_TOKEN[:9].encode(), end_of_stream=False)
    book = book << PassResponseBody(b"ab", end_of_stream=False)
    book = book >> ResponseBody(UPSTREAM_TOKEN[9:].encode() + b"c", end_of_stream=True)
    book = book << PassResponseBody(b"[MASKED:gateway-credential]c", end_of_stream=False) << COMPLETED
    assert book >> Recorded() << PassResponseBody(b"", end_of_stream=True) << Finish


@given(cut=st.integers(0, 200))
def test_a_stream_that_repeats_the_credential_within_one_event_is_masked_wherever_it_is_cut(cut: int) -> None:
    stream = event_saying(f"it is {UPSTREAM_TOKEN}!") + b"data: [DONE]\n\n"
    passed, book = stream_through(released(), [stream[:cut], stream[cut:]])
    assert passed == stream.replace(UPSTREAM_TOKEN.encode(), b"[MASKED:gateway-credential]")
    assert book.closing["response"]["text"] == "it is [MASKED:gateway-credential]!"


@given(cuts=st.sets(st.integers(1, len(UPSTREAM_TOKEN) - 1), min_size=1))
def test_a_stream_that_spreads_the_credential_over_events_is_cut_before_any_of_it_passes(cuts: set[int]) -> None:
    edges = [0, *sorted(cuts), len(UPSTREAM_TOKEN)]
    parts = [UPSTREAM_TOKEN[start:end] for start, end in pairwise(edges)]
    book = released() >> response(200, "text/event-stream") << PassResponseHeaders
    hello = event_saying("it is: ")
    book = book >> ResponseBody(hello, end_of_stream=False) << PassResponseBody(hello, end_of_stream=False)
    said = ""
    for part in parts[:-1]:
        said += part
        book = book >> ResponseBody(event_saying(part), end_of_stream=False)
        # Up to three letters are anybody's; from four on nothing passes.
        if len(said) < 4:
            book = book << PassResponseBody(event_saying(part), end_of_stream=False)
    book = book >> ResponseBody(event_saying(parts[-1]), end_of_stream=False)
    book = book << closing(Outcome.UPSTREAM_ERROR, Code.UPSTREAM_ECHO) >> Recorded()
    assert book << Fail(Code.UPSTREAM_ECHO)
    assert "text" not in book.closing["response"]


def test_text_that_only_begins_like_the_credential_is_released_once_that_shows() -> None:
    first, second = event_saying(UPSTREAM_TOKEN[:10]), event_saying(" is how it begins")
    book = released() >> response(200, "text/event-stream") << PassResponseHeaders
    book = book >> ResponseBody(first, end_of_stream=False) >> ResponseBody(second, end_of_stream=False)
    book = book << PassResponseBody(first + second, end_of_stream=False)
    last = first + b"data: [DONE]\n\n"
    book = book >> ResponseBody(last, end_of_stream=True) << COMPLETED >> Recorded()
    assert book << PassResponseBody(last, end_of_stream=True) << Finish


def test_a_stream_without_its_terminal_event_is_passed_and_counts_as_the_upstreams_error() -> None:
    said = event_saying("cut short")
    book = released() >> response(200, "text/event-stream") << PassResponseHeaders
    book = book >> ResponseBody(said, end_of_stream=False) << PassResponseBody(said, end_of_stream=False)
    book = book >> ResponseBody(b"", end_of_stream=True)
    book = book << closing(Outcome.UPSTREAM_ERROR, Code.UPSTREAM_INCOMPLETE) >> Recorded()
    assert book << PassResponseBody(b"", end_of_stream=True) << Finish


def stream_through(book: Playbook, chunks: list[bytes]) -> tuple[bytes, Playbook]:
    """Run a stream to its end; return what was released of it."""
    book = book >> response(200, "text/event-stream") << PassResponseHeaders
    events: list[Event] = [ResponseBody(chunk, end_of_stream=False) for chunk in chunks]
    for event in [*events, ResponseBody(b"", end_of_stream=True), Recorded()]:
        book = book.skip(event)
    return b"".join(one.data for one in book.effects if isinstance(one, PassResponseBody)), book


# --- ends ------------------------------------------------------------------------------------------------------------

IN_PHASE: dict[Phase, Callable[[], Playbook]] = {
    Phase.NEW: Playbook,
    Phase.IDENTIFYING: lambda: Playbook() >> request() << Identify,
    Phase.READING_REQUEST: lambda: Playbook() >> request() << Identify >> Identified(ALICE),
    Phase.FETCHING_CREDENTIAL: lambda: (
        Playbook() >> request() << Identify >> Identified(ALICE) >> RequestBody(PROMPT, end_of_stream=True) << FETCH
    ),
    Phase.OPENING: asked,
    Phase.AWAITING_RESPONSE: released,
    Phase.READING_RESPONSE: lambda: released() >> response(200, "text/event-stream") << PassResponseHeaders,
    Phase.CLOSING: lambda: released() >> response() >> ResponseBody(ANSWER, end_of_stream=True) << Record,
    Phase.DONE: lambda: Playbook() >> request(full_duplex=False) << Fail,
}
ENDS = {
    End.CLIENT: (Outcome.ABORTED, Code.CLIENT_GONE),
    End.UPSTREAM: (Outcome.UPSTREAM_ERROR, Code.UPSTREAM_RESET),
    End.ENVOY: (Outcome.FAILED, Code.GATEWAY_PROTOCOL),
    End.DRAIN: (Outcome.INTERRUPTED, Code.GATEWAY_DRAINING),
    End.TIMEOUT: (Outcome.FAILED, Code.GATEWAY_TIMEOUT),
    End.FAULT: (Outcome.FAILED, Code.GATEWAY_INTERNAL),
}


def test_the_tables_of_this_file_have_every_phase_and_every_end() -> None:
    assert set(IN_PHASE) == set(Phase)
    assert set(ENDS) == set(End)
    for phase, book in IN_PHASE.items():
        assert book().exchange.phase is phase


@pytest.mark.parametrize("end", End)
@pytest.mark.parametrize("phase", [Phase.IDENTIFYING, Phase.READING_REQUEST, Phase.FETCHING_CREDENTIAL])
def test_an_exchange_that_ends_before_its_opening_gets_both_entries_at_once(phase: Phase, end: End) -> None:
    book = IN_PHASE[phase]() >> Ended(end) << refused(*ENDS[end])
    assert book >> Recorded()
    assert book.exchange.phase is Phase.DONE


@pytest.mark.parametrize("end", End)
@pytest.mark.parametrize("phase", [Phase.OPENING, Phase.AWAITING_RESPONSE, Phase.READING_RESPONSE])
def test_an_exchange_that_ends_after_its_opening_gets_its_closing_and_nothing_more_is_said(
    phase: Phase, end: End
) -> None:
    book = IN_PHASE[phase]() >> Ended(end) << closing(*ENDS[end])
    assert book >> Recorded()
    assert book.exchange.phase is Phase.DONE


@pytest.mark.parametrize("end", End)
@pytest.mark.parametrize("phase", [Phase.NEW, Phase.CLOSING, Phase.DONE])
def test_an_exchange_that_ends_with_nothing_or_everything_recorded_records_nothing(phase: Phase, end: End) -> None:
    book = IN_PHASE[phase]()
    assert book >> Ended(end)
    assert book.exchange.phase is Phase.DONE


def test_what_was_streamed_before_the_client_left_is_in_the_record() -> None:
    book = IN_PHASE[Phase.READING_RESPONSE]() >> ResponseBody(EVENTS[0], end_of_stream=False) << PassResponseBody
    assert book >> Ended(End.CLIENT) << closing(Outcome.ABORTED, Code.CLIENT_GONE) >> Recorded()
    assert book.closing["response"]["text"] == "Hel"
    assert book.closing["response"]["complete"] is False


def test_a_client_that_hangs_up_at_the_terminal_event_has_all_there_is() -> None:
    book = IN_PHASE[Phase.READING_RESPONSE]() >> ResponseBody(STREAM, end_of_stream=False) << PassResponseBody
    assert book >> Ended(End.CLIENT) << COMPLETED >> Recorded()
    assert (book.closing["response"]["status"], book.closing["response"]["complete"]) == (200, True)


@pytest.mark.parametrize("end", [end for end in End if end is not End.CLIENT])
def test_any_other_end_after_the_terminal_event_is_what_it_is(end: End) -> None:
    book = IN_PHASE[Phase.READING_RESPONSE]() >> ResponseBody(STREAM, end_of_stream=False) << PassResponseBody
    assert book >> Ended(end) << closing(*ENDS[end]) >> Recorded()


def test_the_status_of_an_exchange_that_ended_is_the_one_the_client_saw() -> None:
    answering, waiting = IN_PHASE[Phase.READING_RESPONSE](), IN_PHASE[Phase.AWAITING_RESPONSE]()
    assert answering >> Ended(End.UPSTREAM) << Record
    assert waiting >> Ended(End.UPSTREAM) << Record
    assert (answering.closing["response"]["status"], waiting.closing["response"]["status"]) == (200, 502)


def test_only_a_released_request_may_have_been_ended_by_the_upstream() -> None:
    before = {phase for phase, book in IN_PHASE.items() if not book().exchange.released_to_upstream}
    assert before == {
        Phase.NEW,
        Phase.IDENTIFYING,
        Phase.READING_REQUEST,
        Phase.FETCHING_CREDENTIAL,
        Phase.OPENING,
        Phase.DONE,
    }


EVENTS_OF_EACH_KIND: list[Event] = [
    request(),
    RequestBody(b"", end_of_stream=False),
    RequestTrailers([]),
    response(503, details="no_healthy_upstream"),
    ResponseBody(b"", end_of_stream=False),
    ResponseTrailers([]),
    Identified(ALICE),
    CredentialReady(CREDENTIAL),
    Refused(Refusal(401, Code.IDENTITY_EXPIRED, "expired")),
    Recorded(),
    RecordingFailed(),
    Ended(End.CLIENT),
]
LEGAL: dict[Phase, set[str]] = {
    Phase.NEW: {"RequestHeaders", "ResponseHeaders"},
    Phase.IDENTIFYING: {"Identified", "Refused"},
    Phase.READING_REQUEST: {"RequestBody", "RequestTrailers", "ResponseHeaders"},
    Phase.FETCHING_CREDENTIAL: {"CredentialReady", "Refused"},
    Phase.OPENING: {"Recorded", "RecordingFailed"},
    Phase.AWAITING_RESPONSE: {"ResponseHeaders"},
    Phase.READING_RESPONSE: {"ResponseBody", "ResponseTrailers"},
    Phase.CLOSING: {"Recorded", "RecordingFailed"},
    Phase.DONE: set(),
}


@pytest.mark.parametrize("event", EVENTS_OF_EACH_KIND, ids=lambda event: type(event).__name__)
@pytest.mark.parametrize("phase", Phase, ids=lambda phase: phase.name)
def test_every_event_outside_its_phase_is_illegal_and_every_other_is_not(phase: Phase, event: Event) -> None:
    exchange = IN_PHASE[phase]().exchange
    if type(event).__name__ in LEGAL[phase] | {"Ended"}:
        exchange.receive(event, START + 1)
    else:
        with pytest.raises(IllegalEvent, match=phase.name):
            exchange.receive(event, START + 1)


def test_nothing_an_exchange_shows_of_itself_has_a_secret_or_a_prompt() -> None:
    book = released()
    shown = repr([effect for effect in book.effects if not isinstance(effect, PassRequestHeaders | PassRequestBody)])
    assert TOKEN not in shown
    assert UPSTREAM_TOKEN not in shown
    assert "hi" not in shown.replace("hidden", "")
    assert Secret(TOKEN) == book.first(Identify).token
