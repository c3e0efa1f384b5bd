"""What is special about approvals in Cosmos DB: races, faults, lost answers, rights, and what dead processes left."""

from __future__ import annotations

import asyncio
import json
import ssl
import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio

from extproc.approval.approval import Approval, Scope, State, VerdictRefusal, Why
from extproc.approval.event import Kind, View
from extproc.certificates import operations as certificates
from extproc.errors import StoreUnavailable
from extproc.store import cosmos_approvals
from extproc.store.cosmos import CosmosSettings
from extproc.store.cosmos_approvals import CosmosApprovals
from tests.approving import APPROVERS, NOW, request, rule, verdict
from tests.cosmos.fault import Fault
from tests.cosmos.rights import actions_of
from tests.cosmos.running import running, settings
from tests.cosmos.server import FakeCosmos
from tests.store.cosmos_backend import impatient
from tests.store.cosmos_faults import STALL
from tests.store.test_cosmos_rights import AsyncIdentity

ROLES = Path(__file__).parents[2] / "k8s" / "azure"
CONTAINER = "dbs/extproc/colls/approvals"

Open = Callable[..., CosmosApprovals]


@pytest.fixture
def server() -> Iterator[FakeCosmos]:
    with running() as one:
        yield one


@pytest_asyncio.fixture
async def opened(server: FakeCosmos) -> AsyncIterator[Open]:
    """Return what opens the container as some process, which closes it when it ends."""
    async with AsyncExitStack() as stack:

        def open_it(instance: str | None = "gateway-0.0.e1", **changes: Any) -> CosmosApprovals:
            where = settings(server, container="approvals")
            facts: dict[str, Any] = {"now": lambda: NOW, "retrying": impatient(5.0), **changes}
            store = CosmosApprovals(where, None, instance=instance, **facts)
            stack.push_async_callback(store.aclose)
            return store

        yield open_it


def stored(server: FakeCosmos) -> list[dict[str, Any]]:
    return list(server.account.container(CONTAINER).items.values())


async def until(condition: Callable[[], object]) -> None:
    """Poll for what happens in the server's thread."""
    async with asyncio.timeout(20):
        while not condition():  # noqa: ASYNC110 - nobody there could set an event of this loop
            await asyncio.sleep(0.01)


# --- lost answers and faults -----------------------------------------------------------------------------------------

AMBIGUOUS = [None, 503, 449]


@pytest.mark.parametrize("status", AMBIGUOUS)
async def test_a_verdict_whose_answer_was_lost_is_known_as_its_own(
    server: FakeCosmos, opened: Open, status: int | None
) -> None:
    store = opened()
    for name, act in (("request", store.request), ("verdict", None)):
        server.faults.append(Fault("Create", commit=True, status=status))
        if act is not None:
            await act(request())
        else:
            result = await store.verdict("a1", verdict(), APPROVERS)
            assert isinstance(result, Approval), name
            assert result.state is State.APPROVED
        assert server.faults.pop().used == 1
    assert [one["id"] for one in stored(server)] == ["000000000000", "000000000001"]


async def test_the_answer_of_somebody_else_in_its_place_is_not_taken_for_its_own(
    server: FakeCosmos, opened: Open
) -> None:
    mine, other = opened(), opened("gateway-1.0.e1")
    await mine.request(request())
    # Mine is not taken, and meanwhile another one is.
    fault = Fault("Create", stall=0.3, contains="issuer#bob")
    server.faults.append(fault)
    waiting = asyncio.create_task(mine.verdict("a1", verdict("bob"), APPROVERS))
    await until(lambda: fault.used)
    denied = await other.verdict("a1", verdict("carol", approved=False), APPROVERS)
    refused = await waiting
    assert isinstance(refused, VerdictRefusal)
    assert refused.why is Why.ENDED
    assert await mine.get("a1") == denied


@pytest.mark.parametrize(
    "fault",
    [
        Fault("Create", status=429, retry_after_ms=1, times=3),
        Fault("Create", status=503, times=3),
        Fault("Create", stall=2 * STALL),
        Fault("query", status=429, retry_after_ms=1, times=2),
        Fault("query", status=503, times=2),
        Fault("query"),
    ],
    ids=lambda fault: f"{fault.operation} {fault.status or 'cut'}",
)
async def test_what_passes_is_tried_again(server: FakeCosmos, opened: Open, fault: Fault) -> None:
    store = opened(retrying=impatient())
    await store.request(request())
    server.faults.append(fault)
    assert isinstance(await store.verdict("a1", verdict(), APPROVERS), Approval)
    assert fault.used
    assert len(stored(server)) == 2


@pytest.mark.parametrize("operation", ["Create", "query"])
@pytest.mark.parametrize("status", [None, 401, 403, 429, 503])
async def test_what_does_not_pass_is_told_and_nothing_is_written(
    server: FakeCosmos, opened: Open, operation: str, status: int | None
) -> None:
    store = opened()
    await store.request(request())
    server.faults.append(Fault(operation, status=status, retry_after_ms=1, times=None))
    with pytest.raises(StoreUnavailable):
        await store.verdict("a1", verdict(), APPROVERS)
    with pytest.raises(StoreUnavailable):
        await store.end("a1", State.EXPIRED, NOW + 1)
    assert len(stored(server)) == 1


async def test_a_container_that_is_missing_says_so(server: FakeCosmos) -> None:
    store = CosmosApprovals(settings(server, container="none"), None, instance="r.0.e", now=lambda: NOW)
    try:
        with pytest.raises(StoreUnavailable, match="provision"):
            await store.get("a1")
        with pytest.raises(StoreUnavailable, match="provision"):
            await store.request(request())
    finally:
        await store.aclose()


async def test_an_approval_that_cosmos_db_cannot_hold_is_refused(server: FakeCosmos, opened: Open) -> None:
    with pytest.raises(StoreUnavailable, match="too large"):
        await opened().request(request(proposal="x" * 2_000_000))
    assert stored(server) == []


async def test_what_nobody_understands_is_told_as_a_store_that_failed(server: FakeCosmos, opened: Open) -> None:
    store = opened()
    await store.request(request())
    stored(server)[0]["document"] = {"no": "request"}
    for reading in (store.get("a1"), store.newest(), store.verdict("a1", verdict(), APPROVERS)):
        with pytest.raises(StoreUnavailable, match="failed"):
            await reading


async def test_a_closed_store_opens_no_connection_again(opened: Open) -> None:
    store = opened()
    await store.aclose()
    with pytest.raises(StoreUnavailable, match="closed"):
        await store.get("a1")


# --- bounds ----------------------------------------------------------------------------------------------------------


async def test_views_leave_room_for_verdicts(opened: Open, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cosmos_approvals, "MAX_VIEWED_EVENTS", 3)
    store = opened()
    await store.request(request())
    view = View("issuer#carol", "carol", NOW)
    for _ in range(2):
        assert await store.viewed("a1", view)
    with pytest.raises(StoreUnavailable, match="looked at"):
        await store.viewed("a1", view)
    assert isinstance(await store.verdict("a1", verdict(), APPROVERS), Approval)


async def test_of_more_news_than_are_read_at_once_none_is_lost(opened: Open, monkeypatch: pytest.MonkeyPatch) -> None:
    store = opened()
    cursor, _ = await store.ended(None)
    for number in range(7):
        await store.request(request(f"a{number}"))
        await store.end(f"a{number}", State.CANCELLED, NOW)
    monkeypatch.setattr(cosmos_approvals, "MAX_ENDED", 3)
    found: list[str] = []
    for _ in range(4):
        cursor, ended = await store.ended(cursor)
        assert len(ended) <= 3
        found += ended
    assert sorted(found) == [f"a{number}" for number in range(7)]


async def test_lists_of_many_are_complete(opened: Open) -> None:
    store = opened()
    for number in range(120):
        await store.request(request(f"a{number:03}", requested_at=NOW + number, expires_at=NOW + 900))
    assert [one.request.id for one in await store.newest(limit=110)] == [
        f"a{number:03}" for number in range(119, 9, -1)
    ]
    assert len(await store.newest(state=State.PENDING, limit=500)) == 120


# --- what dead processes left ----------------------------------------------------------------------------------------


async def test_a_process_that_starts_interrupts_what_the_one_before_it_left_and_nothing_else(opened: Open) -> None:
    before, worker, replica = opened("gw.0.0.e1"), opened("gw.0.1.e1"), opened("gw.1.0.e1")
    await before.request(request("left"))
    await before.request(request("done"))
    await before.verdict("done", verdict(), APPROVERS)
    await before.request(request("expired", expires_at=NOW - 60))
    await replica.request(request("gone", expires_at=NOW - 60))
    await worker.request(request("worker"))
    await replica.request(request("replica"))
    after = opened("gw.0.0.e2")
    await after.request(request("own"))
    assert await after.end_orphans() == 2
    states = {one.request.id: one.state for one in await after.newest()}
    assert states == {
        "left": State.INTERRUPTED,
        "done": State.APPROVED,
        "expired": State.INTERRUPTED,
        "gone": State.PENDING,
        "worker": State.PENDING,
        "replica": State.PENDING,
        "own": State.PENDING,
    }
    assert await after.end_orphans() == 0


async def test_it_goes_on_until_the_store_answers_and_keeps_nobody_from_starting(
    server: FakeCosmos, opened: Open, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cosmos_approvals, "_RETRY_ORPHANS_SECONDS", 0)
    await opened("gw.0.e1").request(request())
    fault = Fault("query", status=403, times=3)
    server.faults.append(fault)
    after = opened("gw.0.e2")
    after.interrupt_orphans()
    await until(lambda: fault.times == 0 and len(stored(server)) == 2)
    found = await opened(None).get("a1")
    assert found is not None
    assert found.state is State.INTERRUPTED


async def test_what_nobody_ends_any_more_is_not_listed_as_pending_after_its_time(opened: Open) -> None:
    await opened().request(request())
    assert len(await opened(None, now=lambda: NOW + 959).newest(state=State.PENDING)) == 1
    later = opened("gateway-1.0.e1", now=lambda: NOW + 960)
    assert await later.newest(state=State.PENDING) == []
    assert [one.kind for one in await later.events("a1")] == [Kind.REQUESTED]


async def test_only_a_process_that_serves_requests(opened: Open) -> None:
    with pytest.raises(StoreUnavailable, match="serves"):
        await opened(None).request(request())


async def test_what_one_replica_was_granted_is_good_at_the_others(opened: Open) -> None:
    store = opened()
    await store.request(request(rule=rule(scopes=(Scope.WINDOW,))))
    result = await store.verdict("a1", verdict(scope=Scope.WINDOW), APPROVERS)
    assert await opened("gateway-1.0.e1").granted("issuer#alice", "privileged", "s2") == [result]


# --- rights ----------------------------------------------------------------------------------------------------------


def role(name: str) -> set[str]:
    return actions_of(json.loads((ROLES / f"cosmos-{name}-role.json").read_text()))


async def test_the_role_of_approvals_is_enough_and_can_change_nothing(tmp_path: Path) -> None:
    certificates.ensure(tmp_path, (), time.time())
    tls = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    tls.load_cert_chain(tmp_path / "tls.crt", tmp_path / "tls.key")
    with running(tokens={one: role(one) for one in ("approvals", "writer")}, tls=tls) as server:
        where = CosmosSettings(server.url, container="approvals")
        store = CosmosApprovals(where, AsyncIdentity("approvals"), instance="r.0.e", now=lambda: NOW)
        await store.request(request())
        assert isinstance(await store.verdict("a1", verdict(), APPROVERS), Approval)
        assert len(await store.newest()) == 1
        assert await store.granted("issuer#alice", "privileged", "s1") == []
        assert (await store.ended(None))[1] == []
        assert await store.end_orphans() == 0
        await store.aclose()
        assert {"Replace", "Delete", "Upsert", "batch"}.isdisjoint(server.requests)
        writer = CosmosApprovals(where, AsyncIdentity("writer"), instance="r.0.e", now=lambda: NOW)
        with pytest.raises(StoreUnavailable, match="403/5300"):
            await writer.newest()
        await writer.aclose()
    assert not {one.rpartition("/")[2] for one in role("approvals")} & {"replace", "upsert", "delete", "*"}
