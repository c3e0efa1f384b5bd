"""Drive a dialect's `AnswerStream` the way the gateway does, but without masking anything."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import msgspec

from extproc.conversation import Piece
from extproc.dialect.port import AnswerStream, Reading
from extproc.dialect.sse import SseEvent, SseParser


def events_of(chunks: Iterable[bytes]) -> list[SseEvent]:
    parser = SseParser(1 << 20)
    events = [event for chunk in chunks for event in parser.feed(chunk)]
    return events + parser.finish()


def play(stream: AnswerStream, *chunks: bytes) -> tuple[list[Reading], list[Piece]]:
    """Show every event to `read` and then to `take`; return what both said."""
    readings: list[Reading] = []
    pieces: list[Piece] = []
    for event in events_of(chunks):
        if event.data is None or not event.data.strip():
            continue
        if event.data.strip() == b"[DONE]":
            stream.done()
            continue
        try:
            tree: Any = msgspec.json.decode(event.data)
        except (msgspec.DecodeError, UnicodeDecodeError):
            tree = None
        if isinstance(tree, dict):
            readings.append(stream.read(event.event, tree))
            pieces += stream.take(event.event, tree)
        else:
            pieces += stream.take_unparsed(event.data.decode("utf-8", "replace"))
    return readings, pieces


def channels(readings: list[Reading]) -> dict[str, str]:
    """Join the text of every channel, as a client would."""
    texts: dict[str, str] = {}
    for reading in readings:
        for slot in reading.slots:
            texts[slot.channel] = texts.get(slot.channel, "") + slot.holder[slot.key]
    return texts
