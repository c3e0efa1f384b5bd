"""The closing of an exchange whose process died, made of the bytes that its client was sent. Pure.

They are what the gateway let go, masked, and in the dialect of the endpoint; so they are read as any client reads them.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from extproc import json_body
from extproc.conversation import Answer, Piece
from extproc.dialect.port import AnswerStream
from extproc.dialect.sse import SseEvent, SseParser
from extproc.endpoint import EndpointKind
from extproc.errors import Code, Refusal
from extproc.recording.document import Outcome, Timing, closing
from extproc.rules import DIALECTS, STREAMING

_REFUSAL = Refusal(500, Code.GATEWAY_INTERNAL, "The gateway process ended before the exchange did.")


@dataclass(frozen=True, slots=True)
class Answering:
    """What is known of an answer from its headers, which went to the client."""

    status: int
    content_type: str | None


def interrupted(
    opening: Mapping[str, Any],
    answering: Answering | None,
    pieces: Sequence[tuple[float, bytes]],
    *,
    now: float,
) -> dict[str, Any]:
    """Return the closing entry of an exchange that nobody closed, with all that its client was sent.

    `pieces` are the bytes that were let go, with milliseconds after the opening; `now` (unix seconds) is when it is
    closed. What cannot be read as events, such as the beginning of one, is in `unparsed`.
    """
    timing = Timing()
    answer = None if answering is None else _answer(opening["request"].get("endpoint"), answering, pieces, timing)
    return closing(
        exchange_id=opening["id"],
        opened_at=opening["opened_at"],
        closed_at=now,
        outcome=Outcome.INTERRUPTED,
        refusal=_REFUSAL,
        status=None if answering is None else answering.status,
        upstream_status=None,
        content_type=None if answering is None else answering.content_type,
        # What the upstream sent beyond is not known.
        body_bytes=sum(len(data) for _, data in pieces),
        answer=answer,
        timing=timing,
    )


def _answer(
    kind: str | None, answering: Answering, pieces: Sequence[tuple[float, bytes]], timing: Timing
) -> Answer | None:
    if kind is None or kind == EndpointKind.METADATA:
        return None
    content_type = (answering.content_type or "").partition(";")[0].strip().lower()
    if content_type == "text/event-stream" and kind in STREAMING:
        return _streamed(EndpointKind(kind), pieces, timing)
    text = b"".join(data for _, data in pieces).decode("utf-8", "replace").strip()
    return Answer(model=None, choices=[], usage=None, complete=False, unparsed=[text] if text else None)


def _streamed(kind: EndpointKind, pieces: Sequence[tuple[float, bytes]], timing: Timing) -> Answer:
    stream = DIALECTS[kind].stream()
    # No event is too large: they were within the bound when they passed.
    parser = SseParser(max(1, sum(len(data) for _, data in pieces)))
    for at, data in pieces:
        _note(timing, at, _taken(stream, parser.feed(data)))
    if pieces:
        _note(timing, pieces[-1][0], _taken(stream, parser.finish()))
    return stream.answer()


def _taken(stream: AnswerStream, events: Sequence[SseEvent]) -> list[Piece]:
    taken: list[Piece] = []
    for event in events:
        data = (event.data or b"").strip()
        if data == b"[DONE]":
            stream.done()
        elif data:
            tree = json_body.decoded(data)
            if isinstance(tree, dict):
                stream.read(event.event, tree)
                taken += stream.take(event.event, tree)
            else:
                taken += stream.take_unparsed(data.decode("utf-8", "replace"))
    return taken


def _note(timing: Timing, at: float, pieces: Sequence[Piece]) -> None:
    counts: dict[str, int] = {}
    for piece in pieces:
        counts[piece.channel] = counts.get(piece.channel, 0) + len(piece.text)
    timing.pieces += [(at, channel, count) for channel, count in counts.items()]
