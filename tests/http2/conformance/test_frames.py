"""RFC 9113, sections 4 to 6: one frame that is wrong, unusual, or to be ignored."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from tests.http2.conformance.serving import (
    BLOCK,
    HELLO,
    SILENT,
    Case,
    Echoed,
    Ignored,
    Served,
    goaway_with,
    reset_with,
    run,
)
from tests.http2.wire import (
    ACK,
    END_HEADERS,
    END_STREAM,
    FRAME_BYTES,
    LARGEST_WINDOW,
    PADDED,
    PRIORITY,
    WINDOW,
    Code,
    Kind,
    Setting,
    data,
    frame,
    goaway,
    headers,
    message,
    opened,
    ping,
    priority,
    reset,
    settings,
    window_update,
)
from tests.http2.wire_client import WireClient

SIZE, FLOW, PROTOCOL = Code.FRAME_SIZE_ERROR, Code.FLOW_CONTROL_ERROR, Code.PROTOCOL_ERROR
CLOSED, COMPRESSION = Code.STREAM_CLOSED, Code.COMPRESSION_ERROR
RESERVED = 1 << 31


def largest(client: WireClient) -> int:
    return client.announced.get(Setting.MAX_FRAME_SIZE, FRAME_BYTES)


def too_large(kind: int, stream: int, before: bytes = b"", flags: int = 0) -> Callable[[WireClient], bytes]:
    # A multiple of what a frame of this kind consists of, so that only its size is wrong.
    unit = 6 if kind == Kind.SETTINGS else 1
    return lambda client: before + frame(kind, flags, stream, bytes((largest(client) // unit + 1) * unit))


def only_length(client: WireClient) -> bytes:
    return frame(Kind.DATA, 0, 1, length=largest(client) + 1)


def of_largest_size(client: WireClient) -> bytes:
    return opened(3) + data(3, message(b"x" * (largest(client) - 5)), end=True)


FRAMES = [
    Case("4.1", "unknown type on the connection", frame(0xEF, 0xFF, 0, b"what?"), Ignored()),
    Case("4.1", "unknown type on a stream", frame(0x0B, 0xFF, 1, b"what?"), Ignored()),
    Case("4.1", "unknown type of the largest size",
         lambda client: frame(0x20, 0, 0, bytes(largest(client))), Ignored()),
    Case("4.1", "unknown flags of PING", frame(Kind.PING, 0xFE, 0, b"12345678"), Ignored()),
    Case("4.1", "unknown flags of SETTINGS", settings(flags=0xFE), Ignored()),
    Case("4.1", "unknown flags of DATA", SILENT + frame(Kind.DATA, 0xF6, 3, message(b"")), Ignored()),
    Case("4.1", "unknown flags of HEADERS", frame(Kind.HEADERS, 0xD2 | END_HEADERS, 3, BLOCK) + HELLO, Echoed()),
    Case("4.1", "unknown flags of RST_STREAM", SILENT + frame(Kind.RST_STREAM, 0xFF, 3, bytes(4)), Ignored()),
    Case("4.1", "unknown flags of WINDOW_UPDATE", frame(Kind.WINDOW_UPDATE, 0xFF, 0, bytes((0, 0, 0, 1))), Ignored()),
    Case("4.1", "reserved bit on the connection", frame(Kind.PING, 0, RESERVED, b"12345678"), Ignored()),
    Case("4.1", "reserved bit of SETTINGS", frame(Kind.SETTINGS, 0, RESERVED), Ignored()),
    Case(
        "4.1",
        "reserved bit on a stream",
        frame(Kind.HEADERS, END_HEADERS, 3 | RESERVED, BLOCK)
        + frame(Kind.DATA, END_STREAM, 3 | RESERVED, message(b"hello")),
        Echoed(),
    ),
    Case("4.2", "DATA of the largest size", of_largest_size, Echoed(b"x" * (FRAME_BYTES - 5))),
    Case("4.2", "DATA too large", too_large(Kind.DATA, 3, SILENT), reset_with(SIZE)),
    Case("4.2", "DATA too large, of which only the header came", only_length, goaway_with(SIZE)),
    Case("4.2", "HEADERS too large", too_large(Kind.HEADERS, 3, flags=END_HEADERS), goaway_with(SIZE)),
    Case(
        "4.2",
        "CONTINUATION too large",
        too_large(Kind.CONTINUATION, 3, frame(Kind.HEADERS, 0, 3, BLOCK), END_HEADERS),
        goaway_with(SIZE),
    ),
    Case("4.2", "SETTINGS too large", too_large(Kind.SETTINGS, 0), goaway_with(SIZE)),
    Case("4.2", "PING too large", too_large(Kind.PING, 0), goaway_with(SIZE)),
    Case("4.2", "GOAWAY too large", too_large(Kind.GOAWAY, 0), goaway_with(SIZE)),
    Case("4.2", "unknown type too large", too_large(0x20, 0), goaway_with(SIZE)),
    # --- 6.1 DATA
    Case("6.1", "DATA on stream 0", data(0, b"x"), goaway_with(PROTOCOL)),
    Case("6.1", "DATA with padding",
         SILENT + frame(Kind.DATA, PADDED, 3, b"\x03" + message(b"a") + bytes(3)), Ignored()),
    Case("6.1", "DATA of padding alone", SILENT + frame(Kind.DATA, PADDED, 3, b"\x03" + bytes(3)), Ignored()),
    Case("6.1", "DATA without bytes", SILENT + data(3), Ignored()),
    Case("6.1", "padding as long as the rest",
         SILENT + frame(Kind.DATA, PADDED, 3, b"\x05" + bytes(4)), goaway_with(PROTOCOL)),
    Case("6.1", "padding far longer", SILENT + frame(Kind.DATA, PADDED, 3, b"\xff\x00"), goaway_with(PROTOCOL)),
    Case("6.1", "padded, and no length", SILENT + frame(Kind.DATA, PADDED, 3), goaway_with(PROTOCOL, SIZE)),
    # --- 6.2 HEADERS
    Case("6.2", "HEADERS on stream 0", headers(0, BLOCK), goaway_with(PROTOCOL)),
    Case(
        "6.2",
        "HEADERS with padding and priority",
        frame(1, END_HEADERS | PADDED | PRIORITY, 3, b"\x02" + bytes((0, 0, 0, 0, 9)) + BLOCK + bytes(2)) + HELLO,
        Echoed(),
    ),
    Case("6.2", "padding longer than the block",
         frame(Kind.HEADERS, END_HEADERS | PADDED, 3, b"\xff" + BLOCK[:20]), goaway_with(PROTOCOL)),
    Case("6.2", "padded, and no length", frame(Kind.HEADERS, END_HEADERS | PADDED, 3), goaway_with(PROTOCOL, SIZE)),
    Case("6.2", "priority cut off",
         frame(Kind.HEADERS, END_HEADERS | PRIORITY, 3, bytes(4)), goaway_with(PROTOCOL, SIZE)),
    Case(
        "6.2",
        "padding that reaches into the priority",
        frame(Kind.HEADERS, END_HEADERS | PADDED | PRIORITY, 3, b"\x02" + bytes(6)),
        goaway_with(PROTOCOL, SIZE),
    ),
    # --- 5.3 and 6.3 PRIORITY
    Case("5.3.1", "HEADERS that depend on themselves",
         frame(Kind.HEADERS, END_HEADERS | PRIORITY, 3, bytes((0, 0, 0, 3, 9)) + BLOCK), reset_with(PROTOCOL)),
    Case("5.3.1", "PRIORITY that depends on itself", SILENT + priority(3, 3), reset_with(PROTOCOL)),
    Case("6.3", "PRIORITY on stream 0", priority(0), goaway_with(PROTOCOL)),
    Case("6.3", "PRIORITY of 4 bytes", SILENT + frame(Kind.PRIORITY, 0, 3, bytes(4)), reset_with(SIZE)),
    Case("6.3", "PRIORITY of 6 bytes", SILENT + frame(Kind.PRIORITY, 0, 3, bytes(6)), reset_with(SIZE)),
    # --- 6.4 RST_STREAM
    Case("6.4", "RST_STREAM on stream 0", reset(0), goaway_with(PROTOCOL)),
    Case("6.4", "RST_STREAM of 3 bytes", SILENT + frame(Kind.RST_STREAM, 0, 3, bytes(3)), goaway_with(SIZE)),
    Case("6.4", "RST_STREAM of 5 bytes", SILENT + frame(Kind.RST_STREAM, 0, 3, bytes(5)), goaway_with(SIZE)),
    Case("6.4", "RST_STREAM with an unknown code", SILENT + reset(3, 0xDEADBEEF), Ignored()),
    # --- 6.5 SETTINGS
    Case("6.5", "SETTINGS on a stream", frame(Kind.SETTINGS, 0, 1), goaway_with(PROTOCOL)),
    Case("6.5", "acknowledgement with a payload", frame(Kind.SETTINGS, ACK, 0, bytes(6)), goaway_with(SIZE)),
    Case("6.5", "SETTINGS of 5 bytes", frame(Kind.SETTINGS, 0, 0, bytes(5)), goaway_with(SIZE)),
    Case("6.5", "SETTINGS of 7 bytes", frame(Kind.SETTINGS, 0, 0, bytes(7)), goaway_with(SIZE)),
    Case("6.5.2", "ENABLE_PUSH 2", settings({Setting.ENABLE_PUSH: 2}), goaway_with(PROTOCOL)),
    Case("6.5.2", "ENABLE_PUSH 0 and 1", settings([(Setting.ENABLE_PUSH, 1), (Setting.ENABLE_PUSH, 0)]), Ignored()),
    Case("6.5.2", "INITIAL_WINDOW_SIZE 2^31", settings({Setting.INITIAL_WINDOW_SIZE: 2**31}), goaway_with(FLOW)),
    Case("6.5.2", "INITIAL_WINDOW_SIZE 2^32-1", settings({Setting.INITIAL_WINDOW_SIZE: 2**32 - 1}), goaway_with(FLOW)),
    Case("6.5.2", "INITIAL_WINDOW_SIZE 2^31-1", settings({Setting.INITIAL_WINDOW_SIZE: 2**31 - 1}), Ignored()),
    Case("6.5.2", "MAX_FRAME_SIZE 16383", settings({Setting.MAX_FRAME_SIZE: 16_383}), goaway_with(PROTOCOL)),
    Case("6.5.2", "MAX_FRAME_SIZE 2^24", settings({Setting.MAX_FRAME_SIZE: 2**24}), goaway_with(PROTOCOL)),
    Case("6.5.2", "MAX_FRAME_SIZE 2^24-1", settings({Setting.MAX_FRAME_SIZE: 2**24 - 1}), Ignored()),
    Case("6.5.2", "unknown settings", settings({0x0: 1, 0xFFFF: 2**32 - 1, 0x10: 0}), Ignored()),
    Case("6.5.2", "the second of two values is wrong", settings([(5, 16_384), (5, 1)]), goaway_with(PROTOCOL)),
    Case("6.5.3", "an acknowledgement that nobody waits for", settings(flags=ACK), Ignored()),
    # --- 6.6 PUSH_PROMISE
    Case("6.6", "PUSH_PROMISE",
         frame(Kind.PUSH_PROMISE, END_HEADERS, 1, bytes((0, 0, 0, 2)) + BLOCK), goaway_with(PROTOCOL)),
    # --- 6.7 PING
    Case("6.7", "PING on a stream", frame(Kind.PING, 0, 1, bytes(8)), goaway_with(PROTOCOL)),
    Case("6.7", "PING of 7 bytes", ping(bytes(7)), goaway_with(SIZE)),
    Case("6.7", "PING of 9 bytes", ping(bytes(9)), goaway_with(SIZE)),
    Case("6.7", "acknowledgement of 7 bytes", ping(bytes(7), flags=ACK), goaway_with(SIZE)),
    # --- 6.8 GOAWAY
    Case("6.8", "GOAWAY on a stream", goaway(stream=1), goaway_with(PROTOCOL)),
    Case("6.8", "GOAWAY of 7 bytes", frame(Kind.GOAWAY, 0, 0, bytes(7)), goaway_with(SIZE)),
    # --- 6.9 WINDOW_UPDATE
    Case("6.9", "increment 0 on the connection", window_update(0, 0), goaway_with(PROTOCOL)),
    Case("6.9", "increment 0 on a stream", SILENT + window_update(3, 0), reset_with(PROTOCOL)),
    Case("6.9", "increment 0 but for the reserved bit", window_update(0, RESERVED), goaway_with(PROTOCOL)),
    Case("6.9", "reserved bit of the increment", window_update(0, RESERVED | 1), Ignored()),
    Case("6.9", "WINDOW_UPDATE of 3 bytes", frame(Kind.WINDOW_UPDATE, 0, 0, bytes(3)), goaway_with(SIZE)),
    Case("6.9", "WINDOW_UPDATE of 5 bytes", SILENT + frame(Kind.WINDOW_UPDATE, 0, 3, bytes(5)), goaway_with(SIZE)),
    Case("6.9.1", "the largest window of the connection", window_update(0, LARGEST_WINDOW - WINDOW), Ignored()),
    Case("6.9.1", "the largest window of a stream", SILENT + window_update(3, LARGEST_WINDOW - WINDOW), Ignored()),
    Case("6.9.1", "one more on the connection", window_update(0, LARGEST_WINDOW - WINDOW + 1), goaway_with(FLOW)),
    Case("6.9.1", "one more on the connection, in two steps",
         2 * window_update(0, LARGEST_WINDOW // 2 + 1), goaway_with(FLOW)),
    Case("6.9.1", "one more on a stream", SILENT + window_update(3, LARGEST_WINDOW - WINDOW + 1), reset_with(FLOW)),
    Case(
        "6.9.2",
        "a setting that makes a stream's window too large",
        SILENT + window_update(3, LARGEST_WINDOW - WINDOW) + settings({Setting.INITIAL_WINDOW_SIZE: WINDOW + 1}),
        goaway_with(FLOW),
    ),
    # --- 6.10 CONTINUATION
    Case("6.10", "a block in three frames",
         frame(1, 0, 3, BLOCK[:9]) + frame(9, 0, 3, BLOCK[9:10]) + frame(9, END_HEADERS, 3, BLOCK[10:]) + HELLO,
         Echoed()),
    Case("6.10", "a block after an empty HEADERS", frame(1, 0, 3) + frame(9, END_HEADERS, 3, BLOCK) + HELLO, Echoed()),
    Case(
        "6.10",
        "END_STREAM counts where the block is in two frames",
        frame(1, END_STREAM, 3, BLOCK[:9]) + frame(9, END_HEADERS, 3, BLOCK[9:]) + HELLO,
        reset_with(CLOSED),
    ),
    Case("6.10", "CONTINUATION without HEADERS", SILENT + frame(9, END_HEADERS, 3, BLOCK), goaway_with(PROTOCOL)),
    Case("6.10", "CONTINUATION on stream 0", frame(1, 0, 3, BLOCK) + frame(9, END_HEADERS, 0), goaway_with(PROTOCOL)),
    Case("6.10", "CONTINUATION on an idle stream", frame(9, END_HEADERS, 3, BLOCK), goaway_with(PROTOCOL)),
    Case("6.10", "CONTINUATION on another stream",
         frame(1, 0, 3, BLOCK) + frame(9, END_HEADERS, 5), goaway_with(PROTOCOL)),
    Case("6.10", "CONTINUATION after the end of a block",
         frame(1, 0, 3, BLOCK) + frame(9, END_HEADERS, 3) + frame(9, END_HEADERS, 3), goaway_with(PROTOCOL)),
    *(
        Case("6.10", f"{name} within a block", frame(1, 0, 3, BLOCK) + between, goaway_with(PROTOCOL))
        for name, between in {
            "DATA": data(1, message(b"")),
            "HEADERS of the same stream": headers(3, BLOCK),
            "HEADERS of another stream": headers(5, BLOCK),
            "PRIORITY": priority(3),
            "RST_STREAM": reset(3),
            "SETTINGS": settings(),
            "acknowledgement of SETTINGS": settings(flags=ACK),
            "PING": ping(),
            "GOAWAY": goaway(),
            "WINDOW_UPDATE": window_update(0, 1),
            "unknown type": frame(0xEF, 0, 3),
            "unknown type on the connection": frame(0xEF, 0, 0),
        }.items()
    ),
]  # fmt: skip


@pytest.mark.parametrize("case", FRAMES, ids=str)
async def test_frame(case: Case, served: Served) -> None:
    await run(case, served)
