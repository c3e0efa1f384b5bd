"""A store with signed logs, for tests of what relies on evidence: the SQLite adapters on a file of their own."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from extproc.recording.checkpoint import Checkpoint, PublicKey, Signer, origin_of
from extproc.recording.document import merged
from extproc.recording.entry import Blob, Draft, Kind, Sealed, WrappedKey
from extproc.recording.envelope import Envelope
from extproc.recording.facts import facts_of, microseconds
from extproc.recording.merkle import Frontier, leaf_hash
from extproc.recording.packing import body_of, pack
from extproc.store.port import Ledger, Stored
from extproc.store.sqlite_archive import SqliteArchive
from extproc.store.sqlite_eraser import SqliteEraser
from extproc.store.sqlite_ledger import SqliteLedger
from extproc.store.sqlite_store import SqliteStore
from tests.recording_of import NOW, Exchange, Log

DAY = 86_400
ENVELOPE = Envelope(bytes, bytes, lambda count: bytes(range(count)))
SIGNER = Signer("gateway.example", Ed25519PrivateKey.from_private_bytes(bytes(range(32))))


class Evidence:
    """One store. `log` writes exchanges under a log's name; if not told else, a checkpoint over all of it is signed."""

    def __init__(self, path: Path, signer: Signer = SIGNER) -> None:
        self.path = path
        self._signer = signer
        self._logs: dict[str, tuple[Log, Frontier]] = {}
        self._commands = 0

    @property
    def keys(self) -> Sequence[PublicKey]:
        return [self._signer.public]

    @property
    def ledger(self) -> SqliteLedger:
        return SqliteLedger(self.path)

    @property
    def archive(self) -> SqliteArchive:
        return SqliteArchive(self.path)

    @property
    def eraser(self) -> SqliteEraser:
        return SqliteEraser(self.path)

    def log(self, name: str, exchanges: Iterable[Exchange], *, signed: bool = True) -> list[Sealed]:
        writer, _ = self._logs.setdefault(name, (Log(name), Frontier()))
        return self._put(name, [writer.exchange(*one) for one in exchanges], signed=signed)

    def encrypted(self, name: str, one: Exchange) -> None:
        """Write an exchange whose content is encrypted with a data key of its session."""
        opening, closing = one
        key = ENVELOPE.new_key(opening["session"], "k1")
        writer, _ = self._logs.setdefault(name, (Log(name), Frontier()))
        packed = pack(opening, protect=key.protect, is_known=lambda _: False)
        writer.blobs += [Blob(key.session, address, data) for address, data in packed.blobs]
        body = key.protect(body_of(packed.data, closing))
        facts, blobs = facts_of(merged(opening, closing)), [address for address, _ in packed.blobs]
        at = microseconds(opening["opened_at"])
        draft = Draft(Kind.EXCHANGE, opening["id"], key.session, at, facts, body, blobs, key.id)
        self._put(name, [writer.seal(draft)], [WrappedKey(key.id, key.session, key.wrapped)])

    def record(self, drafts: Sequence[Draft], *, signed: bool = True) -> None:
        """Write entries of a command, each time as a log of its own."""
        name = f"command.0.{self._commands}"
        self._commands += 1
        writer, _ = self._logs.setdefault(name, (Log(name), Frontier()))
        self._put(name, [writer.seal(draft) for draft in drafts], signed=signed)

    def heads(self) -> list[tuple[str, int]]:
        """Return which entries there are."""
        return [(log, one.index) for log in self.ledger.logs() for one in self.ledger.entries(log, bodies=False)]

    def bodies(self) -> list[tuple[str, int]]:
        """Return which entries have a body."""
        return [(log, one.index) for log in self.ledger.logs() for one in self.ledger.entries(log) if one.body]

    def _put(
        self, name: str, entries: list[Sealed], keys: Sequence[WrappedKey] = (), *, signed: bool = True
    ) -> list[Sealed]:
        writer, frontier = self._logs[name]
        for one in entries:
            frontier.append(leaf_hash(one.head))
        note = self._signer.sign(
            Checkpoint(origin_of(self._signer.name, name), frontier.size, frontier.root(), int(NOW))
        )

        async def put() -> None:
            store = SqliteStore(self.path)
            try:
                await store.put(entries, writer.blobs, keys)
                if signed:
                    await store.put_checkpoint(name, frontier.size, note)
            finally:
                await store.aclose()

        asyncio.run(put())
        return entries


class Altered:
    """A ledger in which some entries are other ones: what somebody who may write to the store could make of it."""

    def __init__(self, ledger: Ledger, change: dict[tuple[str, int], Stored | None]) -> None:
        self._ledger = ledger
        self._change = change

    def __getattr__(self, name: str) -> Any:
        return getattr(self._ledger, name)

    def entries(self, log: str, start: int = 0, *, bodies: bool = True) -> Iterator[Stored]:
        for one in self._ledger.entries(log, start, bodies=bodies):
            changed = self._change.get((log, one.index), one)
            if changed is not None:
                yield changed
