"""One approval: what waits, for whom, until when, and how it ended. Pure: time and identity are arguments."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from enum import StrEnum
from typing import Final

from extproc.approval.touch import Act, Touch

SESSION_SECONDS: Final = 12 * 3600.0
"""How long an approval for a session is good for at most: the client names its session, and may name it so for ever."""


class State(StrEnum):
    """Where an approval stands; every state but the first is final."""

    PENDING = "pending"
    APPROVED = "approved"
    DENIED = "denied"
    EXPIRED = "expired"
    CANCELLED = "cancelled"  # the client went away
    INTERRUPTED = "interrupted"  # the gateway stopped or died while it waited


class Scope(StrEnum):
    """What a verdict "approved" is good for."""

    ONCE = "once"
    SESSION = "session"  # the same principal, session, rule and paths
    WINDOW = "window"  # the same principal, rule and paths, for some minutes


@dataclass(frozen=True, slots=True)
class ApprovalRule:
    """What a policy rule with the effect `require-approval` asks for; `approvers` are group names or ids."""

    rule_id: str
    approvers: frozenset[str]
    count: int = 1
    expires_seconds: float = 900.0
    message: str = ""
    requester_may_approve: bool = False
    scopes: tuple[Scope, ...] = (Scope.ONCE,)
    window_seconds: float = 3600.0


@dataclass(frozen=True, slots=True)
class Request:
    """What is asked of the approvers; everything in it is masked already. Times are unix seconds.

    `proposal` is what `show` prints: the calls or the request as JSON text, in the order they would be done.
    """

    id: str
    exchange: str
    session: str
    principal: str
    name: str
    rule: ApprovalRule
    touches: tuple[Touch, ...]
    proposal: str
    requested_at: float
    expires_at: float
    model: str | None = None
    address: str | None = None


@dataclass(frozen=True, slots=True)
class Verdict:
    """What one approver said, and from where; `approver` is the id of the verified principal, `at` in unix seconds."""

    approver: str
    name: str
    approved: bool
    reason: str
    scope: Scope
    at: float
    address: str | None = None


@dataclass(frozen=True, slots=True)
class Approval:
    """A request with all that happened to it since."""

    request: Request
    state: State
    verdicts: tuple[Verdict, ...] = field(default=())
    ended_at: float | None = None


class Why(StrEnum):
    """Why a verdict is not accepted; stable, the command line and the REST API show it."""

    UNKNOWN = "unknown"
    NOT_APPROVER = "not_approver"
    ENDED = "ended"
    OWN_REQUEST = "own_request"
    TWICE = "twice"
    SCOPE = "scope"


@dataclass(frozen=True, slots=True)
class VerdictRefusal:
    """Say that a verdict changed nothing, and why, in one sentence for who gave it."""

    why: Why
    message: str


def decide(
    approval: Approval | None, verdict: Verdict, groups: frozenset[str], now: float
) -> Approval | VerdictRefusal:
    """Return the approval after a verdict, or why it is not accepted; `approval` is None where the id is unknown.

    `groups` are the verified groups of `verdict.approver`. One denial ends it, whatever was said before; as many
    approvers as the rule asks for must approve, each counted once. Who asked may always deny, as any approver.
    """
    if approval is None:
        return VerdictRefusal(Why.UNKNOWN, "No approval has this id.")
    request, rule, approves = approval.request, approval.request.rule, verdict.approved
    own = verdict.approver == request.principal and not rule.requester_may_approve
    twice = any(one.approver == verdict.approver for one in approval.verdicts)
    objections = (
        (
            not groups & rule.approvers,
            Why.NOT_APPROVER,
            f"Only {_any_of(rule.approvers)} may decide about {request.id}.",
        ),
        (approval.state is not State.PENDING, Why.ENDED, f"{request.id} is {approval.state} already."),
        (now >= request.expires_at, Why.ENDED, f"{request.id} has expired."),
        (approves and own, Why.OWN_REQUEST, f"Who asked for {request.id} may not approve it."),
        (approves and twice, Why.TWICE, f"You have approved {request.id} already; somebody else must."),
        (
            approves and verdict.scope not in rule.scopes,
            Why.SCOPE,
            f"{request.id} can be approved for {' or '.join(rule.scopes)} only.",
        ),
    )
    for applies, why, message in objections:
        if applies:
            return VerdictRefusal(why, message)
    if not approves:
        return _with(approval, verdict, State.DENIED)
    enough = len(approval.verdicts) + 1 >= rule.count
    return _with(approval, verdict, State.APPROVED if enough else State.PENDING)


def granted_scope(approval: Approval) -> Scope:
    """Return what an approval is good for: what all approvers agree on, else once."""
    scopes = {verdict.scope for verdict in approval.verdicts}
    return scopes.pop() if approval.state is State.APPROVED and len(scopes) == 1 else Scope.ONCE


def covers(granted: Approval, request: Request, now: float) -> bool:
    """Say whether an earlier approval is good for this request too, so that nobody need be asked.

    It is for the same principal only, under the very same rule (one that was changed asks anew), and for touches that
    were all shown to the approvers. Times count from the last verdict.
    """
    if granted.state is not State.APPROVED or granted.ended_at is None:
        return False
    asked = granted.request
    if (asked.principal, asked.rule) != (request.principal, request.rule):
        return False
    if not request.touches or not all(_is_told(one) and one in asked.touches for one in request.touches):
        return False
    match granted_scope(granted):
        case Scope.SESSION:
            return asked.session == request.session and now < granted.ended_at + SESSION_SECONDS
        case Scope.WINDOW:
            return now < granted.ended_at + request.rule.window_seconds
        case Scope.ONCE:
            return False


def _with(approval: Approval, verdict: Verdict, state: State) -> Approval:
    ended_at = None if state is State.PENDING else verdict.at
    return replace(approval, state=state, verdicts=(*approval.verdicts, verdict), ended_at=ended_at)


def _is_told(touch: Touch) -> bool:
    """Say whether it is known what is touched: two commands that may write any file have only that in common."""
    if touch.act in {Act.EDIT, Act.SHELL}:
        return touch.path is not None
    return touch.repository is not None


def _any_of(groups: frozenset[str]) -> str:
    return f"members of {' or '.join(sorted(groups))}" if groups else "nobody"
