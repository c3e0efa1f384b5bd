"""What only this adapter has; the contract is tested in test_conformance.py."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from extproc.errors import StoreUnavailable
from extproc.recording.entry import Blob, Chain, Draft, Kind, address_of
from extproc.store.cosmos_eraser import CosmosEraser
from extproc.store.cosmos_items import PART_BYTES
from extproc.store.cosmos_store import CosmosStore
from tests.cosmos.fault import Fault
from tests.cosmos.running import running, settings
from tests.cosmos.server import FakeCosmos

LARGE = b"x" * 3 * PART_BYTES


@pytest.fixture
async def server() -> Iterator[FakeCosmos]:  # type: ignore[misc]
    with running() as one:
        chain, entries = Chain("a.0.1"), []
        for n in range(2):
            sealed, chain = chain.seal(Draft(Kind.EXCHANGE, f"x{n}", "s", n, {}, LARGE, lines=["l"]))
            entries.append(sealed)
        store = CosmosStore(settings(one))
        await store.put(entries, [Blob("s", address_of(LARGE), LARGE)])
        await store.aclose()
        yield one


@pytest.fixture
def eraser(server: FakeCosmos) -> Iterator[CosmosEraser]:
    one = CosmosEraser(settings(server))
    yield one
    one.close()


def ids(server: FakeCosmos) -> list[str]:
    return sorted(name for container in server.account.containers.values() for _, name in container.items)


ENTRIES = ["a.0.1.000000000000", "a.0.1.000000000001"]


def test_parts_go_with_what_they_are_parts_of(server: FakeCosmos, eraser: CosmosEraser) -> None:
    assert len(ids(server)) == 3 * 4
    assert eraser.remove_blobs("s", [address_of(LARGE)]) == 1
    assert eraser.remove_bodies([("a.0.1", 0)]) == 1
    assert eraser.remove_entries("a.0.1", 1) == 1
    assert ids(server) == [ENTRIES[1], *(f"{ENTRIES[1]}.p{n:04d}" for n in (1, 2, 3))]


def test_a_run_that_broke_off_is_finished_by_the_next(server: FakeCosmos, eraser: CosmosEraser) -> None:
    server.faults.append(Fault("Delete", contains="p0002", status=403))
    with pytest.raises(StoreUnavailable):
        eraser.remove_bodies([("a.0.1", 0)])
    assert f"{ENTRIES[0]}.p0003" in ids(server)
    assert eraser.remove_bodies([("a.0.1", 0), ("a.0.1", 1)]) == 2
    assert [name for name in ids(server) if name.startswith("a.")] == ENTRIES


def test_what_was_changed_meanwhile_is_not_written_over(server: FakeCosmos, eraser: CosmosEraser) -> None:
    server.faults.append(Fault("Replace", status=412))
    with pytest.raises(StoreUnavailable, match="412"):
        eraser.remove_bodies([("a.0.1", 0)])
    assert eraser.remove_bodies([("a.0.1", 0)]) == 1


async def test_entries_go_in_order_whatever_sessions_they_are_of(server: FakeCosmos, eraser: CosmosEraser) -> None:
    """What a run that breaks off leaves can be verified only where it leads to what remains."""
    chain, entries = Chain("b.0.1"), []
    for n, session in enumerate(("z", "a", "m", "b")):
        sealed, chain = chain.seal(Draft(Kind.EXCHANGE, f"y{n}", session, n, {}))
        entries.append(sealed)
    store = CosmosStore(settings(server))
    await store.put(entries[::-1])
    await store.aclose()
    server.faults.append(Fault("Delete", contains="b.0.1.000000000002", status=403))
    with pytest.raises(StoreUnavailable):
        eraser.remove_entries("b.0.1", 4)
    assert [name for name in ids(server) if name.startswith("b.0.1")] == ["b.0.1.000000000002", "b.0.1.000000000003"]
