"""Approvals for tests."""

from __future__ import annotations

from typing import Any

from extproc.approval.approval import ApprovalRule, Request, Scope, Verdict
from extproc.approval.touch import Act, Touch

NOW = 1_760_000_000.0
APPROVERS = frozenset({"approvers"})
TOUCH = Touch(Act.EDIT, "edit", "infra/prod.tf")


def rule(**changes: Any) -> ApprovalRule:
    facts: dict[str, Any] = {"rule_id": "privileged", "approvers": APPROVERS, "expires_seconds": 900.0, **changes}
    return ApprovalRule(**facts)


def request(approval_id: str = "a1", **changes: Any) -> Request:
    facts: dict[str, Any] = {
        "id": approval_id,
        "exchange": "e1",
        "session": "s1",
        "principal": "issuer#alice",
        "name": "alice",
        "rule": rule(),
        "touches": (TOUCH,),
        "proposal": '{"name":"edit","arguments":"{}"}',
        "requested_at": NOW,
        "expires_at": NOW + 900,
        "model": "gpt-5",
        "address": "192.0.2.1",
        **changes,
    }
    return Request(**facts)


def verdict(name: str = "bob", *, approved: bool = True, **changes: Any) -> Verdict:
    facts: dict[str, Any] = {"reason": "", "scope": Scope.ONCE, "at": NOW + 1, "address": "192.0.2.2", **changes}
    return Verdict(f"issuer#{name}", name, approved, **facts)
