"""Protections: the rules of a policy about what an exchange would do, and what they say about each touch. Pure.

What is not known about a touch (which file a command writes, which branch a merge goes to) never lets it pass: it
matches the conditions of denials and of those who ask for an approval, and no condition of what is allowed.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from enum import StrEnum

from extproc.approval.approval import ApprovalRule
from extproc.approval.paths import PathRule, readings
from extproc.approval.touch import Act, Touch
from extproc.conditions import Condition, Seen, all_hold, listing, repository_regex
from extproc.globs import text_regex


# Match on the members, never on "is not DENY".
class Effect(StrEnum):
    """What a rule does with what matches it; the last is for touches only, never for a request as such."""

    ALLOW = "allow"
    DENY = "deny"
    REQUIRE_APPROVAL = "require-approval"


@dataclass(frozen=True, slots=True)
class Judgement:
    """What one rule says about touches that may not simply be done: deny, or require-approval with what it asks for.

    `reason` may be shown to the client; `touches` are all those that the rule decides about.
    """

    rule_id: str
    effect: Effect
    reason: str
    approval: ApprovalRule | None
    touches: tuple[Touch, ...]


@dataclass(frozen=True, slots=True)
class TouchCondition:
    """One key of a protection's `when`, such as `files`; `written` are its values as the file has them.

    `accepts` takes a touch and the repository of the request, and says None where it cannot be known.
    """

    name: str
    written: tuple[str, ...]
    accepts: Callable[[Touch, str | None], bool | None]

    def holds(self, touch: Touch, repository: str | None, *, surely: bool) -> bool:
        """Say whether the condition holds; what cannot be known holds unless it must hold `surely`."""
        answer = self.accepts(touch, repository)
        return (not surely) if answer is None else answer

    def objection(self, touch: Touch, repository: str | None) -> str:
        """Say in a few words why the condition does not hold."""
        shown = {
            "files": touch.path,
            "tools": touch.tool,
            "acts": touch.act,
            "branches": touch.branch,
            "repositories": touch.repository or repository,
        }[self.name]
        doubt = ", but not for certain" if self.accepts(touch, repository) is None else ""
        return f"{self.name}: {shown or 'not known'}, wanted {listing(self.written)}{doubt}"


@dataclass(frozen=True, slots=True)
class Protection:
    """Conditions on the request and on the touch, all of which must hold, and what follows."""

    rule_id: str
    effect: Effect
    reason: str
    conditions: tuple[Condition, ...]
    touched: tuple[TouchCondition, ...]
    approval: ApprovalRule | None = None

    def concerns(self, seen: Seen) -> bool:
        """Say whether the conditions on principal and request hold."""
        return all_hold(self.conditions, seen)

    def matches(self, touch: Touch, repository: str | None) -> bool:
        """Say whether the conditions on the touch hold; `repository` is that of the request."""
        surely = self.effect is Effect.ALLOW
        return all(one.holds(touch, repository, surely=surely) for one in self.touched)

    def objections(self, seen: Seen, touch: Touch, repository: str | None) -> list[str]:
        """Say which conditions do not hold, and why."""
        surely = self.effect is Effect.ALLOW
        return [one.objection(seen) for one in self.conditions if not one.holds(seen)] + [
            one.objection(touch, repository) for one in self.touched if not one.holds(touch, repository, surely=surely)
        ]

    def names(self) -> Iterator[str]:
        """Yield the names of the conditions."""
        yield from (one.name for one in self.conditions)
        yield from (one.name for one in self.touched)


def judge(protections: Sequence[Protection], touches: Sequence[Touch], repository: str | None) -> list[Judgement]:
    """Return what the first protection that matches says about each touch, as `Policy.judge` does."""
    found: dict[int, list[Touch]] = {}
    for touch in touches:
        first = next((index for index, one in enumerate(protections) if one.matches(touch, repository)), None)
        if first is not None:
            found.setdefault(first, []).append(touch)
    judged = [(protections[index], tuple(decided)) for index, decided in sorted(found.items())]
    judgements = [Judgement(one.rule_id, one.effect, one.reason, one.approval, decided) for one, decided in judged]
    return [one for one in judgements if one.effect is Effect.DENY] + [
        one for one in judgements if one.effect is Effect.REQUIRE_APPROVAL
    ]


def protection(
    rule_id: str,
    effect: Effect,
    conditions: Sequence[Condition],
    touched: Sequence[TouchCondition],
    *,
    reason: str = "",
    approval: ApprovalRule | None = None,
) -> Protection:
    """Build a protection; what is denied or asked for without a word to the developer gets one.

    Raises:
        ValueError: the effect is require-approval and nobody says of whom, or the other way round.

    """
    if (effect is Effect.REQUIRE_APPROVAL) is (approval is None):
        raise ValueError(f"{rule_id}: {effect} {'without' if approval is None else 'with'} approvers")
    if effect is Effect.DENY:
        reason = reason or f'The rule "{rule_id}" of the gateway\'s policy denies this.'
    elif approval is not None:
        reason = approval.message or f'The rule "{rule_id}" of the gateway\'s policy requires an approval for this.'
    return Protection(rule_id, effect, reason, tuple(conditions), tuple(touched), approval)


def touch_condition(name: str, written: Sequence[str]) -> TouchCondition:
    """Build the condition `name`: `files`, `tools`, `acts`, `branches` or `repositories`.

    Raises:
        ValueError: a glob is malformed; the text says how.

    """
    return TouchCondition(name, tuple(written), _BUILDERS[name](written))


# --- Each of the conditions ------------------------------------------------------------------------------------------

_Accepts = Callable[[Touch, str | None], bool | None]


def _files(globs: Sequence[str]) -> _Accepts:
    rule = PathRule(globs)

    def accepts(touch: Touch, _repository: str | None) -> bool | None:
        if touch.path is None:
            # A merge and a workflow run are about no file; all else without a path may be about any.
            return False if touch.act in {Act.MERGE, Act.DISPATCH} else None
        if not rule.matches(touch.path):
            return False
        return True if _is_certain(rule, touch.path) else None

    return accepts


def _is_certain(rule: PathRule, path: str) -> bool:
    """Say whether a path that matches can be read in one way only, and matches wherever the workspace begins."""
    found = readings(path.casefold())
    if found is None or len(found) > 1:
        return False
    (one,) = found
    # Below a directory that no glob names, only globs for any depth match an absolute path.
    below = f"_{one}" if one.startswith("/") else one
    return readings(below) == frozenset({below}) and rule.matches(below)


def _tools(globs: Sequence[str]) -> _Accepts:
    regex = _regex([text_regex(glob.casefold()) for glob in globs])
    return lambda touch, _repository: regex.fullmatch(touch.tool.casefold()) is not None


def _acts(names: Sequence[str]) -> _Accepts:
    wanted = frozenset(Act(name) for name in names)
    return lambda touch, _repository: touch.act in wanted


def _branches(globs: Sequence[str]) -> _Accepts:
    if any(re.match(r"(?:refs|heads)/", glob) for glob in globs):
        raise ValueError("expected a branch without refs/heads/ (a tag is tags/NAME)")
    regex = _regex([text_regex(glob.casefold()) for glob in globs])

    def accepts(touch: Touch, _repository: str | None) -> bool | None:
        if touch.branch is None:
            return None
        # GitHub takes all three spellings, though not everywhere.
        name = touch.branch.casefold().removeprefix("refs/").removeprefix("heads/")
        return regex.fullmatch(name) is not None

    return accepts


def _repositories(globs: Sequence[str]) -> _Accepts:
    regex = _regex([repository_regex(glob) for glob in globs])

    def accepts(touch: Touch, repository: str | None) -> bool | None:
        name = (touch.repository or repository or "").casefold().removesuffix(".git")
        # What is no name may be understood as one by others (`acme/app/../infra`).
        return regex.fullmatch(name) is not None if re.fullmatch(r"[\w.-]+/[\w.-]+", name) else None

    return accepts


def _regex(alternatives: Sequence[str]) -> re.Pattern[str]:
    return re.compile("|".join(f"(?:{one})" for one in alternatives) or "(?!)", re.DOTALL)


_BUILDERS: dict[str, Callable[[Sequence[str]], _Accepts]] = {
    "files": _files,
    "tools": _tools,
    "acts": _acts,
    "branches": _branches,
    "repositories": _repositories,
}
