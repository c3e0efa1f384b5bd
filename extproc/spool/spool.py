"""The spool of a process: it records exchanges on disk before anything of them is released, and seals them as a log.

Whatever waits is sealed, written and flushed together: one flush serves many exchanges. Pieces are written by whoever
releases them, at once and without a flush: they survive the death of the process.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Final, TypeVar

from msgspec.structs import replace

from extproc.durable import sync_folder
from extproc.endings import RECORDING
from extproc.errors import StoreUnavailable
from extproc.recording.entry import Chain
from extproc.spool import folders
from extproc.spool.folders import Lock
from extproc.spool.reader import Damaged, records_of
from extproc.spool.records import Answering, Begin, Entry, Opened, Piece, encoded
from extproc.spool.sealing import Frames, Sealer
from extproc.spool.segments import SEGMENT_BYTES, Position, Segments

logger = logging.getLogger("extproc.spool")

Result = TypeVar("Result")

MAX_GROUP: Final = 256
"""Entries made durable together at most, so that no caller waits for an endless queue."""

COMMIT_INTERVAL_SECONDS: Final = 0.002
"""Least time between two flushes. An entry after a pause is flushed at once; under load entries gather."""

INLINE_BYTES: Final = 65_536
"""Bodies of so many bytes are sealed in some milliseconds; more is sealed in the thread."""

RETRY_SECONDS: Final = 1.0
"""How often something that failed, such as making the first segment, is tried again at most."""


@dataclass(frozen=True, slots=True)
class SpoolBounds:
    """How much a spool may hold, in bytes, over all logs in its folder.

    From `max_bytes` on no exchange begins; those that run may use the reserve beyond.
    """

    max_bytes: int = 1 << 30
    reserve_bytes: int = 32 << 20
    segment_bytes: int = SEGMENT_BYTES

    @property
    def longest_segment(self) -> int:
        """Return from which length on a segment is followed by another, in bytes.

        Only segments that are followed by others are removed: a spool that is full must have some.
        """
        return min(self.segment_bytes, self.max_bytes // 8)


@dataclass(slots=True)
class _Write:
    opening: dict[str, Any] | None
    closing: dict[str, Any] | None
    done: asyncio.Future[None]


@dataclass(frozen=True, slots=True)
class _Sealed:
    """A group as frames: what is in them, and what could not be taken, with the reason."""

    frames: Frames
    good: list[_Write]
    odd: list[tuple[_Write, Exception]]


@dataclass(slots=True)
class _Copy:
    """Records of exchanges that are to stand in the newest segment too."""

    number: int
    exchanges: set[str]
    done: asyncio.Future[None]


class Spool:
    """Implement the `Recorder` port over the segments of one log.

    Making one never fails: where the folder cannot be written, `fault` says why, every new exchange is refused, and it
    is tried again. `on_durable` is called when there is something new to ship.

    Entries are sealed on the event loop, where there is nothing else that wants the interpreter at the same time; a
    thread waits for the disk, and takes what is large.
    """

    def __init__(
        self,
        root: Path,
        log: str,
        sealer: Sealer,
        *,
        bounds: SpoolBounds,
        now: Callable[[], float],
        on_durable: Callable[[], None] = lambda: None,
    ) -> None:
        self.log = log
        self.folder = root / log
        self.durable = Position(0, 0)
        self.other_bytes = 0
        """What logs of other processes hold in the same folder; whoever ships keeps it."""
        self._sealer = sealer
        self._bounds = bounds
        self._now = now
        self._on_durable = on_durable
        self._lock: Lock | None = None
        self._segments: Segments | None = None
        self._fault: str | None = None
        self._disk_fault: OSError | None = None
        self._tried_at = float("-inf")
        self._owed: dict[str, dict[str, Any]] = {}
        self._queue: deque[_Write | _Copy] = deque()
        self._news = asyncio.Event()
        self._closed = False
        self._make_ready()
        self._disk = ThreadPoolExecutor(1, thread_name_prefix="spool")
        # The thread is there from now on: a system that has no room for one says so before anything is written.
        self._disk.submit(int).result()
        self._committing = asyncio.get_running_loop().create_task(self._run(), name="spool")

    # --- what exchanges ask -------------------------------------------------------------------------------------

    def append(self, opening: dict[str, Any] | None, closing: dict[str, Any] | None) -> asyncio.Future[None]:
        """Make opening and closing durable; see the port for the contract."""
        done: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        if self._closed:
            done.set_exception(StoreUnavailable("the spool is closed"))
        else:
            # A caller that cancels it leaves a cancelled future behind; the write goes on.
            self._put(_Write(opening, closing, done))
        return done

    def answering(self, exchange_id: str, status: int, content_type: str | None) -> None:
        """Note that an answer's headers are about to go to the client."""
        if self._sealer.is_open(exchange_id):
            self._note(encoded(Answering(exchange_id, status, content_type)))

    def piece(self, exchange_id: str, at: float, data: bytes) -> None:
        """Note bytes that are about to go to the client; nothing once the exchange is sealed: its entry has them."""
        placed = self._sealer.place(exchange_id, data)
        if placed is not None:
            offset, kept = placed
            self._note(encoded(Piece(exchange_id, at, offset, kept)))

    def _note(self, payload: bytes) -> None:
        segments = self._segments
        if segments is None:
            raise StoreUnavailable(self._fault or "the spool is not open")
        try:
            segments.append([payload], urgent=True)
        except OSError as failure:
            raise StoreUnavailable(f"the spool did not take what is answered: {failure}") from failure

    # --- what operators ask -------------------------------------------------------------------------------------

    @property
    def fault(self) -> str | None:
        """Return why no exchange can begin, None when one can."""
        if self._segments is not None and self._segments.broken is not None:
            return f"spool {self.folder}: {self._segments.broken}; the service must be started again"
        if self._fault is not None:
            return self._fault
        if self.bytes >= self._bounds.max_bytes:
            return f"spool {self.folder.parent}: full, {self.bytes} bytes wait for the store"
        return None

    @property
    def bytes(self) -> int:
        """Return how much waits in the folder, other processes' logs included."""
        return self.other_bytes + (0 if self._segments is None else self._segments.bytes)

    def removed(self, count: int) -> None:
        """Note that so many bytes of this log's segments were removed, since a store has them."""
        if self._segments is not None:
            self._segments.forget(count)

    @property
    def open_exchanges(self) -> int:
        """Return how many exchanges were opened and not sealed yet."""
        return self._sealer.open_count

    async def copy(self, number: int, exchanges: set[str]) -> None:
        """Copy what a segment has of these exchanges, as far as they are open, to the newest segment, durably.

        Raises `StoreUnavailable`.
        """
        if self._closed:
            raise StoreUnavailable("the spool is closed")
        done = asyncio.get_running_loop().create_future()
        self._put(_Copy(number, exchanges, done))
        await done

    # --- the end ------------------------------------------------------------------------------------------------

    async def aclose(self) -> None:
        """Write what waits and end the log; the lock is kept, so that its owner can still ship it."""
        self._closed = True
        self._news.set()
        await asyncio.wait([self._committing])
        self._disk.shutdown()

    def release(self) -> None:
        """Let go of the log; another process may ship what is left of it."""
        if self._segments is not None:
            self._segments.close()
        if self._lock is not None:
            self._lock.release()
            self._lock = None

    # --- commits ------------------------------------------------------------------------------------------------

    async def _run(self) -> None:
        next_commit = 0.0
        while True:
            await self._something()
            if (pause := next_commit - time.monotonic()) > 0:
                await asyncio.sleep(pause)
            next_commit = time.monotonic() + COMMIT_INTERVAL_SECONDS
            await self._work([self._queue.popleft() for _ in range(min(len(self._queue), MAX_GROUP))])
            if self._closed and not self._queue:
                await self._end_log()
                return

    async def _something(self) -> None:
        """Wait until there is something to write or to retry, or the end."""
        if self._queue or self._closed:
            return
        self._news.clear()
        if not self._owed and self._fault is None:
            await self._news.wait()
            return
        with suppress(TimeoutError):
            await asyncio.wait_for(self._news.wait(), RETRY_SECONDS)

    def _put(self, what: _Write | _Copy) -> None:
        self._queue.append(what)
        self._news.set()

    async def _apart(self, work: Callable[..., Result], *arguments: object) -> Result:
        """Do what may take long in the spool's thread."""
        return await asyncio.get_running_loop().run_in_executor(self._disk, partial(work, *arguments))

    async def _work(self, group: Sequence[_Write | _Copy]) -> None:
        try:
            await self._commit([one for one in group if isinstance(one, _Write)])
            for one in group:
                if isinstance(one, _Copy):
                    await self._copy(one)
        except Exception as failure:
            # Callers would wait for what nobody does any more.
            logger.exception("a fault of the spool")
            _answer(group, StoreUnavailable(f"a fault of the spool: {type(failure).__name__}"))

    async def _commit(self, group: list[_Write]) -> None:
        beginning = [write for write in group if write.opening is not None]
        going_on = [write for write in group if write.opening is None]
        if self._fault is not None:
            await self._apart(self._make_ready)
        elif beginning:
            self._make_ready()
        if (fault := self.fault) is not None:
            _answer(beginning, StoreUnavailable(fault))
            beginning = []
        if beginning and await self._try([*beginning, *going_on], urgent=False):
            return
        # What runs has what was put by; what begins has not.
        if beginning:
            self._fault = self._fault_of_disk()
            _answer(beginning, StoreUnavailable(self.fault or self._fault))
        if (going_on or self._owed) and not await self._try(going_on, urgent=True):
            for write in going_on:
                if write.closing is not None and self._sealer.is_open(write.closing["id"]):
                    self._owed[write.closing["id"]] = _unrecorded(write.closing)
            _answer(going_on, StoreUnavailable(self.fault or self._fault_of_disk()))

    async def _try(self, group: Sequence[_Write], *, urgent: bool) -> bool:
        """Write a group, and what is owed, durably; say whether it is."""
        if self._segments is None:
            return False
        is_large = sum(map(_size, group)) > INLINE_BYTES
        sealed = await self._apart(self._seal, group) if is_large else self._seal(group)
        for write, fault in sealed.odd:
            _answer([write], StoreUnavailable(f"cannot record the exchange: {type(fault).__name__}"))
        if not await self._write(sealed.frames, urgent=urgent):
            return False
        self._owed.clear()
        _answer(sealed.good, None)
        return True

    def _seal(self, group: Sequence[_Write]) -> _Sealed:
        sealed = _Sealed(self._sealer.begin(), [], [])
        for write in group:
            try:
                self._sealer.add(sealed.frames, write.opening, write.closing)
            except Exception as failure:  # noqa: BLE001 - one odd entry must not fail its neighbours, nor end the spool
                sealed.odd.append((write, failure))
                continue
            sealed.good.append(write)
        for exchange_id, closing in list(self._owed.items()):
            try:
                self._sealer.add(sealed.frames, None, closing)
            except Exception:  # noqa: BLE001 - as above; it stays open, and the next start ends it
                del self._owed[exchange_id]
        return sealed

    async def _write(self, frames: Frames, *, urgent: bool) -> bool:
        segments = self._segments
        if segments is None:
            return False
        try:
            if sum(map(len, frames.payloads)) > INLINE_BYTES:
                await self._apart(partial(segments.append, frames.payloads, urgent=urgent))
            else:
                segments.append(frames.payloads, urgent=urgent)
            self.durable = await self._apart(segments.sync)
        except OSError as failure:
            self._disk_fault = failure
            return False
        except BaseException:
            # Nobody knows what of it is in the segment: what came next would stand in the same place of the chain.
            segments.broken = segments.broken or "a write was given up"
            raise
        self._sealer.commit(frames)
        if segments.is_long:
            await self._rotate(segments)
        self._on_durable()
        return True

    async def _copy(self, copy: _Copy) -> None:
        if self._segments is None:
            _answer([copy], StoreUnavailable(self.fault or "the spool is not open"))
            return
        # What is sealed meanwhile must not be copied: it would be open again for whoever reads the log.
        still = {one for one in copy.exchanges if self._sealer.is_open(one)}
        try:
            self.durable = await self._apart(_copied, self.folder, self._segments, copy.number, still)
        except (OSError, Damaged) as failure:
            _answer([copy], StoreUnavailable(f"cannot copy what runs to another segment: {failure}"))
            return
        self._on_durable()
        _answer([copy], None)

    async def _rotate(self, segments: Segments) -> None:
        chain = self._sealer.chain
        try:
            self.durable = await self._apart(segments.begin, chain.index, chain.prev)
        except OSError as failure:
            # The segment gets longer; the next commit tries again.
            self._disk_fault = failure

    def _fault_of_disk(self) -> str:
        failure = self._disk_fault
        why = "it did not take the entry" if failure is None else failure.strerror or str(failure)
        return f"spool {self.folder}: {why}"

    def _make_ready(self) -> None:
        """Make sure that exchanges can begin: that the log is begun, and room put by; `_fault` says why not."""
        if self._fault is not None and time.monotonic() - self._tried_at < RETRY_SECONDS:
            return
        self._tried_at = time.monotonic()
        try:
            if self._segments is None:
                # Whoever ships keeps it, but gets to it only while the store takes something.
                self.other_bytes = sum(folders.bytes_in(one) for one in folders.logs_in(self.folder.parent))
                self._lock, self._segments = begin_log(self.folder, self._sealer.chain, self._bounds)
            self._segments.put_by()
            if self._fault is not None:
                self._segments.probe()
        except OSError as failure:
            what = "cannot be written" if self._segments is None else "no room for exchanges that run"
            self._fault = f"spool {self.folder}: {what}: {failure.strerror or failure}"
        else:
            self._fault = None

    async def _end_log(self) -> None:
        if self._segments is None or self._sealer.open_count or self._owed:
            # Whoever ships it finds what is open, and ends it.
            return
        frames = self._sealer.begin()
        self._sealer.end(frames, self._now(), "stopped")
        await self._write(frames, urgent=True)


def _size(write: _Write) -> int:
    """Return about how many bytes there are to seal."""
    opening, closing = write.opening or {}, write.closing or {}
    request, response = opening.get("request") or {}, closing.get("response") or {}
    return int(request.get("body_bytes", 0)) + int(response.get("body_bytes", 0))


def _copied(folder: Path, segments: Segments, number: int, exchanges: set[str]) -> Position:
    """Append what a segment has of exchanges to the newest one, durably; raises OSError, Damaged."""
    records = records_of(folder, number)
    copies = [replace(one, blobs=[]) if isinstance(one, Opened) else one for one in records]
    segments.append([encoded(one) for one in copies if not isinstance(one, Begin | Entry) and one.id in exchanges])
    return segments.sync()


def begin_log(folder: Path, chain: Chain, bounds: SpoolBounds) -> tuple[Lock, Segments]:
    """Make the folder of a log with its first segment, and hold it; raises OSError.

    It is made under a hidden name and then renamed, so that nobody takes it for one that was left by the dead.
    """
    hidden = folder.with_name(f".{folder.name}")
    hidden.mkdir(mode=0o700, parents=True, exist_ok=True)
    lock = Lock(hidden)
    segments = Segments(hidden, chain.log, reserve_bytes=bounds.reserve_bytes, segment_bytes=bounds.longest_segment)
    try:
        segments.begin(chain.index, chain.prev)
        hidden.rename(folder)
        sync_folder(folder.parent)
        segments.moved(folder)
    except BaseException:
        segments.close()
        lock.release()
        raise
    return lock, segments


def _unrecorded(closing: dict[str, Any]) -> dict[str, Any]:
    """Return the closing of an exchange whose own could not be written, and which was cut for that."""
    return {**closing, "outcome": "failed", "error": {"code": RECORDING.code, "message": RECORDING.message}}


def _answer(group: Sequence[_Write | _Copy], failure: StoreUnavailable | None) -> None:
    """Tell all callers of a group who still wait."""
    for write in group:
        if write.done.done():
            continue
        if failure is None:
            write.done.set_result(None)
        else:
            write.done.set_exception(failure)
