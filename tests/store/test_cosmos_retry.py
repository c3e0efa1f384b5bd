from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

import pytest
from azure.core.exceptions import ClientAuthenticationError, ServiceRequestError
from azure.cosmos.exceptions import CosmosBatchOperationError

from extproc.errors import StoreUnavailable
from extproc.store.cosmos_retry import LONGEST_PAUSE_SECONDS, Retrying


def answer(status: int, sub_status: int = 0, *, retry_after: object = None) -> CosmosBatchOperationError:
    headers = {"x-ms-substatus": str(sub_status)} | (
        {} if retry_after is None else {"x-ms-retry-after-ms": str(retry_after)}
    )
    return CosmosBatchOperationError(headers=headers, status_code=status, message="quotes what was sent")  # type: ignore[no-untyped-call]


class Time:
    def __init__(self) -> None:
        self.now = 100.0
        self.pauses: list[float] = []

    def retrying(self, patience: float = 30.0, jitter: float = 1.0) -> Retrying:
        return Retrying(1.0, patience, clock=lambda: self.now, sleep=self.sleep, jitter=lambda: jitter)

    async def sleep(self, seconds: float) -> None:
        self.pauses.append(seconds)
        self.now += seconds


def failing(*errors: Exception) -> Callable[[], Awaitable[str]]:
    left = list(errors)

    async def operation() -> str:
        if left:
            raise left.pop(0)
        return "done"

    return operation


async def run(time: Time, *errors: Exception, patience: float = 30.0, jitter: float = 1.0) -> str:
    retrying = time.retrying(patience, jitter)
    return await retrying.run(failing(*errors), retrying.deadline())


PASSING = [*((status, 0) for status in (408, 410, 429, 449, 500, 503)), (403, 3), (403, 1008), (404, 1002)]


@pytest.mark.parametrize(("status", "sub_status"), PASSING)
async def test_what_passes_is_tried_again(status: int, sub_status: int) -> None:
    time = Time()
    assert await run(time, answer(status, sub_status), answer(status, sub_status)) == "done"
    assert len(time.pauses) == 2


@pytest.mark.parametrize("status", [400, 401, 403, 412])
async def test_what_does_not_pass_is_not_tried_again(status: int) -> None:
    time = Time()
    with pytest.raises(StoreUnavailable, match=f"answered {status}/0"):
        await run(time, answer(status))
    assert time.pauses == []


@pytest.mark.parametrize("status", [404, 409, 413])
async def test_answers_that_callers_want_are_theirs(status: int) -> None:
    with pytest.raises(CosmosBatchOperationError):
        await run(Time(), answer(status))


@pytest.mark.parametrize("error", [ServiceRequestError("no route"), ClientAuthenticationError("no token"), OSError()])
async def test_servers_and_tokens_that_cannot_be_reached_are_tried_again(error: Exception) -> None:
    assert await run(Time(), error) == "done"


async def test_an_attempt_is_cut_off() -> None:
    calls = []

    async def operation() -> str:
        calls.append(1)
        if len(calls) == 1:
            await asyncio.Event().wait()
        return "done"

    time = Time()
    retrying = Retrying(0.01, 30.0, clock=lambda: time.now, sleep=time.sleep)
    assert await retrying.run(operation, retrying.deadline()) == "done"


async def test_pauses_grow_to_a_limit_and_have_jitter() -> None:
    time = Time()
    await run(time, *(answer(503) for _ in range(9)), patience=1000.0)
    assert time.pauses == [0.1, 0.2, 0.4, 0.8, 1.6, 3.2, 5.0, 5.0, LONGEST_PAUSE_SECONDS]
    time = Time()
    await run(time, answer(503), answer(503), jitter=0.5)
    assert time.pauses == [0.05, 0.1]


@pytest.mark.parametrize(("said", "least"), [(1500, 1.5), ("x", 0.0), (None, 0.0), (10**9, 60.0)])
async def test_the_servers_retry_after_is_waited_for(said: object, least: float) -> None:
    time = Time()
    await run(time, answer(429, retry_after=said), jitter=0.0, patience=100.0)
    assert time.pauses == [least]


async def test_patience_ends_and_the_message_quotes_nothing() -> None:
    time = Time()
    with pytest.raises(StoreUnavailable, match=r"^Cosmos DB answered 503/0: .*; gave up after 3 attempts$") as caught:
        await run(time, *(answer(503) for _ in range(99)), patience=0.5)
    assert "sent" not in str(caught.value)
    assert caught.value.__cause__ is None
    assert time.now <= 100.5
