"""Run the benchmarks: `python -m bench`, or `--quick`; masking and recording alone: bench.masking, bench.recording."""

from __future__ import annotations

import argparse
import asyncio
import json
import shutil
import signal
import sys
import tempfile
import time
from pathlib import Path

from bench import masking, measure, procfs, recording, report
from bench.client import BenchError
from bench.stack import Stacks, Variant, recorded, stacks

_RESULTS = Path(__file__).parent / "results"


def main() -> int:
    """Run, print the table and write results/latest.json; return the exit code."""
    parser = argparse.ArgumentParser(prog="python -m bench", description="Measure the service against a no-op.")
    parser.add_argument("--quick", action="store_true", help="one short round: under two minutes, for a first look")
    parser.add_argument("--rounds", type=int, default=3, help="rounds of a full run (default 3)")
    arguments = parser.parse_args()
    if not Path("/proc/self/stat").exists():
        print("bench: CPU and memory are read from /proc, so it runs on Linux only", file=sys.stderr)
        return 2
    # However it is stopped, it takes what it started with it.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    _RESULTS.mkdir(exist_ok=True)
    # Beside the results, not in /tmp, which may be memory: what is recorded has to reach a disk.
    state = Path(tempfile.mkdtemp(prefix="state-", dir=_RESULTS))
    try:
        results = asyncio.run(_run(state, rounds=1 if arguments.quick else arguments.rounds, quick=arguments.quick))
    except BenchError as error:
        print(f"bench: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        shutil.rmtree(state)
        return 130
    shutil.rmtree(state)
    results["masking"] = masking.results(quick=arguments.quick)
    results["recording"] = recording.results(quick=arguments.quick)
    (_RESULTS / "latest.json").write_text(json.dumps(results, indent=1) + "\n")
    print(report.table(results))
    print(masking.table(results["masking"]))
    print(recording.table(results["recording"]))
    print(f"\nwritten to {_RESULTS / 'latest.json'}")
    return 0


async def _run(state: Path, *, rounds: int, quick: bool) -> report.Results:
    async with stacks(state) as running:
        completed = 1 + await measure.warm_up(running, seconds=1.0 if quick else 2.0)
        memory = {}
        for variant in (Variant.OURS, Variant.NOOP):
            print(f"memory of open streams: {variant}", flush=True)
            memory[variant] = await measure.memory_per_stream(
                running.ways[variant], running.token, streams=200, hold_seconds=4.0 if quick else 10.0
            )
        busy, own, began = procfs.machine_busy_seconds(), _own_seconds(running), time.monotonic()
        run = await measure.rounds(running, count=rounds, quick=quick)
        took = time.monotonic() - began
        others = (procfs.machine_busy_seconds() - busy - (_own_seconds(running) - own)) / took
        completed += run.completed
        if (found := await recorded(running.ways[Variant.OURS])) != completed:
            raise BenchError(f"{completed} exchanges were completed but {found} were recorded as such; state: {state}")
    return report.results(run, memory, others=others, quick=quick)


def _own_seconds(running: Stacks) -> float:
    return time.process_time() + sum(map(procfs.cpu_seconds, running.processes))


if __name__ == "__main__":
    sys.exit(main())
