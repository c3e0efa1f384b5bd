"""Approvals: see what waits, and answer it, as whoever the token names."""

from __future__ import annotations

from typing import Any

import msgspec

from extproc.approval.approval import Approval, Scope, Why
from extproc.approval.event import View
from extproc.approval.row import detail, row
from extproc.console import answering
from extproc.console.api.route import Call, Fault, Nothing
from extproc.console.api.shapes import Answer, ApprovalDetail, ApprovalRow, Approvals, ApprovalsQuery


async def list_approvals(call: Call[ApprovalsQuery, Nothing]) -> Approvals:
    """Return what the viewer may see, the newest first."""
    asked, now = call.query, call.console.now()
    store = call.console.approvals()
    found = await answering.newest_for(call.viewer, store, state=asked.state, user=asked.user, limit=asked.limit)
    return Approvals(approvals=[_row(one, now) for one in found])


async def show_approval(call: Call[Nothing, Nothing]) -> ApprovalDetail:
    """Return an approval with its proposal; that somebody looks is an event of it."""
    store, who, now = call.console.approvals(), call.viewer.principal, call.console.now()
    approval = await store.get(call.id)
    if approval is None or not answering.may_see(approval, call.viewer):
        raise _unknown()
    approval = await store.viewed(call.id, View(who.id, who.name, now, call.address))
    if approval is None:
        raise _unknown()
    return msgspec.convert(detail(approval, await store.events(call.id), now), ApprovalDetail)


async def approve(call: Call[Nothing, Answer]) -> ApprovalRow:
    """Approve what waits, for the scope that the body says."""
    return await _answer(call, approved=True, scope=call.body.scope)


async def deny(call: Call[Nothing, Answer]) -> ApprovalRow:
    """Deny what waits."""
    if not call.body.reason.strip():
        raise Fault(422, "body", answering.NEEDS_REASON)
    return await _answer(call, approved=False, scope=Scope.ONCE)


async def _answer(call: Call[Any, Answer], *, approved: bool, scope: Scope) -> ApprovalRow:
    now, store = call.console.now(), call.console.approvals()
    approval = await store.get(call.id)
    if approval is None or not answering.may_see(approval, call.viewer):
        raise _unknown()
    result = await answering.answer(
        call.viewer,
        store,
        call.id,
        approved=approved,
        reason=call.body.reason,
        scope=scope,
        now=now,
        address=call.address,
    )
    if not isinstance(result, Approval):
        raise Fault(answering.STATUS[result.why], result.why, result.message)
    return _row(result, now)


def _row(approval: Approval, now: float) -> ApprovalRow:
    return msgspec.convert(row(approval, now), ApprovalRow)


def _unknown() -> Fault:
    return Fault(404, Why.UNKNOWN, "No approval has this id.")
