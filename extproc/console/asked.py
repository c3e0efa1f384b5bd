"""Read what a URL or a form asks for; whatever is not understood is said to the person who asked."""

from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum
from typing import Final, TypeVar
from urllib.parse import quote, urlencode

from extproc.console.moments import EXPECTED, moment
from extproc.console.page import PageFault

_MAX_CHARS: Final = 1000

Choice = TypeVar("Choice", bound=StrEnum)


def text_of(given: Mapping[str, str], name: str) -> str | None:
    """Return a value without blanks around it, None where there is none; raises PageFault for one that is too long."""
    text = given.get(name, "").strip()
    if len(text) > _MAX_CHARS:
        raise PageFault(422, f"{name}: expected at most {_MAX_CHARS} characters.")
    return text or None


def choice_of(given: Mapping[str, str], name: str, choices: type[Choice]) -> Choice | None:
    """Return one of the choices, None where there is none; raises PageFault for anything else."""
    text = text_of(given, name)
    try:
        return None if text is None else choices(text)
    except ValueError:
        raise PageFault(422, f"{name}: expected one of {', '.join(choices)}.") from None


def moment_of(given: Mapping[str, str], name: str, now: float) -> float | None:
    """Return the unix time of an ISO date or time (UTC unless it says its zone), or of an age; raises PageFault."""
    text = text_of(given, name)
    if text is None:
        return None
    try:
        return moment(text, now, in_utc=True)
    except ValueError:
        raise PageFault(422, f"{name}: {EXPECTED}, in UTC.") from None


def link(path: str, /, **query: str | None) -> str:
    """Return a URL of the console with those of these values that are given."""
    given = {name: value for name, value in query.items() if value is not None}
    return f"{path}?{urlencode(given, errors='replace')}" if given else path


def exchange_link(session: str | None, exchange: str) -> str | None:
    """Return the URL of an exchange in its session; None for one whose session is not known."""
    if session is None:
        return None
    return f"/sessions/{quote(session, safe='', errors='replace')}#{quote(exchange, safe='', errors='replace')}"
