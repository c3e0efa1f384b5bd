"""Decide what is removed by rule. Pure; docs/retention.md is the guide.

Bodies go by session, as those of one session share blobs: when every exchange of it is past what its rule keeps bodies
for. Heads go as beginnings of logs: when every entry up to there is past what its rule keeps heads for. What a legal
hold covers stays, and so does what no checkpoint proves yet.

All heads are read twice, one after the other: `Sessions` sees them first, then `plan_log` those of each log.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

from extproc.conditions import Condition, condition
from extproc.recording.entry import Head, Kind
from extproc.recording.merkle import Frontier, leaf_hash
from extproc.recording.prune import Prefix, Prune
from extproc.retention.legal_hold import Hold

DAY: Final = 86_400 * 1_000_000
"""In microseconds, as times in heads."""

MAX_RANGES: Final = 10_000
"""Ranges in one prune record: about 600 KB of JSON, well below what a store takes as one entry."""

NOT_EXCHANGES: Final = "(entries that are no exchanges)"
"""What stands for a rule where a plan counts them."""


@dataclass(frozen=True, slots=True)
class Keep:
    """How many days an exchange is kept, counted from its opening: bodies, and heads at least as long."""

    rule: str
    bodies_days: int
    heads_days: int


@dataclass(frozen=True, slots=True)
class Rule:
    """What exchanges are kept so: those for which all conditions hold, on `groups`, `repositories` and `outcomes`."""

    keep: Keep
    conditions: tuple[Condition, ...]


@dataclass(frozen=True, slots=True)
class Rules:
    """The rules in order, the first that matches counts; `default` is for what none matches.

    `digest` is the SHA-256 of the file they are from.
    """

    rules: tuple[Rule, ...]
    default: Keep
    digest: str

    def keep(self, facts: Mapping[str, Any]) -> Keep:
        """Return how long an exchange with these facts is kept.

        A head has not all groups of a principal who has very many. Whether a rule on groups matches is not known then:
        the exchange is kept as long as the longest of those that may be meant.
        """
        seen = {
            "groups": facts.get("groups") or (),
            "repositories": [repository.casefold()] if (repository := facts.get("repository")) else (),
            "outcomes": [outcome] if (outcome := facts.get("outcome")) else (),
        }
        possible: list[Keep] = []
        for rule in self.rules:
            failed = [one.name for one in rule.conditions if not one.holds(seen)]
            if not failed:
                return _longest([*possible, rule.keep])
            if failed == ["groups"] and "groups_more" in facts:
                possible.append(rule.keep)
        return _longest([*possible, self.default])

    @property
    def longest_heads_days(self) -> int:
        """How long entries that are no exchanges are kept."""
        return max(one.heads_days for one in (*(rule.keep for rule in self.rules), self.default))


def rule(keep: Keep, wanted: Mapping[str, Sequence[str]], groups: Collection[str] | None = None) -> Rule:
    """Return a rule; `wanted` is its conditions by name, `groups` what stands for those that are named there.

    Raises ValueError for a malformed glob.
    """
    return Rule(
        keep, tuple(condition(name, values, groups if name == "groups" else None) for name, values in wanted.items())
    )


def _longest(keeps: Sequence[Keep]) -> Keep:
    first = keeps[0]
    return Keep(first.rule, max(one.bodies_days for one in keeps), max(one.heads_days for one in keeps))


@dataclass(frozen=True, slots=True)
class Seen:
    """An entry as it was read: its head, that one's canonical bytes and hash, and whether a checkpoint proves it."""

    head: Head
    canonical: bytes
    hash: str
    covered: bool


@dataclass(slots=True)
class Sessions:
    """Find the sessions that stay, of all heads of all logs. `now` is in microseconds of unix time.

    `holds` are those that stand, `placed` the ids of all that the store has an entry for, released or not.
    """

    rules: Rules
    holds: Sequence[Hold]
    placed: Collection[str]
    now: int
    staying: set[str] = field(default_factory=set)
    held: set[str] = field(default_factory=set)

    def see(self, entries: Iterable[Seen]) -> None:
        """Look at the entries of a log."""
        for one in entries:
            head = one.head
            if head.kind is not Kind.EXCHANGE:
                continue
            if not one.covered or self.now < head.at + self.rules.keep(head.facts).bodies_days * DAY:
                self.staying.add(head.session)
            if self.holds and any(hold.covers(head) for hold in self.holds):
                self.held.add(head.session)

    def stays(self, session: str) -> bool:
        """Return whether the bodies of a session stay."""
        return session in self.staying or session in self.held


class Removed:
    """What prune records that are in the store list already."""

    def __init__(self, records: Iterable[Prune]) -> None:
        self._ranges: dict[str, list[tuple[int, int]]] = {}
        self.prefixes: dict[str, Prefix] = {}
        self.erased: set[str] = set()
        for record in records:
            self.erased.update(record.erased)
            for log, first, end in record.bodies:
                self._ranges.setdefault(log, []).append((first, end))
            for prefix in record.heads:
                known = self.prefixes.get(prefix.log)
                if known is None or known.below < prefix.below:
                    self.prefixes[prefix.log] = prefix
        self._ranges = {log: _joined(ranges) for log, ranges in self._ranges.items()}

    def has_body(self, log: str, index: int) -> bool:
        """Return whether a record lists the body of this entry."""
        ranges = self._ranges.get(log)
        if not ranges:
            return False
        place = bisect_right(ranges, (index, 1 << 63)) - 1
        return place >= 0 and index < ranges[place][1]

    def frontier(self, log: str) -> Frontier:
        """Return the frontier over the entries of a log that went whole."""
        prefix = self.prefixes.get(log)
        return Frontier() if prefix is None else Frontier.load(prefix.below, prefix.frontier)


def _joined(ranges: list[tuple[int, int]]) -> list[tuple[int, int]]:
    result: list[tuple[int, int]] = []
    for first, end in sorted(ranges):
        if result and first <= result[-1][1]:
            result[-1] = result[-1][0], max(end, result[-1][1])
        else:
            result.append((first, end))
    return result


@dataclass(slots=True)
class Count:
    """How much goes: number, bytes as stored (of bodies without their blobs), the oldest and the newest time."""

    number: int = 0
    size: int = 0
    oldest: int | None = None
    newest: int | None = None

    def add(self, size: int, at: int) -> None:
        """Count one more."""
        self.number += 1
        self.size += size
        self.oldest = at if self.oldest is None else min(self.oldest, at)
        self.newest = at if self.newest is None else max(self.newest, at)


@dataclass(slots=True)
class Plan:
    """What goes: ranges of entries (log, first, end) whose bodies go, beginnings of logs, and how much that is by rule.

    `held` counts the bodies that only a legal hold keeps.
    """

    ranges: list[tuple[str, int, int]] = field(default_factory=list)
    prefixes: list[Prefix] = field(default_factory=list)
    bodies: dict[str, Count] = field(default_factory=dict)
    heads: dict[str, Count] = field(default_factory=dict)
    held: Count = field(default_factory=Count)

    @property
    def is_empty(self) -> bool:
        """Whether nothing goes."""
        return not self.ranges and not self.prefixes

    def prunes(self, *, digest: str, by: str, at: int) -> Iterator[Prune]:
        """Yield the records of it, whose order is that in which they are carried out: bodies, then whole entries."""
        names = ", ".join(sorted({*self.bodies, *self.heads} - {NOT_EXCHANGES}) or ["-"])
        told = f"{names} of retention rules {digest[:16]}"
        for start in range(0, len(self.ranges), MAX_RANGES):
            yield Prune(told, by, at, bodies=self.ranges[start : start + MAX_RANGES])
        if self.prefixes:
            yield Prune(told, by, at, heads=self.prefixes)


def plan_log(plan: Plan, entries: Iterable[Seen], log: str, sessions: Sessions, removed: Removed) -> None:
    """Add to a plan what goes of a log; `entries` are those that are not gone, `sessions` has seen all logs."""
    frontier = removed.frontier(log)
    start, last, growing = frontier.size, "", True
    for one in entries:
        head = one.head
        if one.covered and _body_goes(head, sessions, removed, plan):
            name = sessions.rules.keep(head.facts).rule
            plan.bodies.setdefault(name, Count()).add(head.size, head.at)
            _extend(plan.ranges, log, head.index)
        growing = growing and one.covered and _head_goes(head, sessions)
        if growing:
            frontier.append(leaf_hash(one.canonical))
            last = one.hash
            name = sessions.rules.keep(head.facts).rule if head.kind is Kind.EXCHANGE else NOT_EXCHANGES
            plan.heads.setdefault(name, Count()).add(len(one.canonical), head.at)
    if frontier.size > start:
        plan.prefixes.append(Prefix(log, frontier.size, frontier.dump(), last))


def _extend(ranges: list[tuple[str, int, int]], log: str, index: int) -> None:
    if ranges and ranges[-1][0] == log and ranges[-1][2] == index:
        ranges[-1] = log, ranges[-1][1], index + 1
    else:
        ranges.append((log, index, index + 1))


def _body_goes(head: Head, sessions: Sessions, removed: Removed, plan: Plan) -> bool:
    if head.kind is not Kind.EXCHANGE or head.body is None or removed.has_body(head.log, head.index):
        return False
    if head.session in sessions.staying:
        return False
    if head.session in sessions.held:
        plan.held.add(head.size, head.at)
        return False
    return True


# A prune record explains gaps for as long as there is anything around them, so it never goes. Neither does what places
# a hold that stands; and what released one goes after what placed it, else the hold would stand again.
def _head_goes(head: Head, sessions: Sessions) -> bool:
    match head.kind:
        case Kind.EXCHANGE:
            days = sessions.rules.keep(head.facts).heads_days
            may_go = not sessions.stays(head.session)
        case Kind.PRUNE:
            return False
        case _:
            days = sessions.rules.longest_heads_days
            standing = {hold.id for hold in sessions.holds}
            may_go = head.id not in standing and head.facts.get("hold") not in set(sessions.placed) - {head.id}
    return may_go and sessions.now >= head.at + days * DAY
