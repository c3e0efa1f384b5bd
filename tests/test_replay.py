from __future__ import annotations

import io
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.console import Console

from extproc.replay import MAX_WAIT_SECONDS, frames, play, printable


def document(**changes: Any) -> dict[str, Any]:
    return {
        "v": 1,
        "id": "x1",
        "opened_at": 1000.0,
        "closed_at": 1002.0,
        "outcome": "completed",
        "error": None,
        "principal": {"name": "alice"},
        "decision": {"rule": "developers"},
        "request": {
            "method": "POST",
            "path": "/chat/completions",
            "model": "gpt-5",
            "messages": [{"role": "user", "content": "say hello"}],
        },
        "response": {
            "status": 200,
            "text": "Hello, world",
            "reasoning": "",
            "tool_calls": [],
            "finish_reason": "stop",
            "usage": {"input_tokens": 3, "output_tokens": 4},
        },
        "timing": {
            "pieces": [[500.0, "0.text", 5], [600.0, "0.reasoning", 9], [1500.0, "0.text", 7], [1600.0, "0.text", 0]],
            "closed": 2000.0,
        },
        **changes,
    }


OPEN = {"outcome": "open", "closed_at": None, "response": None, "timing": None}


# --- frames ----------------------------------------------------------------------------------------------------------


def test_frames_grow_by_the_pieces_of_the_first_text_with_the_pauses_between_them() -> None:
    assert list(frames(document())) == [(0.5, "Hello"), (1.0, "Hello, world")]


def test_an_answer_that_was_not_streamed_is_one_frame_at_its_end() -> None:
    timing = {"pieces": [], "closed": 2000.0}
    assert list(frames(document(timing=timing))) == [(2.0, "Hello, world")]


@pytest.mark.parametrize(
    "changes", [OPEN, {"response": {"status": 422}}, {"response": {"text": None}}, {"response": {"text": ""}}]
)
def test_without_a_text_there_is_no_frame(changes: dict[str, Any]) -> None:
    timing = {"pieces": [], "closed": 5.0}
    assert list(frames(document(**{"timing": timing, **changes}))) == []


@given(st.lists(st.text(min_size=1), min_size=1), st.floats(1, 1000))
def test_the_last_frame_is_the_whole_text_at_its_own_time(texts: list[str], gap: float) -> None:
    pieces = [[gap * (at + 1), "0.text", len(text)] for at, text in enumerate(texts)]
    shown = list(frames(document(response={"text": "".join(texts)}, timing={"pieces": pieces, "closed": 0.0})))
    assert [text for _, text in shown] == ["".join(texts[: at + 1]) for at in range(len(texts))]
    assert sum(delay for delay, _ in shown) == pytest.approx(gap * len(texts) / 1000)


# --- playing ---------------------------------------------------------------------------------------------------------


def played(
    *documents: dict[str, Any], speed: float = 1, wait: bool = True, terminal: bool = False
) -> tuple[str, list[float]]:
    slept: list[float] = []
    out = io.StringIO()
    console = Console(file=out, width=100, force_terminal=terminal, highlight=False, markup=False, color_system=None)
    play(documents, console, speed=speed, wait=wait, sleep=slept.append)
    return out.getvalue(), slept


@pytest.mark.parametrize("terminal", [False, True])
@pytest.mark.parametrize(("speed", "total"), [(1, 1.5), (2, 0.75), (0.5, 3.0)])
def test_playing_takes_as_long_as_it_took_divided_by_the_speed(speed: float, total: float, terminal: bool) -> None:  # noqa: FBT001
    shown, slept = played(document(), speed=speed, terminal=terminal)
    assert sum(slept) == pytest.approx(total)
    assert "Hello, world" in shown


def test_between_exchanges_it_waits_as_the_person_did_but_never_long() -> None:
    second = document(id="x2", opened_at=1010.0, closed_at=1012.0)
    _, slept = played(document(), second)
    assert slept == pytest.approx([0.5, 1.0, 8.0, 0.5, 1.0])
    late = document(id="x3", opened_at=100_000.0)
    assert max(played(document(), late)[1]) == MAX_WAIT_SECONDS
    early = document(id="x4", opened_at=999.0)
    assert min(played(document(), early)[1]) == 0.0
    slow = document(timing={"pieces": [[10**9, "0.text", 12]], "closed": 0.0})
    assert played(slow)[1] == [MAX_WAIT_SECONDS]


def test_without_waiting_everything_is_shown_at_once() -> None:
    shown, slept = played(document(), document(id="x2", opened_at=2000.0), wait=False)
    assert slept == []
    assert shown.count("Hello, world") == 2


def test_an_exchange_is_shown_with_who_asked_what_and_how_it_ended() -> None:
    shown, _ = played(document())
    for fact in ("alice", "POST /chat/completions", "gpt-5", "x1", "say hello", "completed", "status 200"):
        assert fact in shown
    for fact in ("rule developers", "finish stop", "tokens 3 in, 4 out"):
        assert fact in shown


def turn(of: str | None, retry_of: str | None = None, purpose: str | None = None) -> dict[str, Any]:
    return {"id": of, "retry_of": retry_of, "purpose": purpose}


def test_turns_are_numbered_as_they_come_and_retries_and_titles_are_told() -> None:
    turns = [turn("a"), turn(None, purpose="title"), turn("a", retry_of="x1"), turn("b"), turn("a"), None]
    shown, _ = played(*(document(id=f"x{at}", turn=one) for at, one in enumerate(turns, 1)))
    headings = [line.split("gpt-5  ")[1].rstrip() for line in shown.splitlines() if "alice" in line]
    assert headings == ["turn 1  x1", "(title)  x2", "turn 1  retry of x1  x3", "turn 2  x4", "turn 1  x5", "x6"]


def test_a_refusal_an_open_exchange_and_nobody_are_shown() -> None:
    error = {"code": "policy.denied", "message": "No."}
    refused = document(outcome="denied", error=error, principal=None, decision=None, response={"status": 422})
    shown, _ = played(refused, document(**OPEN))
    for fact in ("unidentified", "denied", "policy.denied: No.", "open"):
        assert fact in shown


def test_of_an_exchange_whose_content_was_removed_the_facts_are_shown_and_why() -> None:
    facts = {"user": "alice\x1b", "model": "gpt-5", "outcome": "completed"}
    gone = {"id": "x0", "opened_at": 1000.0, "facts": facts, "removed": "its content was removed from the store"}
    nobody = {**gone, "id": "x2", "facts": {"user": None, "model": None, "outcome": "denied"}}
    for wait in (False, True):
        shown, _ = played(gone, document(), nobody, wait=wait)
        for fact in ("alice  gpt-5  x0", "completed  its content was removed from the store", "unidentified  x2", "x1"):
            assert fact in shown
    assert list(frames(gone)) == []


def test_reasoning_and_tool_calls_are_shown_whether_their_arguments_are_json_or_not() -> None:
    calls = [
        {"id": "1", "name": "create_file", "arguments": '{"path":"infra/x.tf"}'},
        {"id": "2", "name": "broken", "arguments": '{"path":'},
    ]
    shown, _ = played(document(response={"text": "", "reasoning": "thinking hard", "tool_calls": calls}))
    for fact in ("thinking hard", "tool call create_file", '"path": "infra/x.tf"', "tool call broken", '{"path":'):
        assert fact in shown


APPROVAL: dict[str, Any] = {
    "id": "x1-1",
    "rule": "privileged-files",
    "state": "approved",
    "why": None,
    "granted": None,
    "touches": [{"act": "edit", "tool": "edit", "path": "infra/x.tf"}, {"act": "merge", "tool": "m", "path": None}],
    "requested_at": 1000.0,
    "waited_ms": 61_500.0,
    "verdicts": [
        {"approver": "i#bob", "name": "bob", "approved": True, "reason": "reviewed", "scope": "once", "at": 1}
    ],
}


def test_an_approval_is_shown_with_what_was_held_who_decided_why_and_how_long_it_took() -> None:
    shown, _ = played(document(approvals=[APPROVAL, {**APPROVAL, "state": "expired", "verdicts": []}]))
    words = " ".join(shown.split())
    for fact in ("approval approved", "rule privileged-files", "infra/x.tf, merge", "waited 61.5 s", "bob: reviewed"):
        assert fact in words
    for fact in ("x1-1", "approval expired"):
        assert fact in words
    assert "covered by" not in words


def test_an_approval_that_an_earlier_one_covered_names_it() -> None:
    verdicts = [{**APPROVAL["verdicts"][0], "reason": ""}]
    shown, _ = played(document(approvals=[{**APPROVAL, "granted": "x0-1", "verdicts": verdicts}]))
    assert "covered by x0-1" in shown
    assert "bob: no reason given" in " ".join(shown.split())


def test_of_a_conversation_only_the_new_turn_is_shown() -> None:
    messages = [
        {"role": "system", "content": "be kind"},
        {"role": "user", "content": "first question"},
        {"role": "assistant", "content": "first answer"},
        {"role": "tool", "content": "a result"},
        {"role": "user", "content": [{"type": "text", "text": "second"}, {"type": "image_url"}, "odd"]},
        "not an object",
    ]
    shown, _ = played(document(request={"method": "POST", "path": "/", "messages": messages}))
    assert "first" not in shown
    for fact in ("a result", "second", "[image_url]", "odd", "not an object"):
        assert fact in shown


HOSTILE = "a\x1b[31mb\x07c\x9b2Jd\u202ee\r\x00f"


def test_nothing_recorded_can_steer_the_terminal() -> None:
    hostile = document(
        principal={"name": HOSTILE},
        request={
            "method": "GET",
            "path": HOSTILE,
            "model": HOSTILE,
            "messages": [{"role": HOSTILE, "content": HOSTILE}],
        },
        response={
            "status": 200,
            "text": HOSTILE,
            "reasoning": HOSTILE,
            "finish_reason": HOSTILE,
            "tool_calls": [
                {"id": "1", "name": HOSTILE, "arguments": HOSTILE},
                {"id": "1", "name": "f", "arguments": '"\\u001b[31m\\u202e"'},
            ],
        },
        timing={"pieces": [[1.0, "0.text", 100]], "closed": 2.0},
        approvals=[
            {
                **APPROVAL,
                "rule": HOSTILE,
                "touches": [{"act": "edit", "path": HOSTILE}],
                "verdicts": [{"name": HOSTILE, "reason": HOSTILE}],
            }
        ],
    )
    shown, _ = played(hostile)
    assert not [char for char in shown if not (char.isprintable() or char == "\n")]


@given(st.text())
def test_printable_keeps_all_that_prints_with_line_breaks_and_tabs(text: str) -> None:
    kept = printable(text)
    assert all(char.isprintable() or char in "\n\t" for char in kept)
    assert printable(kept) == kept
    assert [char for char in text if char.isprintable()] == [char for char in kept if char.isprintable()]


def test_printable_takes_out_escapes_and_direction_overrides() -> None:
    assert printable(HOSTILE) == "a[31mbc2Jdef"
