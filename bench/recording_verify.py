"""How fast `extproc verify` reads a record: entries a second of one core, out of SQLite, bodies and parts included."""

from __future__ import annotations

import asyncio
import time
from pathlib import Path
from typing import Any, Final

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from bench import texts
from extproc.recording.checkpoint import Checkpoint, Signer, origin_of
from extproc.recording.entry import Blob, Chain, Draft, Kind, Sealed, address_of
from extproc.recording.merkle import Frontier, leaf_hash
from extproc.store.sqlite_ledger import SqliteLedger
from extproc.store.sqlite_store import SqliteStore
from extproc.verification.verify import verify

TARGET: Final = 50_000
BODY_BYTES: Final = 1_000
BLOB_BYTES: Final = 700

_TEXT: Final = texts.code(BODY_BYTES).encode().hex().encode()
_NOW: Final = 1_760_000_000
_FACTS: Final[dict[str, Any]] = {
    "user": "alice@example.com",
    "principal": "https://login.example/tenant/v2.0#7f9c24e8",
    "groups": ["developers", "team-payments"],
    "client": "copilot/1.0.24",
    "address": "192.0.2.17",
    "endpoint": "chat",
    "upstream": "copilot",
    "model": "gpt-5",
    "repository": "acme/payments",
    "rule": "developers-chat",
    "outcome": "completed",
    "code": None,
    "status": 200,
    "closed_at": 0,
    "input_tokens": 612,
    "output_tokens": 188,
    "paths": [],
    "findings": [],
    "approvals": [],
}
_ROW: Final = 1_000
_LOG: Final = "bench.0.1"
_PER_SESSION: Final = 20


def results(folder: Path, *, quick: bool) -> dict[str, Any]:
    """Verify a log without parts, and one in which every second entry has one, the best of several times."""
    count, rounds = (20_000, 2) if quick else (100_000, 3)
    return {
        "entries": count,
        "plain": _rate(folder / "plain.db", count, rounds, blobs=False),
        "parts": _rate(folder / "parts.db", count, rounds, blobs=True),
    }


def _rate(path: Path, count: int, rounds: int, *, blobs: bool) -> float:
    signer = Signer("bench", Ed25519PrivateKey.generate())
    asyncio.run(_fill(path, count, signer, blobs=blobs))
    best = 0.0
    for _ in range(rounds):
        began = time.thread_time()
        report = verify(SqliteLedger(path), [signer.public], [], now=_NOW, max_silence=900)
        best = max(best, count / (time.thread_time() - began))
        if not report.is_good or report.logs[0].proven != count:
            raise AssertionError(f"an honest log of {count} entries was not proved: {report.faults[:3]}")
    return best


async def _fill(path: Path, count: int, signer: Signer, *, blobs: bool) -> None:
    """Write an honest log, with a checkpoint after each `_ROW` entries."""
    chain, frontier, store = Chain(_LOG), Frontier(), SqliteStore(path)
    for start in range(0, count, _ROW):
        entries, parts = list[Sealed](), list[Blob]()
        for index in range(start, min(start + _ROW, count)):
            part = _part(index) if blobs and index % 2 else None
            sealed, chain = chain.seal(_draft(index, part))
            frontier.append(leaf_hash(sealed.head))
            entries.append(sealed)
            parts += [] if part is None else [part]
        await store.put(entries, parts)
        note = signer.sign(Checkpoint(origin_of(signer.name, _LOG), frontier.size, frontier.root(), at=_NOW))
        await store.put_checkpoint(_LOG, frontier.size, note)
    await store.aclose()


def _draft(index: int, part: Blob | None) -> Draft:
    at = (_NOW - 100_000 + index) * 1_000_000
    facts = {**_FACTS, "closed_at": at + 1_250_000}
    body = (b'{"opening":{"n":%d},"closing":{"text":"' % index + _TEXT)[:BODY_BYTES]
    addresses = [] if part is None else [part.address]
    return Draft(Kind.EXCHANGE, f"{index:032x}", _session(index), at, facts, body + b'"}}', addresses)


def _part(index: int) -> Blob:
    data = b"%d " % index + b"x" * BLOB_BYTES
    return Blob(_session(index), address_of(data), data)


def _session(index: int) -> str:
    return f"session-{index // _PER_SESSION}"
