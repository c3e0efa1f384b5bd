"""The record of what was removed by rule, so that whoever verifies knows that nobody else removed it. Pure.

It is the body of an entry of kind `prune`, never encrypted, and in the store before anything is removed.
"""

from __future__ import annotations

import msgspec


class Prefix(msgspec.Struct, frozen=True):
    """The first entries of a log, heads and all: those with an index below `below`.

    `frontier` are the roots (hex) of the largest complete subtrees over them, left to right, as
    `extproc.recording.merkle.Frontier` has them; `prev` is the hash of the last one. With both, what remains still
    verifies against the log's checkpoints.
    """

    log: str
    below: int
    frontier: list[str]
    prev: str


class Prune(msgspec.Struct, frozen=True):
    """What one run removes.

    `rule` is what in the retention settings asked for it, `by` who ran it. `bodies` are ranges of entries (log, first
    index, index after the last) whose bodies go, and with them every blob that no other entry of its session stored
    first. `erased` are sessions whose data keys go. `heads` are beginnings of logs that go whole.
    """

    rule: str
    by: str
    at: int
    bodies: list[tuple[str, int, int]] = []
    erased: list[str] = []
    heads: list[Prefix] = []


def encode(prune: Prune) -> bytes:
    """Return the body of a prune entry."""
    return msgspec.json.encode(prune, order="sorted")


def decode(body: bytes) -> Prune:
    """Return what a body says; raises msgspec.DecodeError (a ValueError)."""
    return msgspec.json.decode(body, type=Prune)
