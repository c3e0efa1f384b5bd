"""Run the benchmark: `python -m bench`; masking and recording alone: bench.masking, bench.recording."""

from __future__ import annotations

import argparse
import asyncio
import json
import resource
import shutil
import signal
import sys
import tempfile
import time
from pathlib import Path

import uvloop

from bench import procfs, report, table, wrk
from bench.client import BenchError
from bench.measure import Measuring
from bench.stack import Stacks, recorded, stacks
from bench.ways import OURS, PEERS, Variant, installed
from bench.workloads import QUICK_STREAMS, STREAMS

_RESULTS = Path(__file__).parent / "results"
_LATEST = _RESULTS / "latest.json"
_FILES = 8192
"""Of a thousand streams Envoy, which inherits the limit, holds both ends."""
_WITH_MEMORY = (Variant.OURS, Variant.GRPC, Variant.NOOP)
_BY_WRK = (Variant.OURS, Variant.NOOP, Variant.NONE)


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m bench", description="Measure the service against a no-op.")
    parser.add_argument("--quick", action="store_true", help="one short round: under two minutes, for a first look")
    parser.add_argument("--rounds", type=int, default=5, help="rounds of a full run (default 5)")
    parser.add_argument(
        "--columns",
        nargs="+",
        metavar="NAME",
        choices=[one.name.lower() for one in Variant],
        help="only these: %(choices)s",
    )
    parser.add_argument("--markdown", action="store_true", help="measure nothing: show the latest results as Markdown")
    return parser.parse_args()


def main() -> int:
    """Run, print the table, write results/latest.json and the plots; return the exit code."""
    arguments = _arguments()
    if arguments.markdown:
        print(table.markdown(json.loads(_LATEST.read_text())))
        return 0
    if not Path("/proc/self/schedstat").exists():
        print("bench: CPU and memory are read from /proc, so it runs on Linux only", file=sys.stderr)
        return 2
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if hard != resource.RLIM_INFINITY and hard < _FILES:
        print(f"bench: 1,000 streams need {_FILES} files, this shell allows {hard}", file=sys.stderr)
        return 2
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    columns = [one for one in Variant if arguments.columns is None or one.name.lower() in arguments.columns]
    # However it is stopped, it takes what it started with it.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    _RESULTS.mkdir(exist_ok=True)
    # Beside the results, not in /tmp, which may be memory: what is recorded has to reach a disk.
    state = Path(tempfile.mkdtemp(prefix="state-", dir=_RESULTS))
    try:
        found = uvloop.run(
            _run(state, columns, rounds=1 if arguments.quick else arguments.rounds, quick=arguments.quick)
        )
    except BenchError as error:
        print(f"bench: {error}; state: {state}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        shutil.rmtree(state)
        return 130
    shutil.rmtree(state)
    _LATEST.write_text(json.dumps(found, indent=1) + "\n")
    print(table.terminal(found))
    written = table.plots(found, _RESULTS)
    print("\nwritten:", *(str(one) for one in (_LATEST, *written)), sep="\n  ")
    return 0


async def _run(state: Path, columns: list[Variant], *, rounds: int, quick: bool) -> report.Results:
    async with stacks(state, [one for one in columns if installed(one)]) as running:
        measuring = Measuring(running)
        await measuring.warm_up("plain", "burst", seconds=0.5 if quick else 1.0)
        await measuring.memory([one for one in running.ways if one in (_WITH_MEMORY[:1] if quick else _WITH_MEMORY)])
        await measuring.warm_up("turns", "tunnel", seconds=0.5)
        busy, own, began = procfs.machine_busy_seconds(), running.cpu_seconds(), time.monotonic()
        streams = [many.count for many in STREAMS if not quick or many.count in QUICK_STREAMS]
        await measuring.rounds(rounds, seconds=0.6 if quick else 1.0, streams=streams)
        took = time.monotonic() - began
        others = (procfs.machine_busy_seconds() - busy - (running.cpu_seconds() - own)) / took
        await _check(running, measuring)
        await _ask_by_wrk(running, measuring, rounds)
    return report.results(measuring.run, rounds=rounds, seconds=took, others=others, quick=quick)


async def _check(running: Stacks, measuring: Measuring) -> None:
    """Compare what was recorded with what was driven; raises BenchError."""
    recording = [way for name, way in running.ways.items() if name in (*OURS, *PEERS)]
    for way, found in zip(recording, await asyncio.gather(*map(recorded, recording)), strict=True):
        if found != (driven := measuring.run.completed[way.variant]):
            raise BenchError(f"{way.variant}: {driven} exchanges were completed but {found} were recorded as such")


async def _ask_by_wrk(running: Stacks, measuring: Measuring, rounds: int) -> None:
    """Have wrk ask as well, last of all: nobody knows to the exchange how often it does."""
    if not wrk.installed():
        return
    for number in range(rounds):
        print(f"round {number + 1} of {rounds}: wrk", flush=True)
        for way in (running.ways[one] for one in _BY_WRK if one in running.ways):
            found = await wrk.exchanges_per_second(way, running.token, 1.0)
            measuring.run.figures["plain"][way.variant][number]["wrk_per_second"] = found


if __name__ == "__main__":
    sys.exit(main())
