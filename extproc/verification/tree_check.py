"""Compare the Merkle tree over the entries that are there with what was signed. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Final

from extproc.recording.merkle import Frontier, leaf_hash
from extproc.recording.prune import Prefix
from extproc.verification.fault import Fault, FaultKind
from extproc.verification.known_checkpoints import Signatures, Signed

_NEVER: Final = 1 << 62
"""A size that no log has."""


class TreeCheck:
    """Grow the tree of one log, and compare its root at every size that a checkpoint was signed for.

    The first `proven` entries are what a checkpoint says.
    """

    def __init__(self, signatures: Signatures) -> None:
        self._by_size = signatures.by_size
        self._sizes = sorted(signatures.by_size)
        self._place = 0
        self._next = -1
        self._frontier: Frontier | None = Frontier()
        self._contradicted: list[Signed] = []
        self._proof: Signed | None = None
        self._agreed = 0
        self._compare(self._frontier)

    @property
    def proven(self) -> int:
        """How many of the first entries a checkpoint proves."""
        return 0 if self._proof is None else self._proof.size

    def append(self, head: bytes) -> None:
        """Add the next entry."""
        frontier = self._frontier
        if frontier is not None:
            frontier.append(leaf_hash(head))
            if frontier.size >= self._next:
                self._compare(frontier)

    def lose(self) -> None:
        """Grow no further: an entry is missing, and without it the tree is not known."""
        self._frontier = None

    def resume(self, prefix: Prefix) -> None:
        """Go on after entries that were removed by rule, where the tree is lost.

        That the record says the truth shows at the next checkpoint: no other beginning leads to a root that was signed.
        """
        if self._frontier is None:
            try:
                self._frontier = Frontier.load(prefix.below, prefix.frontier)
            except ValueError:
                return
            self._compare(self._frontier)

    def faults(self, log: str, breaks: Iterable[int]) -> Iterator[Fault]:
        """Yield what the checkpoints show; `breaks` are indexes of entries that are known not to be what they were."""
        forks = [one for one in self._contradicted if one.size <= self.proven]
        pairs = [self._by_size[size] for size in self._sizes if len(self._by_size[size]) > 1]
        if pairs:
            yield self._fork(log, pairs[0][0], pairs[0][1], len(pairs))
        elif forks and self._proof is not None:
            yield self._fork(log, forks[0], self._proof, len(forks))
        wrong = next((one for one in self._contradicted if one.size > self.proven), None)
        if wrong is not None and not any(self.proven <= index < wrong.size for index in breaks):
            what = f"the entries fit together, but are not the ones that were signed: their root is not that of {wrong}"
            yield Fault(FaultKind.REWRITTEN, log, what, self.proven, wrong.size - 1)

    def _compare(self, frontier: Frontier) -> None:
        while self._place < len(self._sizes) and self._sizes[self._place] <= frontier.size:
            size = self._sizes[self._place]
            self._place += 1
            if size == frontier.size:
                root = frontier.root()
                for signed in self._by_size[size]:
                    if signed.root == root:
                        self._proof = signed
                    else:
                        self._contradicted.append(signed)
                if not self._contradicted:
                    self._agreed = size
        self._next = self._sizes[self._place] if self._place < len(self._sizes) else _NEVER

    # The histories part after the last size that all agree on.
    def _fork(self, log: str, one: Signed, other: Signed, count: int) -> Fault:
        more = f", and {count - 1} more like this" if count > 1 else ""
        what = f"two histories of the log were signed: {one} and {other} contradict each other{more}"
        return Fault(FaultKind.FORKED, log, what, self._agreed, min(one.size, other.size) - 1)
