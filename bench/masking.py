"""Measure masking alone, without Envoy: `python -m bench.masking`, or with `--quick`.

Leaks are in bench.leaks, CPU, lateness and speed in bench.masking_costs, recall and false alarms in bench.detection.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Final

from bench import detection, leaks, masking_costs
from tests.detecting import loaded
from tests.masking.corpus import harmless, samples

_RESULTS: Final = Path(__file__).parent / "results"
_ADDED_US: Final = 40.0
_OF_ENGINE: Final = 0.5
_EVENT_MS: Final = 20
"""How often an event comes, for telling lateness in ms."""

Results = dict[str, Any]


def results(*, quick: bool) -> Results:
    """Measure everything and return it as JSON."""
    steps: dict[str, Callable[[], Any]] = {
        "cpu": lambda: masking_costs.cpu(quick=quick),
        "hold_back": lambda: masking_costs.hold_back(quick=quick),
        "throughput": lambda: masking_costs.throughput(quick=quick),
        "detection": lambda: _detection(quick=quick),
        "leaks": lambda: leaks.measure(quick=quick),
    }
    found: Results = {"quick": quick}
    for name, step in steps.items():
        print(f"masking: {name.replace('_', '-')}", flush=True)
        found[name] = step()
    found["targets"] = {name: met for name, _, met in _targets(found)}
    return found


def _detection(*, quick: bool) -> dict[str, Any]:
    """Return recall and false alarms of our detector alone; `python -m bench.detection` compares it with others."""

    def scan(data: bytes) -> list[detection.Span]:
        return [(hit.rule, hit.start, hit.end) for hit in loaded().scan(data)]

    repeat = 1 if quick else detection.REPEAT
    return {
        "recall": detection.recall(scan, samples(detection.SEED, repeat)),
        "harmless": sum(bool(scan(text.encode())) for text in harmless(detection.SEED, repeat)),
        "false_alarms": {
            kind: detection.false_alarms(scan, files[:: 20 if quick else 1])
            for kind, files in detection.sources().items()
        },
    }


def _targets(found: Results) -> Iterator[tuple[str, str, bool]]:
    """Yield each promise: its name, what was found, and whether it is met."""
    for kind in ("streams", "bodies"):
        shown, cases = found["leaks"][kind]["shown"], found["leaks"][kind]["cases"]
        yield f"{kind}: secrets that show, target 0", f"{shown} of {cases:,}", shown == 0
    added = max(line["added_us"] for line in found["cpu"])
    yield f"CPU added to an event, target ≤ {_ADDED_US:g} µs", f"{added:.1f} µs", added <= _ADDED_US
    slowest = min(line["of_engine"] for line in found["throughput"])
    yield f"speed on text, target ≥ {_OF_ENGINE:g} of the engine", f"{slowest:.2f}", slowest >= _OF_ENGINE
    late = found["hold_back"]["late"]["words that begin no secret"]["max"]
    yield "words that begin no secret are late by, target 0 events", str(late), late == 0


def table(found: Results) -> str:
    """Return the tables people read."""
    return "\n".join(
        [
            "",
            *_leak_rows(found["leaks"]),
            *_cpu_rows(found["cpu"]),
            *_late_rows(found["hold_back"]),
            *_speed_rows(found["throughput"]),
            *_detection_rows(found["detection"]),
            "targets",
            *(f"  {name:56}{value:>18}   {'met' if met else 'MISSED'}" for name, value, met in _targets(found)),
        ]
    )


def _leak_rows(found: Results) -> Iterator[str]:
    title = f"leaks, secrets of {found['providers']} kinds in every field"
    yield f"{title:44}{'cases':>12}{'shown':>10}{'broken':>10}"
    for kind, title in (
        ("streams", "streams, cut in two and in characters"),
        ("bodies", "requests, JSON answers, MCP"),
    ):
        one = found[kind]
        yield f"  {title:42}{one['cases']:>12,}{one['shown']:>10}{one['unread']:>10}"
        yield from (f"    {count} x {name}" for name, count in one["by_provider"].items())


def _cpu_rows(found: list[Results]) -> Iterator[str]:
    yield f"{'CPU of an event of one piece of text, µs':44}{'unmasked':>12}{'added':>10}{'max':>10}{'idle':>10}"
    for one in found:
        title = f"{one['dialect']}, {one['text']}, {one['median_chars']:g} characters"
        yield (
            f"  {title:42}{one['unmasked_us']:>12.1f}{one['added_us']:>+10.1f}"
            f"{one['added_max_us']:>+10.1f}{one['added_idle_us']:>+10.1f}"
        )
    yield "  unmasked: parsed, decoded, read and taken, as for the record; idle: masked with nothing to look for"


def _late_rows(found: Results) -> Iterator[str]:
    title = f"hold-back, in events of {_EVENT_MS} ms"
    yield f"{title:44}{'at once':>12}{'p50':>10}{'p99':>10}{'max':>10}"
    for kind, one in [*found["late"].items(), ("first character of an answer", found["first"])]:
        yield f"  {kind:42}{one['at_once']:>12.1%}{one['p50']:>10}{one['p99']:>10}{one['max']:>10}"


def _speed_rows(found: list[Results]) -> Iterator[str]:
    yield f"{'speed on plain text':44}{'MB/s':>12}{'of engine':>10}"
    for one in found:
        title = f"{one['text']}, {one['way']}"
        yield f"  {title:42}{one['mb_per_s']:>12.0f}{one['of_engine']:>10.2f}"


def _detection_rows(found: Results) -> Iterator[str]:
    recall = found["recall"]
    yield "detection"
    yield f"  {'recall':42}{recall['recall']:>12.4f}   of {recall['secrets']:,} secrets"
    for kind, one in found["false_alarms"].items():
        title = f"false alarms in {kind}"
        yield f"  {title:42}{one['per_100k']:>12.2f}   per 100,000 of {one['lines']:,} lines"
    yield f"  {'false alarms on look-alikes':42}{found['harmless']:>12}"


def main() -> int:
    """Measure, print the tables and write results/masking.json; return 1 where a secret shows."""
    parser = argparse.ArgumentParser(prog="python -m bench.masking", description="Measure masking alone.")
    parser.add_argument("--quick", action="store_true", help="a sample of everything: about half a minute")
    found = results(quick=parser.parse_args().quick)
    _RESULTS.mkdir(exist_ok=True)
    (_RESULTS / "masking.json").write_text(json.dumps(found, indent=1) + "\n")
    print(table(found))
    print(f"\nwritten to {_RESULTS / 'masking.json'}")
    return int(any(found["leaks"][kind]["shown"] for kind in ("streams", "bodies")))


if __name__ == "__main__":
    sys.exit(main())
