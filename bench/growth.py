"""Measure how costs grow, without Envoy: `python -m bench.growth`, or `--quick`.

Bodies and sessions are in bench.growth_bodies, rules, principals and open streams in bench.growth_tables.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import shutil
import sys
import tempfile
from collections.abc import Awaitable, Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Final

from bench import growth_bodies, growth_tables, plot
from bench.growth_fit import TOLERANCE, Curve

_RESULTS: Final = Path(__file__).parent / "results"

Curves = Mapping[str, Curve]


@dataclass(frozen=True, slots=True)
class _Part:
    """One plot: what is measured against what."""

    title: str
    x_label: str
    y_label: str
    measure: Callable[..., Awaitable[Curves]]


_PARTS: Final = {
    "prompts": _Part(
        "CPU of an exchange against its prompt",
        "KB of the request",
        "CPU ms",
        partial(growth_bodies.bodies, which="prompts"),
    ),
    "answers": _Part(
        "CPU of an exchange against its answer",
        "KB of the answer",
        "CPU ms",
        partial(growth_bodies.bodies, which="answers"),
    ),
    "session": _Part(
        "CPU of an agent's turn, for each KB that it sends", "turn of the session", "CPU µs", growth_bodies.session
    ),
    "secret-rules": _Part(
        "CPU of an exchange against secret rules", "rules of one's own", "CPU ms", growth_tables.secret_rules
    ),
    "policy-rules": _Part(
        "CPU of an exchange against rules of the policy", "rules", "CPU µs", growth_tables.policy_rules
    ),
    "principals": _Part(
        "CPU of an exchange against principals", "principals so far", "CPU µs", growth_tables.principals
    ),
    "open-streams": _Part("CPU of an event against open streams", "streams open", "CPU µs", growth_tables.open_streams),
}


def results(names: list[str], *, quick: bool) -> dict[str, Curves]:
    """Measure the parts of these names."""
    _RESULTS.mkdir(exist_ok=True)
    found: dict[str, Curves] = {}
    for name in names:
        print(f"growth: {name}", flush=True)
        # Beside the results, not in /tmp, which may be memory: what is recorded has to reach a disk.
        folder = Path(tempfile.mkdtemp(prefix="growth-", dir=_RESULTS))
        try:
            found[name] = asyncio.run(_measured(name, folder, quick=quick))
        finally:
            shutil.rmtree(folder)
    return found


async def _measured(name: str, folder: Path, *, quick: bool) -> Curves:
    return await _PARTS[name].measure(folder, quick=quick)


def table(found: Mapping[str, Curves]) -> Iterator[str]:
    """Yield the lines people read: the least costs at both ends, the exponent of growth, and what it promises."""
    for name, curves in found.items():
        part = _PARTS[name]
        yield f"{f'{part.title}, {part.y_label}':58}{'first':>20}{'last':>20}{'exponent':>10}"
        for title, curve in curves.items():
            first, last = (f"{one[2]:,.3g} at {one[0]:,g}" for one in (curve.points[0], curve.points[-1]))
            verdict = "linear or better" if curve.is_kept else "WORSE THAN LINEAR"
            most = f"≤ {curve.promise + TOLERANCE:g}"
            yield f"  {title:56}{first:>20}{last:>20}{curve.exponent:>10.2f} {most}  {verdict}"


def as_json(found: Mapping[str, Curves], *, quick: bool) -> dict[str, Any]:
    """Return everything behind the table; points are x, median, least, greatest."""
    parts = {
        name: {
            title: {
                "points": curve.points,
                "exponent": curve.exponent,
                "at_most": curve.promise + TOLERANCE,
                "linear_or_better": curve.is_kept,
            }
            for title, curve in curves.items()
        }
        for name, curves in found.items()
    }
    units = {name: {"x": _PARTS[name].x_label, "y": _PARTS[name].y_label} for name in found}
    return {"quick": quick, "units": units, "parts": parts}


def _draw(name: str, curves: Curves) -> None:
    part = _PARTS[name]
    flat = any(curve.promise == 0 for curve in curves.values())
    reading = "0 is a cost that does not depend on how many there are." if flat else "1 is linear, less is better."
    note = "Medians, shaded from the least to the greatest. Behind the names: the exponent of growth in the upper half."
    plot.lines(
        _RESULTS / f"growth-{name}.png",
        part.title,
        part.x_label,
        part.y_label,
        {f"{title}: {curve.exponent:.2f}": curve.points for title, curve in curves.items()},
        log=True,
        note=f"{note} {reading}",
    )


def main() -> int:
    """Measure, print the table, and write results/growth.json and a plot for each part."""
    parser = argparse.ArgumentParser(prog="python -m bench.growth", description="Measure how costs grow.")
    parser.add_argument("--quick", action="store_true", help="smaller sizes, fewer rounds: about a minute")
    parser.add_argument("parts", nargs="*", metavar="PART", help=f"only these: {', '.join(_PARTS)}")
    asked = parser.parse_args()
    if unknown := set(asked.parts) - set(_PARTS):
        parser.error(f"no such part: {', '.join(sorted(unknown))}")
    found = results(asked.parts or list(_PARTS), quick=asked.quick)
    for name, curves in found.items():
        _draw(name, curves)
    (_RESULTS / "growth.json").write_text(json.dumps(as_json(found, quick=asked.quick), indent=1) + "\n")
    print("", *table(found), f"\nwritten to {_RESULTS / 'growth.json'}, plots beside it", sep="\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
