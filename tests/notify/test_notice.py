from __future__ import annotations

import msgspec

from extproc.approval.approval import Approval, State
from extproc.approval.touch import Act, Touch
from extproc.notify.notice import MAX_CHARS, MAX_TOUCHES, notice_of
from tests.approving import NOW, request

SECRET_PROPOSAL = '{"name":"edit","arguments":"the proposed text"}'


def test_a_notice_says_what_is_asked_and_nothing_of_the_proposal() -> None:
    approval = Approval(request("a 1", proposal=SECRET_PROPOSAL), State.PENDING)
    assert msgspec.json.decode(msgspec.json.encode(notice_of(approval, "https://console.example/approvals/{id}"))) == {
        "event": "approval.requested",
        "id": "a 1",
        "state": "pending",
        "rule": "privileged",
        "requester": "alice",
        "touches": [{"act": "edit", "tool": "edit", "path": "infra/prod.tf", "repository": None, "branch": None}],
        "touches_total": 1,
        "expires_at": NOW + 900,
        "link": "https://console.example/approvals/a%201",
    }


def test_an_end_is_told_with_its_state_and_without_a_link_where_none_is_set() -> None:
    notice = notice_of(Approval(request(), State.DENIED), None)
    assert (notice.event, notice.state, notice.link) == ("approval.ended", State.DENIED, None)


def test_a_notice_stays_small_whatever_is_proposed() -> None:
    huge = Touch(Act.EDIT, "t" * 9999, "p" * 9999, "r" * 9999, "b" * 9999)
    notice = notice_of(Approval(request(touches=(huge,) * 1000, name="n" * 9999), State.PENDING), None)
    assert (len(notice.touches), notice.touches_total) == (MAX_TOUCHES, 1000)
    assert notice.touches[0] == Touch(Act.EDIT, *(letter * MAX_CHARS for letter in "tprb"))
    assert len(msgspec.json.encode(notice)) < 200_000
