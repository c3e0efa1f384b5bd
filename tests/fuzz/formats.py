"""Fuzz the parsers of bytes: Server-Sent Events and compressed bodies."""

from __future__ import annotations

import gzip
import zlib
from collections.abc import Sequence
from functools import cache
from pathlib import Path
from random import Random

import brotli  # type: ignore[import-untyped]

try:
    from backports import zstd
except ModuleNotFoundError:  # since Python 3.14 the same module is in the standard library
    from compression import zstd  # type: ignore[import-not-found, no-redef]

from extproc.dialect.sse import EventTooLarge, SseEvent, SseParser
from extproc.encoding import BadEncoding, decoder
from tests.fuzz.mutate import cut, mutated
from tests.fuzz.texts import Note

GOLDEN = Path(__file__).parents[1] / "golden"
_MAX_RATIO = 50
_MAX_BYTES = 1 << 20


@cache
def goldens(pattern: str) -> list[bytes]:
    """Return the golden files of a pattern."""
    return [path.read_bytes() for path in sorted(GOLDEN.glob(pattern)) if path.is_file()]


def sse(random: Random, note: Note) -> None:
    """Events: nothing is lost, nothing depends on the cuts, no event is larger than the bound."""
    data = random.choice(goldens("*/*.sse"))
    if random.random() < 0.3:
        data = data.replace(b"\n", random.choice((b"\r\n", b"\r")))
    if random.random() < 0.9:
        data = mutated(data, random)
    note(data)
    largest = random.choice((40, 300, 1 << 20))
    whole = _events([data], largest)
    for _ in range(2):
        events = _events(cut(data, random), largest)
        assert _said(events) == _said(whole)
        assert events is None or b"".join(event.raw for event in events) == data


def _said(events: Sequence[SseEvent] | None) -> list[tuple[str, bytes]] | None:
    # Where comments end, and whether the LF of a CRLF is part of an event, depends on the cuts.
    return None if events is None else [(event.event, event.data) for event in events if event.data is not None]


def _events(chunks: Sequence[bytes], largest: int) -> list[SseEvent] | None:
    """Return the events, or None where one is too large."""
    parser = SseParser(largest)
    events: list[SseEvent] = []
    try:
        for chunk in chunks:
            events += parser.feed(chunk)
            assert len(parser._pending) <= largest + 4, f"{len(parser._pending)} bytes are pending"
        return events + parser.finish()
    except EventTooLarge:
        return None


def encoding(random: Random, note: Note) -> None:
    """Compressed bodies: exactly what was compressed, or an error, whichever way they are cut."""
    plain = random.choice(goldens("*/*")) * random.choice((1, 1, 1, 400))
    name, compress = random.choice(
        (
            ("gzip", gzip.compress),
            ("deflate", zlib.compress),
            ("deflate", lambda data: zlib.compress(data, wbits=-15)),
            ("br", lambda data: brotli.compress(data, quality=4)),
            ("zstd", zstd.compress),
        )
    )
    data = compress(plain)
    valid = random.random() < 0.3
    if not valid:
        data = mutated(data, random)
    note(data)
    whole = _decoded(name, [data])
    assert _decoded(name, cut(data, random)) == whole
    if valid and len(plain) <= len(data) * _MAX_RATIO and len(plain) <= _MAX_BYTES:
        assert whole == plain
    assert whole is None or len(whole) <= _MAX_BYTES


def _decoded(name: str, chunks: Sequence[bytes]) -> bytes | None:
    """Return the decoded bytes, or None for a declared error."""
    decoding = decoder(name, max_ratio=_MAX_RATIO, max_bytes=_MAX_BYTES)
    assert decoding is not None
    try:
        return b"".join([*map(decoding.feed, chunks), decoding.finish()])
    except BadEncoding:
        return None
