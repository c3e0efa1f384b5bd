"""Find the exchanges that proposed lines of code: moved and re-indented lines exactly, edited ones next to those. Pure.

A line's fingerprint names all exchanges that proposed it. Of them the one counts that proposed the most lines in a row
there (trivial lines aside), among equals the most recent one, or, where it is known when the lines came to be, the most
recent one before that. Then lines that nobody proposed are compared with what the exchanges of the lines around them
proposed at that place.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, Protocol

from extproc.tracing.lines import fingerprint_each, normalised
from extproc.tracing.neighbours import Place, add_edited, add_trivial
from extproc.tracing.suggestion import Match, Source, Suggestion, suggestion_of

MAX_OTHERS_ALONE: Final = 5
"""A line that stands alone and that more other exchanges proposed, too, is anybody's: nobody is named for it."""


class Proposals(Protocol):
    """What tracing asks of an archive (`extproc.store.port.Archive` has it); raises `StoreUnavailable`."""

    def lines(self, fingerprints: Collection[str]) -> Iterator[tuple[str, str]]:
        """Yield (fingerprint, exchange id) for every exchange that proposed a line with one of these."""
        ...

    def exchange(self, exchange_id: str) -> dict[str, Any] | None:
        """Return the document of an exchange."""
        ...


@dataclass(frozen=True, slots=True)
class Target:
    """Lines to trace: each of `lines` has a number; only those `wanted` are reported, the others help to decide."""

    path: str
    numbers: list[int]
    lines: list[str]
    wanted: set[int]


@dataclass(frozen=True, slots=True)
class Range:
    """Lines `start` to `end` of a file, both included, that come from one exchange.

    `similarity` is the least of its lines, 1.0 where all are as proposed (but for blanks). `others` are as many other
    exchanges as proposed all of these lines, too. `is_later` says that the lines were there before this exchange was:
    it repeated them, unless a clock was wrong.
    """

    path: str
    start: int
    end: int
    similarity: float
    source: Source
    others: int
    is_later: bool

    @property
    def match(self) -> str:
        """`exact` or `edited`."""
        return "exact" if self.similarity == 1 else "edited"


@dataclass(slots=True)
class _Run:
    """How many lines in a row one exchange proposed."""

    count: int = 0


def trace(targets: Sequence[Target], key: bytes, proposals: Proposals, before: float | None = None) -> Iterator[Range]:
    """Yield what is known of the wanted lines, in their order; `before` is when they came to be (unix seconds)."""
    prints = [fingerprint_each(target.lines, key) for target in targets]
    proposers: dict[str, set[str]] = {}
    for one, exchange in proposals.lines({one for each in prints for one in each if one is not None}):
        proposers.setdefault(one, set()).add(exchange)
    chooser = _Chooser(proposals, before)
    for target, each in zip(targets, prints, strict=True):
        matches = [chooser.choose(runs) for runs in _runs(target.numbers, each, proposers)]
        place = Place(target.numbers, [normalised(line) for line in target.lines], each, matches)
        add_edited(place)
        add_trivial(place)
        yield from _ranges(target, matches, before)


# --- The exchange of a line ------------------------------------------------------------------------------------------


def _runs(
    numbers: Sequence[int], prints: Sequence[str | None], proposers: Mapping[str, Iterable[str]]
) -> list[dict[str, _Run]]:
    """Return for each line the exchanges that proposed it, with the runs it is in."""
    found: list[dict[str, _Run]] = []
    open_runs: dict[str, _Run] = {}
    for at, one in enumerate(prints):
        if at and numbers[at] != numbers[at - 1] + 1:
            open_runs = {}
        here: dict[str, _Run] = {}
        if one is not None:
            for exchange in proposers.get(one, ()):
                here[exchange] = run = open_runs.get(exchange) or _Run()
                run.count += 1
            open_runs = here
        found.append(here)
    return found


class _Chooser:
    """Choose between exchanges; documents are read only where they are needed, and once."""

    def __init__(self, proposals: Proposals, before: float | None) -> None:
        self._proposals = proposals
        self._before = before
        self._known: dict[str, Suggestion | None] = {}

    def choose(self, runs: Mapping[str, _Run]) -> Match | None:
        """Return what a line with these runs comes from."""
        counts = sorted({run.count for run in runs.values()}, reverse=True)
        if not counts or (counts[0] == 1 and len(runs) > MAX_OTHERS_ALONE + 1):
            return None
        later: list[Suggestion] = []
        for count in counts:
            equals = [known for one, run in runs.items() if run.count == count and (known := self._look_up(one))]
            earlier = [known for known in equals if self._before is None or known.source.opened_at <= self._before]
            if earlier:
                return _matched(max(earlier, key=_opened), runs)
            later = later or equals
        # Clocks differ, and dates of commits can be set: what looks too late is shown, and said to be so.
        return _matched(min(later, key=_opened), runs) if later else None

    def _look_up(self, exchange: str) -> Suggestion | None:
        if exchange not in self._known:
            document = self._proposals.exchange(exchange)
            self._known[exchange] = None if document is None else suggestion_of(exchange, document)
        return self._known[exchange]


def _matched(known: Suggestion, runs: Mapping[str, _Run]) -> Match:
    return Match(known, others=frozenset(runs) - {known.source.exchange})


def _opened(known: Suggestion) -> tuple[float, str]:
    # Ids sort by time, too.
    return known.source.opened_at, known.source.exchange


# --- Ranges ----------------------------------------------------------------------------------------------------------


def _ranges(target: Target, matches: Sequence[Match | None], before: float | None) -> Iterator[Range]:
    """Join neighbouring lines from the same exchange, those as proposed and edited ones apart."""
    part: list[tuple[int, Match]] = []
    for number, match in zip(target.numbers, matches, strict=True):
        if part and (match is None or number not in target.wanted or not _continues(part[-1], number, match)):
            yield _range(target.path, part, before)
            part = []
        if match is not None and number in target.wanted:
            part.append((number, match))
    if part:
        yield _range(target.path, part, before)


def _continues(last: tuple[int, Match], number: int, match: Match) -> bool:
    before, exact = last[1], match.similarity == 1
    return number == last[0] + 1 and match.suggestion is before.suggestion and exact == (before.similarity == 1)


def _range(path: str, part: Sequence[tuple[int, Match]], before: float | None) -> Range:
    source = part[0][1].suggestion.source
    others = [match.others for _, match in part if match.others is not None]
    return Range(
        path=path,
        start=part[0][0],
        end=part[-1][0],
        similarity=round(min(match.similarity for _, match in part), 3),
        source=source,
        others=len(frozenset.intersection(*others)) if others else 0,
        is_later=before is not None and source.opened_at > before,
    )
