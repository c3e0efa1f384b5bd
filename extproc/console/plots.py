"""Small plots as inline SVG, drawn with classes only: the console's policy lets no style in. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from markupsafe import Markup, escape

from extproc.console.templates import number, visible

WIDTH: Final = 360
HEIGHT: Final = 130
_TOP: Final = 18  # room for the number of the highest bar
_BASE: Final = 110  # where bars stand; below it are the times
_GAP: Final = 0.2  # of a bar's place

_BIGGEST: Final = 10**15


def bars(name: str, title: str, values: Sequence[tuple[str, int]], *, bad: bool = False) -> Markup:
    """Return a plot of counts over time, each with what its step is called; negative ones are shown as 0.

    `name` is unique on its page, of letters. The same is said in words for who does not see it.
    """
    counts = [(label, min(max(count, 0), _BIGGEST)) for label, count in values]
    peak = max((count for _, count in counts), default=0)
    place = WIDTH / max(len(counts), 1)
    drawn = Markup("").join(_bar(at * place, place, one, peak, bad=bad) for at, one in enumerate(counts))
    ends = (
        Markup("").join(
            Markup('<text x="{}" y="{}" text-anchor="{}">{}</text>').format(x, HEIGHT - 4, anchor, _shown(label))
            for x, anchor, label in ((0, "start", counts[0][0]), (WIDTH, "end", counts[-1][0]))
        )
        if counts
        else Markup("")
    )
    return Markup(
        '<svg class="plot" viewBox="0 0 {width} {height}" role="img" aria-labelledby="{name}-title {name}-desc">'
        '<title id="{name}-title">{title}</title><desc id="{name}-desc">{desc}</desc>'
        '<line class="axis" x1="0" y1="{base}" x2="{width}" y2="{base}"/>{drawn}{ends}'
        '<text x="{width}" y="{under}" text-anchor="end">{peak}</text></svg>'
    ).format(
        width=WIDTH,
        height=HEIGHT,
        base=_BASE,
        under=_TOP - 6,
        name=name,
        title=_shown(title),
        desc=summary(counts),
        drawn=drawn,
        ends=ends,
        peak=f"highest {number(peak)}" if peak else "nothing",
    )


def summary(values: Sequence[tuple[str, int]]) -> str:
    """Return in words what a plot shows."""
    total = sum(max(count, 0) for _, count in values)
    if not total:
        return "Nothing in this time."
    label, peak = max(values, key=lambda one: one[1])
    return visible(f"{number(total)} in all, from {values[0][0]} on; most at {label}: {number(peak)}.")


def share(part: int, whole: int) -> Markup:
    """Return a bar for one cell of a table that is as long as a part is of the whole; the number stands beside it."""
    whole = max(whole, 1)
    width = 100 * min(max(part, 0), whole) // whole
    return Markup(
        '<svg class="share" viewBox="0 0 100 10" preserveAspectRatio="none" aria-hidden="true" focusable="false">'
        '<rect class="bar" x="0" y="0" width="{}" height="10"/></svg>'
    ).format(width)


def _bar(x: float, place: float, one: tuple[str, int], peak: int, *, bad: bool) -> Markup:
    label, count = one
    if not count:
        return Markup("")
    # What happened once among thousands is to be seen, too.
    height = max((_BASE - _TOP) * count // peak, 2)
    return Markup('<rect class="{}" x="{:.2f}" y="{}" width="{:.2f}" height="{}"><title>{}: {}</title></rect>').format(
        "bar bad" if bad else "bar",
        *(x + place * _GAP / 2, _BASE - height, place * (1 - _GAP), height),
        *(_shown(label), number(count)),
    )


def _shown(text: str) -> Markup:
    return escape(visible(text))
