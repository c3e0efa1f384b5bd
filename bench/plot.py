"""Plots of measurements, as PNG: medians with their spread, told apart by shape as well as by colour.

The figures are made without `pyplot`, which keeps every figure alive in a table of its own and may look for a display.
"""

from __future__ import annotations

import textwrap
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Final

from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, LogLocator, NullLocator

Point = tuple[float, float, float, float]
"""x, median, least, greatest."""
Bar = tuple[float, float, float]
"""Median, least, greatest."""

# Okabe and Ito, "Color Universal Design" (2008): apart for every common kind of colour blindness. Yellow is left out,
# it is too pale for a line on white.
_COLOURS: Final = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#56B4E9", "#E69F00", "#000000")
_MARKERS: Final = ("o", "s", "^", "D", "v", "P", "X")
_GREY: Final = "#555555"
_INCHES: Final = (8.0, 4.8)
_DPI: Final = 120
_NOTE_WIDTH: Final = 110


def lines(
    path: Path,
    title: str,
    x_label: str,
    y_label: str,
    series: Mapping[str, Sequence[Point]],
    *,
    log: bool = False,
    note: str | None = None,
) -> None:
    """Write a PNG of one line a series: medians, the spread shaded; `log` makes both axes logarithmic (x, y > 0)."""
    figure, axes = _drawing(y_label, note)
    for number, (name, points) in enumerate(series.items()):
        colour, marker = _COLOURS[number % len(_COLOURS)], _MARKERS[number % len(_MARKERS)]
        xs, medians, lows, highs = zip(*points, strict=True)
        axes.plot(xs, medians, color=colour, marker=marker, markersize=4.5, linewidth=1.6, label=name)
        axes.fill_between(xs, lows, highs, color=colour, alpha=0.18, linewidth=0)
    axes.set_xlabel(x_label)
    if log:
        _make_log(axes)
    else:
        axes.set_ylim(bottom=0)
    axes.xaxis.set_major_formatter(FuncFormatter(_number))
    axes.grid(axis="x", color="#e4e4e4", linewidth=0.6)
    axes.yaxis.set_major_formatter(FuncFormatter(_number))
    _head(figure, title, len(series))
    _save(figure, path)


def bars(
    path: Path, title: str, y_label: str, groups: Mapping[str, Mapping[str, Bar]], *, note: str | None = None
) -> None:
    """Write a PNG of bars: for each group one bar a name, the spread as a thin line, the median above it.

    A group may lack a name: its place stays empty.
    """
    figure, axes = _drawing(y_label, note)
    names = list(dict.fromkeys(name for group in groups.values() for name in group))
    width = 0.8 / max(1, len(names))
    for number, name in enumerate(names):
        places = [at for at, group in enumerate(groups.values()) if name in group]
        values = [group[name] for group in groups.values() if name in group]
        xs = [at - 0.4 + width * (number + 0.5) for at in places]
        spread = [[median - low for median, low, _ in values], [high - median for median, _, high in values]]
        medians = [median for median, _, _ in values]
        axes.bar(xs, medians, width * 0.92, color=_COLOURS[number % len(_COLOURS)], label=name)
        axes.errorbar(xs, medians, yerr=spread, fmt="none", ecolor="#222222", elinewidth=1, capsize=2.5)
        for x, (median, _, high) in zip(xs, values, strict=True):
            axes.annotate(
                _number(median), (x, high), (0, 3), textcoords="offset points", ha="center", fontsize=8, color=_GREY
            )
    axes.set_xticks(range(len(groups)), list(groups))
    axes.tick_params(axis="x", length=0)
    axes.margins(y=0.12)
    axes.set_ylim(bottom=0)
    axes.yaxis.set_major_formatter(FuncFormatter(_number))
    _head(figure, title, len(names))
    _save(figure, path)


def _drawing(y_label: str, note: str | None) -> tuple[Figure, Axes]:
    figure = Figure(figsize=_INCHES, dpi=_DPI, layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.add_subplot()
    axes.set_ylabel(y_label)
    axes.spines[["top", "right"]].set_visible(False)
    axes.grid(axis="y", color="#e4e4e4", linewidth=0.6)
    axes.set_axisbelow(True)
    if note is not None:
        figure.supxlabel(textwrap.fill(note, _NOTE_WIDTH), fontsize=8, color=_GREY, x=0.01, ha="left")
    return figure, axes


def _make_log(axes: Axes) -> None:
    axes.set_xscale("log")
    axes.set_yscale("log")
    # At least a decade: what hardly grows must look so.
    low, high = axes.get_ylim()
    wider = max(1.0, 10 * low / high) ** 0.5
    axes.set_ylim(low / wider, high * wider)
    axes.yaxis.set_major_locator(LogLocator(subs=(1.0, 2.0, 5.0)))
    axes.xaxis.set_minor_locator(NullLocator())
    axes.yaxis.set_minor_locator(NullLocator())


def _head(figure: Figure, title: str, count: int) -> None:
    if count < 2:
        figure.suptitle(title, x=0.01, ha="left", fontsize=12)
        return
    # Above the axes the legend covers nothing, however the lines run.
    figure.legend(
        title=title, title_fontsize=12, alignment="left", frameon=False, fontsize=9, loc="outside upper left", ncols=2
    )


def _number(value: float, _position: int | None = None) -> str:
    """Return a number as people write it: 1,200 and 0.25, without an exponent."""
    return f"{value:,.0f}" if abs(value) >= 100 else f"{value:.3g}"


def _save(figure: Figure, path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, format="png")
