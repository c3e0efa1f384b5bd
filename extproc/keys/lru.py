"""Remember values for a while, and never more than a fixed number of them."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Hashable
from typing import Generic, TypeVar

K = TypeVar("K", bound=Hashable)
V = TypeVar("V")


class ExpiringLru(Generic[K, V]):
    """Forget a value when its time is over, or when `entries` others were used more recently."""

    __slots__ = ("_entries", "_values")

    def __init__(self, entries: int) -> None:
        self._entries = entries
        self._values: OrderedDict[K, tuple[V, float]] = OrderedDict()

    def __len__(self) -> int:
        return len(self._values)

    def get(self, key: K, now: float) -> V | None:
        """Return the value of `key` if it is valid at `now` (Unix seconds)."""
        entry = self._values.get(key)
        if entry is None:
            return None
        value, until = entry
        if now >= until:
            del self._values[key]
            return None
        self._values.move_to_end(key)
        return value

    def put(self, key: K, value: V, until: float) -> None:
        """Keep `value` until the time `until` (Unix seconds), in place of an earlier one."""
        self._values[key] = (value, until)
        self._values.move_to_end(key)
        if len(self._values) > self._entries:
            self._values.popitem(last=False)

    def discard(self, key: K) -> None:
        """Forget `key` if it is known."""
        self._values.pop(key, None)
