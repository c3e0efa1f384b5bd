"""The kinds of metrics that the service has, and how they are made."""

from __future__ import annotations

from bisect import bisect_left
from collections import defaultdict
from collections.abc import Iterable, Sequence
from typing import Generic, Literal, Protocol, TypeVar

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

Mode = Literal["livesum", "livemax", "livemin"]
"""How the gauges of several living workers become one."""

_Child = TypeVar("_Child", Counter, Gauge, Histogram, "ManyHistogram")


class Labelled(dict[tuple[str, ...], _Child], Generic[_Child]):
    """The children of a metric by the values of their labels: found here in a tenth of the time of `labels()`."""

    def __init__(self, metric: _Child) -> None:
        super().__init__()
        self._metric: _Child = metric

    def __missing__(self, values: tuple[str, ...]) -> _Child:
        child: _Child = self._metric.labels(*values)
        self[values] = child
        return child


class ManyHistogram(Histogram):
    """A histogram that takes many observations for the price of a few."""

    def observe_all(self, amounts: Sequence[float]) -> None:
        """Observe each of the amounts."""
        self._sum.inc(sum(amounts))
        bounds = self._upper_bounds
        counts = [0] * len(bounds)
        for amount in amounts:
            counts[bisect_left(bounds, amount)] += 1
        for bucket, count in enumerate(counts):
            if count:
                self._buckets[bucket].inc(count)


class Waiting(Protocol):
    """What has numbers that its metric does not have yet. It is for one thread at a time."""

    def settle(self) -> None:
        """Have the metric take over what was gathered."""
        ...


class Counts:
    """A counter with labels that gathers what it counts: a tenth of the price, or less where workers share numbers."""

    def __init__(self, counter: Counter) -> None:
        self._children = Labelled(counter)
        self._gathered: defaultdict[tuple[str, ...], float] = defaultdict(float)

    def inc(self, *values: str, by: float = 1) -> None:
        """Count, under the values of the labels."""
        self._gathered[values] += by

    def settle(self) -> None:
        """Have the counter take over what was gathered."""
        for values, count in self._gathered.items():
            self._children[values].inc(count)
        self._gathered.clear()


class Amounts:
    """A histogram that gathers what it observes; the labels are empty where it has none."""

    def __init__(self, histogram: ManyHistogram) -> None:
        self._histogram = histogram
        self._children = Labelled(histogram)
        self._gathered: defaultdict[tuple[str, ...], list[float]] = defaultdict(list)

    def observe(self, amount: float, *values: str) -> None:
        """Observe an amount, under the values of the labels."""
        self._gathered[values].append(amount)

    def observe_all(self, amounts: Iterable[float], *values: str) -> None:
        """Observe each of the amounts."""
        self._gathered[values].extend(amounts)

    def settle(self) -> None:
        """Have the histogram take over what was gathered."""
        for values, amounts in self._gathered.items():
            (self._children[values] if values else self._histogram).observe_all(amounts)
        self._gathered.clear()


class Totals:
    """Counters of what somebody else counts: they follow."""

    def __init__(self, counter: Counter) -> None:
        self._counter = counter
        self._children = Labelled(counter)
        self._seen: dict[tuple[str, ...], int] = {}

    def reach(self, total: int, *values: str) -> None:
        """Count up to a total, which never falls."""
        child = self._children[values] if values else self._counter
        child.inc(total - self._seen.get(values, 0))
        self._seen[values] = total


class Declaring:
    """Make metrics in one registry."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self.waiting: list[Waiting] = []

    def counter(self, name: str, says: str) -> Counter:
        """Declare a counter; its name in a scrape ends with `_total`."""
        return Counter(name, says, registry=self.registry)

    def counters(self, name: str, says: str, *labels: str) -> Labelled[Counter]:
        """Declare a counter with labels."""
        return Labelled(Counter(name, says, labels, registry=self.registry))

    def totals(self, name: str, says: str, *labels: str) -> Totals:
        """Declare a counter that follows what somebody else counts."""
        return Totals(Counter(name, says, labels, registry=self.registry))

    def gauge(self, name: str, says: str, mode: Mode) -> Gauge:
        """Declare a gauge."""
        return Gauge(name, says, registry=self.registry, multiprocess_mode=mode)

    def gauges(self, name: str, says: str, *labels: str, mode: Mode) -> Labelled[Gauge]:
        """Declare a gauge with labels."""
        return Labelled(Gauge(name, says, labels, registry=self.registry, multiprocess_mode=mode))

    def counts(self, name: str, says: str, *labels: str) -> Counts:
        """Declare a counter with labels that gathers what it counts."""
        counts = Counts(Counter(name, says, labels, registry=self.registry))
        self.waiting.append(counts)
        return counts

    def amounts(self, name: str, says: str, *labels: str, buckets: Sequence[float]) -> Amounts:
        """Declare a histogram that gathers what it observes."""
        amounts = Amounts(ManyHistogram(name, says, labels, buckets=buckets, registry=self.registry))
        self.waiting.append(amounts)
        return amounts

    def histogram(self, name: str, says: str, buckets: Sequence[float]) -> ManyHistogram:
        """Declare a histogram."""
        return ManyHistogram(name, says, buckets=buckets, registry=self.registry)

    def histograms(self, name: str, says: str, *labels: str, buckets: Sequence[float]) -> Labelled[Histogram]:
        """Declare a histogram with labels."""
        return Labelled(Histogram(name, says, labels, buckets=buckets, registry=self.registry))
