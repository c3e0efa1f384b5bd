from __future__ import annotations

import json
import re
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from extproc.approval.approval import Scope, State
from extproc.approval.touch import Act, Touch
from extproc.console.pages.approvals import FOLDED_LINES, MAX_HISTORY, MAX_REASON_CHARS
from extproc.store.sqlite_approvals import SqliteApprovals
from tests.approving import APPROVERS, rule, verdict
from tests.console.desk import HOSTILE, Desk, is_inert, opened
from tests.recording_of import NOW

EDIT = {"filePath": "infra/prod.tf", "oldString": "size = 3\nzone = 1", "newString": "size = 30\nzone = 1"}
BOTH = (Scope.ONCE, Scope.SESSION)


@pytest.fixture
async def desk(tmp_path: Path) -> AsyncIterator[Desk]:
    async with opened(tmp_path) as one:
        yield one


def calls(*arguments: dict[str, Any]) -> str:
    return json.dumps([{"name": "replace_string_in_file", "arguments": one} for one in arguments])


def listed(html: str, heading: str) -> list[str]:
    """Return the ids of the approvals under a heading."""
    part = html.partition(f'<h2 id="{heading}">')[2].partition("</section>")[0]
    return re.findall(r'<tr data-href="/approvals/([^"]+)"', part)


async def state(desk: Desk, approval_id: str) -> State:
    approval = await desk.approvals.get(approval_id)
    assert approval is not None
    return approval.state


# --- the list --------------------------------------------------------------------------------------------------------


async def test_everybody_sees_what_is_theirs_to_see_and_where_it_waits(desk: Desk) -> None:
    await desk.ask("a1")
    await desk.ask("a2", rule=rule(approvers=frozenset({"admins"})))
    await desk.ask("a3", principal="issuer#bob", name="bob", rule=rule(approvers=frozenset({"admins"})))
    await desk.ask("a4", principal="issuer#bob", name="bob")
    await desk.ask("a5", requested_at=NOW - 9)
    await desk.approvals.end("a5", State.CANCELLED, NOW)
    seen = {}
    for user in ("alice", "bob", "carol"):
        html = (await desk.get("/approvals", user)).text
        seen[user] = [sorted(listed(html, one)) for one in ("mine", "others", "history")]
    assert seen == {
        "alice": [[], ["a1", "a2"], ["a5"]],
        "bob": [["a1"], ["a3", "a4"], ["a5"]],
        "carol": [[], ["a1", "a2", "a3", "a4"], ["a5"]],
    }


@pytest.mark.parametrize(("user", "status"), [("dave", 403), ("mallory", 403), (None, 303)])
async def test_who_has_no_part_in_approvals_sees_none(desk: Desk, user: str | None, status: int) -> None:
    await desk.ask("a1")
    for path in ("/approvals", "/approvals/a1"):
        assert (await desk.get(path, user)).status_code == status
    assert len(await desk.approvals.events("a1")) == 1


async def test_what_has_least_time_left_stands_first_and_says_until_when(desk: Desk) -> None:
    await desk.ask("a1", expires_at=NOW + 900)
    await desk.ask("a2", expires_at=NOW + 100)
    html = (await desk.get("/approvals", "bob")).text
    assert listed(html, "mine") == ["a2", "a1"]
    assert f'data-expires="{NOW + 100}">until <time>08:55:00</time>' in html
    assert f'data-now="{desk.now}"' in html
    assert "<title>(2) Approvals" in html


async def test_a_row_says_who_asks_for_what_under_which_rule_and_with_which_model(desk: Desk) -> None:
    touches = [Touch(Act.EDIT, "edit", f"infra/{number}.tf", "acme/shop", "main") for number in range(5)]
    await desk.ask("a1", touches=tuple(touches))
    html = (await desk.get("/approvals", "bob", part=True)).text
    assert "edit infra/2.tf in acme/shop on main" in html
    assert "infra/3.tf" not in html
    assert "and 2 more" in html
    assert ">alice</a>" in html
    assert "privileged" in html
    assert "gpt-5" in html
    assert 'data-summary="alice: edit infra/0.tf in acme/shop on main"' in html


async def test_the_live_part_has_only_what_waits_and_stays_the_same_until_that_changes(desk: Desk) -> None:
    await desk.ask("a1")
    before = await desk.get("/approvals", "bob", part=True)
    assert "<html" not in before.text
    assert "History" not in before.text
    desk.now += 5
    assert (await desk.get("/approvals", "bob", part=True)).text == before.text


async def test_what_one_has_approved_or_whose_time_is_up_waits_for_others(desk: Desk) -> None:
    await desk.ask("a1", rule=rule(count=2))
    await desk.approvals.verdict("a1", verdict("bob"), APPROVERS)
    await desk.ask("a2", expires_at=desk.now)
    html = (await desk.get("/approvals", "bob")).text
    assert (listed(html, "mine"), sorted(listed(html, "others"))) == ([], ["a1", "a2"])
    assert "1 of 2 approved" in html


async def test_history_can_be_asked_for_by_state_and_by_who_asked(desk: Desk) -> None:
    await desk.ask("a1")
    await desk.ask("a2", principal="issuer#erin", name="erin")
    await desk.ask("a3")
    for one in ("a2", "a3"):
        await desk.approvals.verdict(one, verdict("bob", approved=one == "a2", reason="no"), APPROVERS)

    async def history(query: str) -> list[str]:
        return sorted(listed((await desk.get(f"/approvals?{query}", "carol")).text, "history"))

    assert await history("") == ["a2", "a3"]
    assert await history("state=denied") == ["a3"]
    assert await history("state=pending") == ["a1"]
    assert await history("user=erin") == ["a2"]
    assert await history("user=erin&state=denied") == []


async def test_a_long_history_is_said_to_be_cut(desk: Desk) -> None:
    for number in range(MAX_HISTORY + 1):
        await desk.ask(f"a{number}", requested_at=NOW - number)
        await desk.approvals.end(f"a{number}", State.CANCELLED, NOW)
    html = (await desk.get("/approvals", "carol")).text
    assert len(listed(html, "history")) == MAX_HISTORY
    assert "These are the newest" in html


@pytest.mark.parametrize("query", ["state=maybe", "state=%00", "user=" + "x" * 1001, "state=%ff%fe"])
async def test_a_query_that_is_not_understood_is_said_to_be_so(desk: Desk, query: str) -> None:
    answer = await desk.get(f"/approvals?{query}", "carol")
    assert answer.status_code == 422
    assert "expected" in answer.text


# --- one approval ----------------------------------------------------------------------------------------------------


async def test_the_change_is_shown_as_a_diff_with_all_that_an_approver_must_know(desk: Desk) -> None:
    await desk.ask("a1", proposal=calls(EDIT), rule=rule(message="Ask the platform team."))
    html = (await desk.get("/approvals/a1", "bob")).text
    assert '<span class="del">-size = 3' in html
    assert '<span class="add">+size = 30' in html
    assert '<span class="same"> zone = 1' in html
    for told in (
        "alice asks: edit infra/prod.tf",
        "issuer#alice",
        "192.0.2.1",
        "Ask the platform team.",
        "14 min 0 s left",
    ):
        assert told in html


async def test_that_somebody_looks_is_recorded_and_shown_and_the_live_part_is_no_look(desk: Desk) -> None:
    await desk.ask("a1")
    for _ in range(3):
        await desk.get("/approvals/a1", "bob", part=True)
    await desk.get("/approvals/a1", "bob")
    html = (await desk.get("/approvals/a1", "bob")).text
    events = await desk.approvals.events("a1")
    assert [(one.kind, one.who, one.address) for one in events[1:]] == [("viewed", "issuer#bob", "192.0.2.7")] * 2
    assert "looked at it 2 times" in html


async def test_what_one_may_not_see_is_as_unknown(desk: Desk) -> None:
    await desk.ask("a1", principal="issuer#bob", name="bob")
    for approval_id in ("a1", "none", "%00", "%ff", "a1%2f..", "x" * 3000):
        for part in (False, True):
            answer = await desk.get(f"/approvals/{approval_id}", "alice", part=part)
            assert (answer.status_code, "infra" in answer.text) == (404, False)
    assert (await desk.post("/approvals/a1/verdict", "alice", verdict="deny", reason="x")).status_code == 404
    assert len(await desk.approvals.events("a1")) == 1


async def test_only_who_may_see_a_session_gets_a_link_to_it(desk: Desk) -> None:
    await desk.ask("a1", session="s/1", exchange="e1")
    for user, has_link in (("alice", True), ("carol", True), ("bob", False)):
        assert ('href="/sessions/s%2F1#e1"' in (await desk.get("/approvals/a1", user)).text) is has_link


async def test_a_form_is_only_for_who_may_decide_and_offers_what_the_rule_offers(desk: Desk) -> None:
    await desk.ask("a1", rule=rule(scopes=BOTH))
    for user in ("alice", "carol"):
        assert '<form class="card verdict"' not in (await desk.get("/approvals/a1", user)).text
    html = (await desk.get("/approvals/a1", "bob")).text
    offered = re.findall(r'name="scope" value="(\w+)"( checked)?', html)
    assert offered == [("once", " checked"), ("session", "")]
    buttons = re.findall(r"<button ([^>]*)>(\w*)</button>", html.partition('<form class="card verdict"')[2])
    # The Enter key presses the first one, which is none.
    assert buttons[0] == ('disabled hidden aria-hidden="true"', "")
    assert [name for _, name in buttons[1:3]] == ["Deny", "Approve"]
    assert '<textarea name="reason" required' in html


async def test_a_long_change_is_folded_and_nothing_of_it_is_hidden(desk: Desk) -> None:
    new = "\n".join(f"line {number} ~" for number in range(FOLDED_LINES))
    await desk.ask("a1", proposal=calls({"filePath": "a.tf", "content": new}))
    html = (await desk.get("/approvals/a1", "bob")).text
    assert all(f"+line {number} ~" in html for number in range(FOLDED_LINES))
    assert f"{FOLDED_LINES} added and 0 removed" in html
    assert "<details>" in html


async def test_the_live_part_says_when_somebody_else_has_decided_meanwhile(desk: Desk) -> None:
    await desk.ask("a1")
    assert "data-ended" not in (await desk.get("/approvals/a1", "bob", part=True)).text
    await desk.approvals.verdict("a1", verdict("frank", approved=False, reason="not on Fridays"), APPROVERS)
    part = (await desk.get("/approvals/a1", "bob", part=True)).text
    assert 'data-ended="denied"' in part
    assert "frank has denied it" in part
    assert "not on Fridays" in part


@pytest.mark.parametrize(
    ("ending", "told"),
    [(State.EXPIRED, "Nobody decided in time"), (State.CANCELLED, "went away"), (State.INTERRUPTED, "gateway stopped")],
)
async def test_how_an_approval_ended_is_told(desk: Desk, ending: Any, told: str) -> None:
    await desk.ask("a1")
    await desk.approvals.end("a1", ending, NOW + 5)
    html = (await desk.get("/approvals/a1", "bob")).text
    assert told in html
    assert '<form class="card verdict"' not in html


# --- the verdict -----------------------------------------------------------------------------------------------------


async def test_an_approval_counts_and_leads_back_to_what_was_decided(desk: Desk) -> None:
    await desk.ask("a1", rule=rule(scopes=BOTH))
    fields = {"verdict": "approve", "scope": "session", "reason": " the plan\r\nis reviewed "}
    answer = await desk.post("/approvals/a1/verdict", "bob", **fields)
    assert (answer.status_code, answer.headers["location"]) == (303, "/approvals/a1")
    approval = await desk.approvals.get("a1")
    assert approval is not None
    assert approval.state is State.APPROVED
    (given,) = approval.verdicts
    assert (given.approver, given.scope, given.reason) == ("issuer#bob", Scope.SESSION, "the plan\nis reviewed")
    assert (given.address, given.at) == ("192.0.2.7", desk.now)
    html = (await desk.get("/approvals/a1", "bob")).text
    assert "You have approved it" in html
    assert '<form class="card verdict"' not in html


async def test_a_denial_counts_and_its_reason_is_shown_to_who_asked(desk: Desk) -> None:
    await desk.ask("a1")
    answer = await desk.post("/approvals/a1/verdict", "bob", verdict="deny", reason="not on Fridays", scope="bogus")
    assert answer.status_code == 303
    assert await state(desk, "a1") is State.DENIED
    assert "bob has denied it</strong>, 2025-10-09 08:54:20: not on Fridays" in (await desk.get("/approvals/a1")).text


async def test_a_second_approver_is_told_how_many_are_missing(desk: Desk) -> None:
    await desk.ask("a1", rule=rule(count=2))
    assert (await desk.post("/approvals/a1/verdict", "bob", verdict="approve")).status_code == 303
    assert await state(desk, "a1") is State.PENDING
    html = (await desk.get("/approvals/a1", "bob")).text
    assert "You have approved this; 1 more must. You can still deny it." in html
    assert ">Approve<" not in html
    assert ">Deny<" in html


@pytest.mark.parametrize("reason", ["", "  \r\n "])
async def test_a_denial_without_a_reason_changes_nothing(desk: Desk, reason: str) -> None:
    await desk.ask("a1")
    answer = await desk.post("/approvals/a1/verdict", "bob", verdict="deny", reason=reason)
    assert answer.status_code == 422
    assert "A denial needs a reason" in answer.text
    assert ">Approve<" in answer.text
    assert await state(desk, "a1") is State.PENDING


async def test_a_verdict_that_is_not_accepted_says_why_and_changes_nothing(desk: Desk) -> None:
    await desk.ask("a1")
    await desk.ask("own", principal="issuer#bob", name="bob")
    await desk.ask("two", rule=rule(count=2))
    await desk.approvals.verdict("two", verdict("bob"), APPROVERS)
    await desk.ask("late", expires_at=desk.now)
    await desk.ask("ended")
    await desk.approvals.verdict("ended", verdict("frank"), APPROVERS)
    for approval_id, user, scope, status, told in (
        ("a1", "alice", "once", 403, "Only members of approvers may decide"),
        ("a1", "carol", "once", 403, "Only members of approvers may decide"),
        ("own", "bob", "once", 403, "Who asked for own may not approve it."),
        ("two", "bob", "once", 409, "You have approved two already; somebody else must."),
        ("late", "bob", "once", 409, "late has expired."),
        ("ended", "bob", "once", 409, "ended is approved already."),
        ("a1", "bob", "window", 422, "a1 can be approved for once only."),
    ):
        before = await desk.approvals.get(approval_id)
        answer = await desk.post(f"/approvals/{approval_id}/verdict", user, verdict="approve", scope=scope, reason="so")
        assert (answer.status_code, told in answer.text) == (status, True), approval_id
        assert await desk.approvals.get(approval_id) == before
    assert "frank has approved it" in (await desk.get("/approvals/ended", "bob")).text


@pytest.mark.parametrize(
    ("fields", "told"),
    [
        ({}, "verdict: expected"),
        ({"verdict": "maybe"}, "verdict: expected"),
        ({"verdict": "approve", "scope": "for ever"}, "scope: expected"),
        ({"verdict": "deny", "reason": "x" * (MAX_REASON_CHARS + 1)}, "The reason is longer"),
    ],
)
async def test_a_form_that_is_not_understood_changes_nothing(desk: Desk, fields: dict[str, str], told: str) -> None:
    await desk.ask("a1")
    answer = await desk.post("/approvals/a1/verdict", "bob", **fields)
    assert (answer.status_code, told in answer.text) == (422, True)
    assert await state(desk, "a1") is State.PENDING


async def test_who_asked_can_deny_their_own_where_they_are_an_approver(desk: Desk) -> None:
    await desk.ask("a1", principal="issuer#bob", name="bob")
    html = (await desk.get("/approvals/a1", "bob")).text
    assert "You asked for this yourself" in html
    assert ">Approve<" not in html
    assert (await desk.post("/approvals/a1/verdict", "bob", verdict="deny", reason="a mistake")).status_code == 303
    assert await state(desk, "a1") is State.DENIED


async def test_a_form_of_another_session_decides_nothing(desk: Desk) -> None:
    await desk.ask("a1")
    assert (await desk.post("/approvals/a1/verdict", "bob", verdict="approve", csrf="other")).status_code == 403
    assert (await desk.post("/approvals/a1/verdict", None, verdict="approve")).status_code == 401
    assert await state(desk, "a1") is State.PENDING


async def test_a_store_that_fails_at_a_verdict_says_that_it_may_count(desk: Desk, tmp_path: Path) -> None:
    await desk.ask("a1")
    closed = SqliteApprovals(tmp_path / "approvals.db", instance=None, now=NOW)
    await closed.aclose()
    before = desk.approvals
    desk.approvals = closed
    assert (await desk.get("/approvals", "bob")).status_code == 503
    desk.approvals = before

    class Failing:
        get = staticmethod(before.get)
        verdict = staticmethod(closed.verdict)

    desk.approvals = Failing()  # type: ignore[assignment]
    answer = await desk.post("/approvals/a1/verdict", "bob", verdict="approve")
    desk.approvals = before
    assert (answer.status_code, "look up whether your verdict counts" in answer.text) == (503, True)


# --- what strangers wrote --------------------------------------------------------------------------------------------


async def test_nothing_that_was_recorded_becomes_markup(desk: Desk) -> None:
    touch = Touch(Act.PUSH, HOSTILE, HOSTILE, HOSTILE, HOSTILE)
    hostile = rule(rule_id=HOSTILE, message=HOSTILE, approvers=frozenset({"approvers", HOSTILE}))
    names = {"principal": f"issuer#{HOSTILE}", "name": HOSTILE, "session": HOSTILE, "exchange": HOSTILE}
    facts = {"rule": hostile, "touches": (touch,), "model": HOSTILE, "address": HOSTILE}
    edit = {"filePath": HOSTILE, "oldString": HOSTILE, "newString": HOSTILE + "!", HOSTILE: HOSTILE}
    for number, proposal in enumerate((calls(edit), HOSTILE, calls({"a": HOSTILE}))):
        await desk.ask(f"a{number}", proposal=proposal, **names, **facts)
    given = verdict("frank", approved=False, reason=HOSTILE, address=HOSTILE)
    for path, user in (("", "bob"), ("", "carol"), ("/a0", "bob"), ("/a1", "carol"), ("/a2", "carol")):
        assert is_inert((await desk.get(f"/approvals{path}", user)).text), path
    await desk.approvals.verdict("a0", given, APPROVERS)
    for path in ("?state=denied", "/a0"):
        assert is_inert((await desk.get(f"/approvals{path}", "carol")).text), path
    assert is_inert((await desk.get("/approvals/a0", "carol", part=True)).text)
    assert is_inert(
        (await desk.post("/approvals/a1/verdict", "bob", verdict="approve", scope="window", reason=HOSTILE)).text
    )


async def test_a_reason_that_was_refused_stays_in_the_form_as_text(desk: Desk) -> None:
    await desk.ask("a1")
    html = (
        await desk.post(
            "/approvals/a1/verdict", "bob", verdict="approve", scope="window", reason=f"</textarea>{HOSTILE}"
        )
    ).text
    assert "&lt;/textarea&gt;&lt;script&gt;" in html


async def test_no_line_of_a_change_can_count_itself_as_another(desk: Desk) -> None:
    await desk.ask("a1", proposal=calls({"filePath": "a", "content": '<span class="del">\n' * FOLDED_LINES}))
    assert f"{FOLDED_LINES + 1} added and 0 removed" in (await desk.get("/approvals/a1", "bob")).text
