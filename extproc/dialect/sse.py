"""Server-Sent Events: the incremental parser every streaming dialect reads with, and the writing of events.

Source: WHATWG HTML Living Standard, section 9.2.5 (parsing an event stream) and 9.2.6 (interpreting it).
"""

from __future__ import annotations

import re
from typing import Final

import msgspec

from extproc.errors import ExtprocError

_BOM: Final = b"\xef\xbb\xbf"

# Two line ends in a row. Nothing is given back, so that the CR and the LF of one CRLF are never taken for two; it
# begins with a set of characters because `re` finds one several times faster than alternatives.
_BLANK_LINE: Final = re.compile(rb"[\r\n](?:(?<=\r)\n)?+(?>\r\n|\n|\r)")
# What may stand before an event and means nothing to a reader: comments and blank lines.
_PRELUDE: Final = re.compile(rb"(?:(?::[^\r\n]*+)?(?>\r\n|\n|\r))++")
# Beside `data`; the empty name is that of a comment and of a blank line.
_KNOWN_FIELDS: Final = frozenset({b"", b"event", b"id", b"retry"})


class EventTooLarge(ExtprocError):
    """Say that one event of a stream is larger than the bound; its parser is of no further use."""


class SseEvent(msgspec.Struct, frozen=True, gc=False):
    """Hold one event, or what stands between two of them.

    `raw` are its exact bytes: those of all events, joined, are the stream. `event` is its type (`message` when none is
    named). `data` are its data lines joined with LF, or None where it has no data field and so says nothing.
    """

    raw: bytes
    event: str
    data: bytes | None


class SseParser:
    """Cut a byte stream, in chunks of any size, into events.

    `max_event_bytes` bounds the text between two blank lines (field names and the comments inside included), and so the
    memory held between two calls; the time spent is linear in the bytes fed, however they are cut. What stands before
    an event (a byte order mark, comments, blank lines, the LF of a CRLF that was cut in two) is handed out at once.
    """

    __slots__ = ("_at_start", "_max", "_pending")

    def __init__(self, max_event_bytes: int) -> None:
        self._max = max_event_bytes
        # The beginning of an event, or of a comment: then without its line end.
        self._pending = bytearray()
        self._at_start = True

    @property
    def is_idle(self) -> bool:
        """Say whether what comes next begins an event, or stands before one."""
        return not (self._pending or self._at_start)

    def feed(self, data: bytes) -> list[SseEvent]:
        """Take the next bytes and return the events they complete.

        Raises `EventTooLarge`; the events that the same bytes completed before the large one are then not returned.
        """
        events: list[SseEvent] = []
        if self._at_start:
            data = self._after_mark(data, events)
        if data and self._pending:
            data = self._after_pending(data)
        if not data:
            return events
        if b"\r" in data or len(data) > self._max:
            rest = self._read_carefully(data, events)
        else:
            blocks = data.split(b"\n\n")
            rest = blocks.pop()
            for block in blocks:
                # Nearly every event is one `data:` line; the general reading costs several times as much.
                if block.startswith(b"data: ") and b"\n" not in block:
                    events.append(SseEvent(block + b"\n\n", "message", block[6:]))
                else:
                    self._read_block(block + b"\n\n", events)
        if rest and (rest := self._after_prelude(rest, events)):
            self._check_size(rest)
            self._pending += rest
        return events

    def finish(self) -> list[SseEvent]:
        """Return what the end of the stream left without its blank line, if there is anything.

        The standard discards it. Here it is handed out, because clients differ and nothing may go unrecorded.
        """
        rest = bytes(self._pending)
        self._pending.clear()
        self._at_start = False
        return [_interpret(rest)] if rest else []

    def _after_mark(self, data: bytes, events: list[SseEvent]) -> bytes:
        """Hand out the byte order mark, and return what follows; keep `data` while it may be one."""
        data = bytes(self._pending) + data
        self._pending.clear()
        if len(data) < len(_BOM) and _BOM.startswith(data):
            self._pending += data
            return b""
        self._at_start = False
        if not data.startswith(_BOM):
            return data
        events.append(SseEvent(_BOM, "message", None))
        return data[len(_BOM) :]

    def _after_pending(self, data: bytes) -> bytes:
        """Join `data` to what is pending; return both once something in them is complete, else keep them."""
        pending = self._pending
        # Searching only the new bytes (and the one before them) is what keeps tiny chunks from costing quadratic time.
        search_from = len(pending) - 1
        pending += data
        if pending.startswith(b":"):
            complete = b"\n" in data or b"\r" in data
        elif b"\r" in data:
            complete = _BLANK_LINE.search(pending, search_from) is not None
        else:
            complete = pending.find(b"\n\n", search_from) >= 0
        if not complete:
            self._check_size(pending)
            return b""
        joined = bytes(pending)
        pending.clear()
        return joined

    def _read_carefully(self, data: bytes, events: list[SseEvent]) -> bytes:
        """Append the events of `data`, which may have any line ends and any size; return what is left over."""
        start = 0
        for blank_line in _BLANK_LINE.finditer(data):
            self._read_block(data[start : blank_line.end()], events)
            start = blank_line.end()
        return data[start:]

    def _read_block(self, raw: bytes, events: list[SseEvent]) -> None:
        if raw := self._after_prelude(raw, events):
            self._check_size(raw)
            events.append(_interpret(raw))

    def _after_prelude(self, raw: bytes, events: list[SseEvent]) -> bytes:
        prelude = _PRELUDE.match(raw)
        if prelude is None:
            return raw
        for line in prelude[0].splitlines():
            self._check_size(line)
        events.append(SseEvent(prelude[0], "message", None))
        return raw[prelude.end() :]

    def _check_size(self, raw: bytes | bytearray) -> None:
        # The blank line is no part of the event, and any line end at the end may be its first half.
        if len(raw) > self._max and len(raw.rstrip(b"\r\n")) > self._max:
            raise EventTooLarge(f"an event of the stream is larger than {self._max} bytes")


def rewritten(event: SseEvent, data: bytes) -> bytes:
    """Return the bytes of an event with other data in the place of its own.

    Lines of fields that the standard does not know are dropped; all else stays as it is, line ends included unless a
    line was dropped: then a CR and a LF that were apart could become one end. An event without data stays without.
    """
    if is_usual(event):
        return framed(data)
    lines: list[tuple[bytes, bytes]] = []
    came = event.raw.splitlines(keepends=True)
    written = False
    for line in came:
        bare = line.rstrip(b"\r\n")
        end = line[len(bare) :]
        name = bare.partition(b":")[0]
        if name in _KNOWN_FIELDS:
            lines.append((bare, end))
        elif name == b"data" and not written:
            lines.append((_data_lines(data), end))
            written = True
    same = len(lines) == len(came)
    return b"".join(bare + (end if same or not end else b"\n") for bare, end in lines)


def framed(data: bytes, event: str | None = None) -> bytes:
    """Return a new event; `event` is its type, without a line end."""
    name = b"" if event is None else b"event: %b\n" % event.encode()
    return b"%b%b\n\n" % (name, _data_lines(data))


def is_clean(event: SseEvent) -> bool:
    """Say whether an event has only lines that the standard knows.

    Some clients try to read any line, so one with others must be rewritten before it passes.
    """
    if is_usual(event) or event.raw == _BOM:
        return True
    names = {line.partition(b":")[0] for line in event.raw.splitlines()}
    return names <= _KNOWN_FIELDS | {b"data"}


def is_usual(event: SseEvent) -> bool:
    """Say whether the event is `data: `, its data on one line, and two LF; any other line would make it longer."""
    raw, data = event.raw, event.data
    return data is not None and len(raw) == len(data) + 8 and raw.startswith(b"data: ") and raw.endswith(b"\n\n")


def _interpret(raw: bytes) -> SseEvent:
    """Return the event that the lines of `raw` make."""
    name = b""
    data: list[bytes] = []
    for line in raw.splitlines():
        field, _, value = line.partition(b":")
        if field == b"data":
            data.append(value.removeprefix(b" "))
        elif field == b"event":
            name = value.removeprefix(b" ")
    return SseEvent(raw, name.decode("utf-8", "replace") or "message", b"\n".join(data) if data else None)


def _data_lines(data: bytes) -> bytes:
    # Data that had several lines and is no JSON may come back with its line feeds.
    return b"data: " + data.replace(b"\n", b"\ndata: ")
