from __future__ import annotations

import asyncio
import itertools
from collections import Counter
from collections.abc import AsyncIterator, Awaitable
from pathlib import Path
from typing import Any, TypeVar

import pytest

from extproc.approval.approval import Approval, Request, Scope, State
from extproc.approval.waiting import NotHeld, Waiting
from extproc.errors import StoreUnavailable
from extproc.store.approvals_port import Held
from extproc.store.sqlite_approvals import SqliteApprovals
from tests.approving import APPROVERS, NOW, request, rule, verdict

T = TypeVar("T")

POLL = 0.01
ALL = (Scope.ONCE, Scope.SESSION, Scope.WINDOW)


class Clock:
    def __init__(self) -> None:
        self.now = NOW

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "record.db"


@pytest.fixture
async def store(path: Path) -> AsyncIterator[SqliteApprovals]:
    opened = SqliteApprovals(path, instance="one", now=NOW)
    yield opened
    await opened.aclose()


@pytest.fixture
async def approver(store: SqliteApprovals, path: Path) -> AsyncIterator[SqliteApprovals]:
    """Open the store as the command of an approver does, in another process."""
    opened = SqliteApprovals(path, instance=None, now=NOW)
    yield opened
    await opened.aclose()


@pytest.fixture
async def waiting(store: SqliteApprovals, clock: Clock) -> AsyncIterator[Waiting]:
    made = Waiting(store, clock, 1000, poll_seconds=POLL)
    yield made
    await soon(made.aclose())


async def soon(awaited: Awaitable[T]) -> T:
    """Fail where a fault would make the test wait for ever."""
    return await asyncio.wait_for(awaited, 10)


async def begun(waiting: Waiting, store: SqliteApprovals, one: Any = None) -> asyncio.Task[Approval | NotHeld]:
    """Let somebody wait, and return when approvers can see it."""
    one = one or request()
    task = asyncio.create_task(waiting.wait(one))
    while await store.get(one.id) is None:
        assert not task.done(), task
        await asyncio.sleep(0)
    return task


class Failing:
    """Be a store that fails in the calls that are named, and count all calls."""

    def __init__(self, store: Held, *failing: str) -> None:
        self._store = store
        self.failing = set(failing)
        self.calls: Counter[str] = Counter()
        self._looks: asyncio.Queue[None] = asyncio.Queue()
        self.error: Exception = StoreUnavailable("made to fail")

    def __getattr__(self, name: str) -> Any:
        self.calls[name] += 1
        if name == "ended":
            self._looks.put_nowait(None)
        if name in self.failing:
            return self._fail
        return getattr(self._store, name)

    async def looks(self, count: int) -> None:
        """Return when somebody has looked for what ended so many times more."""
        self._looks = asyncio.Queue()
        for _ in range(count):
            await self._looks.get()

    async def _fail(self, *_: object) -> Any:
        raise self.error


# --- how it ends -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("approved", [True, False])
async def test_a_verdict_of_another_process_ends_the_wait(
    waiting: Waiting, store: SqliteApprovals, approver: SqliteApprovals, *, approved: bool
) -> None:
    task = await begun(waiting, store)
    decided = await approver.verdict("a1", verdict(approved=approved), APPROVERS)
    assert await soon(task) == decided
    assert len(waiting) == 0


async def test_half_the_approvals_end_nothing(
    waiting: Waiting, store: SqliteApprovals, approver: SqliteApprovals
) -> None:
    task = await begun(waiting, store, request(rule=rule(count=2)))
    await approver.verdict("a1", verdict("bob"), APPROVERS)
    other = await begun(waiting, store, request("a2"))
    await approver.verdict("a2", verdict("bob"), APPROVERS)
    await soon(other)
    assert not task.done()
    await approver.verdict("a1", verdict("carol"), APPROVERS)
    assert await soon(task) == await store.get("a1")


async def test_when_its_time_is_over_it_expires(waiting: Waiting, store: SqliteApprovals, clock: Clock) -> None:
    task = await begun(waiting, store)
    later = await begun(waiting, store, request("a2", expires_at=NOW + 1000))
    clock.now = NOW + 900
    assert await soon(task) == Approval(request(), State.EXPIRED, (), NOW + 900)
    assert await store.get("a1") == await soon(task)
    assert not later.done()


async def test_a_verdict_that_was_first_counts_though_its_time_is_over(
    store: SqliteApprovals, approver: SqliteApprovals, clock: Clock
) -> None:
    blind = Failing(store)
    waiting = Waiting(blind, clock, 10, poll_seconds=POLL)
    task = await begun(waiting, store)
    blind.failing.add("ended")
    decided = await approver.verdict("a1", verdict(), APPROVERS)
    clock.now = NOW + 900
    assert await soon(task) == decided
    await soon(waiting.aclose())


async def test_a_client_that_goes_away_cancels_the_approval(waiting: Waiting, store: SqliteApprovals) -> None:
    task = await begun(waiting, store)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await soon(task)
    assert await store.get("a1") == Approval(request(), State.CANCELLED, (), NOW)
    assert len(waiting) == 0


async def test_a_client_that_goes_away_twice_and_at_any_moment_leaves_nothing_pending(
    waiting: Waiting, store: SqliteApprovals
) -> None:
    for steps in range(40):
        task = asyncio.create_task(waiting.wait(request(f"a{steps}")))
        for _ in range(steps):
            await asyncio.sleep(0 if steps % 2 else 0.0005)
        task.cancel()
        await asyncio.sleep(0)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await soon(task)
    await soon(waiting.aclose())
    states = {one.state for one in await store.newest()}
    assert states == {State.CANCELLED}


async def test_closing_interrupts_what_waits_and_lets_nobody_wait_any_more(
    waiting: Waiting, store: SqliteApprovals
) -> None:
    tasks = [await begun(waiting, store, request(f"a{number}")) for number in range(5)]
    await soon(waiting.aclose())
    assert {one.state for one in await soon(asyncio.gather(*tasks)) if isinstance(one, Approval)} == {State.INTERRUPTED}
    assert {one.state for one in await store.newest()} == {State.INTERRUPTED}
    assert isinstance(await soon(waiting.wait(request("late"))), NotHeld)
    assert await store.get("late") is None


# --- bounds and grants -----------------------------------------------------------------------------------------------


async def test_over_the_bound_nobody_is_asked(store: SqliteApprovals, clock: Clock) -> None:
    waiting = Waiting(store, clock, 3, poll_seconds=POLL)
    tasks = [asyncio.create_task(waiting.wait(request(f"a{number}"))) for number in range(8)]
    refused = [await one for one in itertools.islice(asyncio.as_completed(tasks, timeout=10), 5)]
    assert all(isinstance(one, NotHeld) for one in refused)
    assert len(waiting) == 3
    await soon(waiting.aclose())
    assert len(await store.newest()) == 3


async def test_who_leaves_makes_room(store: SqliteApprovals, clock: Clock) -> None:
    waiting = Waiting(store, clock, 1, poll_seconds=POLL)
    task = await begun(waiting, store)
    assert isinstance(await soon(waiting.wait(request("a2"))), NotHeld)
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
    await begun(waiting, store, request("a3"))
    await soon(waiting.aclose())


@pytest.mark.parametrize("scope", [Scope.SESSION, Scope.WINDOW])
async def test_what_was_granted_before_needs_no_wait_even_where_there_is_no_room(
    store: SqliteApprovals, approver: SqliteApprovals, clock: Clock, scope: Scope
) -> None:
    await store.request(request("first", rule=rule(scopes=ALL)))
    granted = await approver.verdict("first", verdict(scope=scope), APPROVERS)
    waiting = Waiting(store, clock, 0, poll_seconds=POLL)
    assert await soon(waiting.wait(request("again", rule=rule(scopes=ALL)))) == granted
    assert await store.get("again") is None
    assert isinstance(await soon(waiting.wait(request("other", rule=rule(scopes=ALL, count=2)))), NotHeld)
    clock.now = NOW + 100_000
    assert isinstance(await soon(waiting.wait(request("later", rule=rule(scopes=ALL)))), NotHeld)
    await soon(waiting.aclose())


# --- a store that fails ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("call", ["granted", "request"])
async def test_what_the_store_does_not_take_does_not_wait(store: SqliteApprovals, clock: Clock, call: str) -> None:
    waiting = Waiting(Failing(store, call), clock, 10, poll_seconds=POLL)
    with pytest.raises(StoreUnavailable):
        await waiting.wait(request())
    assert len(waiting) == 0
    await soon(waiting.aclose())


@pytest.mark.parametrize("call", ["ended", "get"])
async def test_a_verdict_given_while_the_store_could_not_be_read_is_found_afterwards(
    store: SqliteApprovals, approver: SqliteApprovals, clock: Clock, call: str
) -> None:
    failing = Failing(store)
    waiting = Waiting(failing, clock, 10, poll_seconds=POLL)
    task = await begun(waiting, store)
    failing.failing.add(call)
    decided = await approver.verdict("a1", verdict(), APPROVERS)
    await failing.looks(3)
    assert not task.done()
    failing.failing.clear()
    assert await soon(task) == decided
    await soon(waiting.aclose())


async def test_a_verdict_that_was_given_before_the_first_look_is_found(
    store: SqliteApprovals, approver: SqliteApprovals, clock: Clock
) -> None:
    failing = Failing(store, "ended")
    waiting = Waiting(failing, clock, 10, poll_seconds=POLL)
    task = await begun(waiting, store)
    decided = await approver.verdict("a1", verdict(), APPROVERS)
    failing.failing.clear()
    assert await soon(task) == decided
    await soon(waiting.aclose())


async def test_when_the_end_cannot_be_written_the_one_who_waits_is_told(store: SqliteApprovals, clock: Clock) -> None:
    waiting = Waiting(Failing(store, "end"), clock, 10, poll_seconds=POLL)
    task = await begun(waiting, store)
    clock.now = NOW + 900
    with pytest.raises(StoreUnavailable):
        await soon(task)
    gone = await begun(waiting, store, request("a2", expires_at=NOW + 9999))
    gone.cancel()
    with pytest.raises(asyncio.CancelledError):
        await soon(gone)
    await soon(waiting.aclose())


async def test_nobody_waits_for_a_watch_that_died_and_the_next_one_gets_another(
    store: SqliteApprovals, approver: SqliteApprovals, clock: Clock
) -> None:
    failing = Failing(store)
    failing.error = RuntimeError("a fault of ours")
    waiting = Waiting(failing, clock, 10, poll_seconds=POLL)
    task = await begun(waiting, store)
    failing.failing.add("ended")
    with pytest.raises(StoreUnavailable, match="RuntimeError"):
        await soon(task)
    failing.failing.clear()
    following = await begun(waiting, store, request("a2"))
    decided = await approver.verdict("a2", verdict(), APPROVERS)
    assert await soon(following) == decided
    await soon(waiting.aclose())


# --- who is told -----------------------------------------------------------------------------------------------------


class Told:
    """Remember what was told."""

    def __init__(self) -> None:
        self.said: list[tuple[str, State]] = []

    def requested(self, asked: Request) -> None:
        self.said.append((asked.id, State.PENDING))

    def ended(self, approval: Approval) -> None:
        self.said.append((approval.request.id, approval.state))


async def test_beginning_and_end_are_told_once_each(
    store: SqliteApprovals, approver: SqliteApprovals, clock: Clock
) -> None:
    told, ended = Told(), list[Approval]()
    waiting = Waiting(store, clock, 10, poll_seconds=POLL, notify=told, on_ended=ended.append)
    decided = await begun(waiting, store)
    assert told.said in ([], [("a1", State.PENDING)])
    await approver.verdict("a1", verdict(), APPROVERS)
    await soon(decided)
    expired = await begun(waiting, store, request("a2"))
    clock.now = NOW + 900
    await soon(expired)
    interrupted = await begun(waiting, store, request("a3", expires_at=NOW + 9999))
    await soon(waiting.aclose())
    await soon(interrupted)
    assert told.said == [
        *[("a1", State.PENDING), ("a1", State.APPROVED)],
        *[("a2", State.PENDING), ("a2", State.EXPIRED)],
        *[("a3", State.PENDING), ("a3", State.INTERRUPTED)],
    ]
    assert [(one.request.id, one.state) for one in ended] == told.said[1::2]


async def test_ends_are_told_where_nobody_is_notified_and_the_oldest_that_waits_is_known(
    store: SqliteApprovals, clock: Clock
) -> None:
    ended: list[Approval] = []
    waiting = Waiting(store, clock, 10, poll_seconds=POLL, on_ended=ended.append)
    assert waiting.oldest_seconds == 0
    first = await begun(waiting, store)
    clock.now = NOW + 100
    second = await begun(waiting, store, request("a2", expires_at=NOW + 9999))
    clock.now = NOW + 150
    assert (len(waiting), waiting.oldest_seconds) == (2, 150)
    clock.now = NOW + 900
    await soon(first)
    assert waiting.oldest_seconds == 800
    second.cancel()
    await asyncio.gather(second, return_exceptions=True)
    await soon(waiting.aclose())
    assert [(one.request.id, one.state) for one in ended] == [("a1", State.EXPIRED), ("a2", State.CANCELLED)]
    assert waiting.oldest_seconds == 0


async def test_whoever_goes_away_at_whatever_moment_no_end_is_told_twice_or_without_its_beginning(
    store: SqliteApprovals, clock: Clock
) -> None:
    told = Told()
    waiting = Waiting(store, clock, 100, poll_seconds=POLL, notify=told)
    for steps in range(40):
        task = asyncio.create_task(waiting.wait(request(f"a{steps}")))
        for _ in range(steps):
            await asyncio.sleep(0 if steps % 2 else 0.0005)
        task.cancel()
        await asyncio.sleep(0)
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
    await soon(waiting.aclose())
    begun_ones = [one for one, state in told.said if state is State.PENDING]
    assert begun_ones
    assert [one for one, state in told.said if state is State.CANCELLED] == begun_ones
    assert len(told.said) == 2 * len(begun_ones)


async def test_nobody_is_told_of_what_the_store_does_not_take_or_what_was_granted_before(
    store: SqliteApprovals, approver: SqliteApprovals, clock: Clock
) -> None:
    told = Told()
    failing = Waiting(Failing(store, "request"), clock, 10, poll_seconds=POLL, notify=told)
    with pytest.raises(StoreUnavailable):
        await failing.wait(request("lost"))
    await store.request(request("first", rule=rule(scopes=ALL)))
    await approver.verdict("first", verdict(scope=Scope.WINDOW), APPROVERS)
    assert isinstance(await soon(failing.wait(request("again", rule=rule(scopes=ALL)))), Approval)
    assert told.said == []
    await soon(failing.aclose())


# --- what it costs ---------------------------------------------------------------------------------------------------


async def test_500_wait_for_nearly_nothing_and_all_wake_after_their_verdicts(
    store: SqliteApprovals, approver: SqliteApprovals, clock: Clock
) -> None:
    counting = Failing(store)
    waiting = Waiting(counting, clock, 500, poll_seconds=POLL)
    tasks = {f"a{n}": await begun(waiting, store, request(f"a{n}", principal=f"p{n}")) for n in range(500)}
    before = counting.calls.copy()
    await counting.looks(10)
    # Looks for all of them together, and none for each.
    assert set(counting.calls - before) == {"ended"}
    for number, approval_id in enumerate(tasks):
        await approver.verdict(approval_id, verdict(approved=number % 2 == 0), APPROVERS)
    results = await soon(asyncio.gather(*tasks.values()))
    states = [one.state for one in results if isinstance(one, Approval)]
    assert states == [State.APPROVED, State.DENIED] * 250
    assert [one.request.id for one in results if isinstance(one, Approval)] == list(tasks)
    await soon(waiting.aclose())


async def test_while_nobody_waits_the_store_is_left_alone(
    store: SqliteApprovals, approver: SqliteApprovals, clock: Clock
) -> None:
    counting = Failing(store)
    waiting = Waiting(counting, clock, 10, poll_seconds=0.001)
    task = await begun(waiting, store)
    await approver.verdict("a1", verdict(), APPROVERS)
    await soon(task)
    assert waiting._watch is not None
    await soon(waiting._watch)
    await soon(waiting.aclose())


async def test_the_next_wait_after_a_pause_is_watched_too(
    waiting: Waiting, store: SqliteApprovals, approver: SqliteApprovals
) -> None:
    for number in range(3):
        task = await begun(waiting, store, request(f"a{number}"))
        decided = await approver.verdict(f"a{number}", verdict(), APPROVERS)
        assert await soon(task) == decided
        assert waiting._watch is not None
        await soon(waiting._watch)
