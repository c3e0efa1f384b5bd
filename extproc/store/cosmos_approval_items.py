"""Events of approvals as items of Cosmos DB, and back. Pure.

An item is one event: its `id` is the event's sequence number, its partition key the approval, so that of two who create
the same event one is told of the other (409). The first item, of the request, and the one that ends the approval also
have what lists and grants ask for, since a query sees one item at a time.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

import msgspec

from extproc.approval.approval import Request, Scope, State, Verdict
from extproc.approval.event import Event, Kind
from extproc.errors import StoreUnavailable

Item = dict[str, Any]

MAX_ITEM_BYTES: Final = 1_000_000
"""Longest event. The service takes 2 MB ("service quotas"), but counts otherwise than we do, and aiohttp
warns of single writes above 1 MiB, which hold up the event loop."""


class EventItem(msgspec.Struct, frozen=True, omit_defaults=True):
    """An item; times in unix seconds. `document` is the request or the verdict as JSON text, exactly as it was.

    `nonce` tells whoever created it, and did not hear of it, that it is theirs. From `requester` on it is what is
    searched for: `slot` is the replica and worker that hold the exchange, `ended` the state, where this is the end.
    """

    id: str
    approval: str
    kind: Kind
    state: State
    at: float
    nonce: str
    who: str | None = None
    name: str | None = None
    address: str | None = None
    document: str | None = None
    requester: str | None = None
    user: str | None = None
    rule: str | None = None
    session: str | None = None
    approvers: list[str] | None = None
    requested_at: float | None = None
    expires_at: float | None = None
    slot: str | None = None
    instance: str | None = None
    ended: State | None = None
    scope: Scope | None = None


def slot_of(instance: str) -> str:
    """Return the replica and worker of an instance, `REPLICA.WORKER.EPOCH`: they are the same after a restart."""
    return instance.rpartition(".")[0] or instance


def item_of(
    event: Event, request: Request, nonce: str, *, instance: str | None = None, scope: Scope = Scope.ONCE
) -> Item:
    """Return the item of an event; raises ValueError for what no JSON can hold, StoreUnavailable for what is too long.

    `instance` is who requests; `scope` is what this event grants (`granted_scope`).
    """
    document = None if event.document is None else msgspec.json.encode(event.document).decode()
    is_end = event.kind in {Kind.VERDICT, Kind.ENDED} and event.state is not State.PENDING
    item = EventItem(
        id=f"{event.sequence:012d}",
        approval=event.approval,
        kind=event.kind,
        state=event.state,
        at=event.at,
        nonce=nonce,
        who=event.who,
        name=event.name,
        address=event.address,
        document=document,
        slot=None if instance is None else slot_of(instance),
        instance=instance,
        ended=event.state if is_end else None,
        scope=None if scope is Scope.ONCE else scope,
    )
    if is_end or event.kind is Kind.REQUESTED:
        item = msgspec.structs.replace(
            item,
            requester=request.principal,
            user=request.name,
            rule=request.rule.rule_id,
            session=request.session,
            approvers=sorted(request.rule.approvers),
            requested_at=request.requested_at,
            expires_at=request.expires_at,
        )
    if len(msgspec.json.encode(item)) > MAX_ITEM_BYTES:
        raise StoreUnavailable(f"approval {event.approval} is too large for Cosmos DB: above {MAX_ITEM_BYTES} bytes")
    made: Item = msgspec.to_builtins(item)
    return made


def event_of(item: Mapping[str, Any]) -> Event:
    """Return the event of an item; raises ValueError (of which msgspec's errors are) for what is none."""
    read = msgspec.convert(item, EventItem)
    document: Request | Verdict | None = None
    if read.kind is Kind.REQUESTED:
        document = msgspec.json.decode(read.document or "", type=Request)
    elif read.kind is Kind.VERDICT:
        document = msgspec.json.decode(read.document or "", type=Verdict)
    facts = (read.who, read.name, read.address, document)
    return Event(read.approval, int(read.id), read.kind, read.state, read.at, *facts)
