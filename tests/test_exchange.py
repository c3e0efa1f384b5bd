from __future__ import annotations

import gzip
import json
from collections.abc import Callable
from dataclasses import replace
from itertools import pairwise
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from extproc.dialect.port import BadRequest
from extproc.effects import (
    Compute,
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
    Computed,
    CredentialReady,
    Decided,
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
    Tick,
)
from extproc.exchange import Exchange, IllegalEvent, Phase
from extproc.masking.finding import Action
from extproc.recording.document import Outcome
from extproc.release import PIECE_BYTES
from extproc.replies import DECISION_HEADER, REQUEST_ID_HEADER
from extproc.rules import Rules
from extproc.secret import Secret
from tests.detecting import FINGERPRINTS, masking
from tests.holding import INFRA, holding_request, holding_stream
from tests.playbook import (
    ALICE,
    ANSWER,
    CREDENTIAL,
    FETCH,
    IDENTIFY,
    MALLORY,
    MASKED,
    OPENING,
    PROMPT,
    SECRET,
    START,
    STEP,
    STREAM,
    TOKEN,
    UPSTREAM_TOKEN,
    Answered,
    Playbook,
    asked,
    closing,
    masking_rules,
    refused,
    released,
    request,
    response,
    rules,
)

COMPLETED = closing(Outcome.COMPLETED)
OWN_IDS = [(DECISION_HEADER, "0" * 32), (REQUEST_ID_HEADER, "0" * 32)]
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
        << PassResponseHeaders([*OWN_IDS, ("content-length", str(len(ANSWER)))], [])
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
    assert [piece[1:] for piece in book.closing["timing"]["pieces"]] == [("0.text", 7), ("0.text", 5)]


def pinged() -> Playbook:
    """Return a request for metadata up to its answer."""
    book = Playbook() >> request("GET", "/_ping?x=1", end_of_stream=True) << IDENTIFY >> Identified(ALICE) << FETCH
    return book >> CredentialReady(CREDENTIAL) << OPENING >> Recorded() << PassRequestHeaders


@pytest.mark.parametrize(
    ("status", "content_type", "body"),
    [
        (200, "application/json", b'{"ok":"certainly"}'),
        (200, "application/json", b"not JSON at all"),
        (500, "application/json", b'{"message":"certainly not"}'),
        (200, "text/plain", b"a plain text, as it is"),
    ],
)
def test_metadata_is_decided_at_once_passes_unread_and_is_recorded_without_bodies(
    status: int, content_type: str, body: bytes
) -> None:
    book = pinged()
    for event in (response(status, content_type), ResponseBody(body, end_of_stream=True), Recorded()):
        book = book.skip(event)
    assert b"".join(one.data for one in book.effects if isinstance(one, PassResponseBody)) == body
    assert book.effects[-1] == Finish()
    assert book.opening["request"]["endpoint"] == "metadata"
    assert book.opening["request"]["model"] is None
    assert "messages" not in book.opening["request"]
    assert (":path", "/_ping?x=1") in book.first(PassRequestHeaders).set_headers
    response_entry = book.closing["response"]
    assert response_entry == {
        "status": status,
        "upstream_status": status,
        "content_type": content_type,
        "body_bytes": len(body),
    }


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
    assert book << PassResponseHeaders(OWN_IDS, ["set-cookie", DECISION_HEADER, "content-length"])


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
    ("method", "path"), [("POST", "/unknown"), ("GET", "/chat/completions"), ("DELETE", "/models")]
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


@pytest.mark.parametrize(("path", "status"), [("/models", 422), ("/_ping", 403), ("/mcp", 403), ("/user", 403)])
def test_policy_denies_with_403_where_clients_do_not_speak_to_models(path: str, status: int) -> None:
    book = Playbook() >> request("GET", path, end_of_stream=True) << IDENTIFY >> Identified(MALLORY)
    book = book << refused(Outcome.DENIED, Code.POLICY_DENIED) >> Recorded()
    assert book << Respond << Finish
    assert (book.first(Respond).status, book.first(Respond).details) == (status, Code.POLICY_DENIED)


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
        (response(200, "application/json", ("content-encoding", "aes128gcm")), Code.UPSTREAM_ENCODED),
        (response(200, "text/event-stream", ("content-encoding", "dcb")), Code.UPSTREAM_ENCODED),
    ],
)
def test_an_answer_of_another_kind_is_withheld(headers: Event, code: Code) -> None:
    book = released() >> headers << closing(Outcome.UPSTREAM_ERROR, code) >> Recorded()
    assert book << Answered(502, code) << Finish


@pytest.mark.parametrize("body", [b"{", b"", b"[]", b'{"object":"x"}', b"\xff", b"null"])
def test_json_that_is_not_an_answer_passes_and_is_recorded_as_the_text_it_is(body: bytes) -> None:
    book = released() >> response() >> ResponseBody(body, end_of_stream=True) << COMPLETED >> Recorded()
    assert book << PassResponseHeaders << PassResponseBody(body, end_of_stream=True) << Finish
    assert book.closing["response"].get("unparsed", [""]) == [body.decode("utf-8", "replace")]


def test_a_compressed_answer_goes_on_decoded() -> None:
    packed = gzip.compress(ANSWER)
    headers = response(200, "application/json", ("content-encoding", "gzip"), ("content-length", str(len(packed))))
    book = released() >> headers >> ResponseBody(packed, end_of_stream=True) << COMPLETED >> Recorded()
    length = ("content-length", str(len(ANSWER)))
    book = book << PassResponseHeaders([*OWN_IDS, length], ["content-encoding"])
    assert book << PassResponseBody(ANSWER, end_of_stream=True) << Finish
    assert (book.closing["response"]["text"], book.closing["response"]["body_bytes"]) == ("Hello", len(packed))


def test_a_compressed_answer_that_breaks_off_is_withheld() -> None:
    book = released() >> response(200, "application/json", ("content-encoding", "gzip"))
    book = book >> ResponseBody(gzip.compress(ANSWER)[:-4], end_of_stream=True)
    book = book << closing(Outcome.UPSTREAM_ERROR, Code.UPSTREAM_ENCODED) >> Recorded()
    assert book << Answered(502, Code.UPSTREAM_ENCODED) << Finish
    assert "text" not in book.closing["response"]


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
        << PassResponseHeaders([*OWN_IDS, ("content-length", str(len(body)))], [])
        << PassResponseBody(body, end_of_stream=True)
        << Finish
    )
    assert book.closing["response"]["status"] == status
    assert book.closing["response"]["error"] == body.decode()


# --- the credential never comes back ---------------------------------------------------------------------------------


def test_a_header_that_repeats_the_credential_is_masked() -> None:
    book = released() >> response(200, "text/event-stream", ("x-echo", f"Bearer {UPSTREAM_TOKEN}"), ("x-other", "kept"))
    mask = ("x-echo", "Bearer [MASKED:gateway-credential]")
    assert book << PassResponseHeaders([*OWN_IDS, mask], ["content-length"])


def answer_saying(text: str) -> bytes:
    # As it is written anew where it is masked.
    return msgspec.json.encode({"choices": [{"index": 0, "message": {"content": text}}]})


def event_saying(text: str) -> bytes:
    return b"data: " + msgspec.json.encode({"choices": [{"index": 0, "delta": {"content": text}}]}) + b"\n\n"


@pytest.mark.parametrize("spelled", [UPSTREAM_TOKEN, "".join(f"\\u{ord(char):04x}" for char in UPSTREAM_TOKEN)])
def test_a_json_answer_that_repeats_the_credential_is_masked_and_recorded_masked(spelled: str) -> None:
    body = answer_saying("it is HERE").replace(b"HERE", spelled.encode())
    book = released() >> response() >> ResponseBody(body, end_of_stream=True)
    masked = answer_saying("it is [MASKED:gateway-credential]")
    length = ("content-length", str(len(masked)))
    book = book << COMPLETED >> Recorded() << PassResponseHeaders([*OWN_IDS, length], [])
    assert book << PassResponseBody(masked, end_of_stream=True) << Finish
    assert UPSTREAM_TOKEN not in repr(book.closing)
    assert [one["rule"] for one in book.closing["findings"]] == ["gateway-credential"]


def test_the_gateways_credential_is_called_so_even_where_a_rule_knows_its_form() -> None:
    token = "gho_aB3dE5gH7jK9mN1pQ3sT5vW7xY9zA2cD4eF6"
    credential = replace(CREDENTIAL, authorization=Secret(f"Bearer {token}"), secrets=(Secret(token),))
    book = Playbook() >> request() << IDENTIFY >> Identified(ALICE) >> RequestBody(PROMPT, end_of_stream=True)
    book = (book << FETCH >> CredentialReady(credential) << OPENING).skip(Recorded())
    book = book >> response() >> ResponseBody(answer_saying(f"it is {token}"), end_of_stream=True) << COMPLETED
    assert book.skip(Recorded())
    assert book.closing["response"]["text"] == "it is [MASKED:gateway-credential]"


def test_an_error_body_that_repeats_the_credential_is_masked() -> None:
    book = released() >> response(400) >> ResponseBody(f'"{UPSTREAM_TOKEN}"'.encode(), end_of_stream=True)
    book = book << closing(Outcome.UPSTREAM_ERROR) >> Recorded() << PassResponseHeaders
    assert book << PassResponseBody(b'"[MASKED:gateway-credential]"', end_of_stream=True) << Finish
    assert UPSTREAM_TOKEN not in repr(book.closing)


def test_metadata_that_repeats_the_credential_is_masked() -> None:
    book = pinged() >> response(200, "text/plain") << PassResponseHeaders
    book = book >> ResponseBody(b"ab " + UPSTREAM_TOKEN[:9].encode(), end_of_stream=False)
    book = book << PassResponseBody(b"ab ", end_of_stream=False)
    book = book >> ResponseBody(UPSTREAM_TOKEN[9:].encode() + b" c", end_of_stream=False)
    book = book << PassResponseBody(b"[MASKED:gateway-credential] ", end_of_stream=False)
    book = book >> ResponseBody(b"", end_of_stream=True) << COMPLETED
    assert book >> Recorded() << PassResponseBody(b"c", end_of_stream=True) << Finish


@given(cut=st.integers(0, 200))
def test_a_stream_that_repeats_the_credential_within_one_event_is_masked_wherever_it_is_cut(cut: int) -> None:
    stream = event_saying(f"it is {UPSTREAM_TOKEN}!") + b"data: [DONE]\n\n"
    passed, book = stream_through(released(), [stream[:cut], stream[cut:]])
    assert passed == stream.replace(UPSTREAM_TOKEN.encode(), b"[MASKED:gateway-credential]")
    assert book.closing["response"]["text"] == "it is [MASKED:gateway-credential]!"


@given(cuts=st.sets(st.integers(1, len(UPSTREAM_TOKEN) - 1), min_size=1))
def test_a_stream_that_spreads_the_credential_over_events_is_masked_where_it_began(cuts: set[int]) -> None:
    edges = [0, *sorted(cuts), len(UPSTREAM_TOKEN)]
    parts = [UPSTREAM_TOKEN[start:end] for start, end in pairwise(edges)]
    events = [event_saying(text) for text in ("it is: ", *parts, " so")]
    passed, book = stream_through(released(), [*events, b"data: [DONE]\n\n"])
    masked = ["it is: ", "[MASKED:gateway-credential]", *([""] * (len(parts) - 1)), " so"]
    assert passed == b"".join(map(event_saying, masked)) + b"data: [DONE]\n\n"
    assert book.closing["response"]["text"] == "it is: [MASKED:gateway-credential] so"
    assert book.closing["outcome"] == "completed"


def test_text_that_only_begins_like_the_credential_is_released_once_that_shows() -> None:
    first, second = event_saying(UPSTREAM_TOKEN[:10]), event_saying(" is how it begins ")
    book = released() >> response(200, "text/event-stream") << PassResponseHeaders
    book = book >> ResponseBody(first, end_of_stream=False) >> ResponseBody(second, end_of_stream=False)
    book = book << PassResponseBody(first + second, end_of_stream=False)
    last = first + b"data: [DONE]\n\n"
    book = book >> ResponseBody(last, end_of_stream=True) << PassResponseBody(last, end_of_stream=False) << COMPLETED
    assert book >> Recorded() << PassResponseBody(b"", end_of_stream=True) << Finish


@pytest.mark.parametrize("end", [ResponseBody(b"", end_of_stream=True), ResponseTrailers(["x"])])
def test_the_end_of_a_stream_in_either_form_lets_the_last_words_go(end: Event) -> None:
    first = event_saying("it ends with gh")
    book = released() >> response(200, "text/event-stream") << PassResponseHeaders
    book = book >> ResponseBody(first, end_of_stream=False) >> end
    book = book << closing(Outcome.UPSTREAM_ERROR, Code.UPSTREAM_INCOMPLETE) >> Recorded()
    with_trailers = isinstance(end, ResponseTrailers)
    book = book << PassResponseBody(first, end_of_stream=not with_trailers)
    if with_trailers:
        book = book << PassResponseTrailers(["x"])
    assert book << Finish
    assert book.closing["response"]["text"] == "it ends with gh"


def test_a_stream_without_its_terminal_event_is_passed_and_counts_as_the_upstreams_error() -> None:
    said = event_saying("cut short, ")
    book = released() >> response(200, "text/event-stream") << PassResponseHeaders
    book = book >> ResponseBody(said, end_of_stream=False) << PassResponseBody(said, end_of_stream=False)
    book = book >> ResponseBody(b"", end_of_stream=True)
    book = book << closing(Outcome.UPSTREAM_ERROR, Code.UPSTREAM_INCOMPLETE) >> Recorded()
    assert book << PassResponseBody(b"", end_of_stream=True) << Finish


def test_the_stream_of_a_tools_server_may_end_when_it_likes() -> None:
    call = b'{"jsonrpc":"2.0","id":1,"method":"tools/list"}'
    book = Playbook() >> request("POST", "/mcp") << IDENTIFY >> Identified(ALICE)
    book = book >> RequestBody(call, end_of_stream=True) << FETCH >> CredentialReady(CREDENTIAL) << OPENING
    note = b'data: {"jsonrpc":"2.0","method":"notifications/progress","params":{"message":"half way, "}}\n\n'
    passed, book = stream_through(book.skip(Recorded()), [note])
    assert passed == note
    assert (book.closing["outcome"], book.closing["error"]) == ("completed", None)


def stream_through(book: Playbook, chunks: list[bytes]) -> tuple[bytes, Playbook]:
    """Run a stream to its end; return what was released of it."""
    book = book >> response(200, "text/event-stream") << PassResponseHeaders
    events: list[Event] = [ResponseBody(chunk, end_of_stream=False) for chunk in chunks]
    for event in [*events, ResponseBody(b"", end_of_stream=True), Recorded()]:
        book = book.skip(event)
    return b"".join(one.data for one in book.effects if isinstance(one, PassResponseBody)), book


# --- masking ---------------------------------------------------------------------------------------------------------


def prompt_saying(text: str) -> bytes:
    return msgspec.json.encode({"model": "gpt-5", "messages": [{"role": "user", "content": text}]})


def asked_with(rules: Rules, body: bytes) -> Playbook:
    book = Playbook(Exchange("3" * 32, rules)) >> request() << IDENTIFY >> Identified(ALICE)
    return book >> RequestBody(body, end_of_stream=True)


def answered_with(rules: Rules, body: bytes, content_type: str = "application/json") -> Playbook:
    book = asked_with(rules, PROMPT) << FETCH >> CredentialReady(CREDENTIAL) << OPENING
    for event in (Recorded(), response(200, content_type), ResponseBody(body, end_of_stream=True), Recorded()):
        book = book.skip(event)
    return book


def found(entry: dict[str, Any]) -> list[tuple[str, str, str, int, str]]:
    return [(one["rule"], one["direction"], one["where"], one["offset"], one["action"]) for one in entry["findings"]]


LOOKED = {"detectors": masking().detector.digest, "sets": {"secrets": "mask"}}


def test_a_prompt_is_masked_for_the_upstream_and_in_its_record_which_says_what_was_found() -> None:
    book = asked(body=prompt_saying(f"why is {SECRET} refused?")) >> Recorded()
    masked = prompt_saying(f"why is {MASKED} refused?")
    assert book << PassRequestHeaders << PassRequestBody(masked, end_of_stream=True)
    assert ("content-length", str(len(masked))) in book.first(PassRequestHeaders).set_headers
    opening = book.opening
    assert opening["request"]["messages"] == [{"role": "user", "content": f"why is {MASKED} refused?"}]
    assert found(opening) == [("npmjsaccesstoken", "prompt", "messages[0].content", 7, "mask")]
    assert opening["findings"][0]["at"] == pytest.approx(2 * STEP * 1000)
    assert opening["findings"][0]["fingerprint"] == FINGERPRINTS.of(SECRET)
    assert opening["masking"] == {"prompt": LOOKED}


def test_an_answer_is_masked_and_its_closing_says_what_was_found_there() -> None:
    book = released() >> response() >> ResponseBody(answer_saying(f"use {SECRET} instead"), end_of_stream=True)
    book = book << COMPLETED >> Recorded() << PassResponseHeaders
    assert book << PassResponseBody(answer_saying(f"use {MASKED} instead"), end_of_stream=True) << Finish
    assert found(book.closing) == [("npmjsaccesstoken", "answer", "choices[0].message.content", 4, "mask")]
    assert book.closing["findings"][0]["at"] == pytest.approx(6 * STEP * 1000)
    assert book.closing["masking"] == {"answer": LOOKED}
    assert book.opening["findings"] == []


def test_a_streamed_answer_is_masked_and_its_closing_says_when() -> None:
    events = [event_saying(text) for text in ("use ", SECRET[:20], SECRET[20:], " instead")]
    passed, book = stream_through(released(), [*events, b"data: [DONE]\n\n"])
    assert passed == b"".join(map(event_saying, ("use ", MASKED, "", " instead"))) + b"data: [DONE]\n\n"
    assert book.closing["response"]["text"] == f"use {MASKED} instead"
    assert found(book.closing) == [("npmjsaccesstoken", "answer", "0.content", 4, "mask")]
    assert book.closing["findings"][0]["at"] == pytest.approx(9 * STEP * 1000)
    assert book.closing["masking"] == {"answer": LOOKED}


def test_where_there_was_no_text_nothing_says_that_it_was_looked_at() -> None:
    book = pinged() >> response(204, None, end_of_stream=True) << COMPLETED
    assert book.skip(Recorded())
    assert (book.opening["masking"], book.closing["masking"]) == (None, None)


def test_a_request_that_policy_denies_is_recorded_masked() -> None:
    book = Playbook() >> request() << IDENTIFY >> Identified(MALLORY)
    book = book >> RequestBody(prompt_saying(f"my key is {SECRET}"), end_of_stream=True)
    book = book << refused(Outcome.DENIED, Code.POLICY_DENIED) >> Recorded()
    assert book << Answered(422, Code.POLICY_DENIED) << Finish
    assert book.opening["request"]["messages"] == [{"role": "user", "content": f"my key is {MASKED}"}]
    assert found(book.opening) == [("npmjsaccesstoken", "prompt", "messages[0].content", 10, "mask")]
    assert SECRET not in repr(book.entries)


def test_a_request_that_is_not_understood_is_not_recorded() -> None:
    book = asked_with(rules(), f'{{"model": "{SECRET}"}}'.encode()) << refused(Outcome.DENIED, Code.REQUEST_BODY)
    assert book >> Recorded() << Answered(400, Code.REQUEST_BODY) << Finish
    assert SECRET not in repr(book.entries) + repr(book.first(Respond))


def test_a_secret_in_the_query_is_not_recorded() -> None:
    book = Playbook() >> request("GET", f"/_ping?q={SECRET}", end_of_stream=True) << IDENTIFY >> Identified(ALICE)
    assert book << FETCH >> CredentialReady(CREDENTIAL) << OPENING
    assert book.opening["request"]["path"] == f"/_ping?q={MASKED}"
    assert [one[2] for one in found(book.opening)] == ["path"]


BLOCKED_PROMPTS = masking_rules(Action.BLOCK, Action.MASK)
BLOCKED_ANSWERS = masking_rules(Action.MASK, Action.BLOCK)
OBSERVED = masking_rules(Action.OBSERVE, Action.OBSERVE)


@pytest.mark.parametrize(
    ("path", "body", "told"),
    [
        ("/chat/completions", prompt_saying(SECRET), ("error", "code")),
        ("/responses", msgspec.json.encode({"model": "gpt-5", "input": SECRET}), ("error", "code")),
        ("/v1/messages", prompt_saying(SECRET), ("error", "code")),
        (
            "/mcp",
            msgspec.json.encode(
                {"jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": {"name": "f", "arguments": {"a": SECRET}}}
            ),
            ("error", "data", "code"),
        ),
    ],
)
def test_a_prompt_that_policy_blocks_gets_422_in_its_dialect_and_nothing_leaves(
    path: str, body: bytes, told: tuple[str, ...]
) -> None:
    book = Playbook(Exchange("3" * 32, BLOCKED_PROMPTS)) >> request("POST", path) << IDENTIFY >> Identified(ALICE)
    book = book >> RequestBody(body, end_of_stream=True) << refused(Outcome.DENIED, Code.MASKING_BLOCKED) >> Recorded()
    assert book << Respond << Finish
    answer = book.first(Respond)
    assert (answer.status, answer.details) == (422, "masking.blocked")
    error = json.loads(answer.body)
    assert error.get("type") == ("error" if "messages" in path else None)
    for name in told:
        error = error[name]
    assert error == "masking.blocked"
    assert b"npmjsaccesstoken" in answer.body
    assert [one["action"] for one in book.opening["findings"]] == ["block"]
    assert book.opening["masking"]["prompt"]["sets"] == {"secrets": "block"}
    assert SECRET not in repr(book.entries) + repr(answer)


def test_a_json_answer_that_policy_blocks_becomes_422() -> None:
    book = answered_with(BLOCKED_ANSWERS, answer_saying(f"use {SECRET}"))
    assert (book.first(Respond).status, book.first(Respond).details) == (422, "masking.blocked")
    assert not [one for one in book.effects if isinstance(one, PassResponseHeaders | PassResponseBody)]
    closing = book.closing
    assert (closing["outcome"], closing["error"]["code"]) == ("denied", "masking.blocked")
    assert (closing["response"]["status"], closing["response"]["upstream_status"]) == (422, 200)
    assert [one["action"] for one in closing["findings"]] == ["block"]
    assert SECRET not in repr(book.entries) + repr(book.effects)


def blocked_stream() -> Playbook:
    """Return a stream up to its ending by the gateway."""
    book = asked_with(BLOCKED_ANSWERS, PROMPT) << FETCH >> CredentialReady(CREDENTIAL) << OPENING
    book = book.skip(Recorded()) >> response(200, "text/event-stream") << PassResponseHeaders
    book = book >> ResponseBody(event_saying("fine, "), end_of_stream=False) << PassResponseBody
    return book >> ResponseBody(event_saying(f"{SECRET} "), end_of_stream=False) << PassResponseBody


def test_a_streamed_answer_that_policy_blocks_ends_as_its_dialect_ends_and_is_recorded_so() -> None:
    book = blocked_stream()
    book = book >> ResponseBody(event_saying("and more ") + b"data: [DONE]\n\n", end_of_stream=False)
    book = book >> ResponseBody(b"", end_of_stream=True) << closing(Outcome.DENIED, Code.MASKING_BLOCKED)
    assert book >> Recorded() << PassResponseBody(b"", end_of_stream=True) << Finish
    passed = b"".join(one.data for one in book.effects if isinstance(one, PassResponseBody))
    assert passed.startswith(event_saying("fine, "))
    assert passed.endswith(b"data: [DONE]\n\n")
    assert b"npmjsaccesstoken" in passed
    assert b"and more" not in passed
    assert book.closing["response"]["status"] == 200
    assert [one["action"] for one in book.closing["findings"]] == ["block"]
    assert SECRET not in repr(book.entries) + repr(book.effects)


def test_a_client_that_hangs_up_at_the_gateways_own_ending_did_not_give_up() -> None:
    book = blocked_stream() >> Ended(End.CLIENT) << closing(Outcome.DENIED, Code.MASKING_BLOCKED)
    assert book >> Recorded()


def test_a_text_that_policy_blocks_is_cut_before_the_secret() -> None:
    book = Playbook(Exchange("3" * 32, BLOCKED_ANSWERS)) >> request("GET", "/_ping", end_of_stream=True) << IDENTIFY
    book = book >> Identified(ALICE) << FETCH >> CredentialReady(CREDENTIAL) << OPENING
    book = book.skip(Recorded()) >> response(200, "text/plain") << PassResponseHeaders
    book = book >> ResponseBody(f"{SECRET} ".encode(), end_of_stream=False)
    book = book << closing(Outcome.DENIED, Code.MASKING_BLOCKED) >> Recorded()
    assert book << Fail(Code.MASKING_BLOCKED)


def test_what_is_only_observed_passes_unchanged_and_is_in_the_findings() -> None:
    prompt, answer = prompt_saying(f"my key is {SECRET}"), answer_saying(f"so {SECRET} it is")
    book = asked_with(OBSERVED, prompt) << FETCH >> CredentialReady(CREDENTIAL) << OPENING
    book = book >> Recorded() << PassRequestHeaders << PassRequestBody(prompt, end_of_stream=True)
    book = book >> response() >> ResponseBody(answer, end_of_stream=True) << COMPLETED
    assert book >> Recorded() << PassResponseHeaders << PassResponseBody(answer, end_of_stream=True) << Finish
    assert found(book.opening) == [("npmjsaccesstoken", "prompt", "messages[0].content", 10, "observe")]
    assert found(book.closing) == [("npmjsaccesstoken", "answer", "choices[0].message.content", 3, "observe")]
    assert book.closing["response"]["text"] == f"so {SECRET} it is"


def test_a_stream_that_is_only_observed_passes_unchanged() -> None:
    stream = b"".join(event_saying(text) for text in ("use ", SECRET[:20], SECRET[20:], " ")) + b"data: [DONE]\n\n"
    book = answered_with(OBSERVED, stream, "text/event-stream")
    assert b"".join(one.data for one in book.effects if isinstance(one, PassResponseBody)) == stream
    assert found(book.closing) == [("npmjsaccesstoken", "answer", "0.content", 4, "observe")]
    assert book.closing["outcome"] == "completed"


def test_the_gateways_credential_is_masked_even_where_nothing_else_is() -> None:
    off = masking_rules(Action.OFF, Action.OFF)
    book = answered_with(off, answer_saying(f"{SECRET} and {UPSTREAM_TOKEN}"))
    assert book.closing["response"]["text"] == f"{SECRET} and [MASKED:gateway-credential]"


def test_whole_bodies_are_inspected_as_work_of_the_size_of_what_is_decoded() -> None:
    book = Playbook() >> request() << Identify >> Identified(ALICE)
    [work] = book.exchange.receive(RequestBody(PROMPT, end_of_stream=True), START + 1)
    assert isinstance(work, Compute)
    assert work.size == len(PROMPT)
    book = released() >> response(200, "application/json", ("content-encoding", "gzip"))
    [work] = book.exchange.receive(ResponseBody(gzip.compress(ANSWER), end_of_stream=True), START + 1)
    assert isinstance(work, Compute)
    assert work.size == len(ANSWER)


# --- ends ------------------------------------------------------------------------------------------------------------


def inspecting(book: Playbook, event: Event) -> Playbook:
    """Tell the event and leave the work to which it leads undone."""
    [work] = book.exchange.receive(event, book.now)
    assert isinstance(work, Compute)
    return book


IN_PHASE: dict[Phase, Callable[[], Playbook]] = {
    Phase.NEW: Playbook,
    Phase.IDENTIFYING: lambda: Playbook() >> request() << Identify,
    Phase.READING_REQUEST: lambda: Playbook() >> request() << Identify >> Identified(ALICE),
    Phase.INSPECTING_REQUEST: lambda: inspecting(
        Playbook() >> request() << Identify >> Identified(ALICE), RequestBody(PROMPT, end_of_stream=True)
    ),
    Phase.HOLDING_REQUEST: holding_request,
    Phase.FETCHING_CREDENTIAL: lambda: (
        Playbook() >> request() << Identify >> Identified(ALICE) >> RequestBody(PROMPT, end_of_stream=True) << FETCH
    ),
    Phase.OPENING: asked,
    Phase.AWAITING_RESPONSE: released,
    Phase.READING_RESPONSE: lambda: released() >> response(200, "text/event-stream") << PassResponseHeaders,
    Phase.INSPECTING_RESPONSE: lambda: inspecting(
        released() >> response(), ResponseBody(answer_saying(f"use {SECRET}"), end_of_stream=True)
    ),
    Phase.HOLDING_RESPONSE: lambda: holding_stream(INFRA),
    Phase.CLOSING: lambda: released() >> response() >> ResponseBody(ANSWER, end_of_stream=True) << Record,
    Phase.DONE: lambda: Playbook() >> request(full_duplex=False) << Fail,
}
ENDS = {
    End.CLIENT: (Outcome.ABORTED, Code.CLIENT_GONE),
    End.UPSTREAM: (Outcome.UPSTREAM_ERROR, Code.UPSTREAM_RESET),
    End.ENVOY: (Outcome.FAILED, Code.GATEWAY_PROTOCOL),
    End.DRAIN: (Outcome.INTERRUPTED, Code.GATEWAY_DRAINING),
    End.TIMEOUT: (Outcome.FAILED, Code.GATEWAY_TIMEOUT),
    End.RECORDING: (Outcome.FAILED, Code.RECORDING_UNAVAILABLE),
    End.FAULT: (Outcome.FAILED, Code.GATEWAY_INTERNAL),
}


EARLY = [
    Phase.IDENTIFYING,
    Phase.READING_REQUEST,
    Phase.INSPECTING_REQUEST,
    Phase.HOLDING_REQUEST,
    Phase.FETCHING_CREDENTIAL,
]
LATE = [
    Phase.OPENING,
    Phase.AWAITING_RESPONSE,
    Phase.READING_RESPONSE,
    Phase.INSPECTING_RESPONSE,
    Phase.HOLDING_RESPONSE,
]


def test_the_tables_of_this_file_have_every_phase_and_every_end() -> None:
    assert set(IN_PHASE) == set(Phase)
    assert set(ENDS) == set(End)
    for phase, book in IN_PHASE.items():
        assert book().exchange.phase is phase


@pytest.mark.parametrize("end", End)
@pytest.mark.parametrize("phase", EARLY)
def test_an_exchange_that_ends_before_its_opening_gets_both_entries_at_once(phase: Phase, end: End) -> None:
    book = IN_PHASE[phase]() >> Ended(end) << refused(*ENDS[end])
    assert book >> Recorded()
    assert book.exchange.phase is Phase.DONE


@pytest.mark.parametrize("end", End)
@pytest.mark.parametrize("phase", LATE)
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
    assert book.closing["response"]["text"] == "Hello, "
    assert book.closing["response"]["complete"] is False


def test_of_an_answer_that_was_still_inspected_when_the_client_left_nothing_is_recorded() -> None:
    book = released() >> response()
    [work] = book.exchange.receive(ResponseBody(answer_saying(f"use {SECRET}"), end_of_stream=True), book.now)
    assert isinstance(work, Compute)
    # The work is in a thread and may be done or not: the record must not depend on it.
    work.work()
    assert book >> Ended(End.CLIENT) << closing(Outcome.ABORTED, Code.CLIENT_GONE) >> Recorded()
    assert "text" not in book.closing["response"]
    assert (book.closing["findings"], book.closing["masking"]) == ([], None)


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
        Phase.INSPECTING_REQUEST,
        Phase.HOLDING_REQUEST,
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
    Computed(BadRequest("model: expected a text")),
    CredentialReady(CREDENTIAL),
    Refused(Refusal(401, Code.IDENTITY_EXPIRED, "expired")),
    Recorded(),
    RecordingFailed(),
    Decided(None, "not now"),
    Tick(),
    Ended(End.CLIENT),
]
LEGAL: dict[Phase, set[str]] = {
    Phase.NEW: {"RequestHeaders", "ResponseHeaders"},
    Phase.IDENTIFYING: {"Identified", "Refused"},
    Phase.READING_REQUEST: {"RequestBody", "RequestTrailers", "ResponseHeaders"},
    Phase.INSPECTING_REQUEST: {"Computed"},
    Phase.HOLDING_REQUEST: {"Decided", "Tick", "ResponseHeaders"},
    Phase.FETCHING_CREDENTIAL: {"CredentialReady", "Refused"},
    Phase.OPENING: {"Recorded", "RecordingFailed"},
    Phase.AWAITING_RESPONSE: {"ResponseHeaders"},
    # A verdict only where one is waited for, as `test_exchange_approval.py` has it.
    Phase.READING_RESPONSE: {"ResponseBody", "ResponseTrailers", "Tick"},
    Phase.INSPECTING_RESPONSE: {"Computed"},
    Phase.HOLDING_RESPONSE: {"Decided", "Tick"},
    Phase.CLOSING: {"Recorded", "RecordingFailed"},
    Phase.DONE: set(),
}


@pytest.mark.parametrize("event", EVENTS_OF_EACH_KIND, ids=lambda event: type(event).__name__)
@pytest.mark.parametrize("phase", Phase, ids=lambda phase: phase.name)
def test_every_event_outside_its_phase_is_illegal_and_every_other_is_not(phase: Phase, event: Event) -> None:
    exchange = IN_PHASE[phase]().exchange
    if isinstance(event, Computed) and phase is Phase.INSPECTING_RESPONSE:
        event = Computed(b"{}")
    if type(event).__name__ in LEGAL[phase] | {"Ended"}:
        exchange.receive(event, START + 1)
    else:
        with pytest.raises(IllegalEvent, match=rf"{phase.name}|nobody waits for"):
            exchange.receive(event, START + 1)


@pytest.mark.parametrize("phase", [Phase.INSPECTING_REQUEST, Phase.INSPECTING_RESPONSE])
def test_a_result_of_other_work_is_not_taken_for_an_inspection(phase: Phase) -> None:
    with pytest.raises(IllegalEvent):
        IN_PHASE[phase]().exchange.receive(Computed(None), START + 1)


def test_nothing_an_exchange_shows_of_itself_has_a_secret_or_a_prompt() -> None:
    book = released()
    shown = repr([effect for effect in book.effects if not isinstance(effect, PassRequestHeaders | PassRequestBody)])
    assert TOKEN not in shown
    assert UPSTREAM_TOKEN not in shown
    assert "hi" not in shown.replace("hidden", "")
    assert Secret(TOKEN) == book.first(Identify).token
