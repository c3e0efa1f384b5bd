"""The numbers of several workers, as their supervisor tells them, and what it counts itself."""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from enum import StrEnum
from pathlib import Path

from prometheus_client import CONTENT_TYPE_LATEST, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from extproc.metrics_shared import gathered, keep, left_by

__all__ = ["CONTENT_TYPE_LATEST", "Numbers", "Reason", "Supervised"]


class Reason(StrEnum):
    """Why a worker's process was followed by another one."""

    DIED = "died"
    HUNG = "hung"
    ROLL = "roll"


class Supervised(Collector):
    """What the supervisor counts. It shares no file: prometheus_client does that only for who has its variable set."""

    def __init__(self, processes: Callable[[], Mapping[str, int]] = lambda: {"serving": 0, "leaving": 0}) -> None:
        """Make it; `processes` says how many there are by state."""
        self.restarts = Counter(dict.fromkeys(Reason, 0))
        self._processes = processes

    def collect(self) -> Iterator[Metric]:
        """Yield the metrics."""
        restarts = CounterMetricFamily(
            "extproc_worker_restarts", "Processes of workers that another one followed, by why.", labels=["reason"]
        )
        for reason, count in self.restarts.items():
            restarts.add_metric([reason], count)
        yield restarts
        workers = GaugeMetricFamily(
            "extproc_workers", "Processes of workers: those that serve, and those that were replaced.", labels=["state"]
        )
        for state, count in self._processes().items():
            workers.add_metric([state], count)
        yield workers


class Numbers:
    """The numbers of all workers in the folder that they share.

    Those of processes that ended are kept in files of ours, so that counters never fall and files do not pile up.
    Methods may be called in any thread.
    """

    def __init__(self, folder: Path, supervised: Supervised) -> None:
        """Take the folder over from an earlier run. Raises OSError."""
        self._folder = folder
        self._supervised = supervised
        # Who reads while numbers move from one file to another would see them twice.
        self._moving = threading.Lock()
        keep(folder)

    def left_by(self, process: int) -> None:
        """Take over the numbers of a process that ended."""
        with self._moving:
            left_by(self._folder, process)

    def render(self) -> bytes:
        """Return the exposition text for a scrape."""
        with self._moving:
            registry = gathered(self._folder)
            registry.register(self._supervised)
            return generate_latest(registry)
