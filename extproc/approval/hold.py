"""What of one exchange waits for approvers: policy judges it, and each rule that asks is asked in its turn. Pure."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import msgspec

from extproc.approval.approval import Approval, Request, State
from extproc.approval.proposal import Proposal
from extproc.approval.protection import Judgement
from extproc.approval.touch import Touch
from extproc.errors import Code, Refusal
from extproc.identity.principal import Principal
from extproc.policy import Effect, Facts, Policy

_NOT_GIVEN = "No reason was given."
_ENDS = {
    State.DENIED: (Code.APPROVAL_DENIED, "was denied"),
    State.EXPIRED: (Code.APPROVAL_EXPIRED, "was not decided in time"),
    State.CANCELLED: (Code.APPROVAL_EXPIRED, "was cancelled"),
    State.INTERRUPTED: (Code.APPROVAL_UNAVAILABLE, "was interrupted because the gateway stopped"),
}


@dataclass(slots=True)
class Hold:
    """Judge what an exchange would do, and say what is to be asked, or why it may not be done.

    `status` is that of a refusal. Times are unix seconds.
    """

    policy: Policy
    principal: Principal
    facts: Facts
    exchange: str
    session: str
    address: str | None
    status: int
    masked: Callable[[str], str] = str
    """Touches are judged as they are, and shown without secrets: a path may hold one."""
    waiting: Request | None = None
    """What is asked now."""
    approvals: list[dict[str, Any]] = field(default_factory=list)
    """What was asked so far, for the record."""
    _open: deque[Judgement] = field(default_factory=deque)
    _proposal: Proposal | None = None
    _approved: Proposal | None = None
    _asked: int = 0

    def consider(self, proposal: Proposal | None, now: float) -> Request | Refusal | None:
        """Judge a proposal: return what has to be asked, why it may not be, or None where it may pass.

        What was approved passes as it is; more than that, or anything else, is asked anew.
        """
        if proposal is None or proposal == self._approved:
            return None
        self._proposal = proposal
        self._open = deque(self.policy.judge(self.principal, self.facts, proposal.touches))
        return self._next(now)

    def decided(self, approval: Approval | None, why: str, now: float) -> Request | Refusal | None:
        """Take what became of the last request; None and `why` where nobody could be asked. Return as `consider`."""
        request, self.waiting = self.waiting, None
        if request is None:
            raise ValueError("nothing was asked")
        self.approvals.append(_entry(request, approval, why, now))
        if approval is not None and approval.state is State.APPROVED:
            following = self._next(now)
            if following is None:
                self._approved = self._proposal
            return following
        self._open.clear()
        if approval is None:
            return Refusal(503, Code.APPROVAL_UNAVAILABLE, why)
        code, ended = _ENDS[approval.state]
        reason = " ".join(f"{verdict.name}: {verdict.reason or _NOT_GIVEN}" for verdict in approval.verdicts[-1:])
        told = f"{request.rule.message} " if request.rule.message else ""
        message = f"{told}The approval {request.id} (rule {request.rule.rule_id}) {ended}. {reason}".strip()
        return Refusal(503 if code is Code.APPROVAL_UNAVAILABLE else self.status, code, message)

    def withdraw(self, now: float) -> None:
        """Note that nobody waits any more for what is asked now, if anything is."""
        request, self.waiting = self.waiting, None
        if request is not None:
            self.approvals.append(_entry(request, Approval(request, State.CANCELLED), "", now))

    def _next(self, now: float) -> Request | Refusal | None:
        if not self._open or self._proposal is None:
            return None
        judgement = self._open.popleft()
        if judgement.effect is not Effect.REQUIRE_APPROVAL or judgement.approval is None:
            self._open.clear()
            return Refusal(self.status, Code.POLICY_DENIED, judgement.reason)
        self._asked += 1
        self.waiting = Request(
            id=f"{self.exchange}-{self._asked}",
            exchange=self.exchange,
            session=self.session,
            principal=self.principal.id,
            name=self.principal.name,
            rule=judgement.approval,
            touches=tuple(map(self._shown, judgement.touches)),
            proposal=self._proposal.text,
            requested_at=now,
            expires_at=now + judgement.approval.expires_seconds,
            model=self.facts.model,
            address=self.address,
        )
        return self.waiting

    def _shown(self, touch: Touch) -> Touch:
        path, repository, branch = (
            None if text is None else self.masked(text) for text in (touch.path, touch.repository, touch.branch)
        )
        return msgspec.structs.replace(touch, path=path, repository=repository, branch=branch)


def _entry(request: Request, approval: Approval | None, why: str, now: float) -> dict[str, Any]:
    """Return what the record keeps; `granted` is the earlier approval that covered the request, if it was one."""
    verdicts = () if approval is None else approval.verdicts
    earlier = approval is not None and approval.request.id != request.id
    return {
        "id": request.id,
        "rule": request.rule.rule_id,
        "state": "refused" if approval is None else approval.state,
        "why": why or None,
        "granted": approval.request.id if approval is not None and earlier else None,
        "touches": msgspec.to_builtins(list(request.touches)),
        "requested_at": request.requested_at,
        "waited_ms": round((now - request.requested_at) * 1000, 3),
        "verdicts": [
            {
                "approver": verdict.approver,
                "name": verdict.name,
                "approved": verdict.approved,
                "reason": verdict.reason,
                "scope": verdict.scope,
                "at": verdict.at,
            }
            for verdict in verdicts
        ],
    }
