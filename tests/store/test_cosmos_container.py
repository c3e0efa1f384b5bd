from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from extproc.errors import StoreUnavailable
from extproc.store.cosmos_container import CosmosContainer
from tests.cosmos.running import running, settings


@pytest.fixture
async def container() -> AsyncIterator[CosmosContainer]:
    with running() as server:
        one = CosmosContainer(settings(server, container="approvals"), None)
        yield one
        await one.aclose()


def item(number: int, partition: str = "a") -> dict[str, str]:
    return {"id": f"{number}", "approval": partition}


async def test_what_is_there_is_not_created_again_and_stays(container: CosmosContainer) -> None:
    deadline = container.retrying.deadline()
    assert await container.create(item(0), deadline)
    assert not await container.create(item(0) | {"other": "x"}, deadline)
    assert "other" not in (await container.read("a", "0", deadline) or {"other": "?"})
    assert await container.read("b", "0", deadline) is None


async def test_a_query_gives_no_more_than_was_asked_for(container: CosmosContainer) -> None:
    deadline = container.retrying.deadline()
    for number in range(5):
        await container.create(item(number, f"p{number % 2}"), deadline)
    for limit, partition, count in ((3, None, 3), (9, None, 5), (9, "p0", 3), (2, "p0", 2)):
        rows = await container.query("SELECT * FROM c", {}, deadline, limit=limit, partition=partition)
        assert len(rows) == count


async def test_a_container_that_is_missing_is_no_item_that_is_missing() -> None:
    with running(empty=True) as server:
        container = CosmosContainer(settings(server), None)
        with pytest.raises(StoreUnavailable, match="provision"):
            await container.read("a", "0", container.retrying.deadline())
        await container.aclose()


async def test_what_is_closed_stays_closed(container: CosmosContainer) -> None:
    await container.aclose()
    with pytest.raises(StoreUnavailable, match="closed"):
        await container.read("a", "0", container.retrying.deadline())
