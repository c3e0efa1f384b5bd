"""Read a log's segments: those of this process up to what is durable, those of a dead one to their end."""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import Final

import msgspec

from extproc.errors import ExtprocError
from extproc.spool import folders
from extproc.spool.frames import HEADER_BYTES, frames, needed
from extproc.spool.records import Begin, Record, decoded
from extproc.spool.segments import Position

CHUNK_BYTES: Final = 1 << 20
_BEGIN_BYTES: Final = 4096
"""More than the first record of a segment has."""

_FLUSHED: Final = re.compile(rb"[\x90-\x9f](?:\xa5entry|\xa6opened)")
"""How the payloads of `Entry` and `Opened` begin."""


class Damaged(ExtprocError):
    """Say where a spool is not what was written: not at the end of what a process wrote when it died."""


class LogReader:
    """Read the records of a log one chunk after the other."""

    def __init__(self, folder: Path) -> None:
        self.position = Position(0, 0)
        """Up to where it was read."""
        self._folder = folder

    def read(self, limit: Position | None = None) -> list[tuple[int, Record]]:
        """Return the next records with their segment's number, nothing at the end; raises `Damaged` and OSError.

        With `limit`, what is beyond is not read: it is being written. A torn tail is the end of its segment, unless it
        was durable.
        """
        while True:
            number, offset = self.position
            end = None if limit is None or limit.segment != number else limit.offset
            data = b"" if number == 0 else self._chunk(number, offset, end)
            records = self._records(number, data)
            if records:
                return records
            if end is not None and offset < end:
                raise Damaged(f"{folders.segment_path(self._folder, number)}: damaged at byte {offset}")
            following = [one for one in folders.segments_in(self._folder) if one > number]
            if limit is not None:
                following = [one for one in following if one <= limit.segment]
            if not following:
                return []
            if number and following[0] != number + 1:
                raise Damaged(f"{folders.segment_path(self._folder, number + 1)}: is gone")
            if number and offset < _durable(folders.segment_path(self._folder, number + 1)):
                raise Damaged(f"{folders.segment_path(self._folder, number)}: damaged at byte {offset}")
            self.position = Position(following[0], 0)

    def torn(self) -> int:
        """Return how many bytes at the end of the log are no records; raises `Damaged` and OSError.

        What a process was writing when it died has nothing behind it that was made durable with a flush of its own.
        """
        number, offset = self.position
        path = folders.segment_path(self._folder, number)
        rest = path.read_bytes()[offset:]
        for found in _FLUSHED.finditer(rest):
            start = found.start() - HEADER_BYTES
            if start > 0 and next(frames(rest[start:]), None) is not None:
                raise Damaged(f"{path}: damaged at byte {offset}, and from byte {offset + start} on it is not")
        return len(rest)

    def _records(self, number: int, data: bytes) -> list[tuple[int, Record]]:
        records: list[tuple[int, Record]] = []
        start = offset = self.position.offset
        for payload, after in frames(data):
            try:
                records.append((number, decoded(payload)))
            except msgspec.DecodeError as failure:
                path = folders.segment_path(self._folder, number)
                raise Damaged(f"{path}: no record at byte {offset}: {failure}") from failure
            offset = start + after
        self.position = Position(number, offset)
        return records

    def _chunk(self, number: int, offset: int, end: int | None) -> bytes:
        descriptor = os.open(folders.segment_path(self._folder, number), os.O_RDONLY | os.O_CLOEXEC)
        try:
            most = CHUNK_BYTES if end is None else min(CHUNK_BYTES, end - offset)
            data = os.pread(descriptor, most, offset)
            if len(data) == CHUNK_BYTES and len(data) < (size := needed(data[:HEADER_BYTES])):
                data = os.pread(descriptor, size, offset)
            return data
        finally:
            os.close(descriptor)


def _durable(following: Path) -> int:
    """Return how much of the segment before was durable when this one was begun."""
    with following.open("rb") as file:
        first = next(frames(file.read(_BEGIN_BYTES)), None)
    begin = None if first is None else decoded(first[0])
    return begin.durable if isinstance(begin, Begin) else 0


def records_of(folder: Path, number: int) -> list[Record]:
    """Return all whole records of one segment; raises `Damaged` and OSError."""
    path = folders.segment_path(folder, number)
    try:
        return [decoded(payload) for payload, _ in frames(path.read_bytes())]
    except msgspec.DecodeError as failure:
        raise Damaged(f"{path}: {failure}") from failure
