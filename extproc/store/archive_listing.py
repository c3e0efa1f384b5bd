"""Lists over any archive: no index of their own, so that what they cost is what the archive's searches cost."""

from __future__ import annotations

import re
import threading
from bisect import bisect_right
from collections import Counter, OrderedDict, defaultdict
from collections.abc import Callable
from itertools import pairwise
from typing import Any, Final

from extproc.recording.facts import facts_of
from extproc.store.port import (
    Archive,
    FindingPage,
    FindingSearch,
    ModelUse,
    Overview,
    Search,
    SessionPage,
    Step,
)
from extproc.store.searching import bounds_of_steps, how_many, overview

MAX_PLACE: Final = 5_000
"""Rows that can be reached by turning pages: each page reads those before it again. Whoever wants more narrows down."""

MAX_EXCHANGES: Final = 10_000
"""Exchanges that an overview is made of, the newest."""

KEPT_SECONDS: Final = 10.0
KEPT_OVERVIEWS: Final = 64

_PARTS: Final = 10
_CURSOR: Final = re.compile(r"from-([1-9][0-9]{0,3})")
_ALL: Final = Search()
_ALL_FINDINGS: Final = FindingSearch()

Question = tuple[float, float, int, str | None]


class ArchiveListing:
    """Implement the `Listing` port over an archive. Cursors are numbers of rows: what is new meanwhile moves them."""

    def __init__(self, archive: Archive, now: Callable[[], float]) -> None:
        self._archive = archive
        self._now = now
        self._lock = threading.Lock()
        self._kept: OrderedDict[Question, tuple[float, Overview]] = OrderedDict()

    def catch_up(self) -> None:
        """Do nothing: there is no index."""

    def sessions(self, search: Search = _ALL, *, limit: int = 50, after: str | None = None) -> SessionPage:
        """Return a page of sessions; see the port."""
        return sessions(self._archive, search, limit, after)

    def findings(
        self, search: FindingSearch = _ALL_FINDINGS, *, limit: int = 50, after: str | None = None
    ) -> FindingPage:
        """Return a page of findings; see the port."""
        place = _place(after)
        rows = self._archive.findings(search, limit=place + limit + 1)
        return FindingPage(rows[place : place + limit], _after(place + limit, len(rows)))

    def overview(self, *, since: float, until: float, steps: int, principal: str | None = None) -> Overview:
        """Sum up a span of time, at most `MAX_EXCHANGES` of it; what was answered is kept for `KEPT_SECONDS`."""
        bounds, now = bounds_of_steps(since, until, steps), self._now()
        # Whoever shows the last hour asks for another each second.
        question = (since // KEPT_SECONDS, until // KEPT_SECONDS, steps, principal)
        with self._lock:
            at, known = self._kept.get(question, (0.0, None))
        if known is not None and now - at < KEPT_SECONDS:
            return known
        made = _overview(self._archive, bounds, principal)
        with self._lock:
            self._kept[question] = now, made
            self._kept.move_to_end(question)
            while len(self._kept) > KEPT_OVERVIEWS:
                self._kept.popitem(last=False)
        return made


def sessions(archive: Archive, search: Search, limit: int, after: str | None) -> SessionPage:
    """Return a page of the sessions that an archive finds; raises ValueError for a cursor that is none."""
    place = _place(after)
    rows = archive.sessions(search, limit=place + limit + 1)
    return SessionPage(rows[place : place + limit], _after(place + limit, len(rows)))


def _place(after: str | None) -> int:
    if after is None:
        return 0
    match = _CURSOR.fullmatch(after)
    if match is None or int(match[1]) > MAX_PLACE:
        raise ValueError("this is not a place in a list")
    return int(match[1])


def _after(place: int, found: int) -> str | None:
    return f"from-{place}" if 0 < place < found and place <= MAX_PLACE else None


def _overview(archive: Archive, bounds: list[float], principal: str | None) -> Overview:
    """Sum up from the end, so that what is not read is the oldest."""
    counts = [Counter[str]() for _ in bounds[1:]]
    uses: defaultdict[str, Counter[str]] = defaultdict(Counter)
    left, length = MAX_EXCHANGES, (bounds[-1] - bounds[0]) / _PARTS
    parts = [*(bounds[0] + length * part for part in range(_PARTS)), bounds[-1]]
    for begin, end in reversed(list(pairwise(parts))):
        if left <= 0:
            break
        for document in archive.exchanges(Search(since=begin, until=end, principal=principal), limit=left):
            left -= 1
            facts = _facts(document)
            step = max(bisect_right(bounds, document["opened_at"], hi=len(counts)) - 1, 0)
            refused = int(facts.get("code") is not None)
            counts[step].update(exchanges=1, findings=how_many(facts, "findings"), refused=refused)
            _use(uses, facts)
    steps = [
        Step(at, one["exchanges"], one["findings"], one["refused"]) for at, one in zip(bounds, counts, strict=False)
    ]
    return overview(steps, (ModelUse(model, **use) for model, use in uses.items()))


def _use(uses: defaultdict[str, Counter[str]], facts: dict[str, Any]) -> None:
    if (model := facts.get("model")) is not None:
        tokens = {name: facts.get(name) or 0 for name in ("input_tokens", "output_tokens")}
        uses[model].update(exchanges=1, **tokens)


def _facts(document: dict[str, Any]) -> dict[str, Any]:
    facts: dict[str, Any] = document["facts"] if "removed" in document else facts_of(document)
    return facts
