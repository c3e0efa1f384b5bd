"""What a dead process left: what it left open is ended with all that clients were sent, and its log is closed."""

from __future__ import annotations

import logging
import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import msgspec

from extproc.errors import ConfigError
from extproc.recording import interrupted as ending
from extproc.recording.entry import Chain
from extproc.recording.envelope import DataKey
from extproc.spool import folders
from extproc.spool.reader import Damaged, LogReader
from extproc.spool.records import Answering, Begin, Entry, Opened, Piece, Record, WrappedKey
from extproc.spool.sealing import Sealer, closed_id
from extproc.spool.segments import Segments

logger = logging.getLogger("extproc.spool")

OpenKey = Callable[[str, WrappedKey], DataKey]
"""Opens a data key, given its session; raises ExtprocError where it cannot."""


@dataclass(slots=True)
class _Left:
    """An exchange that was left open; its pieces by their offset, since copies in later segments are the same.

    Its opening may come last, as a copy, after segments that are gone; it does not come for one that was sealed there.
    """

    opened: Opened | None = None
    answering: ending.Answering | None = None
    pieces: dict[int, Piece] = field(default_factory=dict)


@dataclass(slots=True)
class _Log:
    """What the segments of a log say."""

    chain: Chain
    is_begun: bool = False
    is_closed: bool = False
    left: dict[str, _Left] = field(default_factory=dict)


def recover(
    folder: Path,
    *,
    now: float,
    lines: Callable[[Mapping[str, Any]], list[str]] = lambda _: [],
    open_key: OpenKey | None = None,
) -> int:
    """End the log in a folder, whose lock the caller holds; return how many exchanges it left open.

    They are sealed as interrupted. Does nothing to a log that is closed. May be repeated after it failed. Raises
    `Damaged`, OSError, and ExtprocError where data keys cannot be opened.
    """
    said = _read(folder)
    if said.is_closed:
        return 0
    # It was put by for this.
    (folder / folders.RESERVE).unlink(missing_ok=True)
    sealer = Sealer(said.chain, lines=lines)
    frames = sealer.begin()
    left_open = [(left.opened, left) for left in said.left.values() if left.opened is not None]
    for opened, left in left_open:
        sealer.add(frames, None, _reopened(sealer, opened, left, now, open_key))
    sealer.end(frames, now, "died")
    segments = Segments(folder, said.chain.log, reserve_bytes=0)
    try:
        segments.begin(said.chain.index, said.chain.prev)
        segments.append(frames.payloads)
        segments.sync()
    finally:
        segments.close()
    return len(left_open)


def _reopened(sealer: Sealer, opened: Opened, left: _Left, now: float, open_key: OpenKey | None) -> dict[str, Any]:
    """Let the sealer take over an exchange, and return its closing."""
    key = None
    if opened.key is not None:
        if open_key is None:
            raise ConfigError(f"exchange {opened.id} is encrypted: the wrapping key of the log is needed to end it")
        key = open_key(opened.session, opened.key)
    opening = opened.opening if key is None else key.reveal(opened.opening)
    in_order = sorted(left.pieces.values(), key=lambda piece: piece.offset)
    pieces = [(piece.at, piece.data if key is None else key.reveal(piece.data)) for piece in in_order]
    sealer.reopen(opened, opening, key)
    return ending.interrupted(msgspec.json.decode(opening), left.answering, pieces, now=now)


def _read(folder: Path) -> _Log:
    """Return what the log says, and make it durable as it is: what comes is built on it."""
    reader = LogReader(folder)
    said = _Log(Chain(folder.name))
    while records := reader.read():
        for _, record in records:
            _take(said, record)
    if not said.is_begun:
        raise Damaged(f"{folder}: no segment says where the log begins")
    if torn := reader.torn():
        fields = {"log": folder.name, "bytes": torn}
        logger.warning("what a process was writing when it died is left out", extra={"fields": fields})
    _flush(folders.segment_path(folder, reader.position.segment))
    return said


def _take(said: _Log, record: Record) -> None:
    match record:
        case Begin():
            # Segments before the first may be gone, since a store has all of them.
            begun = Chain(record.log, record.index, record.prev)
            if said.is_begun and begun != said.chain:
                raise Damaged(f"log {record.log}: a segment begins at entry {begun.index}, not {said.chain.index}")
            said.chain, said.is_begun = begun, True
        case Opened():
            said.left.setdefault(record.id, _Left()).opened = record
        case Answering():
            answering = ending.Answering(record.status, record.content_type)
            said.left.setdefault(record.id, _Left()).answering = answering
        case Piece():
            said.left.setdefault(record.id, _Left()).pieces[record.offset] = record
        case Entry():
            if record.index != said.chain.index:
                raise Damaged(f"log {said.chain.log}: entry {record.index} where {said.chain.index} belongs")
            said.chain = Chain(said.chain.log, record.index + 1, record.hash)
            said.left.pop(record.id, None)
            said.is_closed = record.id == closed_id(said.chain.log)


def _flush(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        os.fdatasync(descriptor)
    finally:
        os.close(descriptor)
