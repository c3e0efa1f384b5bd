"""Compare lines that nobody proposed as they are with what was proposed at their place. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Final

from extproc.tracing.suggestion import Match, Suggestion

MIN_SIMILARITY: Final = 0.6
"""Of an edited line and the proposed one. Of lines that have nothing to do with each other, one in 300 has as much."""

_MAX_AHEAD: Final = 3  # proposed lines that may be left out between a line and the edited one after it
_MAX_INSERTED: Final = 2  # lines in a row that were inserted, and are like none of the proposed ones
_MAX_PLACES: Final = 8  # at which an exchange proposes the same line
_MAX_COMPARED_CHARS: Final = 400  # of a line: comparing takes the product of both lengths


@dataclass(frozen=True, slots=True)
class Place:
    """Lines that are being traced, normalised; `matches` is filled in. Trivial ones have None in `prints`."""

    numbers: Sequence[int]
    lines: Sequence[str]
    prints: Sequence[str | None]
    matches: list[Match | None]
    present: set[str] = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "present", set(self.lines))

    def walk(self, start: int, step: int) -> Iterator[int]:
        """Yield the places after `start`, or before it, as long as their numbers follow on each other."""
        at = start + step
        while 0 <= at < len(self.lines) and self.numbers[at] == self.numbers[at - step] + step:
            yield at
            at += step


def add_edited(place: Place) -> None:
    """Match lines that are like what the exchange of a line near them proposed there; the most similar one counts."""
    found: dict[int, Match] = {}
    for at, match in enumerate(place.matches):
        if match is None:
            continue
        for step in (1, -1):
            for edited, similarity in _edited(place, at, match.suggestion, step):
                if edited not in found or found[edited].similarity < similarity:
                    found[edited] = Match(match.suggestion, similarity)
    for at, match in found.items():
        place.matches[at] = match


def _edited(place: Place, start: int, suggestion: Suggestion, step: int) -> Iterator[tuple[int, float]]:
    """Yield the lines from `start` on that are like what was proposed next, with how much they are, up to a match."""
    places = suggestion.places.get(place.lines[start], [])[:_MAX_PLACES]
    inserted = 0
    for at in place.walk(start, step):
        if place.prints[at] is None:
            continue
        if place.matches[at] is not None:
            return
        near = {one + step * ahead for one in places for ahead in range(1, _MAX_AHEAD + 1)}
        # A proposed line that is there as it was has not been edited into another one.
        free = [
            one
            for one in sorted(near)
            if 0 <= one < len(suggestion.lines) and suggestion.lines[one] not in place.present
        ]
        similarity, best = most_similar(place.lines[at], ((suggestion.lines[one], one) for one in free))
        if best is None:
            inserted += 1
            if inserted > _MAX_INSERTED:
                return
        else:
            inserted, places = 0, [best]
            yield at, similarity


def most_similar(line: str, proposed: Iterable[tuple[str, int]]) -> tuple[float, int | None]:
    """Return the similarity and the number of the most similar line, at least `MIN_SIMILARITY`; the first of equals."""
    best, found = 0.0, None
    for text, number in proposed:
        similarity = _similarity(line[:_MAX_COMPARED_CHARS], text[:_MAX_COMPARED_CHARS])
        if similarity >= MIN_SIMILARITY and similarity > best:
            # The texts differ, if only beyond what is compared.
            best, found = min(similarity, 0.999), number
    return best, found


def _similarity(one: str, other: str) -> float:
    """Return twice the length of the longest common subsequence, of the characters of both.

    Hyyrö, "Bit-parallel LCS-length computation revisited" (2004): one bit for each character of `one`, which is 0 where
    the subsequence grows. Seven times faster than difflib, and it tells edited lines from others as well.
    """
    places: dict[str, int] = {}
    for at, char in enumerate(one):
        places[char] = places.get(char, 0) | 1 << at
    full = row = (1 << len(one)) - 1
    for char in other:
        grown = row & places.get(char, 0)
        row = (row + grown | row - grown) & full
    return 2 * (len(one) - row.bit_count()) / max(len(one) + len(other), 1)


def add_trivial(place: Place) -> None:
    """Give trivial lines between two that match the match of the one before them."""
    for at, match in enumerate(list(place.matches)):
        if match is None or place.prints[at] is None:
            continue
        between: list[int] = []
        for after in place.walk(at, 1):
            if place.prints[after] is None:
                between.append(after)
                continue
            if place.matches[after] is not None:
                for one in between:
                    place.matches[one] = Match(match.suggestion, match.similarity)
            break
