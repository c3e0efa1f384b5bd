"""Reading of objects that lets nothing pass unread: a field that the simulation does not know is an error."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

Object = dict[str, Any]


def known(what: str, value: Object, *fields: str) -> Object:
    """Return the object when it has no other fields than these."""
    if others := sorted(value.keys() - set(fields)):
        raise ValueError(f"{what}: the simulation does not know {', '.join(others)}")
    return value


def one_of(what: str, value: Object, kinds: Iterable[str]) -> str:
    """Return which of `kinds` the object has, exactly one."""
    found = [kind for kind in kinds if kind in value]
    if len(found) != 1:
        raise ValueError(f"{what}: expected one of {', '.join(kinds)}, got {', '.join(value)}")
    return found[0]


def must_be(what: str, value: object, expected: object) -> None:
    if value != expected:
        raise ValueError(f"{what}: the simulation knows only {expected!r}, got {value!r}")
