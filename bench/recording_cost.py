"""What recording costs while exchanges run: CPU of all threads, and how long the end of an answer waits for the disk.

The same exchanges are recorded three times: by nobody, which shows what making them takes, by the spool alone, and by
the spool with all that ships, seals and signs.
"""

from __future__ import annotations

import asyncio
import gc
import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path
from random import random
from statistics import quantiles
from typing import Any, Final

import msgspec
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from bench.exchanges import Exchange, agent_turns, in_session, plain_chats
from extproc.recording.checkpoint import Signer
from extproc.recording.entry import Chain
from extproc.shipping.outlets import Cadence, Outlets
from extproc.shipping.shipper import Shipper
from extproc.spool.sealing import Sealer
from extproc.spool.spool import Spool, SpoolBounds
from extproc.store.port import Recorder
from extproc.store.sqlite_store import SqliteStore
from extproc.tracing.lines import proposed_fingerprints
from extproc.witness.witnesses import Witnesses

AT_ONCE: Final = 64
TARGET_US: Final = 150.0
TARGET_ACK_MS: Final = 10.0

_KEY: Final = bytes(range(32))
_LOG: Final = "bench.0.1"
_WARM_UP: Final = 500
_PAUSE_SECONDS: Final = 0.05
"""Before each of three pieces and before the next exchange: 64 at a time are 300 a second."""
_PAUSES: Final = 4

_AGENT_TURNS: Final = 45
"""After so many turns, what an agent sends is about 200 KB."""

Exchanges = Callable[[], Iterator[Exchange]]


class Part(StrEnum):
    """How much of the recorder runs."""

    NOTHING = "nothing"
    SPOOL = "spool"
    ALL = "all"


@dataclass(slots=True)
class Run:
    """What recording some exchanges took; `acks` are the seconds that each closing waited."""

    exchanges: int = 0
    cpu_seconds: float = 0.0
    seconds: float = 0.0
    acks: list[float] = field(default_factory=list)

    def cpu_us(self) -> float:
        """Return the CPU of one exchange."""
        return self.cpu_seconds / self.exchanges * 1e6


def results(folder: Path, *, quick: bool) -> dict[str, Any]:
    """Measure plain chats as fast as they go, then paced, then turns of agents."""
    rounds = 1 if quick else 4
    chats, paced, turns = (5_000, 900, 4) if quick else (10_000, 3_000, 12)
    seldom, *often = list(agent_turns(_AGENT_TURNS + turns))[_AGENT_TURNS - 1 :]

    def known() -> Iterator[Exchange]:
        return (in_session(seldom, f"agent {number}") for number in range(AT_ONCE))

    def following() -> Iterator[Exchange]:
        return (in_session(turn, f"agent {number}") for turn in often for number in range(AT_ONCE))

    def warm_up() -> Iterator[Exchange]:
        return plain_chats(_WARM_UP)

    def measured(before: Exchanges, exchanges: Exchanges, name: str, *, pause: float = 0.0) -> dict[Part, Run]:
        return {part: asyncio.run(_run(part, folder / f"{name}-{part}", before, exchanges, pause)) for part in Part}

    plain = [
        measured(warm_up, lambda: plain_chats(chats, start=_WARM_UP), f"plain{number}") for number in range(rounds)
    ]
    slow = measured(warm_up, lambda: plain_chats(paced, start=_WARM_UP), "paced", pause=_PAUSE_SECONDS)
    agent = [measured(known, following, f"agent{number}") for number in range(rounds)]
    sent = len(msgspec.json.encode(often[-1].opening["request"]))
    return {
        "at_once": AT_ONCE,
        "plain": _figures(plain),
        "paced": _figures([slow]),
        "agent": {"sent_bytes": sent, **_figures(agent)},
    }


def _figures(rounds: list[dict[Part, Run]]) -> dict[str, Any]:
    """Return the figures of the round that was disturbed least."""

    def cost(part: Part) -> float:
        return min(one[part].cpu_us() - one[Part.NOTHING].cpu_us() for one in rounds)

    def ack_ms(one: Run, percent: int) -> float:
        return quantiles(one.acks, n=100)[percent - 1] * 1000

    best = min((one[Part.ALL] for one in rounds), key=lambda run: run.cpu_us())
    return {
        "exchanges": best.exchanges,
        "per_second": best.exchanges / best.seconds,
        "cpu_us": cost(Part.ALL),
        "cpu_spool_us": cost(Part.SPOOL),
        "ack_p50_ms": ack_ms(best, 50),
        "ack_p99_ms": min(ack_ms(one[Part.ALL], 99) for one in rounds),
    }


async def _run(part: Part, folder: Path, before: Exchanges, exchanges: Exchanges, pause: float) -> Run:
    """Record exchanges, `AT_ONCE` at a time, after some that are not measured."""
    run = Run()
    async with _recorder(part, folder) as recorder:
        await _record_all(recorder, before(), 0.0, Run())
        gc.collect()
        cpu, began = time.process_time(), time.perf_counter()
        await _record_all(recorder, exchanges(), pause, run)
        run.seconds = time.perf_counter() - began
    # What is shipped after the last answer belongs to it, too.
    run.cpu_seconds = time.process_time() - cpu
    return run


async def _record_all(recorder: Recorder, exchanges: Iterator[Exchange], pause: float, run: Run) -> None:
    await asyncio.gather(
        *(_one_after_the_other(recorder, exchanges, pause, pause * _PAUSES * n / AT_ONCE, run) for n in range(AT_ONCE))
    )


async def _one_after_the_other(
    recorder: Recorder, exchanges: Iterator[Exchange], pause: float, first: float, run: Run
) -> None:
    await _wait(first)
    for exchange in exchanges:
        exchange_id = exchange.opening["id"]
        await recorder.append(exchange.opening, None)
        recorder.answering(exchange_id, 200, "text/event-stream")
        for number, piece in enumerate(exchange.pieces):
            await _wait(pause)
            recorder.piece(exchange_id, float(number), piece)
        began = time.perf_counter()
        await recorder.append(None, exchange.closing)
        run.acks.append(time.perf_counter() - began)
        run.exchanges += 1
        await _wait(pause)


async def _wait(seconds: float) -> None:
    if seconds:
        await asyncio.sleep(seconds)


class _Nobody:
    """Record nothing."""

    async def append(self, _opening: dict[str, Any] | None, _closing: dict[str, Any] | None) -> None:
        await asyncio.sleep(0)

    def answering(self, exchange_id: str, status: int, content_type: str | None) -> None:
        pass

    def piece(self, exchange_id: str, at: float, data: bytes) -> None:
        pass


@asynccontextmanager
async def _recorder(part: Part, folder: Path) -> AsyncIterator[Recorder]:
    """Run what `extproc.recorder` puts together, without witnesses; all is shipped when this is left."""
    if part is Part.NOTHING:
        yield _Nobody()
        return
    store, signer = SqliteStore(folder / "record.db"), Signer("bench", Ed25519PrivateKey.generate())
    outlets = Outlets(store, signer, Witnesses([], now=time.time), Cadence(), now=time.time, jitter=random)
    shipper = Shipper(folder / "spool", outlets, lambda _: 0)
    spool = Spool(
        folder / "spool",
        _LOG,
        Sealer(Chain(_LOG), lines=lambda one: proposed_fingerprints(one["response"], _KEY, one["request"])),
        bounds=SpoolBounds(),
        now=time.time,
        on_durable=shipper.wake if part is Part.ALL else lambda: None,
    )
    if part is Part.ALL:
        shipper.start(spool)
    try:
        yield spool
    finally:
        await spool.aclose()
        await shipper.aclose() if part is Part.ALL else spool.release()
        await store.aclose()
