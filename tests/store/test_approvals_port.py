"""What every store of approvals promises, run over each adapter."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack
from pathlib import Path

import pytest

from extproc.approval.approval import Approval, Scope, State, VerdictRefusal, Why
from extproc.approval.event import Kind, View
from extproc.approval.touch import Act, Touch
from extproc.errors import StoreUnavailable
from extproc.store.approvals_port import Approvals, Ending
from extproc.store.cosmos_approvals import CosmosApprovals
from extproc.store.sqlite_approvals import SqliteApprovals
from tests.approving import APPROVERS, NOW, TOUCH, request, rule, verdict
from tests.cosmos.running import running, settings

ENDINGS: list[Ending] = [State.CANCELLED, State.EXPIRED, State.INTERRUPTED]
ALL = (Scope.ONCE, Scope.SESSION, Scope.WINDOW)
VIEW = View("issuer#carol", "carol", NOW + 1, "192.0.2.3")


@pytest.fixture(params=["sqlite", "cosmos"])
async def another(tmp_path: Path, request: pytest.FixtureRequest) -> AsyncIterator[Callable[[], Approvals]]:
    """Return what opens the same store again, as another process of the gateway does."""
    path, opened = tmp_path / "record.db", 0
    async with AsyncExitStack() as stack:
        server = stack.enter_context(running()) if request.param == "cosmos" else None

        def open_store() -> Approvals:
            nonlocal opened
            opened += 1
            store: SqliteApprovals | CosmosApprovals
            if server is None:
                store = SqliteApprovals(path, instance=f"i{opened}", now=NOW)
            else:
                where = settings(server, container="approvals")
                store = CosmosApprovals(where, None, instance=f"r.{opened}.e", now=lambda: NOW)
            stack.push_async_callback(store.aclose)
            return store

        yield open_store


@pytest.fixture
def store(another: Callable[[], Approvals]) -> Approvals:
    return another()


async def approve(
    store: Approvals, approval_id: str, name: str = "bob", *, scope: Scope = Scope.ONCE, at: float = NOW + 1
) -> Approval:
    result = await store.verdict(approval_id, verdict(name, scope=scope, at=at), APPROVERS)
    assert isinstance(result, Approval), result
    return result


# --- one approval ----------------------------------------------------------------------------------------------------


async def test_a_request_comes_back_as_it_was(store: Approvals) -> None:
    everything = request(
        rule=rule(count=2, message="ask", requester_may_approve=True, scopes=ALL, window_seconds=60.5),
        touches=(TOUCH, Touch(Act.MERGE, "PUT /x", None, "o/r", "main")),
        proposal='{"päth": "\\u0000 \\" 日本 🙂"}',
        name="Zoë \u202e",
    )
    plain = request("a2", model=None, address=None, touches=())
    for one in (everything, plain):
        await store.request(one)
        assert await store.get(one.id) == Approval(one, State.PENDING)


async def test_what_is_unknown_is_nothing(store: Approvals) -> None:
    assert await store.get("none") is None
    assert await store.end("none", State.CANCELLED, NOW) is None
    assert await store.viewed("none", VIEW) is None
    assert await store.events("none") == []
    assert await store.newest() == []
    assert await store.granted("issuer#alice", "privileged", "s1") == []
    result = await store.verdict("none", verdict(), APPROVERS)
    assert isinstance(result, VerdictRefusal)
    assert result.why is Why.UNKNOWN
    assert await store.get("none") is None


async def test_an_id_is_used_once(store: Approvals) -> None:
    await store.request(request())
    with pytest.raises(StoreUnavailable):
        await store.request(request(name="mallory"))
    assert await store.get("a1") == Approval(request(), State.PENDING)


@pytest.mark.parametrize("approved", [True, False])
async def test_a_verdict_ends_it_and_stays(store: Approvals, *, approved: bool) -> None:
    await store.request(request())
    one = verdict(approved=approved, reason="weil")
    result = await store.verdict("a1", one, APPROVERS)
    assert result == Approval(request(), State.APPROVED if approved else State.DENIED, (one,), one.at)
    assert await store.get("a1") == result


@pytest.mark.parametrize("state", ENDINGS)
async def test_an_end_stays(store: Approvals, state: Ending) -> None:
    await store.request(request())
    result = await store.end("a1", state, NOW + 5)
    assert result == Approval(request(), state, (), NOW + 5)
    assert await store.get("a1") == result


@pytest.mark.parametrize("first", [*ENDINGS, State.APPROVED, State.DENIED])
async def test_what_has_ended_ends_no_other_way(store: Approvals, first: State) -> None:
    await store.request(request())
    if first in {State.APPROVED, State.DENIED}:
        await store.verdict("a1", verdict(approved=first is State.APPROVED), APPROVERS)
    else:
        await store.end("a1", next(one for one in ENDINGS if one is first), NOW + 1)
    before = await store.get("a1")
    for state in ENDINGS:
        assert await store.end("a1", state, NOW + 2) == before
    for approved in (True, False):
        refused = await store.verdict("a1", verdict("carol", approved=approved), APPROVERS)
        assert isinstance(refused, VerdictRefusal)
        assert refused.why is Why.ENDED
    assert await store.get("a1") == before
    assert len(await store.events("a1")) == 2


async def test_an_expired_request_takes_no_verdict_even_where_nobody_ended_it(store: Approvals) -> None:
    await store.request(request())
    refused = await store.verdict("a1", verdict(at=NOW + 900), APPROVERS)
    assert isinstance(refused, VerdictRefusal)
    assert refused.why is Why.ENDED
    assert await store.get("a1") == Approval(request(), State.PENDING)


async def test_a_verdict_that_is_refused_leaves_no_trace(store: Approvals) -> None:
    await store.request(request())
    assert isinstance(await store.verdict("a1", verdict(), frozenset({"developers"})), VerdictRefusal)
    assert isinstance(await store.verdict("a1", verdict("alice"), APPROVERS), VerdictRefusal)
    assert isinstance(await store.verdict("a1", verdict(scope=Scope.WINDOW), APPROVERS), VerdictRefusal)
    assert len(await store.events("a1")) == 1


async def test_every_event_is_kept_with_who_when_and_from_where(store: Approvals) -> None:
    await store.request(request(rule=rule(count=2)))
    await store.viewed("a1", VIEW)
    await approve(store, "a1")
    await store.end("a1", State.EXPIRED, NOW + 900)
    assert (await store.viewed("a1", VIEW) or Approval(request(), State.PENDING)).state is State.EXPIRED
    events = await store.events("a1")
    facts = [(one.sequence, one.kind, one.state, one.at, one.who, one.name, one.address) for one in events]
    assert facts == [
        (0, Kind.REQUESTED, State.PENDING, NOW, "issuer#alice", "alice", "192.0.2.1"),
        (1, Kind.VIEWED, State.PENDING, NOW + 1, "issuer#carol", "carol", "192.0.2.3"),
        (2, Kind.VERDICT, State.PENDING, NOW + 1, "issuer#bob", "bob", "192.0.2.2"),
        (3, Kind.ENDED, State.EXPIRED, NOW + 900, None, None, None),
        (4, Kind.VIEWED, State.EXPIRED, NOW + 1, "issuer#carol", "carol", "192.0.2.3"),
    ]


async def test_a_text_that_cannot_be_written_is_refused(store: Approvals) -> None:
    with pytest.raises(StoreUnavailable):
        await store.request(request(name="\ud800"))
    await store.request(request())


# --- at once ---------------------------------------------------------------------------------------------------------


async def test_of_two_verdicts_at_once_by_two_processes_one_is_first(another: Callable[[], Approvals]) -> None:
    stores = (another(), another())
    for number in range(20):
        await stores[0].request(request(f"a{number}"))
        answers = await asyncio.gather(
            stores[0].verdict(f"a{number}", verdict("bob", approved=True), APPROVERS),
            stores[1].verdict(f"a{number}", verdict("carol", approved=False), APPROVERS),
        )
        accepted = [one for one in answers if isinstance(one, Approval)]
        refused = [one for one in answers if isinstance(one, VerdictRefusal)]
        assert [one.why for one in refused] == [Why.ENDED]
        assert [await one.get(f"a{number}") for one in stores] == accepted * 2


async def test_one_approver_twice_at_once_counts_once(another: Callable[[], Approvals]) -> None:
    stores = (another(), another())
    await stores[0].request(request(rule=rule(count=2)))
    answers = await asyncio.gather(*(one.verdict("a1", verdict(), APPROVERS) for one in stores * 4))
    assert sorted(one.why for one in answers if isinstance(one, VerdictRefusal)) == [Why.TWICE] * 7
    assert (await stores[1].get("a1") or Approval(request(), State.DENIED)).state is State.PENDING


async def test_a_verdict_and_the_end_at_once_give_one_ending(another: Callable[[], Approvals]) -> None:
    stores = (another(), another())
    for number in range(20):
        await stores[0].request(request(f"a{number}"))
        answer, ended = await asyncio.gather(
            stores[0].verdict(f"a{number}", verdict(), APPROVERS), stores[1].end(f"a{number}", State.EXPIRED, NOW + 1)
        )
        assert ended is not None
        assert ended.state is (State.APPROVED if isinstance(answer, Approval) else State.EXPIRED)
        assert await stores[0].get(f"a{number}") == ended


# --- what others did -------------------------------------------------------------------------------------------------


async def test_every_process_learns_what_ended_and_only_that(another: Callable[[], Approvals]) -> None:
    mine, other = another(), another()
    await mine.request(request("before"))
    await approve(other, "before")
    cursor, ended = await mine.ended(None)
    assert ended == []
    # One that ended shortly before may come again.
    earlier = {"before"}
    for name in ("yes", "no", "late", "half", "open"):
        await mine.request(request(name, rule=rule(count=2 if name == "half" else 1)))
    following, ended = await mine.ended(cursor)
    assert set(ended) <= earlier
    await approve(other, "half")
    await approve(other, "yes")
    await other.viewed("yes", VIEW)
    await other.verdict("no", verdict(approved=False), APPROVERS)
    await mine.end("late", State.EXPIRED, NOW + 1)
    cursor, ended = await mine.ended(following)
    assert set(ended) - earlier == {"yes", "no", "late"}
    assert set((await mine.ended(cursor))[1]) <= {*earlier, "yes", "no", "late"}
    await approve(other, "half", "carol")
    assert "half" in (await mine.ended(cursor))[1]
    assert set((await other.ended(following))[1]) - earlier == {"yes", "no", "late", "half"}


# --- lists -----------------------------------------------------------------------------------------------------------


async def test_lists_are_newest_first_and_filtered(store: Approvals) -> None:
    await store.request(request("old", requested_at=NOW - 9))
    await store.request(request("new", requested_at=NOW + 9, principal="issuer#eve", name="eve"))
    await store.request(request("middle", rule=rule(approvers=frozenset({"admins", 'odd "group"'}))))
    await approve(store, "old")

    async def ids(**wanted: object) -> list[str]:
        return [one.request.id for one in await store.newest(**wanted)]  # type: ignore[arg-type]

    assert await ids() == ["new", "middle", "old"]
    assert await ids(limit=2) == ["new", "middle"]
    assert await ids(state=State.PENDING) == ["new", "middle"]
    assert await ids(state=State.APPROVED) == ["old"]
    assert await ids(state=State.DENIED) == []
    assert await ids(user="alice") == ["middle", "old"]
    assert await ids(user="issuer#eve") == ["new"]
    assert await ids(user="eve' OR 1=1 --") == []
    assert await ids(approver_groups=APPROVERS) == ["new", "old"]
    assert await ids(approver_groups=frozenset({'odd "group"', "x"})) == ["middle"]
    assert await ids(approver_groups=frozenset()) == []
    assert await ids(approver_groups=APPROVERS, state=State.PENDING, user="alice") == []


async def test_a_list_shows_how_each_stands(store: Approvals) -> None:
    await store.request(request())
    await approve(store, "a1")
    assert await store.newest() == [await store.get("a1")]


# --- grants ----------------------------------------------------------------------------------------------------------


async def test_what_was_granted_for_more_than_once_is_found_newest_first(store: Approvals) -> None:
    scopes = {"once": Scope.ONCE, "session": Scope.SESSION, "window": Scope.WINDOW}
    for at, (name, scope) in enumerate(scopes.items()):
        await store.request(request(name, rule=rule(scopes=ALL)))
        await approve(store, name, scope=scope, at=NOW + at)
    await store.request(request("denied", rule=rule(scopes=ALL)))
    await store.verdict("denied", verdict(approved=False, scope=Scope.WINDOW), APPROVERS)
    await store.request(request("half", rule=rule(scopes=ALL, count=2)))
    await approve(store, "half", scope=Scope.WINDOW)

    async def ids(*who: str) -> list[str]:
        return [one.request.id for one in await store.granted(*who)]

    assert await ids("issuer#alice", "privileged", "s1") == ["window", "session"]
    assert await ids("issuer#alice", "privileged", "s2") == ["window"]
    assert await ids("issuer#alice", "other", "s1") == []
    assert await ids("issuer#eve", "privileged", "s1") == []
    await approve(store, "half", "carol", scope=Scope.WINDOW, at=NOW + 9)
    assert await ids("issuer#alice", "privileged", "s2") == ["half", "window"]
    assert await store.granted("issuer#alice", "privileged", "s2") == [
        await store.get("half"),
        await store.get("window"),
    ]


async def test_approvers_who_disagree_on_the_scope_grant_once(store: Approvals) -> None:
    await store.request(request(rule=rule(scopes=ALL, count=2)))
    await approve(store, "a1", "bob", scope=Scope.WINDOW)
    assert (await approve(store, "a1", "carol", scope=Scope.SESSION)).state is State.APPROVED
    assert await store.granted("issuer#alice", "privileged", "s1") == []
