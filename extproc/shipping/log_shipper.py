"""Move one log from its folder in the spool to the store, checkpoint it, and remove what is there for good."""

from __future__ import annotations

import asyncio
import logging
import os
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final, TypeVar

import msgspec

from extproc.durable import sync_folder
from extproc.recording.checkpoint import Checkpoint, origin_of
from extproc.recording.entry import Blob, Sealed, WrappedKey
from extproc.recording.merkle import Frontier, leaf_hash
from extproc.shipping.outlets import Outlets
from extproc.spool import folders
from extproc.spool.reader import Damaged, LogReader
from extproc.spool.records import Answering, Begin, Entry, Opened, Piece, Record
from extproc.spool.sealing import closed_id
from extproc.spool.segments import Position, allocate

log = logging.getLogger("extproc.shipping")

LONGEST_ROW: Final = 4
"""So many segments may be kept by exchanges that run for long; then these are copied to the newest."""

_KEPT_BYTES: Final = 4096
"""More than a checkpoint with its frontier takes; a block of most file systems."""

_T = TypeVar("_T")

MAX_KEYS: Final = 10_000
"""So many data keys are remembered to be in the store; putting one again changes nothing."""


@dataclass(slots=True)
class _Segment:
    """What of a segment is not done: the index after its last entry, and exchanges in it that are open."""

    until: int = 0
    open: set[str] = field(default_factory=set)
    shipped_at: float = 0.0


class _Shipped(msgspec.Struct):
    """What was shipped, and the checkpoint over it. It is kept before the store has it.

    The store would not take another note of that size, as one signed after a crash, at another time, is.
    """

    size: int
    frontier: list[str]
    note: str


class LogShipper:
    """Ship one log whose lock this process holds. Not for use by two tasks at once."""

    def __init__(self, folder: Path, outlets: Outlets, *, removed: Callable[[int], None] = lambda _: None) -> None:
        """Begin where the log was checkpointed last; `removed` is told of bytes that go. Raises `Damaged`, OSError."""
        self.folder = folder
        self.is_closed = False
        """Whether the entry that ends the log was shipped."""
        self._log = folder.name
        self._outlets = outlets
        self._removed = removed
        self._reader = LogReader(folder)
        self._segments: dict[int, _Segment] = {}
        self._where: dict[str, set[int]] = {}
        self._keys: set[str] = set()
        self._frontier = Frontier()
        self._checkpointed = -1
        self._kept: _Shipped | None = None
        self._proven: set[str] = set()
        self._owed: str | None = None
        self._checkpoint_at = outlets.now()
        self._new_since: float | None = None
        self._resume()

    def _resume(self) -> None:
        path = self.folder / folders.SHIPPED
        if not path.exists():
            return
        try:
            self._kept = msgspec.json.decode(path.read_bytes(), type=_Shipped)
            self._frontier = Frontier.load(self._kept.size, self._kept.frontier)
        except ValueError as failure:
            raise Damaged(f"{path}: {failure}") from failure
        # Their parts are in the store since then, or were removed from it by rule: they must not come back.
        reader = LogReader(self.folder)
        while records := reader.read():
            self._proven |= {one.id for _, one in records if isinstance(one, Entry) and one.index < self._frontier.size}

    async def ship(self, limit: Position | None = None) -> bool:
        """Ship the next records up to `limit`; say whether there were any. Raises `Damaged` and OSError."""
        before = self._reader.position
        if before == limit:
            return False
        try:
            records = await uncut(self._reader.read, limit)
            await self._put(records)
        except BaseException:
            # What was not put, because this was cancelled or is damaged, is read again.
            self._reader.position = before
            raise
        now = self._outlets.now()
        for number, record in records:
            self._note(number, record, now)
        return bool(records)

    async def _put(self, records: list[tuple[int, Record]]) -> None:
        entries = [record for _, record in records if isinstance(record, Entry)]
        entries = [entry for entry in entries if entry.index >= self._frontier.size]
        self._check_order(entries)
        blobs, keys = self._parts(records)
        if entries or blobs or keys:
            await self._outlets.put(
                [Sealed(entry.head, entry.hash, entry.body, entry.lines) for entry in entries], blobs, keys
            )
        # Not before: a call that was cancelled is repeated, and what it did not put must be among it again.
        self._keys.update(key.id for key in keys)
        if len(self._keys) > MAX_KEYS:
            self._keys.clear()
        for entry in entries:
            self._frontier.append(leaf_hash(entry.head))
        if entries and self._new_since is None:
            self._new_since = self._outlets.now()

    def _check_order(self, entries: list[Entry]) -> None:
        expected = self._frontier.size
        for entry in entries:
            if entry.index != expected:
                raise Damaged(f"{self.folder}: entry {entry.index} where {expected} belongs")
            expected += 1

    def _parts(self, records: list[tuple[int, Record]]) -> tuple[list[Blob], list[WrappedKey]]:
        blobs: list[Blob] = []
        keys: dict[str, WrappedKey] = {}
        for _, record in records:
            if isinstance(record, Opened | Entry) and record.id not in self._proven:
                blobs += [Blob(record.session, address, data) for address, data in record.blobs]
                if record.key is not None and record.key[0] not in self._keys:
                    keys[record.key[0]] = WrappedKey(record.key[0], record.session, record.key[1])
        return blobs, list(keys.values())

    def _note(self, number: int, record: Record, now: float) -> None:
        segment = self._segments.get(number)
        if segment is None:
            segment = self._segments[number] = _Segment()
        segment.shipped_at = now
        match record:
            # First, because these are most.
            case Piece() | Answering():
                where = self._where.get(record.id)
                if where is not None and number not in where:
                    where.add(number)
                    segment.open.add(record.id)
            case Begin():
                segment.until = max(segment.until, record.index)
            case Opened():
                segment.open.add(record.id)
                self._where.setdefault(record.id, set()).add(number)
            case Entry():
                segment.until = record.index + 1
                for open_in in self._where.pop(record.id, ()):
                    self._segments[open_in].open.discard(record.id)
                self.is_closed = record.id == closed_id(self._log)

    # --- checkpoints ------------------------------------------------------------------------------------------------

    @property
    def is_due(self) -> bool:
        """Say whether it is time for a checkpoint."""
        if self.is_closed:
            return self._checkpointed != self._frontier.size
        cadence, now = self._outlets.cadence, self._outlets.now()
        if self._frontier.size - max(self._checkpointed, 0) >= cadence.entries or self._checkpointed < 0:
            return True
        if self._new_since is not None and now - self._new_since >= cadence.seconds:
            return True
        return now - self._checkpoint_at >= cadence.idle_seconds

    @property
    def checkpoint_age(self) -> float:
        """Return the seconds since the last checkpoint."""
        return self._outlets.now() - self._checkpoint_at

    async def checkpoint(self) -> None:
        """Sign what was shipped, and have store and witnesses keep it."""
        outlets, size = self._outlets, self._frontier.size
        if size == self._checkpointed:
            # The store has one; witnesses are told that nothing came since.
            note = self._signed()
        else:
            if self._kept is None or self._kept.size != size:
                kept = _Shipped(size, self._frontier.dump(), self._signed())
                await uncut(self._keep, kept)
                self._kept = kept
            note = self._kept.note
            await outlets.put_checkpoint(self._log, size, note)
            self._checkpointed = size
        outlets.witnesses.offer(self._log, size, note)
        self._checkpoint_at, self._new_since = outlets.now(), None

    def _signed(self) -> str:
        signer = self._outlets.signer
        origin = origin_of(signer.name, self._log)
        return signer.sign(Checkpoint(origin, self._frontier.size, self._frontier.root(), at=int(self._outlets.now())))

    def _keep(self, kept: _Shipped) -> None:
        path = self.folder / folders.SHIPPED
        fresh = path.with_suffix(".new")
        data = msgspec.json.encode(kept)
        # Room for the next is put by: where the spool filled the disk, nothing else could ever be removed.
        descriptor = os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            os.pwrite(descriptor, data, 0)
            os.ftruncate(descriptor, len(data))
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
        fresh.rename(path)
        sync_folder(self.folder)
        try:
            allocate(fresh, _KEPT_BYTES)
        except OSError:
            log.debug("no room for the next checkpoint")

    # --- what is done with ------------------------------------------------------------------------------------------

    def remove_shipped(self) -> None:
        """Remove segments that nothing is needed of: a checkpoint covers them, and no exchange in them is open.

        Only the first ones: the opening of an exchange must not be left without the entry that sealed it.
        """
        now = self._outlets.now()
        for number, segment in sorted(self._segments.items()):
            is_read = number < self._reader.position.segment
            is_kept = now - segment.shipped_at < self._outlets.cadence.keep_seconds
            if not is_read or segment.open or segment.until > self._checkpointed or is_kept:
                return
            path = folders.segment_path(self.folder, number)
            size = path.stat().st_size
            path.unlink()
            del self._segments[number]
            self._removed(size)

    def pinned(self) -> tuple[int, set[str]] | None:
        """Return the first segment, and the exchanges in it, where these alone keep a long row of segments."""
        last = self._reader.position.segment
        first = min(self._segments, default=last)
        segment = self._segments.get(first)
        if segment is None or not segment.open or last - first < LONGEST_ROW or segment.until > self._checkpointed:
            return None
        return first, set(segment.open)

    def unpin(self, number: int, exchanges: set[str]) -> None:
        """Note that what a segment has of these exchanges stands in a later one too, or is sealed."""
        self._segments[number].open -= exchanges
        for exchange in exchanges & set(self._where):
            self._where[exchange].discard(number)

    @property
    def is_signed(self) -> bool:
        """Say whether all of a closed log is in the store, and checkpointed."""
        return self.is_closed and self._checkpointed == self._frontier.size

    @property
    def is_done(self) -> bool:
        """Say whether all of a closed log is in the store, checkpointed, and kept for long enough."""
        if not self.is_signed:
            return False
        newest = max((segment.shipped_at for segment in self._segments.values()), default=0.0)
        return self._outlets.now() - newest >= self._outlets.cadence.keep_seconds

    def remove(self) -> None:
        """Remove the folder of a log that is done."""
        folders.remove(self.folder)


async def uncut(work: Callable[..., _T], *arguments: object) -> _T:
    """Run `work` in a thread, and wait for it even when cancelled: it must not go on beside what comes next."""
    running = asyncio.ensure_future(asyncio.to_thread(work, *arguments))
    try:
        return await asyncio.shield(running)
    except asyncio.CancelledError:
        await asyncio.wait({running})
        raise
