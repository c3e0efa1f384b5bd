from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from extproc.approval.approval import (
    SESSION_SECONDS,
    Approval,
    Scope,
    State,
    Verdict,
    VerdictRefusal,
    Why,
    covers,
    decide,
    granted_scope,
)
from extproc.approval.touch import Act, Touch
from tests.approving import APPROVERS, NOW, TOUCH, request, rule, verdict

ALL = (Scope.ONCE, Scope.SESSION, Scope.WINDOW)


def pending(**changes: Any) -> Approval:
    return Approval(request(**changes), State.PENDING)


def judged(
    approval: Approval | None, one: Verdict, groups: frozenset[str] = APPROVERS, now: float | None = None
) -> Approval:
    result = decide(approval, one, groups, one.at if now is None else now)
    assert isinstance(result, Approval), result
    return result


def objection(
    approval: Approval | None, one: Verdict, groups: frozenset[str] = APPROVERS, now: float | None = None
) -> Why:
    result = decide(approval, one, groups, one.at if now is None else now)
    assert isinstance(result, VerdictRefusal), result
    assert result.message
    return result.why


# --- decide ----------------------------------------------------------------------------------------------------------


def test_an_approver_approves() -> None:
    one = verdict()
    assert judged(pending(), one) == Approval(request(), State.APPROVED, (one,), one.at)


def test_an_approver_denies() -> None:
    one = verdict(approved=False, reason="not on Fridays")
    assert judged(pending(), one) == Approval(request(), State.DENIED, (one,), one.at)


def test_a_verdict_on_nothing_is_refused() -> None:
    assert objection(None, verdict()) is Why.UNKNOWN


@pytest.mark.parametrize("groups", [(), ("developers",), ("Approvers",), ("approver",), ("",)])
@pytest.mark.parametrize("approved", [True, False])
def test_without_one_of_the_groups_there_is_no_verdict(groups: tuple[str, ...], *, approved: bool) -> None:
    assert objection(pending(), verdict(approved=approved), frozenset(groups)) is Why.NOT_APPROVER


def test_one_of_the_groups_is_enough() -> None:
    approval = pending(rule=rule(approvers=frozenset({"a", "b"})))
    assert judged(approval, verdict(), frozenset({"x", "b"})).state is State.APPROVED


def test_a_rule_without_approvers_can_be_answered_by_nobody() -> None:
    assert objection(pending(rule=rule(approvers=frozenset())), verdict()) is Why.NOT_APPROVER


@pytest.mark.parametrize("state", [one for one in State if one is not State.PENDING])
@pytest.mark.parametrize("approved", [True, False])
def test_what_has_ended_takes_no_verdict(state: State, *, approved: bool) -> None:
    assert objection(Approval(request(), state), verdict(approved=approved)) is Why.ENDED


@pytest.mark.parametrize(("after", "accepted"), [(899.99, True), (900.0, False), (1e9, False)])
def test_what_has_expired_takes_no_verdict_even_before_that_was_written_down(after: float, *, accepted: bool) -> None:
    result = decide(pending(), verdict(), APPROVERS, NOW + after)
    assert isinstance(result, Approval) is accepted
    if isinstance(result, VerdictRefusal):
        assert result.why is Why.ENDED


def test_who_asked_may_not_approve_but_may_deny() -> None:
    assert objection(pending(), verdict("alice")) is Why.OWN_REQUEST
    assert judged(pending(), verdict("alice", approved=False)).state is State.DENIED


def test_a_rule_may_let_the_requester_approve() -> None:
    assert judged(pending(rule=rule(requester_may_approve=True)), verdict("alice")).state is State.APPROVED


def test_the_requester_is_known_by_id_and_not_by_name() -> None:
    namesake = replace(verdict(), approver="other-issuer#alice", name="alice")
    assert judged(pending(), namesake).state is State.APPROVED
    assert objection(pending(), replace(verdict("alice"), name="bob")) is Why.OWN_REQUEST


def test_as_many_approvers_as_the_rule_says_are_needed_and_each_counts_once() -> None:
    approval = judged(pending(rule=rule(count=3)), verdict("bob"))
    assert (approval.state, approval.ended_at) == (State.PENDING, None)
    assert objection(approval, verdict("bob", at=NOW + 2)) is Why.TWICE
    approval = judged(approval, verdict("carol"))
    assert objection(approval, verdict("bob")) is Why.TWICE
    last = verdict("dave", at=NOW + 9)
    approval = judged(approval, last)
    assert (approval.state, approval.ended_at, approval.verdicts[-1]) == (State.APPROVED, NOW + 9, last)
    assert objection(approval, verdict("erin")) is Why.ENDED


@pytest.mark.parametrize("who", ["bob", "carol", "alice"])
def test_one_denial_ends_it_whoever_approved_before(who: str) -> None:
    approval = judged(pending(rule=rule(count=3)), verdict("bob"))
    assert judged(approval, verdict(who, approved=False)).state is State.DENIED


@pytest.mark.parametrize("scope", list(Scope))
def test_only_scopes_that_the_rule_offers_are_accepted(scope: Scope) -> None:
    assert judged(pending(rule=rule(scopes=(scope,))), verdict(scope=scope)).state is State.APPROVED
    others = tuple(one for one in Scope if one is not scope)
    assert objection(pending(rule=rule(scopes=others)), verdict(scope=scope)) is Why.SCOPE


def test_an_approval_is_good_for_what_all_approvers_agree_on() -> None:
    first = judged(pending(rule=rule(count=2, scopes=ALL)), verdict("bob", scope=Scope.SESSION))
    assert granted_scope(first) is Scope.ONCE
    assert granted_scope(judged(first, verdict("carol", scope=Scope.SESSION))) is Scope.SESSION
    assert granted_scope(judged(first, verdict("carol", scope=Scope.WINDOW))) is Scope.ONCE
    assert granted_scope(judged(first, verdict("carol", approved=False))) is Scope.ONCE


# --- covers ----------------------------------------------------------------------------------------------------------

OTHER = Touch(Act.EDIT, "edit", "infra/network.tf")
RULE = rule(scopes=ALL, window_seconds=600.0)


def granted(scope: Scope, **changes: Any) -> Approval:
    facts = {"rule": RULE, "touches": (TOUCH, OTHER), **changes}
    return judged(pending(**facts), verdict(scope=scope, at=NOW))


def later(**changes: Any) -> Any:
    return request("a2", **{"rule": RULE, "session": "s1", **changes})


@pytest.mark.parametrize("scope", [Scope.SESSION, Scope.WINDOW])
@pytest.mark.parametrize("touches", [(TOUCH,), (OTHER, TOUCH), (OTHER, OTHER)])
def test_a_grant_covers_the_same_again_or_less(scope: Scope, touches: tuple[Touch, ...]) -> None:
    assert covers(granted(scope), later(touches=touches), NOW + 1)


def test_once_covers_nothing_more() -> None:
    assert not covers(granted(Scope.ONCE), later(), NOW + 1)


@pytest.mark.parametrize("scope", [Scope.SESSION, Scope.WINDOW])
@pytest.mark.parametrize(
    "changes",
    [
        {"principal": "issuer#mallory"},
        {"rule": replace(RULE, rule_id="other")},
        {"rule": replace(RULE, count=2)},
        {"rule": replace(RULE, approvers=frozenset({"others"}))},
        {"touches": ()},
        {"touches": (TOUCH, Touch(Act.EDIT, "edit", "infra/secret.tf"))},
        {"touches": (Touch(Act.EDIT, "create", "infra/prod.tf"),)},
        {"touches": (Touch(Act.EDIT, "edit", "INFRA/prod.tf"),)},
        {"touches": (Touch(Act.EDIT, "edit", "infra/prod.tf", "o/r"),)},
        {"touches": (Touch(Act.SHELL, "edit", "infra/prod.tf"),)},
    ],
)
def test_a_grant_covers_nobody_else_no_other_rule_and_nothing_that_was_not_shown(
    scope: Scope, changes: dict[str, Any]
) -> None:
    assert not covers(granted(scope), later(**changes), NOW + 1)


@pytest.mark.parametrize(
    "touch",
    [Touch(Act.SHELL, "bash"), Touch(Act.EDIT, "edit"), Touch(Act.MERGE, "mutation mergePullRequest")],
)
def test_a_touch_of_something_unknown_is_never_covered(touch: Touch) -> None:
    assert not covers(granted(Scope.WINDOW, touches=(touch,)), later(touches=(touch,)), NOW + 1)


def test_a_merge_into_the_same_branch_is_covered() -> None:
    merge = Touch(Act.MERGE, "merge_pull_request", repository="o/r", branch="main")
    assert covers(granted(Scope.WINDOW, touches=(merge,)), later(touches=(merge,)), NOW + 1)
    assert not covers(granted(Scope.WINDOW, touches=(merge,)), later(touches=(replace_branch(merge),)), NOW + 1)


def replace_branch(touch: Touch) -> Touch:
    return Touch(touch.act, touch.tool, repository=touch.repository, branch="release")


def test_a_session_ends_with_the_session_and_its_time() -> None:
    approval = granted(Scope.SESSION)
    assert not covers(approval, later(session="s2"), NOW + 1)
    assert covers(approval, later(), NOW + SESSION_SECONDS - 1)
    assert not covers(approval, later(), NOW + SESSION_SECONDS)


def test_a_window_is_for_any_session_and_counts_from_the_last_verdict() -> None:
    first = judged(pending(rule=replace(RULE, count=2)), verdict("bob", scope=Scope.WINDOW, at=NOW))
    approval = judged(first, verdict("carol", scope=Scope.WINDOW, at=NOW + 300))
    wanted = later(rule=replace(RULE, count=2), session="s2")
    assert covers(approval, wanted, NOW + 899)
    assert not covers(approval, wanted, NOW + 900)


@pytest.mark.parametrize("state", [one for one in State if one is not State.APPROVED])
def test_only_what_was_approved_covers(state: State) -> None:
    assert not covers(replace(granted(Scope.WINDOW), state=state), later(), NOW + 1)
