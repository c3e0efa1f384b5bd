"""Let a signal wait until what must not be left half done is done."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType


@contextmanager
def postponed(*numbers: signal.Signals) -> Iterator[None]:
    """Keep the signals `numbers` until the end, and let them do then what they would have done at once.

    Only the main thread can do that; in another one nothing happens. What is ignored stays so.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    arrived: dict[int, None] = {}

    def note(number: int, _frame: FrameType | None) -> None:
        arrived[number] = None

    before = {number: signal.getsignal(number) for number in numbers}
    # None is a handler that was not installed from Python, and could not be put back.
    ours = {number: handler for number, handler in before.items() if handler not in {signal.SIG_IGN, None}}
    for number in ours:
        signal.signal(number, note)
    try:
        yield
    finally:
        for number, handler in ours.items():
            signal.signal(number, handler)
        for late in arrived:
            signal.raise_signal(late)
