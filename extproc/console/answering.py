"""Approvals as viewers may see and answer them: pages and REST API alike."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Final

from extproc.approval.approval import Approval, Scope, State, Verdict, VerdictRefusal, Why
from extproc.console.roles import Viewer
from extproc.store.approvals_port import Answers

NEEDS_REASON: Final = "A denial needs a reason, which the developer is told."

MAX_WAITING: Final = 500
"""Approvals that are looked at, of those that wait."""

STATUS: Final[Mapping[Why, int]] = MappingProxyType(
    {
        Why.UNKNOWN: 404,
        Why.NOT_APPROVER: 403,
        Why.OWN_REQUEST: 403,
        Why.ENDED: 409,
        Why.TWICE: 409,
        Why.SCOPE: 422,
    }
)
"""The HTTP status of a verdict that is not accepted."""


@dataclass(frozen=True, slots=True)
class Choices:
    """What a viewer can do about an approval now, and, where that is not all, why; `decide` has the last word."""

    approve: bool
    deny: bool
    why_not: str | None = None


def may_see(approval: Approval, viewer: Viewer) -> bool:
    """Say whether a viewer may see an approval: who asked, who may decide, and auditors."""
    asked = approval.request
    return viewer.sees_everyone or viewer.principal.id == asked.principal or is_approver(approval, viewer)


def is_approver(approval: Approval, viewer: Viewer) -> bool:
    """Say whether the approval's rule lets a viewer decide at all, however the approval stands."""
    return bool(viewer.principal.groups & approval.request.rule.approvers)


def choices_of(approval: Approval, viewer: Viewer, now: float) -> Choices:
    """Return what a viewer can do about an approval that is waiting; nothing where it waits no more."""
    asked, rule = approval.request, approval.request.rule
    if approval.state is not State.PENDING or not is_approver(approval, viewer):
        return Choices(approve=False, deny=False)
    if now >= asked.expires_at:
        return Choices(approve=False, deny=False, why_not="The time is up: nobody can decide any more.")
    if viewer.principal.id == asked.principal and not rule.requester_may_approve:
        told = "You asked for this yourself: somebody else must approve it. You can deny it."
        return Choices(approve=False, deny=True, why_not=told)
    if any(one.approver == viewer.principal.id for one in approval.verdicts):
        told = f"You have approved this; {rule.count - len(approval.verdicts)} more must. You can still deny it."
        return Choices(approve=False, deny=True, why_not=told)
    return Choices(approve=True, deny=True)


async def newest_for(
    viewer: Viewer, store: Answers, *, state: State | None = None, user: str | None = None, limit: int = 100
) -> list[Approval]:
    """Return the newest approvals that a viewer may see and that fit, the newest first.

    `user` is the name or id of who asked. Raises `StoreUnavailable`.
    """
    if viewer.sees_everyone:
        return await store.newest(state=state, user=user, limit=limit)
    who = viewer.principal
    may_decide = await store.newest(state=state, approver_groups=who.groups, user=user, limit=limit)
    # The store's `user` is an id or a name, and a name may be anybody's.
    own = [
        one
        for one in await store.newest(state=state, user=who.id, limit=limit)
        if one.request.principal == who.id and user in {None, one.request.principal, one.request.name}
    ]
    found = {one.request.id: one for one in [*may_decide, *own]}
    return sorted(found.values(), key=lambda one: one.request.requested_at, reverse=True)[:limit]


async def how_many_wait(viewer: Viewer, store: Answers, now: float, *, everyone: bool) -> int:
    """Return how many approvals wait: at all, for figures of everyone, else for the viewer; `MAX_WAITING` at most.

    Raises `StoreUnavailable`.
    """
    if everyone:
        return len(await store.newest(state=State.PENDING, limit=MAX_WAITING))
    found = await newest_for(viewer, store, state=State.PENDING, limit=MAX_WAITING)
    return sum(choices_of(one, viewer, now).approve for one in found)


async def answer(
    viewer: Viewer,
    store: Answers,
    approval_id: str,
    *,
    approved: bool,
    reason: str,
    scope: Scope,
    now: float,
    address: str | None,
) -> Approval | VerdictRefusal:
    """Add a viewer's verdict; return the approval as it stands then, or why the verdict is not accepted.

    The caller has checked that a denial has a reason. Raises `StoreUnavailable`; whether the verdict counts must be
    looked up then.
    """
    who = viewer.principal
    verdict = Verdict(who.id, who.name, approved, reason, scope, now, address)
    return await store.verdict(approval_id, verdict, who.groups)
