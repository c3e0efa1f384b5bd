"""Drive a stack with a workload and read what it cost."""

from __future__ import annotations

import asyncio
import re
import time
from collections.abc import Mapping
from dataclasses import dataclass
from statistics import median, quantiles

import aiohttp

from bench import procfs
from bench.client import BenchError, Samples, connect, drive, finished, request
from bench.stack import Stack, Stacks, Variant
from bench.upstream import ANSWERS

_MESSAGES = re.compile(r"ext_proc\.stream_msgs_(?:sent|received): (\d+)")
_OPENING_SECONDS = 2.0
_FAR = 1e12  # a deadline that is never reached

Figures = dict[str, float]


@dataclass(frozen=True, slots=True)
class Workload:
    """What is asked for, on how many connections, for how long in a full and in a quick run."""

    name: str
    title: str
    answer: str
    connections: int
    seconds: float
    quick_seconds: float


WORKLOADS = (
    Workload("plain", "plain JSON, 16 at a time", "plain", 16, 7, 2.5),
    Workload("single", "plain JSON, one at a time", "plain", 1, 3, 1.5),
    Workload("burst", "SSE, 200 events at full speed, 16 at a time", "burst", 16, 7, 2.5),
    Workload("paced", "SSE, 50 events/s for 1 s, 16 streams open", "paced", 16, 7, 2.5),
)


@dataclass(frozen=True, slots=True)
class Run:
    """The rounds of a run: `figures[workload][variant]` holds one dictionary for each round."""

    figures: Mapping[str, Mapping[Variant, list[Figures]]]
    completed: int
    """Exchanges that the measured service completed."""


async def warm_up(stacks: Stacks, *, seconds: float) -> int:
    """Let code and connections get warm; return how many exchanges went through the measured service."""
    count = 0
    for variant, stack in stacks.ways.items():
        for answer in ("plain", "burst"):
            samples = await drive(stack.ports.http, answer, stacks.token, connections=16, seconds=seconds)
            count += len(samples.whole) if variant is Variant.OURS else 0
    return count


async def rounds(stacks: Stacks, *, count: int, quick: bool) -> Run:
    """Measure every workload on every stack in turn, `count` times over."""
    figures: dict[str, dict[Variant, list[Figures]]] = {
        workload.name: {variant: [] for variant in Variant} for workload in WORKLOADS
    }
    completed = 0
    for number in range(count):
        for workload in WORKLOADS:
            print(f"round {number + 1} of {count}: {workload.title}", flush=True)
            seconds = workload.quick_seconds if quick else workload.seconds
            for variant, stack in stacks.ways.items():
                measured = await _measure(stack, workload, stacks.token, seconds)
                figures[workload.name][variant].append(measured)
                completed += int(measured["exchanges"]) if variant is Variant.OURS else 0
    return Run(figures, completed)


async def _measure(stack: Stack, workload: Workload, token: str, seconds: float) -> Figures:
    before, began = await _counters(stack), time.perf_counter()
    samples = await drive(stack.ports.http, workload.answer, token, connections=workload.connections, seconds=seconds)
    took, after = time.perf_counter() - began, await _counters(stack)
    exchanges = len(samples.whole)
    each = {f"{name}_per_exchange": (after[name] - before[name]) / exchanges for name in before}
    return {"exchanges": exchanges, "exchanges_per_second": exchanges / took, **each, **_latencies(samples)}


def _latencies(samples: Samples) -> Figures:
    return {
        "p50_ms": median(samples.whole) * 1000,
        "p99_ms": _percentile_99(samples.whole) * 1000,
        "first_p50_ms": median(samples.first) * 1000,
        "first_p99_ms": _percentile_99(samples.first) * 1000,
    }


def _percentile_99(values: list[float]) -> float:
    return quantiles(values, n=100, method="inclusive")[98]


async def _counters(stack: Stack) -> Figures:
    """Return what only grows: CPU in microseconds, and messages between Envoy and the service."""
    counters = {"envoy_cpu_us": procfs.cpu_seconds(stack.envoy) * 1e6}
    if stack.service is not None:
        counters["cpu_us"] = procfs.cpu_seconds(stack.service) * 1e6
        url = f"http://127.0.0.1:{stack.ports.admin}/stats?filter=stream_msgs"
        async with aiohttp.ClientSession() as session, session.get(url) as response:
            counters["messages"] = sum(int(found) for found in _MESSAGES.findall(await response.text()))
    return counters


async def memory_per_stream(stack: Stack, token: str, *, streams: int, hold_seconds: float) -> float:
    """Return how many bytes the service's memory grows by with each of `streams` open streams.

    Take it from a service that is warm but has never had many streams open: freed memory would hide the growth.
    """
    if stack.service is None:
        raise ValueError("no service to measure")
    script, asked = ANSWERS["open"], request("open", token)
    before = procfs.rss_bytes(stack.service)
    opened = []
    for _ in range(streams):
        opened.append(await connect(stack.ports.http, asked, script, Samples(), _FAR))
        await asyncio.sleep(_OPENING_SECONDS / streams)
    await asyncio.sleep(hold_seconds)
    least = min(one.events() for one in opened)
    grown = procfs.rss_bytes(stack.service) - before
    for one in opened:
        one.close()
    await finished(opened, 1.0)
    if least < hold_seconds / script.gap / 2:
        raise BenchError(f"{stack.variant}: only {least} events arrived on one of {streams} open streams")
    return grown / streams
