"""Find ids that occur more than once among very many. Pure."""

from __future__ import annotations

from array import array
from collections import Counter


class Seen:
    """Remember ids by 64 bits each: 8 to 9 MB for a million.

    The bits are Python's keyed hash, so nobody can make ids that collide; what collides all the same is told apart by
    whoever looks at the entries again.
    """

    def __init__(self) -> None:
        self._buckets = [array("q") for _ in range(256)]

    def add(self, name: str) -> None:
        """Take an id."""
        number = hash(name)
        self._buckets[number & 255].append(number)

    def suspects(self) -> frozenset[int]:
        """Return the hashes that were taken more than once."""
        found: set[int] = set()
        for bucket in self._buckets:
            # One bucket at a time: numbers outside of an array take five times as much.
            if len(set(bucket)) != len(bucket):
                found.update(number for number, times in Counter(bucket).items() if times > 1)
        return frozenset(found)
