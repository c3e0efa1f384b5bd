"""Take recorded JSON for what it should be: strangers wrote much of it, and earlier versions the rest. Pure."""

from __future__ import annotations

import json
import math
from typing import Any, Final

# The last second of the year 9999, beyond which nothing can be shown as a date.
_LAST: Final = 253_402_300_799

MAX_DEPTH: Final = 40
"""How deeply JSON may be nested that is indented: each line begins with twice as many blanks."""


def members(value: Any) -> dict[str, Any]:  # noqa: ANN401 - JSON
    """Return an object, an empty one for anything else."""
    return value if isinstance(value, dict) else {}


def objects(value: Any) -> list[dict[str, Any]]:  # noqa: ANN401 - JSON
    """Return the objects of a list, none for anything else."""
    return [one for one in elements(value) if isinstance(one, dict)]


def elements(value: Any) -> list[Any]:  # noqa: ANN401 - JSON
    """Return a list, an empty one for anything else."""
    return value if isinstance(value, list) else []


def text(value: Any) -> str | None:  # noqa: ANN401 - JSON
    """Return a text, also of a number; None for anything else and for an empty one."""
    if isinstance(value, str):
        return value or None
    return None if isinstance(value, bool) or not isinstance(value, int | float) else f"{value}"


def number(value: Any) -> float | None:  # noqa: ANN401 - JSON
    """Return a number that can be a time or a count: finite, not negative, and before the year 10000 in seconds."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    return float(value) if 0 <= value <= _LAST and math.isfinite(value) else None


def indented(value: Any) -> str:  # noqa: ANN401 - JSON
    """Return JSON for people to read; on one line where it is nested so deeply that the blanks would be most of it."""
    try:
        return json.dumps(value, indent=None if is_deep(value) else 2, ensure_ascii=False)
    except RecursionError:
        return "(nested too deeply to be shown)"


def is_deep(value: Any) -> bool:  # noqa: ANN401 - JSON
    """Say whether JSON is nested more deeply than `MAX_DEPTH`."""
    left = [(value, 0)]
    while left:
        one, depth = left.pop()
        if isinstance(one, dict | list):
            if depth == MAX_DEPTH:
                return True
            left += [(inner, depth + 1) for inner in (one.values() if isinstance(one, dict) else one)]
    return False
