"""Server-Sent Events: the incremental parser every streaming dialect reads with.

Source: WHATWG HTML Living Standard, section 9.2.5 (parsing an event stream) and 9.2.6 (interpreting it).
"""

from __future__ import annotations

import msgspec

from extproc.errors import ExtprocError

_BOM = b"\xef\xbb\xbf"


class EventTooLarge(ExtprocError):
    """Say that one event of a stream is larger than the bound; its parser is of no further use."""


class SseEvent(msgspec.Struct, frozen=True, gc=False):
    """Hold one event: `event` is its type (`message` when none is named), `data` its data lines joined with LF."""

    event: str
    data: bytes


class SseParser:
    """Cut a byte stream, in chunks of any size, into events.

    `max_event_bytes` bounds the text between two blank lines (comments and field names included), and so the memory
    held between two calls; the time spent is linear in the bytes fed, however they are cut. `id` and `retry` concern
    only clients that reconnect and are dropped, like comments and unknown fields.
    """

    __slots__ = ("_after_cr", "_at_start", "_max", "_pending")

    def __init__(self, max_event_bytes: int) -> None:
        self._max = max_event_bytes
        self._pending = bytearray()
        self._after_cr = False
        self._at_start = True

    def feed(self, data: bytes) -> list[SseEvent]:
        """Take the next bytes and return the events they complete.

        Raises `EventTooLarge`; the events that the same bytes completed before the large one are then not returned.
        """
        if self._after_cr or b"\r" in data:
            data = self._with_lf_only(data)
        if self._at_start or self._pending:
            data = self._after_pending(data)
        if not data:
            return []
        blocks = data.split(b"\n\n")
        rest = blocks.pop()
        if len(data) > self._max:
            self._check_sizes(blocks, rest)
        if rest:
            self._pending += rest
        events = []
        for block in blocks:
            # Nearly every event is one `data:` line; the general reading costs twice as much.
            if block.startswith(b"data: ") and b"\n" not in block:
                events.append(SseEvent("message", block[6:]))
            elif (event := _interpret(block)) is not None:
                events.append(event)
        return events

    def finish(self) -> list[SseEvent]:
        """Return the event that the end of the stream left without its blank line, if there is one.

        The standard discards it. Here it is handed out, because clients differ and nothing may go unrecorded.
        """
        event = _interpret(bytes(self._pending))
        self._pending.clear()
        self._at_start = False
        return [] if event is None else [event]

    def _with_lf_only(self, data: bytes) -> bytes:
        """Replace CRLF and CR by LF; the LF of a CRLF that was cut in two is dropped at the start of the next bytes."""
        if not data:
            return data
        if self._after_cr:
            data = data.removeprefix(b"\n")
        # When that LF was all there was, what follows it can no longer be the second half of the same line end.
        self._after_cr = data.endswith(b"\r")
        return data.replace(b"\r\n", b"\n").replace(b"\r", b"\n")

    def _after_pending(self, data: bytes) -> bytes:
        """Join `data` to what is pending; return both once they hold the end of an event, else keep them."""
        pending = self._pending
        # Searching only the new bytes (and the one before them) is what keeps tiny chunks from costing quadratic time.
        search_from = max(len(pending) - 1, 0)
        pending += data
        if self._at_start:
            if len(pending) < len(_BOM) and _BOM.startswith(pending):
                return b""
            self._at_start = False
            search_from = 0
            if pending.startswith(_BOM):
                del pending[: len(_BOM)]
        if pending.find(b"\n\n", search_from) < 0:
            self._check_sizes([], pending)
            return b""
        joined = bytes(pending)
        pending.clear()
        return joined

    def _check_sizes(self, blocks: list[bytes], rest: bytes | bytearray) -> None:
        # A line feed at the very end may be the first half of the blank line, which is no part of the event.
        if len(rest) - rest.endswith(b"\n") > self._max or any(len(block) > self._max for block in blocks):
            raise EventTooLarge(f"an event of the stream is larger than {self._max} bytes")


def _interpret(block: bytes) -> SseEvent | None:
    """Return the event that the lines of `block` make, or None where they hold no data."""
    name = b""
    data: list[bytes] = []
    for line in block.split(b"\n"):
        field, _, value = line.partition(b":")
        if field == b"data":
            data.append(value.removeprefix(b" "))
        elif field == b"event":
            name = value.removeprefix(b" ")
    if not data:
        return None
    return SseEvent(name.decode("utf-8", "replace") or "message", b"\n".join(data))
