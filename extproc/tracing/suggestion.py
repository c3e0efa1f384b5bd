"""What is known of an exchange that proposed lines of code. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from extproc.tracing.lines import is_trivial, normalised, proposed_lines


@dataclass(frozen=True, slots=True)
class Source:
    """An exchange that lines come from; `opened_at` is in unix seconds.

    `approved_by` and `denied_by` are the names of those who gave a verdict on what it proposed.
    """

    exchange: str
    session: str | None
    opened_at: float
    user: str | None
    principal: str | None
    model: str | None
    client: str | None
    outcome: str | None
    approved_by: list[str]
    denied_by: list[str]


@dataclass(frozen=True, slots=True)
class Suggestion:
    """What is kept of an exchange: where it came from, and the lines it proposed that are not trivial, normalised."""

    source: Source
    lines: list[str]
    places: dict[str, list[int]]


@dataclass(frozen=True, slots=True)
class Match:
    """What a line comes from; `others` is None where it was not looked up itself."""

    suggestion: Suggestion
    similarity: float = 1.0
    others: frozenset[str] | None = None


def suggestion_of(exchange: str, document: Mapping[str, Any]) -> Suggestion:
    """Read a merged document, or what is left of one."""
    lines = [line for line in map(normalised, proposed_lines(document)) if not is_trivial(line)]
    places: dict[str, list[int]] = {}
    for at, line in enumerate(lines):
        places.setdefault(line, []).append(at)
    return Suggestion(_source(exchange, document), lines, places)


def _source(exchange: str, document: Mapping[str, Any]) -> Source:
    """Read the source from a document, or from its facts where the rest was removed by rule."""
    facts = document.get("facts") or {}
    principal, client = document.get("principal") or {}, document.get("client") or {}
    request, response = document.get("request") or {}, document.get("response") or {}
    verdicts = [one for approval in document.get("approvals") or () for one in approval.get("verdicts") or ()]
    names = [(one.get("approved"), one.get("name") or one.get("approver") or "?") for one in verdicts]
    return Source(
        exchange=exchange,
        session=document.get("session"),
        opened_at=document.get("opened_at") or 0.0,
        user=principal.get("name") or facts.get("user"),
        principal=principal.get("id") or facts.get("principal"),
        model=response.get("model") or request.get("model") or facts.get("model"),
        client=client.get("user_agent") or facts.get("client"),
        outcome=document.get("outcome") or facts.get("outcome"),
        approved_by=list(dict.fromkeys(name for approved, name in names if approved)),
        denied_by=list(dict.fromkeys(name for approved, name in names if not approved)),
    )
