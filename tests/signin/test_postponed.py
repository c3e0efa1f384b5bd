from __future__ import annotations

import asyncio
import signal
from collections.abc import Iterator
from types import FrameType

import pytest

from extproc.signin.postponed import postponed


@pytest.fixture
def arrived() -> Iterator[list[int]]:
    """Note SIGUSR1 and SIGUSR2, as far as they arrive."""
    seen: list[int] = []

    def note(number: int, _frame: FrameType | None) -> None:
        seen.append(number)

    before = {number: signal.signal(number, note) for number in (signal.SIGUSR1, signal.SIGUSR2)}
    yield seen
    for number, handler in before.items():
        signal.signal(number, handler)


def test_a_signal_arrives_at_the_end_and_once(arrived: list[int]) -> None:
    with postponed(signal.SIGUSR1):
        signal.raise_signal(signal.SIGUSR1)
        signal.raise_signal(signal.SIGUSR1)
        assert arrived == []
        signal.raise_signal(signal.SIGUSR2)
        assert arrived == [signal.SIGUSR2]
    assert arrived == [signal.SIGUSR2, signal.SIGUSR1]
    signal.raise_signal(signal.SIGUSR1)
    assert arrived[2:] == [signal.SIGUSR1]


def test_it_arrives_after_a_failure_too(arrived: list[int]) -> None:
    with pytest.raises(ValueError, match="failed"), postponed(signal.SIGUSR1):
        signal.raise_signal(signal.SIGUSR1)
        raise ValueError("failed")
    assert arrived == [signal.SIGUSR1]


def test_what_is_ignored_stays_ignored(arrived: list[int]) -> None:
    signal.signal(signal.SIGUSR1, signal.SIG_IGN)
    with postponed(signal.SIGUSR1):
        signal.raise_signal(signal.SIGUSR1)
    assert (arrived, signal.getsignal(signal.SIGUSR1)) == ([], signal.SIG_IGN)


async def test_in_another_thread_it_changes_nothing(arrived: list[int]) -> None:
    before = signal.getsignal(signal.SIGUSR1)

    def within() -> object:
        with postponed(signal.SIGUSR1):
            return signal.getsignal(signal.SIGUSR1)

    assert await asyncio.to_thread(within) is before
