"""Moments as people write them: a date, a time, or an age. Pure."""

from __future__ import annotations

import re
from datetime import UTC, datetime
from typing import Final

EXPECTED: Final = "expected a date (2026-01-31), a time (2026-01-31T09:30) or an age (30m, 12h, 7d)"

_UNIT_SECONDS: Final = {"s": 1, "m": 60, "h": 3600, "d": 86_400, "w": 604_800}


def age(text: str) -> int | None:
    """Return the seconds of an age such as `90m` or `7d`, None for what is none."""
    found = re.fullmatch(r"([0-9]{1,6})([smhdw])", text)
    return None if found is None else int(found[1]) * _UNIT_SECONDS[found[2]]


def moment(text: str, now: float, *, in_utc: bool) -> float:
    """Return the unix time of an ISO date or time, or of an age before `now`; raises ValueError.

    A time that does not say its zone is in UTC, or else in this machine's zone.
    """
    if (seconds := age(text)) is not None:
        return now - seconds
    try:
        at = datetime.fromisoformat(text)
        return (at.replace(tzinfo=UTC) if in_utc and at.tzinfo is None else at).timestamp()
    except (OverflowError, OSError):
        raise ValueError(text) from None
