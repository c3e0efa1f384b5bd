from __future__ import annotations

from pathlib import Path

import pytest

from extproc.approval.approval import Approval, State, Why
from extproc.console.answering import STATUS, Choices, choices_of, may_see, newest_for
from extproc.console.roles import Role, Viewer
from extproc.store.sqlite_approvals import SqliteApprovals
from tests.approving import APPROVERS, NOW, request, rule, verdict
from tests.console.desk import principal


def viewer(user: str, *roles: Role) -> Viewer:
    return Viewer(principal(user), frozenset(roles))


ALICE, BOB, CAROL = viewer("alice", Role.DEVELOPER), viewer("bob", Role.APPROVER), viewer("carol", Role.AUDITOR)
NOTHING = Choices(approve=False, deny=False)


def test_every_refusal_has_a_status() -> None:
    assert set(STATUS) == set(Why)
    assert all(400 <= status < 500 for status in STATUS.values())


def test_who_asked_who_may_decide_and_auditors_may_see() -> None:
    waiting = Approval(request(), State.PENDING)
    assert [may_see(waiting, one) for one in (ALICE, BOB, CAROL, viewer("dave"))] == [True, True, True, False]


def test_an_approver_can_do_both_and_others_nothing() -> None:
    waiting = Approval(request(), State.PENDING)
    assert choices_of(waiting, BOB, NOW) == Choices(approve=True, deny=True)
    assert choices_of(waiting, ALICE, NOW) == choices_of(waiting, CAROL, NOW) == NOTHING
    assert choices_of(Approval(request(), State.DENIED), BOB, NOW) == NOTHING


@pytest.mark.parametrize(
    ("waiting", "now", "approve", "deny", "why_not"),
    [
        (Approval(request(), State.PENDING), NOW + 900, False, False, "time is up"),
        (Approval(request(principal="issuer#bob"), State.PENDING), NOW, False, True, "You asked for this yourself"),
        (
            Approval(request(rule=rule(count=3)), State.PENDING, (verdict("bob"),)),
            *(NOW, False, True, "2 more must"),
        ),
    ],
)
def test_what_one_cannot_do_is_said_with_the_reason(
    waiting: Approval, now: float, *, approve: bool, deny: bool, why_not: str
) -> None:
    choices = choices_of(waiting, BOB, now)
    assert (choices.approve, choices.deny) == (approve, deny)
    assert why_not in (choices.why_not or "")


def test_who_asked_can_approve_where_the_rule_lets_them() -> None:
    own = Approval(request(principal="issuer#bob", rule=rule(requester_may_approve=True)), State.PENDING)
    assert choices_of(own, BOB, NOW) == Choices(approve=True, deny=True)


async def test_lists_have_what_may_be_seen_and_no_more_than_asked_for(tmp_path: Path) -> None:
    store = SqliteApprovals(tmp_path / "approvals.db", instance="gateway", now=NOW)
    for number, (who, approvers) in enumerate((("alice", "approvers"), ("bob", "admins"), ("eve", "admins"))):
        asked = rule(approvers=frozenset({approvers}))
        await store.request(
            request(f"a{number}", principal=f"issuer#{who}", name=who, rule=asked, requested_at=NOW + number)
        )
    # A name that is somebody's id.
    await store.request(
        request("a3", principal="issuer#eve", name="issuer#alice", rule=rule(approvers=frozenset({"x"})))
    )
    seen = {one.name: [found.request.id for found in await newest_for(one, store)] for one in (ALICE, BOB, CAROL)}
    assert seen == {"alice": ["a0"], "bob": ["a1", "a0"], "carol": ["a2", "a1", "a3", "a0"]}
    assert [one.request.id for one in await newest_for(BOB, store, limit=1)] == ["a1"]
    assert [one.request.id for one in await newest_for(BOB, store, user="alice")] == ["a0"]
    await store.verdict("a0", verdict("bob"), APPROVERS)
    assert [one.request.id for one in await newest_for(BOB, store, state=State.PENDING)] == ["a1"]
    await store.aclose()
