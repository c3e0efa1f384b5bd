"""A ledger in memory, and honest logs to put into it and to tamper with."""

from __future__ import annotations

import asyncio
import dataclasses
import hashlib
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from extproc.recording.checkpoint import Checkpoint, Signer
from extproc.recording.entry import Blob, Chain, Draft, Kind, Sealed, WrappedKey, address_of, read_head
from extproc.recording.merkle import Frontier, leaf_hash
from extproc.recording.prune import Prefix, Prune, encode
from extproc.store.port import Stored
from extproc.store.sqlite_store import SqliteStore

NOW = 1_760_000_000
NAME = "gateway.example"
SIGNER = Signer(NAME, Ed25519PrivateKey.from_private_bytes(b"k" * 32))
STRANGER = Signer(NAME, Ed25519PrivateKey.from_private_bytes(b"x" * 32))
LOG = "pod-1.0.1"


@dataclass
class MemoryLedger:
    """Implement the `Ledger` port over lists that a test changes as it likes; `rows` are kept in no order."""

    rows: list[Stored] = field(default_factory=list)
    notes: dict[str, dict[int, str]] = field(default_factory=dict)
    parts: dict[tuple[str, str], bytes] = field(default_factory=dict)
    keys: dict[tuple[str, str], WrappedKey] = field(default_factory=dict)

    def logs(self) -> list[str]:
        return sorted({row.log for row in self.rows} | set(self.notes))

    def entries(self, log: str, start: int = 0, *, bodies: bool = True) -> Iterator[Stored]:
        found = sorted((row for row in self.rows if row.log == log and row.index >= start), key=lambda row: row.index)
        yield from found if bodies else [dataclasses.replace(row, body=None) for row in found]

    def find(self, exchange_id: str) -> Stored | None:
        return next((row for row in self.rows if read_head(row.head).id == exchange_id), None)

    def checkpoints(self, log: str, *, newest: int | None = None) -> list[str]:
        notes = [note for _, note in sorted(self.notes.get(log, {}).items())]
        return notes if newest is None else notes[-newest:]

    def blobs(self, session: str, addresses: Collection[str]) -> dict[str, bytes]:
        return {one: self.parts[session, one] for one in addresses if (session, one) in self.parts}

    def key(self, session: str, key_id: str) -> WrappedKey | None:
        return self.keys.get((session, key_id))

    # --- what tampering needs -----------------------------------------------------------------------------------------

    def at(self, index: int, log: str = LOG) -> Stored:
        return next(row for row in self.rows if (row.log, row.index) == (log, index))

    def change(self, index: int, log: str = LOG, **changes: Any) -> None:
        place = self.rows.index(self.at(index, log))
        self.rows[place] = dataclasses.replace(self.rows[place], **changes)

    def remove(self, *indexes: int, log: str = LOG) -> None:
        self.rows = [row for row in self.rows if row.log != log or row.index not in indexes]


@dataclass
class Writer:
    """Write one honest log into a ledger, as the gateway does; `witnessed` are the notes that a witness got."""

    ledger: MemoryLedger
    log: str = LOG
    signer: Signer = SIGNER
    witnessed: list[str] = field(default_factory=list)
    sealed: list[Sealed] = field(default_factory=list)

    def __post_init__(self) -> None:
        self._chain = Chain(self.log)
        self._frontier = Frontier()

    def seal(self, draft: Draft) -> Sealed:
        index = self._chain.index
        sealed, self._chain = self._chain.seal(draft)
        self._frontier.append(leaf_hash(sealed.head))
        self.sealed.append(sealed)
        self.ledger.rows.append(Stored(self.log, index, sealed.head, sealed.hash, sealed.body))
        return sealed

    def exchange(
        self,
        name: str | None = None,
        *,
        session: str = "s1",
        parts: Sequence[bytes] = (),
        key: str | None = None,
        body: bytes | None = None,
    ) -> Sealed:
        index = self._chain.index
        exchange_id = name or hashlib.md5(f"{self.log} {index}".encode(), usedforsecurity=False).hexdigest()
        blobs = [Blob(session, address_of(data), data) for data in parts]
        self.ledger.parts.update({(one.session, one.address): one.data for one in blobs})
        if key is not None:
            self.ledger.keys[session, key] = WrappedKey(key, session, b"wrapped")
        content = body or f'{{"opening":{{"n":{index}}},"closing":{{}}}}'.encode()
        at = (NOW - 1000 + index) * 1_000_000
        facts = {"user": "alice", "closed_at": at, "outcome": "completed"}
        addresses = [one.address for one in blobs]
        return self.seal(Draft(Kind.EXCHANGE, exchange_id, session, at, facts, content, addresses, key))

    def exchanges(self, count: int) -> None:
        for _ in range(count):
            self.exchange()

    def prune(self, **removed: Any) -> Sealed:
        body = encode(Prune(rule="old", by="carol", at=NOW * 1_000_000, **removed))
        name = f"prune {self.log} {self._chain.index}"
        return self.seal(Draft(Kind.PRUNE, name, "retention", NOW * 1_000_000, {"rule": "old"}, body))

    def close(self) -> None:
        self.seal(Draft(Kind.CLOSED, f"closed {self.log}", "s1", NOW * 1_000_000, {}))
        self.checkpoint()

    def note(self, at: int = NOW) -> str:
        checkpoint = Checkpoint(f"{NAME}/{self.log}", self._frontier.size, self._frontier.root(), at)
        return self.signer.sign(checkpoint)

    def checkpoint(self, at: int = NOW) -> str:
        """Sign what is there; the store and the witness get it."""
        note = self.note(at)
        self.ledger.notes.setdefault(self.log, {})[self._frontier.size] = note
        self.witnessed.append(note)
        return note

    def prefix(self) -> Prefix:
        """Return what a prune record says of all that is there now."""
        return Prefix(self.log, self._frontier.size, self._frontier.dump(), self.sealed[-1].hash)


def put(database: Path, writer: Writer) -> None:
    """Put a log into a SQLite store, as the gateway does."""

    async def all_of_it() -> None:
        store = SqliteStore(database)
        parts = [Blob(session, address, data) for (session, address), data in writer.ledger.parts.items()]
        await store.put(writer.sealed, parts)
        for size, note in writer.ledger.notes[writer.log].items():
            await store.put_checkpoint(writer.log, size, note)
        await store.aclose()

    asyncio.run(all_of_it())


def honest_log(ledger: MemoryLedger, log: str = LOG, *, entries: int = 20, every: int = 5, **more: Any) -> Writer:
    """Return the writer of an open log with checkpoints at 0 and after `every` entries."""
    writer = Writer(ledger, log, **more)
    writer.checkpoint()
    for number in range(1, entries + 1):
        writer.exchange(parts=[f"{log} part {number}".encode()] if number % 4 == 0 else [])
        if number % every == 0:
            writer.checkpoint()
    return writer
