from __future__ import annotations

from dataclasses import replace

import pytest

from extproc.conversation import Answer, Prompt
from extproc.endpoint import Endpoint, EndpointKind, Upstream
from extproc.errors import Code, Refusal
from extproc.identity.principal import Principal
from extproc.masking.finding import Action, Direction, Finding
from extproc.recording.document import Outcome
from extproc.recording.session import Sessions
from extproc.recording.story import Story
from extproc.recording.turn import gist_of
from extproc.request import read_request

ALICE = Principal(id="i#alice", name="alice", kind="person", issuer="i", subject="alice")

PATH: dict[str, str | None] = {"path": "/chat/completions?q=[MASKED:npm-token]"}


def story(*headers: tuple[str, str]) -> Story:
    request, _ = read_request([(":method", "POST"), (":path", "/chat/completions"), (":authority", "h"), *headers])
    return Story("x1", opened_at=100.0, now=100.0, request=request)


def sessions() -> Sessions:
    return Sessions(gap_seconds=60)


def test_elapsed_is_in_milliseconds_after_the_opening() -> None:
    told = story()
    told.now = 100.1234567
    assert told.elapsed() == pytest.approx(123.457)


@pytest.mark.parametrize(
    ("status", "code", "outcome"),
    [
        (401, Code.IDENTITY_EXPIRED, Outcome.DENIED),
        (413, Code.REQUEST_TOO_LARGE, Outcome.DENIED),
        (422, Code.POLICY_DENIED, Outcome.DENIED),
        (503, Code.IDENTITY_UNAVAILABLE, Outcome.FAILED),
        (502, Code.CREDENTIAL_REFUSED, Outcome.FAILED),
        (502, Code.UPSTREAM_ENCODED, Outcome.UPSTREAM_ERROR),
        (503, Code.UPSTREAM_UNAVAILABLE, Outcome.UPSTREAM_ERROR),
    ],
)
def test_a_refusal_counts_for_whoever_caused_it(status: int, code: Code, outcome: Outcome) -> None:
    told = story()
    told.refused(Refusal(status, code, "No."))
    assert told.closing()["outcome"] == outcome
    assert told.closing()["error"] == {"code": code, "message": "No."}


@pytest.mark.parametrize(
    ("status", "outcome"), [(200, Outcome.COMPLETED), (304, Outcome.COMPLETED), (404, Outcome.UPSTREAM_ERROR)]
)
def test_an_answer_that_passed_is_completed_unless_it_is_an_error(status: int, outcome: Outcome) -> None:
    told = story()
    told.status = status
    told.completed()
    assert told.outcome is outcome


def test_a_story_that_was_never_brought_to_an_end_closes_as_failed() -> None:
    assert story().closing()["outcome"] == "failed"


def test_without_request_headers_there_is_no_opening() -> None:
    with pytest.raises(ValueError, match="no record"):
        Story("x1").opening(sessions(), "d", PATH)


def test_the_opening_has_the_clients_trace_or_none() -> None:
    trace = "4bf92f3577b34da6a3ce929d0e0e4736"
    told = story(("traceparent", f"00-{trace}-00f067aa0ba902b7-01"))
    assert told.opening(sessions(), "d", PATH)["client"]["trace"] == told.trace == trace
    assert story(("traceparent", "x")).opening(sessions(), "d", PATH)["client"]["trace"] is None


def test_the_model_that_was_asked_for_is_known_after_the_prompt_was_let_go() -> None:
    told = story()
    told.prompt = Prompt("gpt-5", [], [], stream=True)
    told.opening(sessions(), "d", PATH)
    told.prompt = None
    assert told.model == "gpt-5"
    named = story()
    named.endpoint = Endpoint(EndpointKind.COMPLETIONS, Upstream.COPILOT_PROXY, "/v1/engines/m/completions", "m")
    named.prompt = Prompt("another", [], [], stream=True)
    named.opening(sessions(), "d", PATH)
    assert named.model == "m"


def test_the_session_is_what_the_client_names_first() -> None:
    told = story(("x-client-session-id", "s"), ("x-interaction-id", "i"))
    told.principal = ALICE
    named = told.opening(sessions(), "d", PATH)["session"]
    assert named == sessions().name("i#alice", "s", None, 0.0)
    told = story(("x-interaction-id", "i"))
    told.principal = ALICE
    assert told.opening(sessions(), "d", PATH)["session"] == sessions().name("i#alice", "i", None, 0.0)


def test_without_a_name_the_session_follows_from_client_and_time() -> None:
    told, shared = story(("user-agent", "cli")), sessions()
    told.principal = ALICE
    assert told.opening(shared, "d", PATH)["session"] == shared.name("i#alice", None, "cli", 130.0)


def test_nobody_joins_the_session_of_somebody_by_its_name() -> None:
    told = story(("x-client-session-id", "s"))
    assert told.opening(sessions(), "d", PATH)["session"] != sessions().name("i#alice", "s", None, 0.0)


def test_the_entries_are_made_of_what_became_known() -> None:
    told = story(("user-agent", "cli"))
    told.principal, told.client_address, told.request_bytes = ALICE, "192.0.2.7:1", 7
    told.endpoint = Endpoint(EndpointKind.CHAT, Upstream.COPILOT_API, "/chat/completions")
    entry = told.opening(sessions(), "d" * 64, PATH)
    assert (entry["id"], entry["opened_at"], entry["principal"]["name"]) == ("x1", 100.0, "alice")
    assert (entry["request"]["endpoint"], entry["request"]["body_bytes"]) == ("chat", 7)
    assert entry["request"]["path"] == PATH["path"]
    assert entry["client"]["user_agent"] == "cli"
    told.now, told.status, told.response_bytes = 101.0, 200, 9
    told.answer = Answer("m", [], None, complete=True)
    told.completed()
    entry = told.closing()
    assert (entry["closed_at"], entry["timing"]["closed"]) == (101.0, 1000.0)
    assert (entry["response"]["body_bytes"], entry["response"]["model"]) == (9, "m")


def test_findings_go_into_the_entry_of_their_direction_with_what_looked_for_them() -> None:
    told = story()
    for direction in (Direction.ANSWER, Direction.PROMPT, Direction.ANSWER):
        told.findings.append(Finding("r", direction, f"{len(told.findings)}.text", 0, Action.MASK, 1.0, "f" * 32))
    told.masking[Direction.PROMPT] = {"detectors": "d"}
    opening, closing = told.opening(sessions(), "d", PATH), told.closing()
    assert [one["where"] for one in opening["findings"]] == ["1.text"]
    assert [one["where"] for one in closing["findings"]] == ["0.text", "2.text"]
    assert (opening["masking"], closing["masking"]) == ({"prompt": {"detectors": "d"}}, None)


# --- turns -----------------------------------------------------------------------------------------------------------

CHAT = Endpoint(EndpointKind.CHAT, Upstream.COPILOT_API, "/chat/completions")
GIST = gist_of(CHAT.kind, Prompt("gpt-5", [{"role": "user", "content": "hi"}], [], stream=True))


def asked(exchange: str, shared: Sessions, *headers: tuple[str, str]) -> tuple[Story, dict[str, str | None]]:
    told = story(*headers)
    told.id, told.principal, told.endpoint, told.gist = exchange, ALICE, CHAT, GIST
    turn: dict[str, str | None] = told.opening(shared, "d", PATH)["turn"]
    return told, turn


def test_the_opening_says_which_turn_of_the_session_it_is() -> None:
    _, turn = asked("x1", sessions(), ("x-client-session-id", "s"), ("x-interaction-id", "i"))
    assert turn == {"id": "i", "retry_of": None, "purpose": None}


def test_where_no_model_is_asked_there_is_no_turn() -> None:
    told = story(("x-interaction-id", "i"))
    assert told.opening(sessions(), "d", PATH)["turn"] is None
    told.endpoint = Endpoint(EndpointKind.MODELS, Upstream.COPILOT_API, "/models")
    assert told.opening(sessions(), "d", PATH)["turn"] is None


@pytest.mark.parametrize("failed", [True, False])
def test_how_an_exchange_ended_decides_whether_the_same_prompt_is_a_retry(*, failed: bool) -> None:
    shared = sessions()
    first, _ = asked("x1", shared)
    first.status = 500 if failed else 200
    first.completed()
    first.closing()
    _, turn = asked("x2", shared)
    assert turn == {"id": "x1" if failed else "x2", "retry_of": "x1" if failed else None, "purpose": None}


def test_nobody_retries_the_prompt_of_somebody() -> None:
    shared = sessions()
    asked("x1", shared, ("x-client-session-id", "s"), ("x-interaction-id", "i"))
    told = story(("x-client-session-id", "s"), ("x-interaction-id", "i"))
    told.principal, told.endpoint, told.gist = replace(ALICE, id="i#bob"), CHAT, GIST
    assert told.opening(shared, "d", PATH)["turn"]["retry_of"] is None
