"""Trace: from which suggestions lines of code come, who asked for them, and who approved."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from enum import StrEnum
from typing import Final

from starlette.requests import Request
from starlette.responses import Response

from extproc.console.asked import choice_of, exchange_link, moment_of, text_of
from extproc.console.guard import PageRoute
from extproc.console.page import PageFault, console_of, form_of, page, viewer_of
from extproc.console.roles import READERS
from extproc.tracing.trace import Range, Target
from extproc.tracing.unified_diff import targets_of_diff

MAX_CHARS: Final = 1_000_000
MAX_LINES: Final = 20_000

_DIFF: Final = re.compile(r"^--- \S.*\n\+\+\+ \S.*\n@@ -\d", re.MULTILINE)


class Pasted(StrEnum):
    """What the text is."""

    GUESS = "guess"
    SNIPPET = "snippet"
    DIFF = "diff"


@dataclass(frozen=True, slots=True)
class Line:
    """A line of the text: `number` is that of its file; `place` is the range it is in, counted from 1.

    Lines that were not asked about stand around those of a diff.
    """

    number: int
    text: str
    is_asked: bool
    place: int | None
    match: str | None


@dataclass(frozen=True, slots=True)
class File:
    """What was found of a file; `unknown` are the numbers of its lines that nobody is known to have proposed."""

    path: str
    lines: list[Line]
    unknown: list[str]


@dataclass(frozen=True, slots=True)
class Found:
    """All that was found, with sums."""

    ranges: list[Range]
    files: list[File]
    asked: int
    known: int


async def show(request: Request) -> Response:
    """Show the form."""
    return _page(request)


async def trace(request: Request) -> Response:
    """Trace what was pasted; that somebody asks is recorded."""
    console, form = console_of(request), form_of(request)
    text = form.get("text", "").replace("\r\n", "\n")
    before = moment_of(form, "before", console.now())
    kind = choice_of(form, "kind", Pasted) or Pasted.GUESS
    targets = _targets(text, kind)
    # Names of files may be there twice, and mean nothing to tracing: their places say which file a range is of.
    placed = [replace(one, path=str(at)) for at, one in enumerate(targets)]
    ranges = await console.reading.trace(viewer_of(request), placed, before)
    return _page(request, text, kind, text_of(form, "before"), _found(targets, ranges))


def _page(
    request: Request,
    text: str = "",
    kind: Pasted = Pasted.GUESS,
    before: str | None = None,
    found: Found | None = None,
) -> Response:
    everyone = viewer_of(request).sees_everyone
    kinds = {Pasted.GUESS: "whichever it looks like", Pasted.SNIPPET: "a piece of code", Pasted.DIFF: "a unified diff"}
    return page(
        request,
        "trace.html",
        text=text,
        kind=kind,
        kinds=kinds,
        before=before,
        found=found,
        everyone=everyone,
        exchange_link=exchange_link,
    )


def _targets(text: str, kind: Pasted) -> list[Target]:
    lines = text.removesuffix("\n").split("\n")
    if not text.strip():
        raise PageFault(422, "There is nothing to trace: paste some code, or a diff.")
    if len(text) > MAX_CHARS or len(lines) > MAX_LINES:
        raise PageFault(413, f"The text is longer than {MAX_LINES} lines or {MAX_CHARS} characters.")
    if kind is Pasted.DIFF or (kind is Pasted.GUESS and _DIFF.search(text)):
        try:
            targets = list(targets_of_diff(text))
        except ValueError:
            raise PageFault(422, "The diff has a line number that is too long to be one.") from None
        if not targets:
            raise PageFault(422, "No unified diff that adds a line is in this text; trace it as a piece of code.")
        return targets
    numbers = list(range(1, len(lines) + 1))
    return [Target("", numbers, lines, set(numbers))]


def _found(targets: Sequence[Target], ranges: Sequence[Range]) -> Found:
    of_file: dict[str, list[tuple[int, Range]]] = {}
    for place, one in enumerate(ranges, 1):
        of_file.setdefault(one.path, []).append((place, one))
    files = [_file(target, of_file.get(str(at), ())) for at, target in enumerate(targets)]
    asked = [line for file in files for line in file.lines if line.is_asked]
    shown = [replace(one, path=targets[int(one.path)].path) for one in ranges]
    return Found(shown, files, len(asked), sum(line.place is not None for line in asked))


def _file(target: Target, ranges: Sequence[tuple[int, Range]]) -> File:
    places = {number: (place, one.match) for place, one in ranges for number in range(one.start, one.end + 1)}
    lines = []
    for number, text in zip(target.numbers, target.lines, strict=True):
        # An empty line comes from nowhere, unless it stands in a range.
        is_asked = number in target.wanted and (bool(text.strip()) or number in places)
        place, match = places.get(number, (None, None)) if is_asked else (None, None)
        lines.append(Line(number, text, is_asked, place, match))
    return File(target.path, lines, _spans([one.number for one in lines if one.is_asked and one.place is None]))


def _spans(numbers: Sequence[int]) -> list[str]:
    """Return numbers as text, those in a row together."""
    spans: list[list[int]] = []
    for number in numbers:
        if spans and number == spans[-1][1] + 1:
            spans[-1][1] = number
        else:
            spans.append([number, number])
    return [f"{first}" if first == last else f"{first}-{last}" for first, last in spans]


ROUTES: Final = (PageRoute("/trace", show, READERS), PageRoute("/trace", trace, READERS, "POST"))
