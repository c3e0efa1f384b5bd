"""Approvals as plain JSON values: what the command line and the REST API show. Pure."""

from __future__ import annotations

from typing import Any

import msgspec

from extproc.approval.approval import Approval, State, Verdict
from extproc.approval.event import Event


def row(approval: Approval, now: float) -> dict[str, Any]:
    """Return an approval as one JSON object, without the proposed change."""
    request = approval.request
    return {
        "id": request.id,
        "state": approval.state,
        "user": request.name,
        "principal": request.principal,
        "rule": request.rule.rule_id,
        "message": request.rule.message,
        "approvers": sorted(request.rule.approvers),
        "count": request.rule.count,
        "scopes": list(request.rule.scopes),
        "touches": [msgspec.to_builtins(touch) for touch in request.touches],
        "exchange": request.exchange,
        "session": request.session,
        "model": request.model,
        "requested_at": request.requested_at,
        "expires_at": request.expires_at,
        "seconds_left": max(0.0, request.expires_at - now) if approval.state is State.PENDING else None,
        "ended_at": approval.ended_at,
        "verdicts": [msgspec.to_builtins(verdict) for verdict in approval.verdicts],
    }


def detail(approval: Approval, events: list[Event], now: float) -> dict[str, Any]:
    """Return an approval with the proposed change and all that happened to it."""
    history = [_event(event) for event in events]
    return {**row(approval, now), "proposal": approval.request.proposal, "events": history}


def _event(event: Event) -> dict[str, Any]:
    # The request is the row itself.
    verdict = msgspec.to_builtins(event.document) if isinstance(event.document, Verdict) else None
    facts = {"sequence": event.sequence, "kind": event.kind, "state": event.state, "at": event.at}
    return {**facts, "who": event.who, "name": event.name, "address": event.address, "verdict": verdict}
