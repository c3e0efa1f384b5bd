"""Mark the placeholders in recorded text with the findings that they stand for. Pure."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Final

from markupsafe import Markup, escape

from extproc.console.showing import shapes
from extproc.console.templates import visible
from extproc.masking.finding import Action, Direction

PLACEHOLDER: Final = re.compile(r"\[MASKED:([A-Za-z0-9._:/-]{1,128})\]")
"""As `extproc.masking.finding.placeholder` makes it."""

_DONE: Final = {Action.MASK: "masked", Action.BLOCK: "blocked", Action.OBSERVE: "observed"}
_MARK: Final = '<mark class="finding{}" tabindex="0" title="{}" aria-description="{}">{}</mark>'
_UNKNOWN: Final = "no finding of this exchange stands behind this: it was masked before, or somebody wrote it so"

Finding = Mapping[str, Any]


class Marker:
    """Escape a text, given piece by piece in its order, and mark each placeholder in it with the next finding.

    What it is given must have gone through `visible`: that neither makes nor breaks a placeholder.
    """

    def __init__(self, findings: Iterator[Finding | None]) -> None:
        self._findings = findings

    def markup(self, text: str) -> Markup:
        """Return a piece that cuts no placeholder in two."""
        if "[MASKED:" not in text:
            return escape(text)
        parts: list[str] = []
        end = 0
        for found in PLACEHOLDER.finditer(text):
            parts += [escape(text[end : found.start()]), self.mark(found[0])]
            end = found.end()
        return Markup("".join([*parts, escape(text[end:])]))  # noqa: S704 - of escaped parts

    def mark(self, placeholder: str) -> Markup:
        """Return a placeholder as an element that tells its finding."""
        finding = next(self._findings, None)
        told = escape(visible(_UNKNOWN if finding is None else description(finding)))
        return Markup(_MARK.format("" if finding else " unknown", told, told, escape(placeholder)))  # noqa: S704 - escaped


class Findings:
    """The findings of one exchange, each of which stands behind at most one placeholder that is shown."""

    def __init__(self, findings: Any) -> None:  # noqa: ANN401 - JSON
        self.all: Sequence[Finding] = shapes.objects(findings)
        self._left: dict[tuple[str | None, str | None], list[Finding]] = {}
        for one in self.all:
            if one.get("action") == Action.MASK:
                self._left.setdefault((shapes.text(one.get("rule")), shapes.text(one.get("direction"))), []).append(one)

    def marker(self, text: str, direction: Direction, place: str | None = None) -> Marker:
        """Return what marks a text: with findings of the same rule and direction, those at the same offset first.

        `place` is where the text stands in the body (`messages[3]`); None where that is not known, then the findings
        are taken in their order.
        """
        # Looked up once for a text: somebody may have typed very many placeholders for which there is nothing.
        fitting: dict[str, list[Finding]] = {}

        def take(found: re.Match[str]) -> Finding | None:
            rule, left = found[1], self._left.get((found[1], direction), [])
            if rule not in fitting:
                fitting[rule] = [one for one in left if _is_in(one.get("where"), place)]
            if not fitting[rule]:
                return None
            chosen = next((one for one in fitting[rule] if one.get("offset") == found.start()), fitting[rule][0])
            for some in (fitting[rule], left):
                some[:] = [one for one in some if one is not chosen]
            return chosen

        return Marker(iter([take(found) for found in PLACEHOLDER.finditer(text)]))


def description(finding: Finding) -> str:
    """Say in a line what was found where, and what was done about it."""
    action = str(finding.get("action"))
    done = _DONE.get(Action(action), action) if action in set(Action) else action
    where = f"in the {finding.get('direction')}, at {finding.get('where')}"
    return f"rule {finding.get('rule')}: {done} {where}; fingerprint {finding.get('fingerprint')}"


def _is_in(where: Any, place: str | None) -> bool:  # noqa: ANN401 - JSON
    if place is None or where == place:
        return True
    return isinstance(where, str) and where.startswith((f"{place}.", f"{place}["))
