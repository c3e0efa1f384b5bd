"""What only this adapter has; the contract is tested in test_conformance.py."""

from __future__ import annotations

import asyncio
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from extproc.errors import StoreUnavailable
from extproc.recording.entry import Blob, Chain, Draft, Kind, Sealed, WrappedKey, address_of
from extproc.secret import Secret
from extproc.store.cosmos import CosmosSettings
from extproc.store.cosmos_eraser import CosmosEraser
from extproc.store.cosmos_items import PART_BYTES
from extproc.store.cosmos_ledger import CosmosLedger
from extproc.store.cosmos_store import CosmosStore
from extproc.store.port import Conflict
from tests.cosmos.fault import Fault
from tests.cosmos.running import running, settings
from tests.cosmos.server import KEY, FakeCosmos
from tests.store.cosmos_backend import impatient


@pytest.fixture
def server() -> Iterator[FakeCosmos]:
    with running() as one:
        yield one


@asynccontextmanager
async def opened(server: FakeCosmos, **changes: Any) -> AsyncIterator[CosmosStore]:
    store = CosmosStore(settings(server, **changes), retrying=impatient())
    try:
        yield store
    finally:
        await store.aclose()


def entries(count: int, *, session: str = "s", log: str = "a.0.1", body: bytes = b"{}") -> list[Sealed]:
    chain, made = Chain(log), []
    for n in range(count):
        sealed, chain = chain.seal(Draft(Kind.EXCHANGE, f"{log}-{n}", session, n, {}, body))
        made.append(sealed)
    return made


def stored(server: FakeCosmos) -> dict[str, dict[str, Any]]:
    return {item["id"]: item for container in server.account.containers.values() for item in container.items.values()}


async def test_an_exchange_is_one_item_with_its_facts_at_hand(server: FakeCosmos) -> None:
    sealed, _ = Chain("a.0.1").seal(Draft(Kind.EXCHANGE, "x", "s", 5, {"user": "alice"}, b'{"opening":{}}'))
    async with opened(server) as store:
        await store.put([sealed])
    (item,) = stored(server).values()
    wanted = {"id": "a.0.1.000000000000", "type": "entry", "entry": "x", "session": "s", "at": 5}
    wanted |= {"facts": {"user": "alice"}, "data": '{"opening":{}}', "hash": sealed.hash}
    assert {name: item[name] for name in wanted} == wanted
    assert "ttl" not in item


async def test_a_session_is_put_in_batches_of_a_hundred(server: FakeCosmos) -> None:
    async with opened(server) as store:
        await store.put(entries(250))
    assert {name: count for name, count in server.requests.items() if name != "metadata"} == {"batch": 3}
    assert len(stored(server)) == 250


async def test_batches_stay_below_the_limit_of_a_request(server: FakeCosmos) -> None:
    async with opened(server) as store:
        await store.put(entries(20, body=b"x" * 200_000))
    assert server.requests["batch"] == 4 + 1
    assert len(stored(server)) == 20


async def test_sessions_are_not_put_into_one_batch(server: FakeCosmos) -> None:
    async with opened(server) as store:
        await store.put([*entries(3), *entries(3, session="t", log="b.0.1")])
    assert server.requests["batch"] == 2


async def test_an_entry_is_there_only_when_all_its_parts_are(server: FakeCosmos) -> None:
    (sealed,) = entries(1, body=b"x" * 8 * PART_BYTES)
    # All goes wrong once parts were put.
    server.faults.append(Fault("write", contains="p0006", status=403, times=None))
    async with opened(server) as store:
        with pytest.raises(StoreUnavailable):
            await store.put([sealed])
        assert {item["type"] for item in stored(server).values()} == {"part"}
        server.faults.clear()
        await store.put([sealed])
    assert stored(server)["a.0.1.000000000000"]["parts"] == 8


async def test_blobs_and_keys_come_before_the_entries_that_need_them(server: FakeCosmos) -> None:
    blob = Blob("s", address_of(b"data"), b"data")
    async with opened(server) as store:
        await store.put(entries(1), [blob], [WrappedKey("k", "s", b"w")])
    assert list(stored(server)) == ["k.k", f"b.{blob.address}", "a.0.1.000000000000"]


async def test_a_long_body_that_was_removed_does_not_come_back(server: FakeCosmos) -> None:
    made = entries(2, body=b"x" * 3 * PART_BYTES)
    async with opened(server) as store:
        await store.put(made)
        eraser = CosmosEraser(settings(server))
        assert await asyncio.to_thread(eraser.remove_bodies, [("a.0.1", 0)]) == 1
        eraser.close()
        left = stored(server)
        await store.put(made)
    assert stored(server) == left
    assert len(left) == 1 + 4


@pytest.mark.parametrize("what", ["entry", "blob", "checkpoint"])
async def test_a_create_that_was_done_and_denied_is_compared_and_done(server: FakeCosmos, what: str) -> None:
    server.faults.append(Fault("write", commit=True))
    async with opened(server) as store:
        await put(store, what, b"one")
        assert server.requests["Read"] == 1
        await put(store, what, b"one")
    assert len(stored(server)) == 1


@pytest.mark.parametrize("what", ["entry", "blob", "checkpoint"])
async def test_something_else_in_its_place_is_a_conflict_that_names_it(server: FakeCosmos, what: str) -> None:
    async with opened(server) as store:
        await put(store, what, b"one")
        with pytest.raises(
            Conflict, match={"entry": "entry 0 of log a", "blob": "b.same", "checkpoint": "size 1"}[what]
        ):
            await put(store, what, b"two")
    assert len(stored(server)) == 1


async def put(store: CosmosStore, what: str, data: bytes) -> None:
    match what:
        case "entry":
            await store.put(entries(1, body=data))
        case "blob":
            await store.put([], [Blob("s", "same", data)])
        case _:
            await store.put_checkpoint("a.0.1", 1, data.decode())


async def test_the_same_twice_in_one_call_is_put_once_and_something_else_twice_is_a_conflict(
    server: FakeCosmos,
) -> None:
    (one,), (two,) = entries(1), entries(1, body=b"other")
    async with opened(server) as store:
        await store.put([one, one], [Blob("s", "a", b"x"), Blob("s", "a", b"x")])
        with pytest.raises(Conflict):
            await store.put([], [Blob("s", "c", b"x"), Blob("s", "c", b"y")])
        with pytest.raises(Conflict):
            await store.put([two])
    assert sorted(stored(server)) == ["a.0.1.000000000000", "b.a", "b.c"]


async def test_a_conflict_does_not_hide_that_the_store_is_away(server: FakeCosmos) -> None:
    async with opened(server) as store:
        await store.put(entries(1))
        server.faults.append(Fault("write", contains="b.0.1", status=503, times=None))
        with pytest.raises(StoreUnavailable):
            await store.put([*entries(1, body=b"other"), *entries(1, session="t", log="b.0.1")])


async def test_items_that_come_and_go_are_not_waited_for_for_ever(server: FakeCosmos) -> None:
    server.faults.append(Fault("write", status=409, times=None))
    async with opened(server) as store:
        with pytest.raises(StoreUnavailable, match="come and go"):
            await store.put(entries(1))


async def test_without_a_container_the_message_says_what_to_do(server: FakeCosmos) -> None:
    async with opened(server, container="other") as store:
        with pytest.raises(StoreUnavailable, match="provision"):
            await store.put(entries(1))
        with pytest.raises(StoreUnavailable, match="provision"):
            await store.put(entries(2))


async def test_what_cannot_be_put_in_one_item_is_said_by_name(server: FakeCosmos) -> None:
    server.faults.append(Fault("write", status=413, times=None))
    async with opened(server) as store:
        with pytest.raises(StoreUnavailable, match=r"entry 0 of log a\.0\.1 is too large"):
            await store.put(entries(3))


async def test_a_store_that_was_away_from_the_beginning_is_found_when_it_comes(tmp_path: Path) -> None:
    with running(tmp_path / "file") as server:
        where, port = settings(server), int(server.url.rpartition(":")[2])
    store = CosmosStore(where, retrying=impatient())
    try:
        with pytest.raises(StoreUnavailable, match="cannot be reached"):
            await store.put(entries(1))
        with running(tmp_path / "file", port=port) as server:
            await store.put(entries(1))
        with pytest.raises(StoreUnavailable, match="cannot be reached"):
            await store.put(entries(2))
        with running(tmp_path / "file", port=port) as server:
            await store.put(entries(2))
            assert len(stored(server)) == 2
    finally:
        await store.aclose()


async def test_a_server_killed_again_and_again_ends_up_with_everything_once(tmp_path: Path) -> None:
    process = start(tmp_path / "file", 0)
    url = await ready(process)
    made, where = entries(300), CosmosSettings(url, key=Secret(KEY), patience_seconds=60.0)
    store = CosmosStore(where)
    try:
        for number in range(0, 300, 100):
            putting = asyncio.create_task(put_one_by_one(store, made[number : number + 100]))
            while not putting.done() and number < 200:
                await asyncio.sleep(0.05)
                process.kill()
                process.wait()
                process = start(tmp_path / "file", int(url.rpartition(":")[2]))
                await ready(process)
                await asyncio.sleep(0.4)
            await putting
        ledger = CosmosLedger(where)
        there = await asyncio.to_thread(lambda: [one.hash for one in ledger.entries("a.0.1")])
        ledger.close()
        assert there == [one.hash for one in made]
    finally:
        await store.aclose()
        process.kill()
        process.wait()


async def put_one_by_one(store: CosmosStore, made: list[Sealed]) -> None:
    for at in range(0, len(made), 5):
        await store.put(made[at : at + 5])


def start(path: Path, port: int) -> subprocess.Popen[str]:
    command = [sys.executable, "-m", "tests.cosmos", str(path), str(port)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, text=True)  # noqa: S603 - this interpreter


async def ready(process: subprocess.Popen[str]) -> str:
    assert process.stdout is not None
    line = await asyncio.to_thread(process.stdout.readline)
    process.stdout.close()
    return line.strip()
