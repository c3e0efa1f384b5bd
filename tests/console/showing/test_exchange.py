from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from extproc.console.showing import exchange as showing
from tests.console.rendered import Read, assert_harmless, document, joined, rendered
from tests.recording_of import NOW
from tests.recording_of import exchange as recorded

HOSTILE = [
    "<script>alert(1)</script>",
    "<img src=x onerror=alert(1)>",
    "\"'><svg onload=alert(1)>",
    "[click](javascript:alert(1))",
    "{{7*7}}{% raw %}",
    "</script><script>alert(1)</script><!--",
    "</pre></code></details><h1>",
    "pay \u202e001\u202c to \u2066x\u2069",
    "a\x00b\x1b[31m\x7f",
    "```html\n<script>alert(1)</script>\n```",
    '[MASKED:" onfocus=alert(1) x="]',
    "half a character: \ud800",
]


def finding(**changes: Any) -> dict[str, Any]:
    one = {
        "rule": "npm",
        "direction": "prompt",
        "where": "messages[0].content",
        "offset": 4,
        "action": "mask",
        "at": 1.0,
    }
    return {**one, "fingerprint": "f" * 32, **changes}


def approval(**changes: Any) -> dict[str, Any]:
    verdict = {
        "approver": "i#bob",
        "name": "bob",
        "approved": True,
        "reason": "reviewed",
        "scope": "once",
        "at": NOW + 5,
    }
    touch = {"act": "edit", "tool": "edit", "path": "infra/a.tf", "repository": "acme/app", "branch": None}
    one = {"id": "x1-1", "rule": "infra", "state": "approved", "why": None, "granted": None, "touches": [touch]}
    return {**one, "requested_at": NOW, "waited_ms": 4500.0, "verdicts": [verdict], **changes}


# --- what is shown ---------------------------------------------------------------------------------------------------


def test_an_exchange_says_who_asked_what_and_how_it_ended() -> None:
    one = document(
        turn={"id": "t1", "retry_of": "x0", "purpose": "title"},
        request={"method": "POST", "path": "/chat/completions", "endpoint": "chat"},
        response={
            "text": "Hi",
            "reasoning": "Hm",
            "finish_reason": "stop",
            "usage": {"input_tokens": 3, "output_tokens": 4},
        },
        timing={"pieces": [], "closed": 1234.0},
    )
    (shown,) = showing.session([one], numbered=True)
    assert (shown.user, shown.model, shown.request) == ("alice", "gpt-5", "POST /chat/completions")
    assert (shown.turn, shown.retry_of) == (["turn 1", "title"], "x0")
    assert [(part.kind, Read(str(part.body)).text) for part in shown.answers[0].parts] == [
        ("reasoning", "Hm"),
        ("text", "Hi"),
    ]
    ending = dict(shown.ending)
    assert ending["status"] == "200"
    assert (ending["tokens in"], ending["tokens out"], ending["finish reason"], ending["took"]) == (
        "3",
        "4",
        "stop",
        "1.2 s",
    )
    assert not shown.failed


def test_turns_are_numbered_as_they_come_and_not_in_the_middle_of_a_session() -> None:
    three = [document(turn={"id": name, "retry_of": None, "purpose": None}) for name in ("a", "b", "a")]
    assert [one.turn for one in showing.session(three, numbered=True)] == [["turn 1"], ["turn 2"], ["turn 1"]]
    assert [one.turn for one in showing.session(three, numbered=False)] == [[], [], []]


def test_of_a_prompt_that_is_sent_again_only_what_is_new_is_shown_and_alone_all_of_it() -> None:
    messages = [
        {"role": "user", "content": "one"},
        {"role": "assistant", "content": "1"},
        {"role": "user", "content": "two"},
    ]
    one = document(request={"messages": messages})
    (shown,) = showing.session([one], numbered=True)
    assert (shown.earlier, len(shown.messages), shown.before) == (2, 1, [])
    alone = showing.alone(one)
    assert (len(alone.before), len(alone.messages)) == (2, 1)
    assert "2 earlier messages were sent again" in rendered([one])
    assert "2 earlier messages, sent again" in rendered([one], alone=True)


def test_the_system_prompt_is_folded() -> None:
    one = document(
        request={"messages": [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "Hi"}]}
    )
    html = rendered([one])
    assert "<summary>system, 9 characters</summary>" in html


def test_edits_are_diffs_and_other_calls_json() -> None:
    edit = {"name": "edit", "arguments": '{"path":"a.py","old_str":"x","new_str":"y"}'}
    html = rendered(
        [document(response={"text": None, "tool_calls": [edit, {"name": "bash", "arguments": '{"command":"ls"}'}]})]
    )
    assert '<pre class="diff">' in html
    assert '<span class="del">-x\n</span><span class="add">+y\n</span>' in html
    assert "&#34;command&#34;: &#34;ls&#34;" in html


def test_several_choices_are_all_shown() -> None:
    choices = [
        {"index": at, "text": f"answer {at}", "reasoning": "", "tool_calls": [], "finish_reason": "stop"}
        for at in range(2)
    ]
    html = rendered([document(response={"text": "answer 0", "choices": choices})])
    assert html.count("answer 0</p>") == 1
    assert "choice 2 of 2, stop" in html


def test_placeholders_have_their_findings_and_all_findings_are_listed() -> None:
    one = document(
        request={"messages": [{"role": "user", "content": "key [MASKED:npm]"}]},
        findings=[finding(), finding(action="observe")],
    )
    read = Read(rendered([one]))
    (mark,) = read.all("mark")
    assert "fingerprint ffff" in str(mark["title"])
    assert "2 findings" in read.text
    assert [one["href"] for one in read.all("a") if "/findings" in str(one["href"])] == [
        f"/findings?fingerprint={'f' * 32}"
    ] * 2
    assert "data-finding" in read.all("article")[0]


def test_approvals_say_who_decided_why_and_how_long_it_waited() -> None:
    denied = approval(
        state="denied", verdicts=[{"approver": "i#eve", "name": None, "approved": False, "reason": "", "at": None}]
    )
    refused = approval(state="refused", why="nobody can be asked", verdicts=[], granted="x0-1", waited_ms=None)
    html = rendered([document(approvals=[approval(), denied, refused])])
    text = " ".join(Read(html).text.split())
    assert "approval approved rule infra, waited 4.5 s" in text
    assert "edit infra/a.tf acme/app" in text
    assert "bob approved at 2025-10-09 08:53:25, for: once: reviewed" in text
    assert "i#eve denied: no reason given" in text
    assert "nobody can be asked" in text
    assert 'href="/approvals/x0-1"' in html
    assert "data-approval" in Read(html).all("article")[0]


def test_what_failed_says_how() -> None:
    error = {"code": "policy.denied", "message": "Not <you>."}
    (shown,) = showing.session([document(outcome="denied", error=error, response=None)], numbered=True)
    assert (shown.code, shown.error, shown.failed, shown.answers) == ("policy.denied", "Not <you>.", True, [])
    html = rendered([document(outcome="denied", error=error, response=None)])
    assert "data-error" in Read(html).all("article")[0]
    assert "Not &lt;you&gt;." in html


def test_removed_content_says_so() -> None:
    facts = {
        "user": "alice",
        "model": "gpt-5",
        "outcome": "denied",
        "code": "policy.denied",
        "input_tokens": 5,
        "findings": [finding()],
    }
    gone = {
        "id": "x1",
        "session": "s1",
        "opened_at": NOW,
        "facts": facts,
        "removed": "its content was removed from the store",
    }
    for alone in (False, True):
        text = Read(rendered([gone], alone=alone)).text
        assert "The content of this exchange is not here: its content was removed from the store" in text
        assert "alice" in text
        assert "policy.denied" in text
        assert "1 finding" in text


def test_what_nobody_understood_and_requests_of_tools_are_shown() -> None:
    call = {"name": "create_issue", "arguments": '{"title":"<x>"}'}
    message = {"jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": {"name": "create_issue"}}
    text = Read(
        rendered(
            [
                document(
                    request={"messages": [message], "tool_calls": [call], "path": "/mcp"},
                    response={"text": None, "unparsed": ["data: ??"]},
                )
            ]
        )
    ).text
    assert "create_issue" in text
    assert '"title": "<x>"' in text
    assert "data: ??" in text


def test_an_exchange_of_which_nothing_was_read_is_its_request_line() -> None:
    opening, closing = recorded("x1", user=None, messages=None, method="GET", path="/models", model=None)
    closing["response"] = {"status": 200}
    text = Read(rendered([joined((opening, closing))])).text
    assert "unidentified" in text
    assert "GET /models" in text


# --- strangers -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("hostile", HOSTILE)
@pytest.mark.parametrize("alone", [False, True])
def test_nothing_that_was_recorded_is_markup(hostile: str, *, alone: bool) -> None:
    one = document(
        id=f"x{hostile}",
        principal={"id": "i#x", "name": hostile},
        turn={"id": hostile, "retry_of": hostile, "purpose": hostile},
        request={
            "messages": [{"role": hostile, "content": hostile}, {"role": "system", "content": hostile}],
            "path": hostile,
            "method": hostile,
            "model": hostile,
        },
        response={
            "text": hostile,
            "reasoning": hostile,
            "tool_calls": [{"name": hostile, "arguments": hostile}],
            "unparsed": [hostile],
            "finish_reason": hostile,
        },
        timing={"pieces": [[1.0, "0.text", 5]], "closed": 9.0},
        approvals=[
            approval(
                id=hostile,
                rule=hostile,
                state=hostile,
                why=hostile,
                granted=hostile,
                verdicts=[{"name": hostile, "reason": hostile, "scope": hostile, "approved": True}],
            )
        ],
        findings=[finding(rule=hostile, where=hostile, fingerprint=hostile)],
        error={"code": hostile, "message": hostile},
        outcome=hostile,
    )
    html = rendered([one], alone=alone)
    read = assert_harmless(html)
    assert len(read.all("article")) == 1
    assert not {"\u202e", "\u2066", "\x00", "\x1b"} & set(html)
    assert "49" not in read.text.replace(hostile, "")


json_ish = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text() | st.sampled_from(HOSTILE),
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.dictionaries(
            st.text() | st.sampled_from(["role", "type", "content", "text", "name", "arguments", "tool_calls"]),
            inner,
            max_size=4,
        )
    ),
    max_leaves=12,
)
NAMES = [
    "id",
    "session",
    "turn",
    "opened_at",
    "principal",
    "request",
    "response",
    "findings",
    "approvals",
    "timing",
    "error",
    "outcome",
    "removed",
    "facts",
    "closed_at",
    "client",
    "decision",
]
INNER = {
    "request": ["messages", "model", "path", "method", "endpoint", "tool_calls"],
    "response": ["text", "reasoning", "tool_calls", "choices", "unparsed", "usage", "status", "error"],
    "turn": ["id", "retry_of", "purpose"],
    "timing": ["pieces", "closed"],
}
documents = st.fixed_dictionaries(
    {},
    optional={
        name: st.dictionaries(st.sampled_from(INNER[name]), json_ish, max_size=4) | json_ish
        if name in INNER
        else json_ish
        for name in NAMES
    },
)


@settings(max_examples=150, deadline=None)
@given(found=st.lists(documents, min_size=1, max_size=2), alone=st.booleans())
def test_any_document_is_shown_and_none_is_markup(*, found: list[dict[str, Any]], alone: bool) -> None:
    assert_harmless(rendered(found, alone=alone))


@pytest.mark.parametrize("alone", [False, True])
@pytest.mark.parametrize(
    "request_",
    [
        {"messages": [{"role": "user"}] * 100_000},
        {"messages": [{"role": "user", "content": [{"type": "text", "text": "x"}] * 100_000}]},
        {"messages": [{"role": "user", "content": f"{at}" + "<" * 15_000} for at in range(1000)]},
        {"tool_calls": [{"name": "x", "arguments": {}}] * 100_000},
    ],
)
def test_a_page_is_full_at_some_time_and_says_where_the_rest_is(request_: dict[str, Any], *, alone: bool) -> None:
    one = document(request=request_)
    html = rendered([one], alone=alone)
    assert len(html) < 60_000_000
    assert "This page is full." in html
    assert ("its own page" in html) is not alone
    # What comes after it on the page of the session says so, too.
    assert rendered([one, {**one, "id": "x2"}]).count("This page is full.") == 2


def test_an_ordinary_page_is_not_full() -> None:
    assert "This page is full." not in rendered([document()] * 50)
