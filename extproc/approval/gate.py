"""Hold a masked stream from the first byte of what may touch something privileged until it is known what it is. Pure.

A tool call is known when the answer is complete: clients run calls only then, and what an earlier part says of a file a
later one can change. A code block is known when its first lines have named a file, or not.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Generic, TypeVar

from extproc.approval.fences import FenceWatch
from extproc.approval.touch import Touch
from extproc.conversation import Answer, Piece
from extproc.dialect.port import AnswerStream

Event = TypeVar("Event")


class Gate(Generic[Event]):
    """Keep events of a stream in their order; `shadow` gathers all of them, also those that are kept."""

    def __init__(self, shadow: AnswerStream, is_privileged: Callable[[Touch], bool]) -> None:
        self.shadow = shadow
        self._is_privileged = is_privileged
        self._watches: dict[str, FenceWatch] = {}
        self._kept: list[Event] = []
        self._closed = False
        # The texts in which a code block has begun that may name a privileged file.
        self._fenced: set[str] = set()

    @property
    def keeping(self) -> bool:
        """Say whether anything is kept."""
        return bool(self._kept)

    def take(self, event: Event, pieces: list[Piece]) -> list[Event]:
        """Take the next event and what it says; return those that may go on."""
        for piece in pieces:
            if ".tool." in piece.channel:
                self._closed = True
            elif piece.channel.endswith(".text"):
                self._watch(piece)
        if self._closed or self._fenced:
            self._kept.append(event)
            return []
        return [*self.open(), event] if self._kept else [event]

    def may_take_at_once(self, text: str) -> bool:
        """Say whether events in a row that together say this may be taken as one: the same would be kept of them.

        So it is where no code block is open and none can begin. All that came before must have been taken.
        """
        in_block = bool(self._fenced) or any(watch.in_block for watch in self._watches.values())
        return not (in_block or "`" in text or "~" in text)

    def finish(self) -> list[Event]:
        """Take the end of the stream; return what may go on."""
        for watch in self._watches.values():
            self._closed |= any(map(self._is_privileged, watch.end()))
        return [] if self._closed else self.open()

    def asks(self, *, ended: bool) -> Answer | None:
        """Return the answer so far once all is known of what is kept; `ended` says that no more will come."""
        if not self._closed or not (ended or self.shadow.is_complete):
            return None
        return self.shadow.answer()

    def open(self) -> list[Event]:
        """Return what is kept, in its order; what comes later is looked at anew."""
        kept, self._kept = self._kept, []
        self._closed = False
        return kept

    def _watch(self, piece: Piece) -> None:
        watch = self._watches.get(piece.channel)
        if watch is None:
            watch = self._watches[piece.channel] = FenceWatch(self._is_privileged)
        if watch.feed(piece.text):
            self._fenced.add(piece.channel)
            return
        self._fenced.discard(piece.channel)
        if found := watch.take():
            self._closed |= any(map(self._is_privileged, found))
