"""An entry of a log: what is hashed, chained and stored. Pure.

Each process keeps one log per life (`log` is `<replica>.<worker>.<epoch>`). An entry has a **head**, which is small, in
the clear, and hashed as a whole, and a **body**, which the head names by its SHA-256. So a body, which may be encrypted
or removed by rule, is not needed to prove that its head is what it was.

A head's canonical bytes are JSON as RFC 8785 has it: members sorted, no blanks. Heads hold only strings, integers below
2^53, booleans, null, lists and objects with ASCII names, for which sorted `msgspec` output is exactly that
(tests/recording/test_entry.py compares with the `rfc8785` package). Bytes are made once and kept as they are.
"""

from __future__ import annotations

import hashlib
from enum import StrEnum
from typing import Annotated, Any, Final

import msgspec

VERSION: Final = 1

GENESIS: Final = "0" * 64
"""`prev` of the first entry of a log."""


class Kind(StrEnum):
    """What an entry is about."""

    EXCHANGE = "exchange"
    ACCESS = "access"  # somebody read what was recorded
    PRUNE = "prune"  # something was removed by rule
    LEGAL_HOLD = "legal-hold"  # something must not be removed, or may be again
    CLOSED = "closed"  # the log ends here; only the last entry is that


class Head(msgspec.Struct, frozen=True, gc=False):
    """What is hashed of an entry.

    `index` counts from 0 within `log`; `prev` is the hash of the entry before. `id` is the exchange's for exchanges and
    unique for the others. `session` is where the entry belongs in a store: entries of one session are together. `at` is
    in microseconds of unix time: for exchanges that of the opening. `facts` are what one searches by. `body` is the
    SHA-256 of the stored body, null without one; `size` its bytes. `blobs` are the addresses (SHA-256) of parts of the
    body that this entry stored first; parts stored before in the same session are not repeated. `key` names the data
    key that body and blobs are encrypted with, null if they are not.
    """

    v: int
    log: str
    index: int
    prev: str
    kind: Kind
    id: str
    session: str
    at: Annotated[int, msgspec.Meta(ge=0, lt=1 << 53)]
    facts: dict[str, Any]
    body: str | None
    size: int
    blobs: list[str]
    key: str | None


# Structs from here on: they are made for every exchange, and a frozen dataclass takes several times as long to make.


class Blob(msgspec.Struct, frozen=True, gc=False):
    """A part of bodies, stored once per session under the SHA-256 of its stored bytes."""

    session: str
    address: str
    data: bytes


class WrappedKey(msgspec.Struct, frozen=True, gc=False):
    """A data key, encrypted with a key that the store does not have; without it what it encrypted cannot be read."""

    id: str
    session: str
    wrapped: bytes


class Draft(msgspec.Struct, frozen=True, gc=False):
    """What is to become an entry, before its place in the log is known.

    `body` as it will be stored. `lines` are fingerprints of the lines it proposes, by which `trace` finds it; they are
    an index, no evidence, and no part of what is hashed.
    """

    kind: Kind
    id: str
    session: str
    at: int
    facts: dict[str, Any]
    body: bytes | None = None
    blobs: list[str] = msgspec.field(default_factory=list)
    key: str | None = None
    lines: list[str] = msgspec.field(default_factory=list)


class Sealed(msgspec.Struct, frozen=True, gc=False):
    """An entry as it is stored: the canonical bytes of its head, their hash, and its body."""

    head: bytes
    hash: str
    body: bytes | None
    lines: list[str] = msgspec.field(default_factory=list)


class Chain(msgspec.Struct, frozen=True, gc=False):
    """Where a log stands: the index and `prev` of the entry to come."""

    log: str
    index: int = 0
    prev: str = GENESIS

    def seal(self, draft: Draft) -> tuple[Sealed, Chain]:
        """Return the draft as the next entry, and the chain after it."""
        body = draft.body
        head = Head(
            v=VERSION,
            log=self.log,
            index=self.index,
            prev=self.prev,
            kind=draft.kind,
            id=draft.id,
            session=draft.session,
            at=draft.at,
            facts=draft.facts,
            body=None if body is None else address_of(body),
            size=0 if body is None else len(body),
            blobs=draft.blobs,
            key=draft.key,
        )
        canonical = canonical_bytes(head)
        name = address_of(canonical)
        return Sealed(canonical, name, body, draft.lines), Chain(self.log, self.index + 1, name)


def canonical_bytes(head: object) -> bytes:
    """Return the RFC 8785 bytes of a head, given as `Head` or as the same as a dictionary."""
    return _encoder.encode(head)


def read_head(canonical: bytes) -> Head:
    """Return the head that these bytes are; raises msgspec.DecodeError (a ValueError) for anything else."""
    return _decoder.decode(canonical)


def address_of(data: bytes) -> str:
    """Return the SHA-256 in lower-case hex, by which heads, bodies and blobs are named."""
    return hashlib.sha256(data).hexdigest()


_encoder: Final = msgspec.json.Encoder(order="sorted")
_decoder: Final = msgspec.json.Decoder(Head)
