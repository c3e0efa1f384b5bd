from __future__ import annotations

from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from extproc.recording.entry import Head, Kind, canonical_bytes, read_head
from extproc.store.port import Search
from extproc.store.searching import finding_rows, glob, head_filter, readable, said_anew, says, session_row
from tests.recording_of import Log, exchange

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=20,
)


def head_of(**facts: Any) -> Head:
    return Head(1, "a", 0, "0" * 64, Kind.EXCHANGE, "x", "s1", 5_000_000, facts, None, 0, [], None)


@pytest.mark.parametrize(
    ("pattern", "text", "fits"),
    [
        ("*", "", True),
        ("a*", "a\nb", True),
        ("a?", "ab", False),
        ("[a]", "a", False),
        ("[a]*", "[a]/b", True),
        ("a", "A", False),
        ("a.b", "axb", False),
    ],
)
def test_only_a_star_is_special_in_a_glob(pattern: str, text: str, *, fits: bool) -> None:
    assert glob(pattern)(text) == fits


@pytest.mark.parametrize(
    "search",
    [
        Search(user="u"),
        Search(principal="u"),
        Search(group="g"),
        Search(model="m"),
        Search(outcome="o"),
        Search(repository="r"),
        Search(path="p"),
        Search(finding="f"),
        Search(session="s2"),
    ],
)
def test_a_head_without_facts_fits_nothing_that_is_asked_of_it(search: Search) -> None:
    assert not head_filter(search)(head_of())
    assert head_filter(Search())(head_of())


@given(st.dictionaries(st.sampled_from(["request", "response", "other"]), st.dictionaries(st.text(), JSON)))
def test_looking_for_a_text_never_fails_on_any_document(document: dict[str, Any]) -> None:
    assert says(document, "x") in {True, False}


@pytest.mark.parametrize(
    ("document", "said"),
    [
        ({"request": {"messages": [{"content": [{"text": "a NEEDLE"}]}]}}, True),
        ({"request": {"tool_calls": [{"arguments": "needle"}]}}, True),
        ({"response": {"reasoning": "Needle"}}, True),
        ({"response": {"choices": [{"text": "needle"}]}}, True),
        ({"response": {"unparsed": ["needle"]}}, True),
        ({"request": {"tools": ["needle"], "path": "/needle"}, "client": {"user_agent": "needle"}}, False),
        ({"request": None, "response": None}, False),
    ],
)
def test_what_was_asked_and_answered_is_looked_through_and_nothing_else(document: Any, *, said: bool) -> None:
    assert says(document, "nEEdle") == said


def test_a_session_is_summed_up_in_any_order_with_what_is_missing() -> None:
    first = head_of(closed_at=7_000_000, model="m", outcome="completed", user="alice")
    second = Head(1, "a", 1, "0" * 64, Kind.EXCHANGE, "y", "s1", 6_000_000, {}, None, 0, [], None)
    row = session_row("s1", [second, first])
    assert (row.started_at, row.ended_at, row.exchanges) == (5.0, 7.0, 2)
    assert (row.user, row.models, row.outcomes) == ("alice", ["m"], {"completed": 1, "unknown": 1})


@pytest.mark.parametrize(
    "facts",
    [
        {"user": 1},
        {"model": {}},
        {"paths": "p"},
        {"closed_at": "now"},
        {"closed_at": 10**400},
        {"findings": [{}]},
        {"input_tokens": "7"},
        {"approvals": 3},
    ],
    ids=str,
)
def test_a_head_with_facts_that_nobody_recorded_cannot_be_read(facts: dict[str, Any]) -> None:
    with pytest.raises(msgspec.DecodeError):
        readable(canonical_bytes(head_of(**facts)))


def test_the_rows_of_findings_are_numbered_as_in_the_document() -> None:
    found = {
        "rule": "r",
        "direction": "prompt",
        "where": "w",
        "offset": 1,
        "action": "mask",
        "at": 2.4,
        "fingerprint": "f",
    }
    sealed = Log().exchange(*exchange("x", findings=[found, {**found, "rule": "q"}]))
    assert [(row.id, row.rule, row.at) for row in finding_rows(read_head(sealed.head))] == [
        ("x-0", "r", 2),
        ("x-1", "q", 2),
    ]


@pytest.mark.parametrize(
    ("document", "said"),
    [
        ({}, ""),
        ({"request": {"messages": ["one", {"role": "user", "content": "two"}]}}, "one\ntwo"),
        ({"request": {"messages": [{"content": "old"}, {"role": "assistant", "content": "x"}, "new"]}}, "new"),
        ({"request": {"messages": [{"role": "assistant", "content": "x"}]}, "response": {"text": "answer"}}, "answer"),
        ({"request": {"messages": [{"content": [{"type": "text", "text": "a"}, {"text": "b", "id": "i"}]}]}}, "a\nb"),
        ({"request": {"messages": [{"image_url": {"url": "data:image/png;base64,AAAA"}}]}}, ""),
        ({"response": {"tool_calls": [{"id": "c", "name": "edit", "arguments": '{"new": "x\\ny"}'}]}}, "edit\nx\ny"),
        ({"response": {"tool_calls": [{"name": "edit", "arguments": '{"cut of'}]}}, 'edit\n{"cut of'),
        ({"request": {"tool_calls": [{"name": "q", "arguments": "{}"}]}, "response": {"reasoning": "r"}}, "q\nr"),
        (
            {"request": {"messages": "odd"}, "response": {"text": 5, "choices": [{"text": "c"}], "unparsed": ["u"]}},
            "c\nu",
        ),
        ({"request": None, "response": None}, ""),
    ],
)
def test_what_was_said_anew_is_this_turn_and_the_answer(document: dict[str, Any], said: str) -> None:
    assert said_anew(document) == said


@given(st.dictionaries(st.sampled_from(["request", "response"]), st.dictionaries(st.text(), JSON)))
def test_what_was_said_anew_is_a_text_for_any_document(document: dict[str, Any]) -> None:
    assert isinstance(said_anew(document), str)
