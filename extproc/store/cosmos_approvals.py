"""Approvals in Azure Cosmos DB: a container of events, from which everything else follows, for all replicas.

Only creates, reads and queries. To add an event is to create the item with the next number: who meets 409 was not the
first, reads again and judges again. Lists come from queries over all partitions, which may be a moment behind what
others wrote; what decides about an approval is read in its own partition and proven by the create.
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import logging
import secrets
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any, Final, TypeVar

import msgspec
from azure.core.credentials_async import AsyncTokenCredential

from extproc.approval.approval import Approval, Request, Scope, State, Verdict, VerdictRefusal, decide, granted_scope
from extproc.approval.event import Event, Kind, View, decided, fold, requested
from extproc.errors import StoreUnavailable
from extproc.store.approvals_port import Ending
from extproc.store.cosmos import CosmosSettings
from extproc.store.cosmos_approval_items import Item, event_of, item_of, slot_of
from extproc.store.cosmos_container import CosmosContainer
from extproc.store.cosmos_retry import Retrying

log = logging.getLogger("extproc.approval")

T = TypeVar("T")

MAX_EVENTS: Final = 1000
MAX_VIEWED_EVENTS: Final = 900
"""From here on nobody may look any more, so that verdicts always have room."""

MAX_LISTED: Final = 1000
MAX_GRANTED: Final = 100
MAX_ENDED: Final = 1000
"""Most approvals that a list looks at, that are granted, and that are told of as ended at once."""

OVERLAP_SECONDS: Final = 30
"""How far `ended` looks back behind the newest end that it saw: clocks of partitions differ, replicas of one lag."""

GRACE_SECONDS: Final = 60.0
"""How long what has expired is still listed as pending: the gateway that holds it is about to end it."""

GRANT_SECONDS: Final = 24 * 3600.0
"""How long a grant may count: a rule's window has at most 1440 minutes (docs/policy.md), a session's is shorter."""

ORPHAN_SECONDS: Final = 7 * 24 * 3600.0
"""How long after its time an approval is still looked for that a dead process left pending."""

_RETRY_ORPHANS_SECONDS: Final = 30.0
_IDS_AT_ONCE: Final = 100

_REQUESTED: Final = 'c["kind"] = "requested"'
_NEWEST: Final = 'ORDER BY c["requested_at"] DESC'


class CosmosApprovals:
    """Implement the `Approvals` port over one container; belongs to the event loop that first uses it.

    `instance` names this process, `REPLICA.WORKER.EPOCH`; without one nothing can be requested. What earlier processes
    of the same replica and worker left pending is ended by `end_orphans`; that of other replicas is left to its time,
    since nobody here knows whether they live.
    """

    def __init__(
        self,
        settings: CosmosSettings,
        credential: AsyncTokenCredential | None = None,
        *,
        instance: str | None,
        now: Callable[[], float],
        retrying: Retrying | None = None,
    ) -> None:
        self._container = CosmosContainer(settings, credential, retrying)
        self._instance = instance
        self._now = now
        self._orphans: asyncio.Task[None] | None = None

    # --- what exchanges wait for -------------------------------------------------------------------------------------

    async def request(self, request: Request) -> None:
        """Begin an approval; see the port for the contract."""
        if self._instance is None:
            raise StoreUnavailable("approvals are requested by a process that serves")
        with _readable():
            item = item_of(requested(request), request, _nonce(), instance=self._instance)
        if not await self._create(item, self._container.retrying.deadline()):
            raise StoreUnavailable(f"approval {request.id} is there already")

    async def end(self, approval_id: str, state: Ending, at: float) -> Approval | None:
        """End a pending approval; return how it ended."""

        def step(events: list[Event]) -> tuple[Approval | None, Event | None]:
            approval = fold(events)
            if approval is None or approval.state is not State.PENDING:
                return approval, None
            ended = Event(approval_id, len(events), Kind.ENDED, state, at)
            return fold([*events, ended]), ended

        return await self._add(approval_id, step)

    async def granted(self, principal: str, rule_id: str, session: str) -> list[Approval]:
        """Return what was approved for more than once, the newest first."""
        rows = await self._query(
            'SELECT c["approval"] FROM c WHERE c["requester"] = @requester AND c["rule"] = @rule AND c["at"] >= @since'
            ' AND (c["scope"] = "window" OR (c["scope"] = "session" AND c["session"] = @session))'
            ' ORDER BY c["at"] DESC',
            {"requester": principal, "rule": rule_id, "session": session, "since": self._now() - GRANT_SECONDS},
            most=MAX_GRANTED,
        )
        return await self._approvals([row["approval"] for row in rows])

    async def ended(self, after: str | None) -> tuple[str, list[str]]:
        """Return the ids of the approvals that ended after a cursor, and the next cursor.

        The cursor holds the service's time of the newest end that was seen, and which ends are around it. An end that
        shows up later than `OVERLAP_SECONDS` is missed: who waits for it learns of it when the approval expires.
        """
        newest, seen = (await self._newest_end(), frozenset[str]()) if after is None else _cursor(after)
        rows = await self._query(
            'SELECT c["approval"], c["_ts"] AS at FROM c WHERE IS_DEFINED(c["ended"]) AND c["_ts"] >= @since'
            ' ORDER BY c["_ts"]',
            {"since": newest - OVERLAP_SECONDS},
            most=len(seen) + MAX_ENDED,
        )
        with _readable():
            found = msgspec.convert(rows, list[_End])
        newest = max([newest, *(one.at for one in found)])
        around = sorted({one.approval for one in found if one.at >= newest - OVERLAP_SECONDS})
        following = msgspec.json.encode((newest, around)).decode()
        return following, [] if after is None else [one.approval for one in found if one.approval not in seen]

    async def _newest_end(self) -> int:
        text = 'SELECT VALUE c["_ts"] FROM c WHERE IS_DEFINED(c["ended"]) ORDER BY c["_ts"] DESC'
        rows: list[Any] = await self._query(text, {}, most=1)
        return int(rows[0]) if rows else 0

    async def end_orphans(self) -> int:
        """End as interrupted what earlier processes of this replica and worker left pending; return how many."""
        if (instance := self._instance) is None:
            return 0
        rows = await self._query(
            f'SELECT c["approval"] FROM c WHERE {_REQUESTED} AND c["slot"] = @slot AND c["instance"] != @instance'  # noqa: S608 - as above
            f' AND c["expires_at"] > @since {_NEWEST}',
            {"slot": slot_of(instance), "instance": instance, "since": self._now() - ORPHAN_SECONDS},
            most=MAX_LISTED,
        )
        left = await self._still_pending([row["approval"] for row in rows])
        ends = [await self.end(approval_id, State.INTERRUPTED, self._now()) for approval_id in left]
        return sum(one is not None and one.state is State.INTERRUPTED for one in ends)

    def interrupt_orphans(self) -> None:
        """Begin to `end_orphans`, however long the store is away."""
        self._orphans = asyncio.get_running_loop().create_task(self._until_orphans_ended())

    async def _until_orphans_ended(self) -> None:
        while True:
            try:
                count = await self.end_orphans()
            except StoreUnavailable as failure:
                log.warning("cannot end what a dead process left pending", extra={"fields": {"failure": str(failure)}})
                await asyncio.sleep(_RETRY_ORPHANS_SECONDS)
                continue
            if count:
                log.warning("ended approvals of a process that died", extra={"fields": {"approvals": count}})
            return

    # --- answering ---------------------------------------------------------------------------------------------------

    async def verdict(self, approval_id: str, verdict: Verdict, groups: frozenset[str]) -> Approval | VerdictRefusal:
        """Add a verdict if it is accepted."""

        def step(events: list[Event]) -> tuple[Approval | VerdictRefusal, Event | None]:
            result = decide(fold(events), verdict, groups, verdict.at)
            return result, decided(result, len(events)) if isinstance(result, Approval) else None

        return await self._add(approval_id, step)

    async def viewed(self, approval_id: str, view: View) -> Approval | None:
        """Write down that somebody looks at an approval, and return it."""

        def step(events: list[Event]) -> tuple[Approval | None, Event | None]:
            approval = fold(events)
            if approval is None:
                return None, None
            if len(events) >= MAX_VIEWED_EVENTS:
                raise StoreUnavailable(f"approval {approval_id} was looked at {MAX_VIEWED_EVENTS} times: no more fit")
            who = (view.who, view.name, view.address)
            return approval, Event(approval_id, len(events), Kind.VIEWED, approval.state, view.at, *who)

        return await self._add(approval_id, step)

    async def get(self, approval_id: str) -> Approval | None:
        """Return an approval as it stands."""
        return fold(await self.events(approval_id))

    async def events(self, approval_id: str) -> list[Event]:
        """Return all that happened to an approval, in order."""
        return await self._events(approval_id, self._container.retrying.deadline())

    async def newest(
        self,
        *,
        state: State | None = None,
        approver_groups: frozenset[str] | None = None,
        user: str | None = None,
        limit: int = 100,
    ) -> list[Approval]:
        """Return the newest approvals that fit all that is given, of at most `MAX_LISTED`.

        Pending are those whose time is not over, or has been for less than `GRACE_SECONDS`: what a dead replica left.
        """
        conditions, values = [_REQUESTED], dict[str, Any]()
        if state is State.PENDING:
            conditions.append('c["expires_at"] > @since')
            values["since"] = self._now() - GRACE_SECONDS
        elif state is not None:
            conditions, values["state"] = ['c["ended"] = @state'], state.value
        if user is not None:
            conditions.append('(c["requester"] = @user OR c["user"] = @user)')
            values["user"] = user
        if approver_groups is not None:
            conditions.append('EXISTS(SELECT VALUE g FROM g IN c["approvers"] WHERE ARRAY_CONTAINS(@groups, g))')
            values["groups"] = sorted(approver_groups)
        text = f'SELECT c["approval"] FROM c WHERE {" AND ".join(conditions)} {_NEWEST}'  # noqa: S608 - literals above
        most = MAX_LISTED if state is State.PENDING else min(limit, MAX_LISTED)
        ids = [row["approval"] for row in await self._query(text, values, most=most)]
        if state is State.PENDING:
            ids = (await self._still_pending(ids))[:limit]
        found = await self._approvals(ids)
        # One may have ended between two queries.
        return [one for one in found if state is None or one.state is state]

    async def aclose(self) -> None:
        """Close the connections; the credential stays the caller's."""
        if self._orphans is not None:
            self._orphans.cancel()
            await asyncio.gather(self._orphans, return_exceptions=True)
        await self._container.aclose()

    # --- items -------------------------------------------------------------------------------------------------------

    async def _add(self, approval_id: str, step: Callable[[list[Event]], tuple[T, Event | None]]) -> T:
        """Judge what is there and create the event that follows, anew for as long as somebody else was faster."""
        deadline, attempt = self._container.retrying.deadline(), 0
        while True:
            events = await self._events(approval_id, deadline)
            result, event = step(events)
            if event is None:
                return result
            with _readable():
                item = _following(events, event)
            if await self._create(item, deadline):
                return result
            await self._container.retrying.pause(attempt, deadline, "others answer this approval all the time")
            attempt += 1

    async def _create(self, item: Item, deadline: float) -> bool:
        """Create an event; False where another has its place."""
        if await self._container.create(item, deadline):
            return True
        # It may be ours: taken, and the answer was lost.
        for attempt in itertools.count():
            there = await self._container.read(item["approval"], item["id"], deadline)
            if there is not None:
                return bool(there.get("nonce") == item["nonce"])
            await self._container.retrying.pause(attempt, deadline, "an event cannot be read yet")
        raise AssertionError

    async def _events(self, approval_id: str, deadline: float) -> list[Event]:
        with _readable():
            rows = await self._container.query(
                "SELECT * FROM c", {}, deadline, limit=MAX_EVENTS + 1, partition=approval_id
            )
            if len(rows) > MAX_EVENTS:
                raise StoreUnavailable(f"approval {approval_id} has more than {MAX_EVENTS} events")
            events = sorted((event_of(row) for row in rows), key=lambda one: one.sequence)
            if [one.sequence for one in events] != list(range(len(events))):
                raise ValueError("events are missing")
        return events

    async def _approvals(self, ids: Sequence[str]) -> list[Approval]:
        """Return these approvals, in this order; looks are left out, there may be many."""
        found: dict[str, list[Event]] = {}
        for some in _chunks(ids):
            text = 'SELECT * FROM c WHERE c["kind"] != "viewed" AND ARRAY_CONTAINS(@ids, c["approval"])'
            rows = await self._query(text, {"ids": some}, most=len(some) * MAX_EVENTS)
            with _readable():
                for event in (event_of(row) for row in rows):
                    found.setdefault(event.approval, []).append(event)
        with _readable():
            folded = (fold(sorted(found.get(one, ()), key=lambda event: event.sequence)) for one in ids)
            return [approval for approval in folded if approval is not None]

    async def _still_pending(self, ids: Sequence[str]) -> list[str]:
        """Return those of these approvals that have not ended, in this order."""
        ended: set[str] = set()
        for some in _chunks(ids):
            text = 'SELECT c["approval"] FROM c WHERE IS_DEFINED(c["ended"]) AND ARRAY_CONTAINS(@ids, c["approval"])'
            ended |= {row["approval"] for row in await self._query(text, {"ids": some}, most=len(some))}
        return [one for one in ids if one not in ended]

    async def _query(self, text: str, values: Mapping[str, Any], *, most: int) -> list[Item]:
        """Return the first rows of a query of all approvals; `values` by the names of its parameters."""
        with _readable():
            return await self._container.query(text, values, self._container.retrying.deadline(), limit=most)


class _End(msgspec.Struct, frozen=True):
    approval: str
    at: int


@contextlib.contextmanager
def _readable() -> Iterator[None]:
    """Raise StoreUnavailable for a text that JSON cannot hold, and for an item that nobody understands."""
    try:
        yield
    except ValueError as failure:
        raise StoreUnavailable(f"the store of approvals failed: {type(failure).__name__}") from failure


def _following(events: Sequence[Event], event: Event) -> Item:
    approval = fold([*events, event])
    if approval is None:
        raise ValueError("an event of nothing")
    scope = granted_scope(approval) if event.kind is Kind.VERDICT else Scope.ONCE
    return item_of(event, approval.request, _nonce(), scope=scope)


def _nonce() -> str:
    return secrets.token_hex(16)


def _cursor(text: str) -> tuple[int, frozenset[str]]:
    newest, seen = msgspec.json.decode(text, type=tuple[int, list[str]])
    return newest, frozenset(seen)


def _chunks(ids: Sequence[str]) -> Iterable[list[str]]:
    return (list(ids[at : at + _IDS_AT_ONCE]) for at in range(0, len(ids), _IDS_AT_ONCE))
