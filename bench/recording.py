"""Measure recording alone, without Envoy: `python -m bench.recording`, or `--quick`.

Costs while exchanges run are in bench.recording_cost, stores and sizes in bench.recording_store, verifying in
bench.recording_verify, tracing in bench.trace.
"""

from __future__ import annotations

import argparse
import json
import shutil
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Final

from bench import recording_cost, recording_store, recording_verify, trace

_RESULTS: Final = Path(__file__).parent / "results"

Results = dict[str, Any]


def results(*, quick: bool) -> Results:
    """Measure everything and return it as JSON."""
    _RESULTS.mkdir(exist_ok=True)
    # Beside the results, not in /tmp, which may be memory: what is recorded has to reach a disk.
    folder = Path(tempfile.mkdtemp(prefix="recording-", dir=_RESULTS))
    steps: dict[str, Callable[[], Any]] = {
        "cost": lambda: recording_cost.results(folder, quick=quick),
        "stores": lambda: recording_store.rates(folder, quick=quick),
        "sizes": lambda: recording_store.sizes(quick=quick),
        "verify": lambda: recording_verify.results(folder, quick=quick),
        "trace": lambda: trace.results(quick=quick),
    }
    found: Results = {"quick": quick}
    try:
        for name, step in steps.items():
            print(f"recording: {name}", flush=True)
            found[name] = step()
    finally:
        shutil.rmtree(folder)
    found["targets"] = {name: met for name, _, met in _targets(found)}
    return found


def _targets(found: Results) -> Iterator[tuple[str, str, bool]]:
    """Yield each promise: its name, what was found, and whether it is met."""
    at_once, cost = found["cost"]["at_once"], found["cost"]
    cpu, most = cost["plain"]["cpu_us"], recording_cost.TARGET_US
    yield f"CPU of a 1 KB chat, {at_once} at once, ≤ {most:g} µs", f"{cpu:.0f} µs", cpu <= most
    late, most = cost["paced"]["ack_p99_ms"], recording_cost.TARGET_ACK_MS
    yield f"closing durable, {at_once} at once, paced, p99 < {most:g} ms", f"{late:.1f} ms", late < most
    slowest, least = min(found["verify"]["plain"], found["verify"]["parts"]), recording_verify.TARGET
    yield f"entries verified in a second, ≥ {least:,}", f"{slowest:,.0f}", slowest >= least
    seconds, most = found["trace"]["seconds"], trace.TARGET_SECONDS
    yield f"trace of 10,000 lines against 100,000, < {most:g} s", f"{seconds:.2f} s", seconds < most


def table(found: Results) -> str:
    """Return the tables people read."""
    return "\n".join(
        [
            "",
            *_cost_rows(found["cost"]),
            *_store_rows(found["stores"]),
            *_size_rows(found["sizes"]),
            *_verify_rows(found["verify"]),
            "trace",
            *(f"  {line}" for line in trace.table(found["trace"]).split("\n")),
            "targets",
            *(f"  {name:56}{value:>18}   {'met' if met else 'MISSED'}" for name, value, met in _targets(found)),
        ]
    )


def _cost_rows(found: Results) -> Iterator[str]:
    title = f"recording, {found['at_once']} exchanges at a time"
    yield f"{title:44}{'CPU µs':>10}{'spool':>10}{'per s':>10}{'ack p50':>10}{'p99 ms':>10}"
    agent = f"agent turn of {found['agent']['sent_bytes'] // 1000} KB, as fast as it goes"
    titles = {"plain": "1 KB chat, as fast as it goes", "paced": "1 KB chat, each lasts 0.2 s", "agent": agent}
    for name, title in titles.items():
        one = found[name]
        yield (
            f"  {title:42}{one['cpu_us']:>10.0f}{one['cpu_spool_us']:>10.0f}{one['per_second']:>10,.0f}"
            f"{one['ack_p50_ms']:>10.1f}{one['ack_p99_ms']:>10.1f}"
        )
    yield "  CPU: all threads, without what making the exchanges takes; spool: of it, until they are durable"


def _store_rows(found: Results) -> Iterator[str]:
    yield f"{'stores':44}{'CPU µs':>10}{'':10}{'per s':>10}"
    for name, title in (("sqlite", "SQLite"), ("cosmos", "fake Cosmos DB, through the SDK")):
        yield f"  {title:42}{found[name]['cpu_us']:>10.0f}{'':10}{found[name]['per_second']:>10,.0f}"


def _size_rows(found: list[Results]) -> Iterator[str]:
    yield f"{'stored bytes of an agent session':44}{'whole':>12}{'stored':>12}{'a turn':>10}{'less by':>10}"
    for one in found:
        turn, times = one["stored"] / one["turns"], one["naive"] / one["stored"]
        title = f"{one['turns']} turns"
        yield f"  {title:42}{one['naive']:>12,}{one['stored']:>12,}{turn:>10,.0f}{times:>9.0f}x"


def _verify_rows(found: Results) -> Iterator[str]:
    yield f"{'verifying, entries a second of one core':44}"
    body, blob = recording_verify.BODY_BYTES, recording_verify.BLOB_BYTES
    yield f"  {f'bodies of {body:,} bytes':42}{found['plain']:>12,.0f}"
    yield f"  {f'and for every second a part of {blob} bytes':42}{found['parts']:>12,.0f}"


def main() -> int:
    """Measure, print the tables and write results/recording.json."""
    parser = argparse.ArgumentParser(prog="python -m bench.recording", description="Measure recording alone.")
    parser.add_argument("--quick", action="store_true", help="a sample of everything: about half a minute")
    found = results(quick=parser.parse_args().quick)
    (_RESULTS / "recording.json").write_text(json.dumps(found, indent=1) + "\n")
    print(table(found))
    print(f"\nwritten to {_RESULTS / 'recording.json'}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
