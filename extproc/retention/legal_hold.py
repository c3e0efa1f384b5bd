"""Legal holds: what must not be removed, whatever the rules say. Pure.

A hold is placed by an entry of kind `legal-hold` whose state is `on`, and released by one whose state is `off` and
whose `hold` names it. A hold that was released is never placed again.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from extproc.errors import ConfigError, ExtprocError
from extproc.globs import text_regex
from extproc.recording.entry import Draft, Head, Kind
from extproc.recording.facts import bounded

SESSION: Final = "legal-holds"
"""Where entries about holds belong in a store."""

SELECTORS: Final = ("session", "user", "group", "repository")
"""What a hold may be about; an exchange is covered where all that is given fits."""


@dataclass(frozen=True, slots=True)
class Hold:
    """What is held, and why.

    `selector` has some of `SELECTORS`: a user is a name or an id, a repository a glob. `at` is as in heads.
    """

    id: str
    selector: Mapping[str, str]
    reason: str
    by: str
    at: int
    _repository: re.Pattern[str] | None = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        glob = self.selector.get("repository")
        compiled = None if glob is None else re.compile(text_regex(glob.casefold()), re.DOTALL)
        object.__setattr__(self, "_repository", compiled)

    def covers(self, head: Head) -> bool:
        """Return whether an exchange fits; where its head does not say enough to know, it does."""
        facts, wanted = head.facts, self.selector
        groups = facts.get("groups") or ()
        return (
            wanted.get("session") in {None, head.session}
            and wanted.get("user") in {None, facts.get("user"), facts.get("principal")}
            and ("group" not in wanted or wanted["group"] in groups or "groups_more" in facts)
            and (
                self._repository is None
                or self._repository.fullmatch((facts.get("repository") or "").casefold()) is not None
            )
        )


def on(hold_id: str, selector: Mapping[str, str], *, reason: str, by: str, at: int) -> Draft:
    """Return the entry that places a hold; raises ConfigError where it would be about nothing in particular."""
    if not selector:
        raise ConfigError(f"a hold must say what it is about: expected some of {', '.join(SELECTORS)}")
    return _draft(hold_id, dict(selector), "on", hold_id, reason=reason, by=by, at=at)


def off(entry_id: str, hold: Hold, *, reason: str, by: str, at: int) -> Draft:
    """Return the entry that releases a hold."""
    return _draft(entry_id, dict(hold.selector), "off", hold.id, reason=reason, by=by, at=at)


def active(heads: Iterable[Head]) -> list[Hold]:
    """Return the holds that are not released, the oldest first, of heads of kind `legal-hold` in any order.

    Raises ExtprocError where one cannot be understood: then nobody knows what it covers.
    """
    placed: dict[str, Hold] = {}
    released: set[str] = set()
    for head in heads:
        match head.facts:
            case {"state": "on", "selector": dict(selector)} if _is_selector(selector):
                reason, by = str(head.facts.get("reason", "")), str(head.facts.get("by", ""))
                placed[head.id] = Hold(head.id, selector, reason, by, head.at)
            case {"state": "off", "hold": str(hold)}:
                released.add(hold)
            case _:
                raise ExtprocError(f"entry {head.index} of log {head.log} is a legal hold that cannot be understood")
    return sorted((hold for hold in placed.values() if hold.id not in released), key=lambda hold: (hold.at, hold.id))


def placed(heads: Iterable[Head]) -> set[str]:
    """Return the ids of the holds that these heads place, released or not."""
    return {head.id for head in heads if head.facts.get("state") == "on"}


def _is_selector(selector: dict[Any, Any]) -> bool:
    return bool(selector) and all(name in SELECTORS and isinstance(value, str) for name, value in selector.items())


def _draft(entry_id: str, selector: dict[str, str], state: str, hold: str, *, reason: str, by: str, at: int) -> Draft:
    facts = bounded({"selector": selector, "state": state, "hold": hold, "reason": reason, "by": by})
    return Draft(Kind.LEGAL_HOLD, entry_id, SESSION, at, facts)
