"""Drive the ways with the workloads, in turn, and read what each round took."""

from __future__ import annotations

import asyncio
import re
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from statistics import median

import aiohttp

from bench import procfs
from bench.client import BenchError, Connection, Samples, connect, drive, finished, request
from bench.stack import Stack, Stacks
from bench.streams import observe, percentile_99
from bench.tunnels import Client, Mode
from bench.upstream import ANSWERS
from bench.ways import ENVOY, SERVICE, Variant
from bench.workloads import STREAMS, WORKLOADS, Streams, Workload

_MESSAGES = re.compile(r"ext_proc\.stream_msgs_(?:sent|received): (\d+)")
_SETTLE_SECONDS = 0.1
_SETTLED_CORES = 0.03
_SETTLE_AT_MOST = 50
_BEHIND_MS = 100.0
"""A way half of whose events are later than this has fallen behind: it is not asked for so many streams again."""
_ALWAYS_STREAMS = 100
"""So many are measured in every round, as targets are about them."""

_MEMORY_STREAMS = 500
_MEMORY_SECONDS = 3.0
_OPENING_SECONDS = 3.0
_FAR = 1e12  # a deadline that is never reached

Figures = dict[str, float]


@dataclass(slots=True)
class Run:
    """What was measured: `figures[workload][variant]` holds one dictionary for each round."""

    figures: dict[str, dict[Variant, list[Figures]]] = field(default_factory=dict)
    memory: dict[Variant, float] = field(default_factory=dict)
    """Bytes that the service grows by with each open stream."""
    completed: Counter[Variant] = field(default_factory=Counter)
    """Exchanges that were driven and came back whole."""
    fell_behind: dict[Variant, int] = field(default_factory=dict)
    """The number of streams with which a way fell behind."""

    def add(self, workload: str, variant: Variant, figures: Figures) -> None:
        """Keep the figures of a round."""
        self.figures.setdefault(workload, {}).setdefault(variant, []).append(figures)


class Measuring:
    """Drive the ways that run; `run` has what was found so far."""

    def __init__(self, stacks: Stacks) -> None:
        self._stacks = stacks
        self.run = Run()
        self.run.completed.update(list(stacks.ways))  # each passed one exchange to be taken for ready

    async def warm_up(self, *names: str, seconds: float) -> None:
        """Let code and connections get warm with some of the workloads."""
        for workload in (one for one in WORKLOADS if one.name in names):
            for stack in self._taking_part(workload.variants, 0):
                await self._drive(stack, workload, seconds)

    async def rounds(self, count: int, *, seconds: float, streams: Sequence[int]) -> None:
        """Measure every workload on every way in turn, `count` times over, `seconds` times as long as it says."""
        for number in range(count):
            for workload in WORKLOADS:
                print(f"round {number + 1} of {count}: {workload.title}", flush=True)
                for stack in self._taking_part(workload.variants, number):
                    figures = await self._closed_loop(stack, workload, workload.seconds * seconds)
                    self.run.add(workload.name, stack.variant, figures)
            for many in (one for one in STREAMS if one.count in streams):
                print(f"round {number + 1} of {count}: {many.title}, 50 events/s", flush=True)
                for stack in self._taking_part(many.variants, number):
                    await self._paced(stack, many)

    def _taking_part(self, variants: Sequence[Variant], number: int) -> list[Stack]:
        """Return the ways that run of these, in each round with another one first."""
        first = number % len(variants)
        turned = (*variants[first:], *variants[:first])
        return [self._stacks.ways[one] for one in turned if one in self._stacks.ways]

    async def _closed_loop(self, stack: Stack, workload: Workload, seconds: float) -> Figures:
        before, began, busy = await self._counters(stack), time.perf_counter(), procfs.machine_busy_seconds()
        client = time.process_time()
        samples = await self._drive(stack, workload, seconds)
        took, client = time.perf_counter() - began, time.process_time() - client
        busy = procfs.machine_busy_seconds() - busy
        after, count = await self._settled(stack), len(samples.whole)
        return {
            "exchanges": count,
            "exchanges_per_second": count / took,
            "client_cpu_us": client / count * 1e6,
            "busy_cores": busy / took,
            "p50_ms": median(samples.whole) * 1000,
            "p99_ms": percentile_99(samples.whole) * 1000,
            **{name: (after[name] - before[name]) / count for name in before},
        }

    async def _drive(self, stack: Stack, workload: Workload, seconds: float) -> Samples:
        token, script = self._stacks.token, ANSWERS[workload.answer]

        async def direct(number: int, samples: Samples, deadline: float) -> Connection:
            asked = workload.asked(token, number)
            return await connect(stack.ports.http, asked, script, samples, deadline, same=stack.same)

        async def tunnelled(_number: int, samples: Samples, deadline: float) -> Connection:
            return await Client(stack, token).open(Mode.TUNNEL, samples, deadline)

        opened = tunnelled if workload.tunnel else direct
        samples = await drive(opened, connections=workload.connections, seconds=seconds)
        self.run.completed[stack.variant] += len(samples.whole)
        return samples

    async def _paced(self, stack: Stack, many: Streams) -> None:
        if self.run.fell_behind.get(stack.variant, many.count + 1) <= many.count:
            return
        before = await self._counters(stack)
        observed = await asyncio.to_thread(
            observe,
            stack.ports.http,
            self._stacks.token,
            streams=many.count,
            begin_seconds=many.begin_seconds,
            hold_seconds=many.hold_seconds,
            upstream=self._stacks.upstream_port,
        )
        after = await self._settled(stack)
        self.run.completed[stack.variant] += many.count
        figures = observed.figures()
        figures |= {f"{name}_per_event": (after[name] - before[name]) / observed.events for name in before}
        self.run.add(many.name, stack.variant, figures)
        if many.count > _ALWAYS_STREAMS and figures["delay_p50_ms"] > _BEHIND_MS:
            self.run.fell_behind[stack.variant] = many.count

    async def _settled(self, stack: Stack) -> Figures:
        """Return the counters once what was put off is done: records are shipped after the answer has ended."""
        for _ in range(_SETTLE_AT_MOST):
            used = stack.cpu_seconds().get(SERVICE, 0.0)
            await asyncio.sleep(_SETTLE_SECONDS)
            if stack.cpu_seconds().get(SERVICE, 0.0) - used < _SETTLED_CORES * _SETTLE_SECONDS:
                break
        return await self._counters(stack)

    async def _counters(self, stack: Stack) -> Figures:
        """Return what only grows: CPU in microseconds, and messages between Envoy and the service."""
        counters = {f"{name}_cpu_us": seconds * 1e6 for name, seconds in stack.cpu_seconds().items()}
        counters["upstream_cpu_us"] = procfs.cpu_seconds(self._stacks.upstream) * 1e6
        if {SERVICE, ENVOY} <= stack.processes.keys():
            url = f"http://127.0.0.1:{stack.ports.admin}/stats?filter=stream_msgs"
            async with aiohttp.ClientSession() as session, session.get(url) as response:
                counters["messages"] = sum(int(found) for found in _MESSAGES.findall(await response.text()))
        return counters

    async def memory(self, variants: Sequence[Variant]) -> None:
        """Measure how much the service's memory grows by with each of many open streams.

        Take it from a service that is warm but has never had many streams open: freed memory would hide the growth.
        """
        for variant in variants:
            print(f"memory of open streams: {variant}", flush=True)
            stack = self._stacks.ways[variant]
            if stack.service is None:
                raise ValueError("no service to measure")
            before = procfs.rss_bytes(stack.service)
            opened = await self._open_many(stack)
            await asyncio.sleep(_MEMORY_SECONDS)
            least = min(one.events() for one in opened)
            self.run.memory[variant] = (procfs.rss_bytes(stack.service) - before) / len(opened)
            for one in opened:
                one.close()
            await finished(opened, 1.0)
            if least < _MEMORY_SECONDS / ANSWERS["open"].gap / 4:
                raise BenchError(f"{variant}: only {least} events arrived on one of {len(opened)} open streams")

    async def _open_many(self, stack: Stack) -> list[Connection]:
        opened = []
        for number in range(_MEMORY_STREAMS):
            asked = request("open", self._stacks.token, client=number)
            opened.append(await connect(stack.ports.http, asked, ANSWERS["open"], Samples(), _FAR))
            await asyncio.sleep(_OPENING_SECONDS / _MEMORY_STREAMS)
        return opened
