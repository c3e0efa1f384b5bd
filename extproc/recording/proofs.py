"""Inclusion proofs for many entries of one log: every node of its tree is hashed once and kept. Pure.

64 bytes for each leaf. For a single proof `extproc.recording.merkle.inclusion_proof` does, and keeps nothing.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from extproc.recording.merkle import HASH_BYTES, Frontier, node_hash


class Tree:
    """The Merkle tree of RFC 9162 section 2.1 over leaves, of which the first may be gone but for their frontier."""

    def __init__(self, leaves: Sequence[bytes], prefix: Frontier | None = None) -> None:
        known = prefix or Frontier()
        self.first: Final = known.size
        self.size: Final = known.size + len(leaves)
        roots = dict(zip(_heights(known.size), known.roots, strict=True))
        self._levels = [_Level(known.size, roots.get(0), leaves)]
        for height in range(1, self.size.bit_length()):
            below = self._levels[-1]
            start = known.size >> height
            nodes = [node_hash(below[2 * at], below[2 * at + 1]) for at in range(start, self.size >> height)]
            self._levels.append(_Level(start, roots.get(height), nodes))

    def root(self) -> bytes:
        """Return the root of the whole tree; raises ValueError for one without leaves."""
        if self.size == 0:
            raise ValueError("there are no leaves")
        return self._node(0, self.size)

    def proof(self, index: int) -> list[bytes]:
        """Return the proof of a leaf, the hash nearest to it first (RFC 9162 section 2.1.3.1).

        Raises ValueError where the leaf is gone or was never there.
        """
        if not self.first <= index < self.size:
            raise ValueError(f"no leaf {index} among those from {self.first} to {self.size}")
        start, stop, proof = 0, self.size, []
        while stop - start > 1:
            middle = _middle(start, stop)
            if index < middle:
                proof.append(self._node(middle, stop))
                stop = middle
            else:
                proof.append(self._node(start, middle))
                start = middle
        return proof[::-1]

    # Only nodes at the right edge are not complete.
    def _node(self, start: int, stop: int) -> bytes:
        height = (stop - start).bit_length() - 1
        if stop - start == 1 << height:
            return self._levels[height][start >> height]
        middle = _middle(start, stop)
        return node_hash(self._node(start, middle), self._node(middle, stop))


class _Level:
    """The complete nodes of one height, from a first one on, packed."""

    __slots__ = ("_bytes", "_first")

    def __init__(self, start: int, root: bytes | None, nodes: Sequence[bytes]) -> None:
        # The frontier's root of this height, if there is one, is the node before the first that is made of leaves.
        self._first = start if root is None else start - 1
        self._bytes = (root or b"") + b"".join(nodes)

    def __getitem__(self, at: int) -> bytes:
        place = (at - self._first) * HASH_BYTES
        return self._bytes[place : place + HASH_BYTES]


def _heights(size: int) -> list[int]:
    """Return the heights of the roots of a frontier, left to right."""
    return [height for height in range(size.bit_length() - 1, -1, -1) if size >> height & 1]


def _middle(start: int, stop: int) -> int:
    return start + (1 << (stop - start - 1).bit_length() - 1)
