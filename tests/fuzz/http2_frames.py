"""Connections as a client may make them, and such as it may not: frames for the HTTP/2 transport, by chance."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from random import Random

import hpack

from tests.fuzz.mutate import cut, mutated
from tests.http2.wire import (
    ACK,
    END_HEADERS,
    END_STREAM,
    PADDED,
    PRIORITY,
    Kind,
    data,
    frame,
    goaway,
    message,
    ping,
    priority,
    request,
    reset,
    settings,
    window_update,
)

_SERVICES = (
    *("Echo", "Echo", "Held", "Silent", "Large", "Once"),
    *("Refusing", "Broken", "BrokenEnd", "AtOnce", "NoCall", "Unknown"),
)


def valid(random: Random) -> list[bytes]:
    """Return the frames of a few calls, woven, and frames of the connection among them."""
    encoder = hpack.Encoder()
    parts = [_call(number, random) for number in range(1, 2 * random.randint(1, 12), 2)]
    woven: list[bytes] = []
    running: list[list[Callable[[], list[bytes]]]] = []
    while parts or running:
        if parts and (not running or random.random() < 0.4):
            number, more = parts.pop(0)
            # Blocks are encoded in the order in which they are sent.
            woven += _opened(number, encoder, random, end=not more)
            running += [more] if more else []
        else:
            one = random.choice(running)
            woven += one.pop(0)()
            if not one:
                running.remove(one)
        if random.random() < 0.2:
            woven.append(_aside(random))
    return woven


def _call(number: int, random: Random) -> tuple[int, list[Callable[[], list[bytes]]]]:
    if random.random() < 0.1:
        return number, []
    texts = [_text(random) for _ in range(random.choice((0, 1, 2, 5)))]
    body = b"".join(map(message, texts))
    large = [body[at : at + 9000] for at in range(0, len(body), 9000)]
    pieces = cut(body, random)[:60] if len(body) < 16_000 else large
    steps: list[Callable[[], list[bytes]]] = [partial(_data, number, piece, random) for piece in pieces]
    last = random.random()
    if last < 0.7:
        steps.append(lambda: [data(number, b"", end=True)])
    elif last < 0.8:
        steps.append(lambda: [reset(number, random.choice((0, 7, 8, 99)))])
    return number, steps


def _text(random: Random) -> bytes:
    return random.choice(
        (b"", b"13", b"3 10", b"2 30000", b"20 5000", random.randbytes(random.randint(0, 300)), b"z" * 40_000)
    )


def _opened(number: int, encoder: hpack.Encoder, random: Random, *, end: bool) -> list[bytes]:
    fields = request(f"/test.{random.choice(_SERVICES)}/Call", ("x-request-id", f"{random.randrange(3)}"))
    if random.random() < 0.2:
        encoder.header_table_size = random.choice((0, 100, 4096))
    block = encoder.encode(fields, huffman=random.random() < 0.5)
    flags = END_STREAM if end else 0
    if random.random() < 0.2:
        at = random.randint(0, len(block))
        return [frame(Kind.HEADERS, flags, number, block[:at]), frame(9, END_HEADERS, number, block[at:])]
    if random.random() < 0.2:
        return [frame(Kind.HEADERS, flags | END_HEADERS | PRIORITY, number, b"\x80\0\0\0\x07" + block)]
    return [frame(Kind.HEADERS, flags | END_HEADERS, number, block)]


def _data(number: int, piece: bytes, random: Random) -> list[bytes]:
    if random.random() < 0.1:
        size = random.randint(0, 30)
        return [frame(Kind.DATA, PADDED, number, bytes((size,)) + piece + bytes(size))]
    return [data(number, piece)]


def _aside(random: Random) -> bytes:
    return random.choice(
        (
            ping(random.randbytes(8), flags=random.randrange(2)),
            settings({4: random.choice((0, 1, 100, 65_535, 1 << 24))}),
            settings({5: random.choice((16_384, 20_000)), 1: random.choice((0, 4096)), 0x99: 7}),
            settings(flags=ACK),
            window_update(0, random.choice((1, 100, 100_000))),
            priority(2 * random.randrange(20) + 1, 0),
            frame(0x42, random.randrange(256), random.randrange(30), random.randbytes(random.randrange(20))),
        )
    )


def changed(frames: list[bytes], random: Random) -> list[bytes]:
    """Change a few frames: their order, number, header, or content."""
    frames = list(frames)
    for _ in range(random.randint(1, 4)):
        at = random.randrange(len(frames)) if frames else 0
        kind = random.randrange(8)
        if not frames or len(frames[at]) < 9 or kind == 0:
            frames.insert(at, _strange(random))
        elif kind == 1:
            frames.insert(random.randrange(len(frames)), frames.pop(at))
        elif kind == 2:
            frames.insert(random.randrange(len(frames)), frames[at])
        elif kind == 3:
            del frames[at]
        elif kind == 4:
            frames[at] = _with_byte(frames[at], random.randrange(9), random)
        elif kind == 5:
            frames[at] = _with_byte(frames[at], random.randrange(len(frames[at])), random)
        elif kind == 6:
            frames[at] = frames[at][: random.randrange(len(frames[at]) + 1)]
        else:
            frames[at] = frames[at][:9] + mutated(frames[at][9:], random)
            frames[at] = len(frames[at][9:]).to_bytes(3) + frames[at][3:]
    return frames


def _with_byte(raw: bytes, at: int, random: Random) -> bytes:
    value = random.choice((0, 1, 255, raw[at] ^ 1 << random.randrange(8), random.randrange(256)))
    return raw[:at] + bytes((value,)) + raw[at + 1 :]


def _strange(random: Random) -> bytes:
    """Return a frame of any kind with few bytes, on a stream that may well be in use."""
    number = random.choice((0, 1, 2, 3, 5, 7, 99, 2**31 - 1, 2**31, 2**32 - 1))
    payload = random.choice((b"", bytes(4), bytes(5), bytes(6), bytes(8), b"\xff" * 8, random.randbytes(20)))
    flags = random.choice((0, 1, 4, 5, 8, 0x20, 0x2D, random.randrange(256)))
    return random.choice(
        (frame(random.randrange(11), flags, number, payload), goaway(1, 2), window_update(number, 2**31 - 1))
    )
