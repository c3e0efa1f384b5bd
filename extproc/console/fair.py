"""Run in threads what reads the record, so that nobody takes all of them."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable
from typing import Final, TypeVar
from weakref import WeakValueDictionary

from extproc.errors import ExtprocError

AT_ONCE: Final = 2
"""Readings of one person at a time; the process has a few threads for those of all."""

MAX_WAITING: Final = 16
"""Readings of one person that may wait for those: more than a person's open pages ask for."""

T = TypeVar("T")


class Busy(ExtprocError):
    """Say that too much of the same person is under way already."""


class Fair:
    """Give each person a few threads at a time, and let what more they ask for wait."""

    def __init__(self, at_once: int = AT_ONCE, max_waiting: int = MAX_WAITING) -> None:
        self._at_once = at_once
        self._most = at_once + max_waiting
        self._turns: WeakValueDictionary[str, asyncio.Semaphore] = WeakValueDictionary()
        self._asked: Counter[str] = Counter()

    async def run(self, person: str, work: Callable[[], T]) -> T:
        """Return what `work` returns, of a thread; raises `Busy`, and whatever `work` raises."""
        if self._asked[person] >= self._most:
            raise Busy("too much that you asked for is still being looked up; try again in a while")
        turn = self._turns.setdefault(person, asyncio.Semaphore(self._at_once))
        self._asked[person] += 1
        try:
            async with turn:
                return await asyncio.to_thread(work)
        finally:
            self._asked[person] -= 1
            if not self._asked[person]:
                del self._asked[person]
