"""The texts of a stream, and the events they came in: what is decided of a text is put into its events. Pure."""

from __future__ import annotations

from collections import deque
from typing import Any

import msgspec

from extproc.dialect.sse import SseEvent
from extproc.masking.alike import Alike, Said
from extproc.masking.channel import Channel, Op
from extproc.masking.json_text import JsonChannel


class Waiting(msgspec.Struct, gc=False):
    """One event on its way since `at` (milliseconds); `undecided` is how many of its slots are not decided yet.

    `tree` is its JSON; data that is no JSON object is the one member of a tree of its own, and `unparsed`.
    """

    event: SseEvent
    tree: dict[str, Any] | None
    at: float
    unparsed: bool = False
    undecided: int = 0
    changed: bool = False


class WaitingAlike(msgspec.Struct, gc=False):
    """An event that is like another, or several that are taken as one, as `Waiting`.

    `text` is its text, masked once that is decided.
    """

    like: Alike
    said: Said
    text: str
    at: float
    undecided: int = 0
    changed: bool = False


class Part(msgspec.Struct, gc=False):
    """The text that one slot adds to a line; `holder` is None where the event is like another."""

    waiting: Waiting | WaitingAlike
    holder: Any
    key: str | int
    text: str
    at: int = 0
    out: list[str] | None = None


class Line:
    """The text of one channel, and the slots it came in."""

    __slots__ = ("channel", "name", "noted", "parts")

    def __init__(self, name: str, channel: Channel | JsonChannel) -> None:
        self.name = name
        self.channel = channel
        self.parts: deque[Part] = deque()
        self.noted = 0

    def add(self, part: Part) -> None:
        """Add the text of a slot."""
        if part.text:
            part.waiting.undecided += 1
            self.parts.append(part)
            self.apply(self.channel.feed(part.text))

    def take_alike(self, text: str) -> list[Op] | None:
        """Take the text of events that are alike; return what is decided now, None if all passes and nothing waits."""
        ops = self.channel.feed(text)
        if self.parts or any(op.text is not None for op in ops) or sum([op.count for op in ops]) != len(text):
            return ops
        return None

    def add_alike(self, events: list[WaitingAlike], ops: list[Op]) -> None:
        """Let the events wait whose text was taken, and do what was decided of it."""
        for event in events:
            event.undecided = 1
            self.parts.append(Part(event, None, "", event.text))
        self.apply(ops)

    def apply(self, ops: list[Op]) -> None:
        """Do what was decided to the slots that wait longest."""
        for op in ops:
            text, count = op.text, op.count
            while count:
                part = self.parts[0]
                end = min(len(part.text), part.at + count)
                if text is not None and part.out is None:
                    part.out = [part.text[: part.at]]
                if part.out is not None:
                    # The placeholder stands where the secret began; further parts of it are only left out.
                    part.out.append(part.text[part.at : end] if text is None else text)
                text = text and ""
                count -= end - part.at
                part.at = end
                if end == len(part.text):
                    _decided(self.parts.popleft())


def _decided(part: Part) -> None:
    part.waiting.undecided -= 1
    if part.out is None:
        return
    part.waiting.changed = True
    if isinstance(part.waiting, WaitingAlike):
        part.waiting.text = "".join(part.out)
    else:
        part.holder[part.key] = "".join(part.out)
