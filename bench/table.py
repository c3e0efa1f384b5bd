"""Show results: as a table in the terminal, as Markdown for the README, as plots."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Final

from bench import plot
from bench.report import Results
from bench.spread import Spread
from bench.ways import Variant

_TITLE_WIDTH: Final = 44
_CELL_WIDTH: Final = 22
_IN_MARKDOWN: Final = {"service_cpu_us", "envoy_cpu_us", "exchanges_per_second", "p50_ms", "p99_ms", "wrk_per_second"}
_STREAMS_IN_MARKDOWN: Final = {"service_cpu_us_per_event", "first_p50_ms", "delay_p50_ms", "delay_p99_ms"}
_DISTURBED: Final = "Disturbed: other programs were busy too. Ratios still mean something, milliseconds do not."


def terminal(found: Results) -> str:
    """Return the table people read."""
    lines = ["", machine(found), ""]
    for section in (*found["closed_loop"], *found["streams"], *found["memory"]):
        columns = _columns(section)
        lines.append(f"{section['title']:{_TITLE_WIDTH + 2}}" + "".join(f"{one:>{_CELL_WIDTH}}" for one in columns))
        for row in (one for one in section["rows"] if one["cells"] or one["compared"]):
            cells = "".join(f"{_cell(row, column, found):>{_CELL_WIDTH}}" for column in columns)
            lines.append(f"  {_label(row, section):{_TITLE_WIDTH}}{cells}   {_compared(row)}".rstrip())
        lines.append("")
    if found["fell_behind"]:
        lines += ["* fell behind, and was not asked again for so many streams or more", ""]
    lines.append("targets")
    lines += [f"  {one['what']:76} {_bound(one):>9}   {_found(one):32} {_verdict(one)}" for one in found["targets"]]
    lines += ["", f"{found['rounds']} rounds, {found['seconds']:.0f} s"]
    if found["disturbed"]:
        lines += ["", _DISTURBED]
    return "\n".join(lines)


def markdown(found: Results) -> str:
    """Return the targets and the figures that matter most as Markdown."""
    lines = [f"Machine: {machine(found)}.", ""]
    lines += [f"Medians of {found['rounds']} rounds, least and greatest in parentheses.", ""]
    lines += ["| what | target | found | |", "| --- | --- | --- | --- |"]
    lines += [f"| {one['what']} | {_bound(one)} | {_found(one)} | {_verdict(one)} |" for one in found["targets"]]
    for sections, keys in (
        (found["closed_loop"], _IN_MARKDOWN),
        (found["streams"], _STREAMS_IN_MARKDOWN),
        (found["memory"], {"memory"}),
    ):
        for section in sections:
            rows = [row for row in section["rows"] if row["key"] in keys and (row["cells"] or row["compared"])]
            if rows:
                lines += ["", *_markdown(section, rows, found)]
    if found["disturbed"]:
        lines += ["", _DISTURBED]
    return "\n".join(lines)


def _markdown(section: Mapping[str, Any], rows: list[Mapping[str, Any]], found: Results) -> Iterator[str]:
    columns = _columns(section)
    yield "| " + " | ".join([section["title"], *columns, "compared"]) + " |"
    yield "| --- " * (len(columns) + 2) + "|"
    for row in rows:
        cells = [_cell(row, column, found) for column in columns]
        yield "| " + " | ".join([_label(row, section), *cells, _compared(row)]) + " |"


def plots(found: Results, folder: Path) -> list[Path]:
    """Write the plots as PNG; return their paths."""
    note = machine(found) + (f". {_DISTURBED}" if found["disturbed"] else "")
    bars = {
        section["short"]: _bars(row)
        for section in found["closed_loop"]
        for row in section["rows"]
        if row["label"] == "CPU of the service per exchange"
    }
    written = [folder / "cpu_per_exchange.png"]
    plot.bars(written[0], "CPU of the service per exchange", "µs", bars, note=note)
    for section in found["streams"]:
        if section["key"] in _STREAMS_IN_MARKDOWN:
            title = section["title"].partition(": ")[2]
            written.append(folder / f"{section['key']}.png")
            plot.lines(written[-1], title, "streams of 50 events/s", title, _series(section), log=True, note=note)
    return written


def _bars(row: Mapping[str, Any]) -> dict[str, tuple[float, float, float]]:
    return {
        column: Spread(**cell)
        for column, cell in row["cells"].items()
        # One would leave no room for the others, and the other is about throughput; the table has both.
        if column not in {Variant.LITELLM, Variant.WORKERS}
    }


def _series(section: Mapping[str, Any]) -> dict[str, list[tuple[float, float, float, float]]]:
    return {
        column: [(row["streams"], *Spread(**row["cells"][column])) for row in section["rows"] if column in row["cells"]]
        for column in _columns(section)
    }


def machine(found: Results) -> str:
    """Return what the run was made on."""
    versions = {**found["environment"], **found["peers"]}
    return ", ".join(f"{name} {value}" for name, value in versions.items())


def _columns(section: Mapping[str, Any]) -> list[str]:
    return [one for one in Variant if any(one in row["cells"] for row in section["rows"])]


def _label(row: Mapping[str, Any], section: Mapping[str, Any]) -> str:
    return row["label"] if "key" in section or not row["unit"] else f"{row['label']}, {row['unit']}"


def _cell(row: Mapping[str, Any], column: str, found: Results) -> str:
    cell = row["cells"].get(column)
    if cell is None:
        return "-"
    behind = found["fell_behind"].get(column)
    mark = "*" if behind is not None and row.get("streams", 0) >= behind else ""
    spread = f" ({_number(cell['min'])}-{_number(cell['max'])})" if cell["min"] < cell["max"] else ""
    return f"{_number(cell['median'])}{spread}{mark}"


def _compared(row: Mapping[str, Any]) -> str:
    compare, found = row["compare"], row["compared"]
    return "" if found is None else f"{_value(found, compare['sign'], row['unit'])} over {compare['other']}"


def _bound(target: Mapping[str, Any]) -> str:
    unit = "" if target["unit"] == "x" else f" {target['unit']}"
    return f"{target['sense']} {target['bound']:g}{unit}".rstrip()


def _found(target: Mapping[str, Any]) -> str:
    found = target["found"]
    if found is None:
        return "not measured"
    return _value(found, "x" if target["unit"] == "x" else "", target["unit"])


def _value(found: Mapping[str, float], sign: str, unit: str) -> str:
    form = {"x": ".2f", "+": "+.2f"}.get(sign, ".4g")
    middle, low, high = (format(found[one], form) for one in ("median", "min", "max"))
    spread = "" if low == high else f" ({low} to {high})"
    return f"x {middle}{spread}" if sign == "x" else f"{middle} {unit}".strip() + spread


def _verdict(target: Mapping[str, Any]) -> str:
    return {True: "met", False: "MISSED", None: ""}[target["met"]]


def _number(value: float) -> str:
    return f"{value:,.0f}" if abs(value) >= 100 else f"{value:.1f}" if abs(value) >= 10 else f"{value:.2f}"
