"""A receipt: what proves, without the store, that an exchange is in a log that was signed. Pure.

It is a JSON document with the canonical bytes of the entry's head, as text; the inclusion proof of its leaf; the signed
checkpoint that the proof leads to; and, if asked for, the stored body, of which the head has the hash. It does not
prove that the body's blobs are what they were (the head names them, `extproc.recording.packing`), nor that nothing else
was recorded.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import msgspec

from extproc.errors import ExtprocError
from extproc.recording import entry
from extproc.recording.checkpoint import BadCheckpoint, Checkpoint, PublicKey, open_note
from extproc.recording.entry import Head, Kind
from extproc.recording.merkle import BadProof, leaf_hash, root_of_inclusion

VERSION: Final = 1


class BadReceipt(ExtprocError):
    """Say why a receipt proves nothing."""


class Receipt(msgspec.Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    """What is in the document. `proof` is in hex; `body` is base64 in JSON, and absent where it was not asked for."""

    v: int
    exchange: str
    head: str
    index: int
    size: int
    proof: list[str]
    checkpoint: str
    body: bytes | None = None


@dataclass(frozen=True, slots=True)
class Proved:
    """What a receipt proves: this head, with this body if it is given, is in the log of the checkpoint."""

    head: Head
    checkpoint: Checkpoint
    body: bytes | None


def make(*, head: bytes, size: int, proof: Sequence[bytes], checkpoint: str, body: bytes | None = None) -> bytes:
    """Return the receipt of the entry with these canonical bytes.

    `proof` is that of the entry in the tree of the first `size` entries of its log, as
    `extproc.recording.merkle.inclusion_proof` makes it; `checkpoint` is the note about this very tree. Nothing is
    checked: `check` does that.
    """
    known = entry.read_head(head)
    receipt = Receipt(
        v=VERSION,
        exchange=known.id,
        head=head.decode(),
        index=known.index,
        size=size,
        proof=[one.hex() for one in proof],
        checkpoint=checkpoint,
        body=body,
    )
    return msgspec.json.format(msgspec.json.encode(receipt)) + b"\n"


def check(receipt: bytes, keys: Sequence[PublicKey]) -> Proved:
    """Return what a receipt proves to someone who trusts these keys; raises BadReceipt, which names what fails."""
    read = _read(receipt)
    head = _head(read)
    try:
        checkpoint = open_note(read.checkpoint, keys)
    except BadCheckpoint as error:
        raise BadReceipt(f"the checkpoint does not hold: {error}") from error
    if checkpoint.log != head.log:
        raise BadReceipt(f"the entry is of log {head.log!r}, and the checkpoint of {checkpoint.log!r}")
    if checkpoint.size != read.size:
        raise BadReceipt(f"the proof is for {read.size} entries, and the checkpoint for {checkpoint.size}")
    _check_inclusion(read, checkpoint)
    if read.body is not None and entry.address_of(read.body) != head.body:
        raise BadReceipt("the body is not the one that the head has the hash of")
    return Proved(head, checkpoint, read.body)


def _read(receipt: bytes) -> Receipt:
    try:
        read = msgspec.json.decode(receipt, type=Receipt)
    except (ValueError, RecursionError) as error:
        raise BadReceipt("this is no receipt: expected a JSON document as `extproc receipt` writes it") from error
    if read.v != VERSION:
        raise BadReceipt(f"the receipt is of version {read.v}, and only {VERSION} is known")
    return read


# Bytes that say more than the head that is shown, or the same in another way, are not those of an entry.
def _head(read: Receipt) -> Head:
    try:
        canonical = read.head.encode()
        head = entry.read_head(canonical)
        genuine = entry.canonical_bytes(head) == canonical
    except (ValueError, RecursionError) as error:
        raise BadReceipt("the head is not that of an entry") from error
    if not genuine:
        raise BadReceipt("the head is not in the canonical form of an entry")
    if head.v != entry.VERSION:
        raise BadReceipt(f"the head is of version {head.v}, and only {entry.VERSION} is known")
    if (head.kind, head.id, head.index) != (Kind.EXCHANGE, read.exchange, read.index):
        raise BadReceipt(f"the head is that of {head.kind} {head.id!r} at {head.index}, not what the receipt is for")
    return head


def _check_inclusion(read: Receipt, checkpoint: Checkpoint) -> None:
    try:
        proof = [bytes.fromhex(one) for one in read.proof]
        root = root_of_inclusion(leaf_hash(read.head.encode()), read.index, read.size, proof)
    except BadProof as error:
        raise BadReceipt(f"the inclusion proof does not hold: {error}") from error
    except ValueError as error:
        raise BadReceipt("the inclusion proof is not in hex") from error
    if root != checkpoint.root:
        raise BadReceipt("the inclusion proof leads to another root than that of the checkpoint")
