"""What the rounds of a measurement found."""

from __future__ import annotations

from collections.abc import Sequence
from statistics import median
from typing import NamedTuple


class Spread(NamedTuple):
    """The middle one of some values, the least and the greatest; as a dictionary it is what results hold."""

    median: float
    min: float
    max: float


def spread(values: Sequence[float]) -> Spread:
    """Return the spread of at least one value."""
    return Spread(median(values), min(values), max(values))
