from __future__ import annotations

import json
from typing import Any

import pytest
import rfc8785
from hypothesis import given
from hypothesis import strategies as st

from extproc.recording.document import merged
from extproc.recording.entry import canonical_bytes
from extproc.recording.facts import MAX_CHARS, MAX_LISTED, bounded, facts_of, microseconds
from tests.recording_of import NOW, exchange

FINDING = {"rule": "r", "direction": "prompt", "where": "text", "offset": 3, "action": "mask", "fingerprint": "f"}


def facts(**change: Any) -> dict[str, Any]:
    return facts_of(merged(*exchange("x", **change)))


def test_the_facts_are_what_one_searches_by() -> None:
    opening, closing = exchange(
        "x", findings=[{**FINDING, "at": 1.6}], paths=["b", "a"], endpoint="chat", upstream="copilot-api"
    )
    closing["response"]["usage"] = {"input_tokens": 7, "output_tokens": 8}
    closing["error"] = {"code": "policy.denied", "message": "not here"}
    closing["approvals"] = [{"id": "ap-1", "state": "approved"}]
    assert facts_of(merged(opening, closing)) == {
        "user": "alice",
        "principal": "issuer#alice",
        "groups": ["developers"],
        "client": "copilot/1.0",
        "address": "192.0.2.1",
        "endpoint": "chat",
        "upstream": "copilot-api",
        "model": "gpt-5",
        "repository": "acme/app",
        "rule": "developers",
        "outcome": "completed",
        "code": "policy.denied",
        "status": 200,
        "closed_at": 1_760_000_001_000_000,
        "input_tokens": 7,
        "output_tokens": 8,
        "paths": ["a", "b"],
        "findings": [{**FINDING, "at": 2}],
        "approvals": ["ap-1"],
    }


def test_what_is_not_known_is_null_or_empty() -> None:
    opening, closing = exchange("x", user=None)
    nothing = {"outcome": "failed", "closed_at": None, "response": {"status": None}}
    known = facts_of(merged({**opening, "decision": None}, {**closing, **nothing}))
    assert known["outcome"] == "failed"
    assert [name for name, value in known.items() if value is None] == [
        "user", "principal", "endpoint", "upstream", "rule", "code", "status", "closed_at",
        "input_tokens", "output_tokens",
    ]  # fmt: skip
    assert known["groups"] == known["paths"] == known["findings"] == known["approvals"] == []


def test_the_model_that_answered_stands_where_none_was_asked_for() -> None:
    opening, closing = exchange("x", model=None)
    closing["response"]["model"] = "gpt-5-answered"
    assert facts_of(merged(opening, closing))["model"] == "gpt-5-answered"


def test_paths_are_those_of_all_choices_and_of_the_request() -> None:
    opening, closing = exchange("x", tool_calls=[{"paths": ["asked"]}, {"paths": None}])
    closing["response"]["choices"] = [{"tool_calls": [{"paths": ["one"]}]}, {"tool_calls": None}, {"tool_calls": [{}]}]
    assert facts_of(merged(opening, closing))["paths"] == ["asked", "one"]


def test_lists_and_texts_are_bounded_and_say_so() -> None:
    found = facts(groups=[f"g{number}" for number in range(150)], user="u" * 1000)
    assert found["groups"] == [f"g{number}" for number in range(MAX_LISTED)]
    assert found["groups_more"] == 50
    assert found["user"] == "u" * MAX_CHARS
    assert "paths_more" not in found


@pytest.mark.parametrize("count", [-1, 2**53, 1e3, "7", None, 10**40])
def test_counts_that_no_head_can_hold_are_not_known(count: Any) -> None:
    opening, closing = exchange("x")
    closing["response"]["usage"] = {"input_tokens": count, "output_tokens": 2**53 - 1}
    found = facts_of(merged(opening, closing))
    assert (found["input_tokens"], found["output_tokens"]) == (None, 2**53 - 1)


def test_times_are_whole_microseconds() -> None:
    assert microseconds(0.0000014) == 1
    assert microseconds(NOW) == 1_760_000_000_000_000


texts = st.text(st.characters(), max_size=20)


@given(texts, st.lists(texts, max_size=3), texts, texts)
def test_whatever_the_texts_are_facts_have_canonical_bytes(user: str, paths: list[str], model: str, rule: str) -> None:
    opening, closing = exchange(
        "x", user=user, paths=paths, model=model, findings=[{**FINDING, "at": 0.5, "rule": rule}]
    )
    canonical = canonical_bytes(facts_of(merged(opening, closing)))
    assert rfc8785.dumps(json.loads(canonical)) == canonical


@given(st.dictionaries(st.sampled_from("abc"), st.text(max_size=600) | st.lists(st.text(max_size=600), max_size=3)))
def test_bounded_facts_stay_as_they_are(given_facts: dict[str, Any]) -> None:
    once = bounded(given_facts)
    assert bounded(once) == once
