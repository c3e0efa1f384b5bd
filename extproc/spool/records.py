"""What stands in the frames of a spool. Pure.

A log's folder has numbered segments; each begins with a `Begin`. Records are MessagePack arrays, the first element of
which names the record.
"""

from __future__ import annotations

from typing import Final

import msgspec

from extproc.spool.frames import MAX_FRAME_BYTES

VERSION: Final = 1


class Begin(msgspec.Struct, frozen=True, array_like=True, tag="begin", gc=False):
    """Say whose segment this is, and where the log stood: the index and `prev` of the next entry.

    So many bytes of the segment before were durable, `durable`; after a power cut, what followed them may be torn.
    """

    v: int
    log: str
    index: int
    prev: str
    durable: int


WrappedKey = tuple[str, bytes]
"""The id of a data key, and the key as only its wrapping key can open it."""


class Opened(msgspec.Struct, frozen=True, array_like=True, tag="opened", gc=False):
    """An exchange began: its packed opening, and the blobs (address, data) that it stored first."""

    id: str
    session: str
    opening: bytes
    key: WrappedKey | None
    blobs: list[tuple[str, bytes]]
    listed: list[str]
    """The addresses of those blobs; a copy in a later segment has no blobs any more."""


class Answering(msgspec.Struct, frozen=True, array_like=True, tag="answering", gc=False):
    """Response headers went to the client."""

    id: str
    status: int
    content_type: str | None


class Piece(msgspec.Struct, frozen=True, array_like=True, tag="piece", gc=False):
    """Bytes went to the client, `at` milliseconds after the opening, `offset` bytes after the first."""

    id: str
    at: float
    offset: int
    data: bytes


class Entry(msgspec.Struct, frozen=True, array_like=True, tag="entry", gc=False):
    """A sealed entry, as `extproc.recording.entry.Sealed`; `id` and `index` are those of its head.

    `blobs` are those that were not stored with an `Opened`.
    """

    id: str
    index: int
    session: str
    head: bytes
    hash: str
    body: bytes | None
    lines: list[str]
    key: WrappedKey | None
    blobs: list[tuple[str, bytes]]


Record = Begin | Opened | Answering | Piece | Entry


def encoded(record: Record) -> bytes:
    """Return a record as the payload of a frame; raises ValueError where it is too long for one."""
    payload = _encoder.encode(record)
    if len(payload) > MAX_FRAME_BYTES:
        # It would be read as damage, and what follows it would never be read.
        raise ValueError("the record is longer than a frame may be")
    return payload


def decoded(payload: bytes) -> Record:
    """Return the record of a payload; raises msgspec.DecodeError (a ValueError)."""
    record: Record = _decoder.decode(payload)
    return record


_encoder: Final = msgspec.msgpack.Encoder()
_decoder: Final = msgspec.msgpack.Decoder(Record)
