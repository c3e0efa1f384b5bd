"""How fast stores take entries, and how many bytes the session of an agent takes in them."""

from __future__ import annotations

import asyncio
import subprocess
import sys
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

import msgspec

from bench.exchanges import Exchange, agent_turns, plain_chats
from bench.stack import free_ports
from extproc.recording.entry import Blob, Sealed
from extproc.secret import Secret
from extproc.store.cosmos import CosmosSettings
from extproc.store.cosmos_store import CosmosStore
from extproc.store.port import Store
from extproc.store.sqlite_store import SqliteStore
from tests.cosmos.server import KEY
from tests.recording_of import Log

TURNS: Final = (50, 100, 200)

_BATCH: Final = 200
"""About as many as a shipper puts at once where it has a lot to do."""

Batch = tuple[list[Sealed], list[Blob]]


def rates(folder: Path, *, quick: bool) -> dict[str, Any]:
    """Put plain chats, ten of each session, into SQLite and into a fake of Cosmos DB that is a process of its own."""
    batches = list(_batches(plain_chats(2_000 if quick else 20_000)))
    few = batches[: 5 if quick else 25]
    with _fake_cosmos(folder / "cosmos.db") as url:
        settings = CosmosSettings(url, key=Secret(KEY))
        return {
            "sqlite": asyncio.run(_rate(lambda: SqliteStore(folder / "rate.db"), batches)),
            "cosmos": asyncio.run(_rate(lambda: CosmosStore(settings), few)),
        }


def sizes(*, quick: bool) -> list[dict[str, int]]:
    """Return what sessions of several lengths take: as it would be with whole bodies, and as it is stored."""
    naive = stored = 0
    found, log = [], Log()
    for turn, exchange in enumerate(agent_turns(TURNS[1] if quick else TURNS[-1]), 1):
        naive += _whole(exchange)
        stored += _stored(log, exchange)
        if turn in TURNS:
            found.append({"turns": turn, "naive": naive, "stored": stored})
    return found


def _whole(exchange: Exchange) -> int:
    return len(msgspec.json.encode(exchange.opening)) + len(msgspec.json.encode(exchange.closing))


def _stored(log: Log, exchange: Exchange) -> int:
    """Return the bytes of head, body and blobs that an exchange adds."""
    sealed = log.exchange(exchange.opening, exchange.closing)
    blobs = sum(len(blob.data) + len(blob.address) for blob in log.blobs)
    log.blobs.clear()
    return len(sealed.head) + len(sealed.hash) + len(sealed.body or b"") + blobs


def _batches(exchanges: Iterable[Exchange]) -> Iterator[Batch]:
    log, entries = Log(), list[Sealed]()
    for exchange in exchanges:
        entries.append(log.exchange(exchange.opening, exchange.closing))
        if len(entries) == _BATCH:
            yield entries, log.blobs
            entries, log.blobs = [], []
    if entries:
        yield entries, log.blobs


async def _rate(make: Callable[[], Store], batches: list[Batch]) -> dict[str, float]:
    """Put all; what opening takes is not measured."""
    store = make()
    await store.put_checkpoint("bench.0.0", 0, "the first call connects")
    cpu, began = time.process_time(), time.perf_counter()
    for entries, blobs in batches:
        await store.put(entries, blobs)
    took, busy = time.perf_counter() - began, time.process_time() - cpu
    await store.aclose()
    count = sum(len(entries) for entries, _ in batches)
    return {"entries": count, "per_second": count / took, "cpu_us": busy / count * 1e6}


@contextmanager
def _fake_cosmos(path: Path) -> Iterator[str]:
    command = [sys.executable, "-m", "tests.cosmos", str(path), str(free_ports(1)[0])]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        try:
            # The first line is its address, when it is ready.
            yield process.stdout.readline().strip() if process.stdout is not None else ""
        finally:
            process.terminate()
