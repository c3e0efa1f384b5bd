"""The Merkle tree over the entries of a log, as RFC 9162 section 2.1 has it with SHA-256. Pure.

A leaf is the `leaf_hash` of the canonical bytes of an entry's head; every function but `leaf_hash` takes leaves. Proofs
are hashes, the one nearest to the leaf first.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from hashlib import sha256
from typing import Final

HASH_BYTES: Final = 32

EMPTY_ROOT: Final = sha256(b"").digest()
"""The root of the tree without leaves (RFC 9162 section 2.1.1)."""


class BadProof(ValueError):
    """Say why a proof proves nothing."""


def leaf_hash(data: bytes) -> bytes:
    """Return the leaf of some data; the prefix keeps leaves and nodes apart."""
    return sha256(b"\x00" + data).digest()


def node_hash(left: bytes, right: bytes) -> bytes:
    """Return the node over two nodes or leaves."""
    return sha256(b"\x01" + left + right).digest()


class Frontier:
    """What one must keep of a tree to append to it: the roots of its largest complete subtrees, left to right.

    There is one for each bit that is set in `size`, the highest first.
    """

    __slots__ = ("_roots", "size")

    def __init__(self, size: int = 0, roots: Iterable[bytes] = ()) -> None:
        """Raise ValueError where the roots cannot be those of a tree of that size."""
        self.size = size
        self._roots = list(roots)
        if size < 0 or len(self._roots) != size.bit_count() or any(len(root) != HASH_BYTES for root in self._roots):
            raise ValueError(f"{len(self._roots)} hashes are no frontier of a tree with {size} leaves")

    @property
    def roots(self) -> tuple[bytes, ...]:
        """The roots, left to right."""
        return tuple(self._roots)

    # `node_hash` is written out: verifying spends its time here.
    def append(self, leaf: bytes) -> None:
        """Add a leaf at the right."""
        if len(leaf) != HASH_BYTES:
            raise ValueError(f"a leaf has {HASH_BYTES} bytes, not {len(leaf)}: leaf_hash makes it")
        roots, complete = self._roots, self.size
        while complete & 1:
            leaf = sha256(b"\x01" + roots.pop() + leaf).digest()
            complete >>= 1
        roots.append(leaf)
        self.size += 1

    def root(self) -> bytes:
        """Return the root of the whole tree."""
        if not self._roots:
            return EMPTY_ROOT
        node = self._roots[-1]
        for left in reversed(self._roots[:-1]):
            node = node_hash(left, node)
        return node

    def dump(self) -> list[str]:
        """Return the roots in hex; with `size` they make a frontier again."""
        return [root.hex() for root in self._roots]

    @classmethod
    def load(cls, size: int, dumped: Sequence[str]) -> Frontier:
        """Return the frontier that was dumped; raises ValueError where that is none."""
        return cls(size, map(bytes.fromhex, dumped))

    def part(self, start: int, stop: int) -> Frontier:
        """Return the frontier over the leaves from `start` to before `stop` alone.

        `start` and `stop` bound a node of a tree (RFC 9162 section 2.1.1). Raises ValueError where that needs leaves
        that are long in a subtree.
        """
        offset = covered = 0
        found = []
        for root in self._roots:
            width = 1 << (self.size - offset).bit_length() - 1
            if start <= offset and offset + width <= stop:
                found.append(root)
                covered += width
            offset += width
        if covered != max(0, min(stop, self.size) - start):
            raise ValueError(f"the leaves from {start} to {stop} are not known, only what is over them")
        return Frontier(covered, found)


def inclusion_proof(leaves: Sequence[bytes], index: int, size: int, prefix: Frontier | None = None) -> list[bytes]:
    """Return the proof that the leaf at `index` is in the tree of the first `size` leaves (RFC 9162 section 2.1.3.1).

    Where the first leaves of the log are gone, `prefix` is the frontier over them and `leaves` are those after. Hashes
    each leaf once. Raises ValueError where there are too few leaves, or the leaf itself is gone.
    """
    known = prefix or Frontier()
    _check_enough(leaves, size, known)
    if not known.size <= index < size:
        raise ValueError(f"no leaf {index} among those from {known.size} to {size}")
    start, stop, proof = 0, size, []
    while stop - start > 1:
        middle = _middle(start, stop)
        if index < middle:
            proof.append(_root_between(leaves, middle, stop, known))
            stop = middle
        else:
            proof.append(_root_between(leaves, start, middle, known))
            start = middle
    return proof[::-1]


def root_of_inclusion(leaf: bytes, index: int, size: int, proof: Sequence[bytes]) -> bytes:
    """Return the root that a tree of this size has if the leaf is at this index (RFC 9162 section 2.1.3.2).

    Only where that is the root of a checkpoint is something proved. Raises BadProof where no tree has such a proof.
    """
    _check_hashes([leaf, *proof])
    if not 0 <= index < size:
        raise BadProof(f"a tree with {size} leaves has none at {index}")
    node, at, last = leaf, index, size - 1
    for sibling in proof:
        if last == 0:
            raise BadProof("the inclusion proof is too long")
        if at & 1 or at == last:
            node = node_hash(sibling, node)
            at, last = _up(at, last)
        else:
            node = node_hash(node, sibling)
        at, last = at >> 1, last >> 1
    if last:
        raise BadProof("the inclusion proof is too short")
    return node


def consistency_proof(leaves: Sequence[bytes], first: int, second: int, prefix: Frontier | None = None) -> list[bytes]:
    """Return the proof that the tree of `first` leaves is the beginning of that of `second` (RFC 9162 section 2.1.4.1).

    `leaves` and `prefix` are as in `inclusion_proof`; both sizes are at least that of the prefix. Raises ValueError.
    """
    known = prefix or Frontier()
    _check_enough(leaves, second, known)
    if not known.size <= first <= second:
        raise ValueError(f"no tree with {first} leaves between those with {known.size} and {second}")
    if first == 0:
        return []
    start, stop, proof, whole = 0, second, [], True
    while first != stop:
        middle = _middle(start, stop)
        if first <= middle:
            proof.append(_root_between(leaves, middle, stop, known))
            stop = middle
        else:
            proof.append(_root_between(leaves, start, middle, known))
            start, whole = middle, False
    # The verifier has the smaller tree's own root already.
    if not whole:
        proof.append(_root_between(leaves, start, stop, known))
    return proof[::-1]


def check_consistency(first: int, second: int, first_root: bytes, second_root: bytes, proof: Sequence[bytes]) -> None:
    """Raise BadProof unless the tree of `first` leaves is the beginning of that of `second` (RFC 9162 2.1.4.2).

    Every tree begins with the empty one, and with itself; both need an empty proof.
    """
    _check_hashes([first_root, second_root, *proof])
    if not 0 <= first <= second:
        raise BadProof(f"a tree with {second} leaves does not begin with one of {first}")
    if first == 0 and first_root != EMPTY_ROOT:
        raise BadProof("the tree without leaves has another root")
    if first == second and first_root != second_root:
        raise BadProof(f"two trees with {first} leaves differ")
    if first in {0, second}:
        if proof:
            raise BadProof("the consistency proof is too long")
        return
    # A complete smaller tree is a node of the larger one, and its root is not repeated in the proof.
    nodes = [first_root, *proof] if first.bit_count() == 1 else proof
    if not proof:
        raise BadProof("the consistency proof is empty")
    if _roots_of_consistency(first, second, nodes) != (first_root, second_root):
        raise BadProof(f"the tree with {second} leaves does not begin with that of {first}")


def _roots_of_consistency(first: int, second: int, nodes: Sequence[bytes]) -> tuple[bytes, bytes]:
    at, last = first - 1, second - 1
    while at & 1:
        at, last = at >> 1, last >> 1
    first_root = second_root = nodes[0]
    for node in nodes[1:]:
        if last == 0:
            raise BadProof("the consistency proof is too long")
        if at & 1 or at == last:
            first_root, second_root = node_hash(node, first_root), node_hash(node, second_root)
            at, last = _up(at, last)
        else:
            second_root = node_hash(second_root, node)
        at, last = at >> 1, last >> 1
    if last:
        raise BadProof("the consistency proof is too short")
    return first_root, second_root


# Nodes at the right edge that have no sibling go up as they are (step 4.b.ii of section 2.1.3.2).
def _up(at: int, last: int) -> tuple[int, int]:
    while at and not at & 1:
        at, last = at >> 1, last >> 1
    return at, last


# Where a node over these leaves is split: the left side has the largest power of two that is less than their number.
def _middle(start: int, stop: int) -> int:
    return start + (1 << (stop - start - 1).bit_length() - 1)


def _root_between(leaves: Sequence[bytes], start: int, stop: int, prefix: Frontier) -> bytes:
    frontier = prefix.part(start, stop)
    for leaf in leaves[max(0, start - prefix.size) : max(0, stop - prefix.size)]:
        frontier.append(leaf)
    return frontier.root()


def _check_enough(leaves: Sequence[bytes], size: int, prefix: Frontier) -> None:
    if size > prefix.size + len(leaves):
        raise ValueError(f"{prefix.size + len(leaves)} leaves make no tree with {size}")


def _check_hashes(hashes: Iterable[bytes]) -> None:
    if any(len(one) != HASH_BYTES for one in hashes):
        raise BadProof(f"a hash of the proof has not {HASH_BYTES} bytes")
