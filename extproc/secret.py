"""A value that must never be seen: not in a log, a record, a metric, a response or a traceback."""

from __future__ import annotations


class Secret:
    """Hold a credential so that only `reveal()` shows it.

    `repr`, `str`, formatting, pickling and JSON encoding all refuse or hide the value; comparison is by value so that
    a rotated credential can be told from the old one.
    """

    __slots__ = ("_value",)

    def __init__(self, value: str) -> None:
        self._value = value

    def reveal(self) -> str:
        """Return the value; call it only where the value leaves for its one destination."""
        return self._value

    def __repr__(self) -> str:
        return "Secret(hidden)"

    __str__ = __repr__

    def __format__(self, spec: str) -> str:
        return repr(self)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Secret) and other._value == self._value

    def __hash__(self) -> int:
        return hash(self._value)

    def __reduce__(self) -> str | tuple[object, ...]:
        raise TypeError("a Secret is not serialised")
