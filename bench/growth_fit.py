"""How a cost grows: rounds of measuring, and the exponent that fits what was found."""

from __future__ import annotations

import gc
import math
import time
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from statistics import linear_regression
from typing import Final

from bench.plot import Point
from bench.spread import spread

TOLERANCE: Final = 0.15
"""How far an exponent may lie above its promise: n log n is 1.08 from 16 KB to 4 MB, and what outgrows a cache of the
processor costs some more for each access. n² is 2; a quadratic part beside a linear one is seen once it is half of the
cost at the end of the range."""

_FEWEST: Final = 3

Measure = Callable[[float], Awaitable[float]]
"""Returns the cost of one operation at a size."""


@dataclass(frozen=True, slots=True)
class Curve:
    """A cost against a size. `promise` is the exponent it may have: 1 where a thing may cost as much as it is large.

    It is 0 where one of many things is measured, whose cost must not depend on how many there are.
    """

    points: Sequence[Point]
    promise: float = 1.0

    @property
    def exponent(self) -> float:
        """Return the exponent of growth of the least costs: whatever else runs on the machine only adds to them."""
        return exponent([(x, low) for x, _, low, _ in self.points])

    @property
    def is_kept(self) -> bool:
        """Say whether the whole grows linearly or better."""
        return self.exponent <= self.promise + TOLERANCE


def exponent(points: Sequence[tuple[float, float]]) -> float:
    """Return the slope of log y over log x, by least squares, in the upper half of the range of log x.

    `points` are by x, all greater than 0. Of fewer than three in that half the last three count: what a cost has at
    the small end, the part that is always the same, says nothing of its growth.
    """
    middle = math.sqrt(points[0][0] * points[-1][0])
    # Sizes are what was asked for only nearly: a bound that is just missed must not cost a point.
    upper = [point for point in points if point[0] >= 0.8 * middle]
    if len(upper) < _FEWEST:
        upper = list(points[-_FEWEST:])
    return linear_regression([math.log(x) for x, _ in upper], [math.log(y) for _, y in upper]).slope


async def measured(sizes: Sequence[float], measure: Measure, rounds: int) -> list[Point]:
    """Measure every size in each round, after one that does not count, and return the median, least and greatest."""
    await measure(sizes[0])
    found: list[list[float]] = []
    for _ in range(rounds):
        # Rarely enough: with what a detector knows it takes a while.
        gc.collect()
        found.append([await measure(size) for size in sizes])
    return [point(size, [one[at] for one in found]) for at, size in enumerate(sizes)]


def point(size: float, costs: Sequence[float]) -> Point:
    """Return what was found at a size."""
    return size, *spread(costs)


async def cpu(work: Callable[[], Awaitable[object]]) -> float:
    """Return the CPU seconds, of all threads, that some work takes."""
    began = time.process_time()
    await work()
    return time.process_time() - began
