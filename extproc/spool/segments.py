"""The segment files that a process appends to: all or nothing, bounded, with something put by for a full disk."""

from __future__ import annotations

import os
import threading
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path
from typing import Final, NamedTuple

from extproc.durable import sync_folder
from extproc.spool import folders
from extproc.spool.frames import framed
from extproc.spool.records import VERSION, Begin, encoded

SEGMENT_BYTES: Final = 16 << 20
"""A segment is followed by a new one when it is this large; whole segments are removed once a store has them."""

_PROBE: Final = "probe"
_PROBE_BYTES: Final = 64 << 10
"""After the disk was full, exchanges begin again when there is as much room as most of them take."""


class Position(NamedTuple):
    """A place in a log's segments: the segment's number, and bytes from its beginning."""

    segment: int
    offset: int


class Segments:
    """Append frames to the segments of one log.

    `append` may be called from any thread, `sync` and `begin` from one. A failed append leaves nothing behind; where
    that itself fails, or `sync` does, `broken` says why, and nothing is ever appended again: what is on the disk then
    is not known, and the next process has to look.
    """

    def __init__(self, folder: Path, log: str, *, reserve_bytes: int, segment_bytes: int = SEGMENT_BYTES) -> None:
        """Begin the first segment; `folder` exists and is locked. Raises OSError."""
        self.broken: str | None = None
        self.bytes = 0
        """How much the segments hold that were written here and not removed."""
        self._folder = folder
        self._log = log
        self._segment_bytes = segment_bytes
        self._reserve_bytes = reserve_bytes
        self._lock = threading.Lock()
        self._number = max(folders.segments_in(folder), default=0)
        self._descriptor = -1
        self._offset = 0
        self._durable = 0
        """How much of the segment survives a power cut."""

    def begin(self, index: int, prev: str) -> Position:
        """Begin a new segment, in which the log goes on at `index`, and return how far it is durable.

        Raises OSError, and changes nothing then.
        """
        number = self._number + 1
        path = folders.segment_path(self._folder, number)
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_APPEND | os.O_CLOEXEC
        descriptor = os.open(path, flags, 0o600)
        try:
            first = framed(encoded(Begin(VERSION, self._log, index, prev, self._durable)))
            _write(descriptor, first)
            os.fdatasync(descriptor)
            sync_folder(self._folder)
        except BaseException:
            os.close(descriptor)
            with suppress(OSError):
                path.unlink()
            raise
        with self._lock:
            previous, self._descriptor = self._descriptor, descriptor
            self._number, self._offset, self._durable = number, len(first), len(first)
            self.bytes += len(first)
        if previous >= 0:
            # Pieces may have come since the last sync; nothing else is in the segment that is not durable.
            os.close(previous)
        return Position(number, len(first))

    def append(self, payloads: Iterable[bytes], *, urgent: bool = False) -> None:
        """Append frames, all or none. `urgent` may use what was put by. Raises OSError."""
        data = b"".join([framed(payload) for payload in payloads])
        with self._lock:
            if self.broken is not None:
                raise OSError(self.broken)
            try:
                self._append(data)
            except OSError:
                if not urgent or not self._release_reserve():
                    raise
                self._append(data)

    def _append(self, data: bytes) -> None:
        try:
            _write(self._descriptor, data)
        except OSError as failure:
            try:
                os.ftruncate(self._descriptor, self._offset)
            except OSError:
                self.broken = f"a failed write could not be taken back: {failure.strerror}"
            raise
        self._offset += len(data)
        self.bytes += len(data)

    def sync(self) -> Position:
        """Make what was appended survive a power cut, and return how far that is; raises OSError."""
        with self._lock:
            descriptor, position = self._descriptor, Position(self._number, self._offset)
        try:
            os.fdatasync(descriptor)
        except OSError as failure:
            # The kernel may have dropped what it could not write (fsync(2), "ERRORS").
            self.broken = f"cannot make the spool durable: {failure.strerror}"
            raise
        if os.fstat(descriptor).st_nlink == 0:
            self.broken = "somebody removed the segment"
            raise OSError(self.broken)
        self._durable = position.offset
        return position

    def forget(self, count: int) -> None:
        """Note that so many bytes of segments were removed."""
        with self._lock:
            self.bytes -= count

    def moved(self, folder: Path) -> None:
        """Note that the folder has another name now."""
        self._folder = folder

    @property
    def is_long(self) -> bool:
        """Say whether it is time for the next segment."""
        return self._offset >= self._segment_bytes

    def put_by(self) -> None:
        """Keep room on the disk for exchanges that run when it is full; raises OSError where there is none."""
        path = self._folder / folders.RESERVE
        if not path.exists():
            allocate(path, self._reserve_bytes)

    def probe(self) -> None:
        """Raise OSError unless there is room on the disk beyond what is put by."""
        path = self._folder / _PROBE
        allocate(path, _PROBE_BYTES)
        path.unlink()

    def _release_reserve(self) -> bool:
        if self.broken is not None:
            return False
        try:
            (self._folder / folders.RESERVE).unlink()
        except OSError:
            return False
        return True

    def close(self) -> None:
        """Close the file."""
        with self._lock:
            if self._descriptor >= 0:
                os.close(self._descriptor)
                self._descriptor = -1
            self.broken = self.broken or "the spool is closed"


def allocate(path: Path, size: int) -> None:
    """Make a file that takes so much room, or none; raises OSError."""
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        os.posix_fallocate(descriptor, 0, size)
    except OSError:
        with suppress(OSError):
            path.unlink()
        raise
    finally:
        os.close(descriptor)


def _write(descriptor: int, data: bytes) -> None:
    written = os.write(descriptor, data)
    while written < len(data):
        # Mostly the disk is full then, and the next call says so.
        written += os.write(descriptor, memoryview(data)[written:])
