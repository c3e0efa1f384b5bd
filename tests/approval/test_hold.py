from __future__ import annotations

from dataclasses import replace

import pytest

from extproc.approval.approval import Approval, Request, State
from extproc.approval.hold import Hold
from extproc.approval.proposal import Proposal
from extproc.approval.touch import Act, Touch
from extproc.endpoint import EndpointKind, Upstream
from extproc.errors import Code, Refusal
from extproc.policy import Facts
from tests.approving import NOW, verdict
from tests.holding import INFRA, KEYS, MESSAGE, PLAIN, PROTECTIONS, WORKFLOW
from tests.playbook import ALICE, POLICY

FACTS = Facts(EndpointKind.CHAT, Upstream.COPILOT_API, "POST", "h", "/chat/completions", "gpt-5", "acme/app")


def hold(*protections: object) -> Hold:
    policy = replace(POLICY, protections=protections or PROTECTIONS)  # type: ignore[arg-type]
    return Hold(policy, ALICE, FACTS, "e1", "s1", "192.0.2.1", 422)


def proposal(*paths: str) -> Proposal:
    return Proposal(tuple(Touch(Act.EDIT, "edit", path) for path in paths), (), f"edit {paths}")


def asked(found: object) -> Request:
    assert isinstance(found, Request)
    return found


def told(found: object) -> Refusal:
    assert isinstance(found, Refusal)
    return found


def approved(request: Request) -> Approval:
    return Approval(request, State.APPROVED, (verdict(reason="fine"),), NOW + 1)


@pytest.mark.parametrize("nothing", [None, proposal(), proposal(PLAIN)])
def test_what_is_nothing_or_touches_nothing_privileged_passes(nothing: Proposal | None) -> None:
    one = hold()
    assert one.consider(nothing, NOW) is None
    assert (one.waiting, one.approvals) == (None, [])


def test_what_is_asked_says_who_wants_what_where_and_until_when() -> None:
    one = hold()
    request = asked(one.consider(proposal(PLAIN, INFRA), NOW))
    assert one.waiting == request
    assert request == Request(
        id="e1-1",
        exchange="e1",
        session="s1",
        principal=ALICE.id,
        name="alice",
        rule=request.rule,
        touches=(Touch(Act.EDIT, "edit", INFRA),),
        proposal=proposal(PLAIN, INFRA).text,
        requested_at=NOW,
        expires_at=NOW + 900,
        model="gpt-5",
        address="192.0.2.1",
    )
    assert request.rule.rule_id == "infra"


def test_a_rule_that_denies_refuses_before_anybody_is_asked() -> None:
    one = hold()
    assert told(one.consider(proposal(INFRA, KEYS), NOW)) == Refusal(422, Code.POLICY_DENIED, "Nobody touches keys.")
    assert (one.waiting, one.approvals) == (None, [])


def test_an_approval_lets_it_pass_and_is_in_the_record() -> None:
    one = hold()
    request = asked(one.consider(proposal(INFRA), NOW))
    assert one.decided(approved(request), "", NOW + 2.5) is None
    assert one.waiting is None
    assert one.approvals == [
        {
            "id": "e1-1",
            "rule": "infra",
            "state": "approved",
            "why": None,
            "granted": None,
            "touches": [{"act": "edit", "tool": "edit", "path": INFRA, "repository": None, "branch": None}],
            "requested_at": NOW,
            "waited_ms": 2500.0,
            "verdicts": [
                {
                    "approver": "issuer#bob",
                    "name": "bob",
                    "approved": True,
                    "reason": "fine",
                    "scope": "once",
                    "at": NOW + 1,
                }
            ],
        }
    ]


def test_what_was_approved_passes_again_and_anything_else_is_asked_anew() -> None:
    one = hold()
    one.decided(approved(asked(one.consider(proposal(INFRA), NOW))), "", NOW)
    assert one.consider(proposal(INFRA), NOW) is None
    assert asked(one.consider(proposal(INFRA, PLAIN), NOW)).id == "e1-2"


def test_what_was_not_approved_by_every_rule_does_not_pass_again() -> None:
    one = hold()
    second = asked(one.decided(approved(asked(one.consider(proposal(INFRA, WORKFLOW), NOW))), "", NOW))
    assert second.rule.rule_id == "workflows"
    assert told(one.decided(Approval(second, State.DENIED), "", NOW)).code is Code.APPROVAL_DENIED
    assert asked(one.consider(proposal(INFRA, WORKFLOW), NOW)).rule.rule_id == "infra"


def test_each_rule_is_asked_in_its_turn_with_its_own_touches_and_id() -> None:
    one = hold()
    first = asked(one.consider(proposal(WORKFLOW, INFRA), NOW))
    second = asked(one.decided(approved(first), "", NOW + 5))
    assert [(each.id, each.rule.rule_id, each.requested_at) for each in (first, second)] == [
        ("e1-1", "infra", NOW),
        ("e1-2", "workflows", NOW + 5),
    ]
    assert [touch.path for touch in second.touches] == [WORKFLOW]
    assert one.decided(approved(second), "", NOW + 6) is None
    assert [entry["id"] for entry in one.approvals] == ["e1-1", "e1-2"]


def test_an_earlier_approval_that_covers_it_is_named_in_the_record() -> None:
    one = hold()
    request = asked(one.consider(proposal(INFRA), NOW))
    assert one.decided(approved(replace(request, id="e0-1")), "", NOW) is None
    assert (one.approvals[0]["id"], one.approvals[0]["granted"]) == ("e1-1", "e0-1")


@pytest.mark.parametrize(
    ("state", "status", "code", "words"),
    [
        (State.DENIED, 422, Code.APPROVAL_DENIED, "was denied. bob: not today"),
        (State.EXPIRED, 422, Code.APPROVAL_EXPIRED, "was not decided in time."),
        (State.CANCELLED, 422, Code.APPROVAL_EXPIRED, "was cancelled."),
        (State.INTERRUPTED, 503, Code.APPROVAL_UNAVAILABLE, "was interrupted because the gateway stopped."),
    ],
)
def test_every_other_end_is_a_refusal_that_names_the_rule_the_approval_and_the_reason(
    state: State, status: int, code: Code, words: str
) -> None:
    one = hold()
    request = asked(one.consider(proposal(INFRA, WORKFLOW), NOW))
    said = (verdict(approved=False, reason="not today"),) if state is State.DENIED else ()
    refusal = told(one.decided(Approval(request, state, said, NOW + 1), "", NOW + 1))
    assert (refusal.status, refusal.code) == (status, code)
    assert refusal.message == f"{MESSAGE} The approval e1-1 (rule infra) {words}"
    # The second rule is not asked any more.
    assert one.waiting is None
    assert [entry["state"] for entry in one.approvals] == [state]


def test_a_denial_without_a_reason_says_so_and_a_rule_without_a_message_adds_none() -> None:
    silent = replace(PROTECTIONS[1], approval=replace(PROTECTIONS[1].approval, message=""))  # type: ignore[type-var]
    one = hold(silent)
    request = asked(one.consider(proposal(INFRA), NOW))
    refusal = told(one.decided(Approval(request, State.DENIED, (verdict(approved=False),), NOW), "", NOW))
    assert refusal.message == "The approval e1-1 (rule infra) was denied. bob: No reason was given."


def test_only_the_last_word_is_told() -> None:
    one = hold()
    request = asked(one.consider(proposal(INFRA), NOW))
    words = (verdict("carol", reason="fine"), verdict("bob", approved=False, reason="no"))
    refusal = told(one.decided(Approval(request, State.DENIED, words, NOW), "", NOW))
    assert "carol" not in refusal.message
    assert refusal.message.endswith("bob: no")
    assert len(one.approvals[0]["verdicts"]) == 2


def test_where_nobody_could_be_asked_it_is_unavailable_and_says_why() -> None:
    one = hold()
    one.consider(proposal(INFRA, WORKFLOW), NOW)
    assert told(one.decided(None, "Too many wait.", NOW)) == Refusal(503, Code.APPROVAL_UNAVAILABLE, "Too many wait.")
    assert one.waiting is None
    [entry] = one.approvals
    assert (entry["state"], entry["why"], entry["verdicts"]) == ("refused", "Too many wait.", [])


def test_a_verdict_about_nothing_is_a_fault() -> None:
    with pytest.raises(ValueError, match="nothing was asked"):
        hold().decided(None, "", NOW)


def test_what_is_withdrawn_is_in_the_record_once_as_cancelled() -> None:
    one = hold()
    one.withdraw(NOW)
    assert one.approvals == []
    one.consider(proposal(INFRA), NOW)
    one.withdraw(NOW + 3)
    one.withdraw(NOW + 4)
    [entry] = one.approvals
    assert (entry["id"], entry["state"], entry["waited_ms"], entry["why"]) == ("e1-1", "cancelled", 3000.0, None)
    assert one.waiting is None
