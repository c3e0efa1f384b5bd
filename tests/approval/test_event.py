from __future__ import annotations

import pytest

from extproc.approval.approval import Approval, State, decide
from extproc.approval.event import Event, Kind, decided, fold, requested
from tests.approving import APPROVERS, NOW, request, rule, verdict

REQUEST = request(rule=rule(count=2))
VIEW = Event("a1", 1, Kind.VIEWED, State.PENDING, NOW, "local", "root")


def after(approval: Approval, name: str, *, approved: bool = True) -> Approval:
    result = decide(approval, verdict(name, approved=approved), APPROVERS, NOW)
    assert isinstance(result, Approval)
    return result


def test_no_events_are_no_approval() -> None:
    assert fold([]) is None


def test_the_events_of_verdicts_give_the_approval_that_was_decided() -> None:
    begun = fold([requested(REQUEST)])
    assert begun == Approval(REQUEST, State.PENDING)
    first = after(begun, "bob")
    second = after(first, "carol")
    third = after(first, "carol", approved=False)
    events = [requested(REQUEST), decided(first, 1)]
    assert fold(events) == first
    assert fold([*events, decided(second, 2)]) == second
    assert fold([*events, decided(third, 2)]) == third


@pytest.mark.parametrize("state", [State.CANCELLED, State.EXPIRED, State.INTERRUPTED])
def test_an_end_is_told_with_its_time(state: State) -> None:
    ended = Event("a1", 1, Kind.ENDED, state, NOW + 5)
    assert fold([requested(REQUEST), ended]) == Approval(REQUEST, state, (), NOW + 5)


def test_a_view_changes_nothing() -> None:
    assert fold([requested(REQUEST), VIEW]) == fold([requested(REQUEST)])


@pytest.mark.parametrize("events", [[VIEW], [requested(REQUEST), Event("a1", 1, Kind.VERDICT, State.APPROVED, NOW)]])
def test_events_that_fit_nothing_are_no_approval_but_an_error(events: list[Event]) -> None:
    with pytest.raises(ValueError, match="fits nothing"):
        fold(events)
