"""What a receipt proves, for people to read. Pure."""

from __future__ import annotations

from dataclasses import dataclass

import msgspec

from extproc.recording import entry
from extproc.recording.receipt import Receipt


@dataclass(frozen=True, slots=True)
class Proof:
    """Entry `index` of a log, whose `hashes` lead to the root that somebody signed `at` unix seconds over `size`."""

    log: str
    index: int
    hashes: int
    name: str
    at: float
    size: int
    root: str


def proof_of(receipt: bytes) -> Proof:
    """Return what a receipt says; it must have been checked (`extproc.recording.receipt.check`)."""
    read = msgspec.json.decode(receipt, type=Receipt)
    head = entry.read_head(read.head.encode())
    # The text of a checkpoint: origin, size, root, and a line `at SECONDS`.
    origin, size, root, at, *_ = read.checkpoint.split("\n")
    return Proof(
        log=head.log,
        index=head.index,
        hashes=len(read.proof),
        name=origin.rpartition("/")[0],
        at=float(at.removeprefix("at ")),
        size=int(size),
        root=root,
    )
