"""Sets of indexes that are mostly contiguous. Pure."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field


@dataclass(slots=True)
class Ranges:
    """Indexes as sorted (first, after) pairs that do not touch: as small as what they say is contiguous."""

    pairs: list[tuple[int, int]] = field(default_factory=list)

    @classmethod
    def of(cls, pairs: Iterable[tuple[int, int]]) -> Ranges:
        """Return what is in any of these pairs, in whatever order they are; empty ones do not count."""
        ranges = cls()
        for first, after in sorted(pairs):
            if first < after:
                ranges.add(first, after)
        return ranges

    def add(self, first: int, after: int) -> None:
        """Add the indexes from `first` to before `after`; no pair that was added began after `first`."""
        if self.pairs and self.pairs[-1][1] >= first:
            self.pairs[-1] = (self.pairs[-1][0], max(self.pairs[-1][1], after))
        else:
            self.pairs.append((first, after))

    def has(self, index: int) -> bool:
        """Return whether an index is among them."""
        return not self.is_disjoint(index, index + 1)

    def is_disjoint(self, first: int, after: int) -> bool:
        """Return whether none of the indexes from `first` to before `after` is among them."""
        place = bisect_right(self.pairs, first, key=_after)
        return place == len(self.pairs) or self.pairs[place][0] >= after

    def minus(self, other: Ranges) -> Ranges:
        """Return those that are not in another."""
        return Ranges([pair for first, after in self.pairs for pair in other.between(first, after)])

    def between(self, first: int, after: int) -> Iterator[tuple[int, int]]:
        """Yield what is not among them of the indexes from `first` to before `after`."""
        for place in range(bisect_right(self.pairs, first, key=_after), len(self.pairs)):
            start, stop = self.pairs[place]
            if start >= after:
                break
            if first < start:
                yield first, start
            first = stop
        if first < after:
            yield first, after

    @property
    def total(self) -> int:
        """How many indexes there are."""
        return sum(after - first for first, after in self.pairs)


def _after(pair: tuple[int, int]) -> int:
    return pair[1]
