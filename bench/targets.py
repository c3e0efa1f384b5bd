"""What is promised of the cost on the path, and whether a run kept it."""

from __future__ import annotations

import operator
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, Literal

from bench.measure import Figures, Run
from bench.spread import spread
from bench.ways import Variant
from bench.workloads import STREAMS

HELD_MS: Final = 20.0
"""A stream is held while its events are at most so late, at p99."""

_Compare = Callable[[float, float], float]


@dataclass(frozen=True, slots=True)
class Target:
    """A bound on how one figure of ours compares with that of another way, round by round."""

    what: str
    bound: float
    unit: str
    values: Callable[[Run], list[float]]
    sense: Literal["≤", "≥"] = "≤"

    def result(self, run: Run) -> dict[str, Any]:
        """Return what was found: the median, the least and the greatest of the rounds."""
        values = self.values(run)
        found = spread(values) if values else None
        met = None
        if found is not None:
            met = found.median <= self.bound if self.sense == "≤" else found.median >= self.bound
        return {
            "what": self.what,
            "sense": self.sense,
            "bound": self.bound,
            "unit": self.unit,
            "found": found and found._asdict(),
            "met": met,
        }


def compared(figures: Mapping[Variant, Sequence[Figures]], key: str, other: Variant, compare: _Compare) -> list[float]:
    """Compare ours with another way round by round: what disturbs the machine then disturbs both."""
    ours, theirs = figures.get(Variant.OURS, ()), figures.get(other, ())
    return [compare(one[key], two[key]) for one, two in zip(ours, theirs, strict=False)]


def _of(workload: str, key: str, other: Variant, compare: _Compare) -> Callable[[Run], list[float]]:
    return lambda run: compared(run.figures.get(workload, {}), key, other, compare)


def held(run: Run) -> list[float]:
    """Return for each round the most streams whose events were in time, as those of every smaller number were."""
    ours = {many.count: run.figures[many.name].get(Variant.OURS, ()) for many in STREAMS if many.name in run.figures}
    return [_held(ours, number) for number in range(max(map(len, ours.values()), default=0))]


def _held(ours: Mapping[int, Sequence[Figures]], number: int) -> float:
    most = 0
    for count, figures in ours.items():
        # One that fell behind in an earlier round was not asked for so many again.
        if len(figures) <= number or figures[number]["delay_p99_ms"] > HELD_MS:
            break
        most = count
    return most


def _memory(run: Run) -> list[float]:
    return [run.memory[Variant.OURS] / 1000] if Variant.OURS in run.memory else []


TARGETS: Final = (
    Target(
        "CPU per plain exchange of 1 KB, over no-op",
        0.6,
        "x",
        _of("plain", "service_cpu_us", Variant.NOOP, operator.truediv),
    ),
    Target(
        "CPU per SSE event, 16 streams at 50 events/s, over no-op",
        0.5,
        "x",
        _of("streams_16", "service_cpu_us_per_event", Variant.NOOP, operator.truediv),
    ),
    Target(
        "time to first event p50, 100 streams at 50 events/s, over no ext_proc",
        3.0,
        "ms",
        _of("streams_100", "first_p50_ms", Variant.NONE, operator.sub),
    ),
    Target(
        "event delay p99, 100 streams at 50 events/s, over no ext_proc",
        10.0,
        "ms",
        _of("streams_100", "delay_p99_ms", Variant.NONE, operator.sub),
    ),
    Target("streams at 50 events/s held by one core, event delay p99 ≤ 20 ms", 400.0, "", held, "≥"),
    Target("memory per open stream", 60.0, "KB", _memory),
    Target(
        "throughput over mitmproxy recording the same",
        5.0,
        "x",
        _of("plain", "exchanges_per_second", Variant.MITMPROXY, operator.truediv),
        "≥",
    ),
)
