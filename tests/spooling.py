"""Spools for tests: opened, abandoned as by a process that dies, and read back."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import msgspec

from extproc.recording.document import merged
from extproc.recording.entry import Chain, read_head
from extproc.recording.packing import parts_of
from extproc.recording.unpacking import unpack
from extproc.spool.reader import LogReader
from extproc.spool.records import Entry, Opened, Record
from extproc.spool.sealing import NewKey, Sealer
from extproc.spool.spool import Spool, SpoolBounds
from tests.recording_of import NOW

LOG = "test.0.1"
BOUNDS = SpoolBounds(max_bytes=64 << 20, reserve_bytes=64 << 10, segment_bytes=1 << 20)


def spool_in(
    root: Path,
    log: str = LOG,
    *,
    bounds: SpoolBounds = BOUNDS,
    new_key: NewKey | None = None,
    on_durable: Callable[[], None] = lambda: None,
) -> Spool:
    sealer = Sealer(Chain(log), new_key=new_key)
    return Spool(root, log, sealer, bounds=bounds, now=lambda: NOW, on_durable=on_durable)


def abandon(spool: Spool) -> None:
    """Leave what is written as a process does that dies: nothing more is written, and the lock is free."""
    spool.release()
    spool._committing.cancel()
    spool._disk.shutdown()


def records(folder: Path) -> list[Record]:
    """Return all records of a log."""
    reader = LogReader(folder)
    found: list[Record] = []
    while chunk := reader.read():
        found += [record for _, record in chunk]
    return found


def entries(folder: Path) -> list[Entry]:
    return [record for record in records(folder) if isinstance(record, Entry)]


def documents(folder: Path, reveal: Callable[[bytes], bytes] = bytes) -> list[dict[str, Any]]:
    """Return the documents of all exchanges that were sealed, in their order, from what the spool has alone."""
    found = records(folder)
    blobs = dict(blob for record in found if isinstance(record, Opened | Entry) for blob in record.blobs)
    return list(_documents([one for one in found if isinstance(one, Entry)], blobs, reveal))


def _documents(
    sealed: list[Entry], blobs: dict[str, bytes], reveal: Callable[[bytes], bytes]
) -> Iterator[dict[str, Any]]:
    for entry in sealed:
        if entry.body is not None:
            opening, closing = parts_of(reveal(entry.body))
            opened = unpack(opening, lambda names: {one: blobs[one] for one in names if one in blobs}, reveal)
            yield merged(opened, closing)


def check_chain(folder: Path, *, start: int = 0) -> None:
    """Assert that the entries of a log follow each other."""
    prev = None
    for number, entry in enumerate(entries(folder), start):
        head = read_head(entry.head)
        assert (head.index, entry.index) == (number, number)
        assert prev is None or head.prev == prev
        prev = entry.hash


def event(text: str) -> bytes:
    """Return an event of a streamed chat answer that adds this text."""
    tree = {"model": "gpt-5", "choices": [{"index": 0, "delta": {"content": text}}]}
    return b"data: %b\n\n" % msgspec.json.encode(tree)


async def until(condition: Callable[[], bool], seconds: float = 10.0) -> None:
    """Wait for what another thread does."""
    async with asyncio.timeout(seconds):
        while not condition():  # noqa: ASYNC110 - it has no event
            await asyncio.sleep(0.005)
