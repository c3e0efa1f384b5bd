"""The overview: what goes through the gateway now and went through it lately."""

from __future__ import annotations

import asyncio
import datetime as dt
import math
from dataclasses import dataclass
from enum import StrEnum
from typing import Final

from markupsafe import Markup
from starlette.requests import Request
from starlette.responses import Response

from extproc.console import plots
from extproc.console.answering import MAX_WAITING, how_many_wait
from extproc.console.asked import choice_of
from extproc.console.guard import PageRoute
from extproc.console.page import console_of, is_fragment, page, viewer_of
from extproc.console.roles import EVERYBODY, INVOLVED, OPERATORS, READERS, may
from extproc.store.port import Overview

MINUTE: Final = 60.0


class Span(StrEnum):
    """How far back one looks."""

    HOUR = "1h"
    DAY = "24h"
    WEEK = "7d"


# The steps of a span, each of so many seconds.
_STEPS: Final = {Span.HOUR: (60, 60.0), Span.DAY: (96, 900.0), Span.WEEK: (84, 7200.0)}
_IN_WORDS: Final = {Span.HOUR: "last hour", Span.DAY: "last 24 hours", Span.WEEK: "last 7 days"}


@dataclass(frozen=True, slots=True)
class Plot:
    """A drawn plot and what it is called."""

    title: str
    drawn: Markup


async def show(request: Request) -> Response:
    """Show it; everyone's figures to auditors and administrators, their own to others."""
    console, viewer = console_of(request), viewer_of(request)
    span = choice_of(request.query_params, "span", Span) or Span.HOUR
    everyone = may(viewer, OPERATORS)
    steps, seconds = _STEPS[span]
    now = console.now()
    # Whole steps, so that bars stay where they are.
    until = math.ceil(now / seconds) * seconds
    seen, last_minute, services, waiting = await asyncio.gather(
        console.reading.overview(viewer, since=until - steps * seconds, until=until, steps=steps, everyone=everyone),
        console.reading.overview(viewer, since=now - MINUTE, until=now, steps=1, everyone=everyone),
        console.services.now(),
        how_many_wait(viewer, console.approvals(), now, everyone=everyone),
    )
    return page(
        request,
        "overview_live.html" if is_fragment(request) else "overview.html",
        span=span,
        spans=_IN_WORDS,
        everyone=everyone,
        seen=seen,
        services=services,
        per_minute=last_minute.exchanges,
        waiting=waiting,
        more_waiting=waiting >= MAX_WAITING,
        plots=_plots(seen, span),
        share=plots.share,
        listed=may(viewer, READERS),
        asked_for=may(viewer, INVOLVED),
    )


def _plots(seen: Overview, span: Span) -> list[Plot]:
    form = "%d %b %H:%M" if span is Span.WEEK else "%H:%M"
    labels = [f"{dt.datetime.fromtimestamp(one.at, dt.UTC):{form}}" for one in seen.steps]
    shown = (
        ("exchanges", "Exchanges", [one.exchanges for one in seen.steps], False),
        ("findings", "Findings", [one.findings for one in seen.steps], False),
        ("refused", "Refused", [one.refused for one in seen.steps], True),
    )
    return [
        Plot(title, plots.bars(name, title, list(zip(labels, counts, strict=True)), bad=bad))
        for name, title, counts, bad in shown
    ]


ROUTES: Final = (PageRoute("/", show, EVERYBODY),)
