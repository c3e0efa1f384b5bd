"""Hold many streams at a time, each event of which is sent at its time, and see how late they arrive.

One thread waits for all connections (epoll) and only notes what came when. What that means is worked out afterwards, so
that the client is not what is waited for; what it took is reported all the same.
"""

from __future__ import annotations

import gc
import json
import select
import socket
import time
import urllib.request
from bisect import bisect_left
from dataclasses import dataclass, field
from itertools import accumulate
from statistics import median, quantiles

from bench import procfs
from bench.client import BenchError, dechunked, request
from bench.upstream import GAP, Answer, answer

_STALL_SECONDS = 60.0
_ENDS = b"0\r\n\r\n"
"""The last chunk (RFC 9112 section 7.1), which may come on its own; nothing of these bodies looks like it."""


@dataclass(slots=True)
class _Stream:
    socket: socket.socket
    asked: bytes
    sent: float = 0.0
    pieces: list[tuple[float, bytes]] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class Observed:
    """What the client saw of a round, in seconds.

    `delays`: of each event that was sent while all streams were open, from then until it arrived. `first`: of each
    stream, from the request to the first event. `busy` is the share of a core that the client used, `waited` how long
    it waited for a core each time that something had come (mean).
    """

    events: int
    took: float
    delays: list[float]
    first: list[float]
    busy: float
    waited: float

    def figures(self) -> dict[str, float]:
        """Return the figures of the round, times in milliseconds."""
        return {
            "events": self.events,
            "events_per_second": self.events / self.took,
            "first_p50_ms": median(self.first) * 1000,
            "first_p99_ms": percentile_99(self.first) * 1000,
            "delay_p50_ms": median(self.delays) * 1000,
            "delay_p99_ms": percentile_99(self.delays) * 1000,
            "client_cores": self.busy,
            "client_waited_ms": self.waited * 1000,
        }


def observe(
    port: int, token: str, *, streams: int, begin_seconds: float, hold_seconds: float, upstream: int
) -> Observed:
    """Open so many streams within `begin_seconds`, keep all open for `hold_seconds`, and read all to their ends.

    `upstream` is the port of the upstream, which is asked when it sent what. Raises BenchError.
    """
    name = f"paced_{round((begin_seconds + hold_seconds) / GAP)}"
    script = answer(name)
    opened = [
        _Stream(socket.create_connection(("127.0.0.1", port)), request(name, token, client=number, stream=number))
        for number in range(streams)
    ]
    # A collection in between would be seen as a delay.
    gc.collect()
    gc.disable()
    try:
        took, busy, waited = _read(opened, begin_seconds / streams, begin_seconds + hold_seconds)
    finally:
        gc.enable()
        for one in opened:
            one.socket.close()
    sent = _sent(upstream)
    arrived = [_arrivals(one, script) for one in opened]
    window = max(one.sent for one in opened), min(sent[number][-1] for number in range(streams))
    delays = [
        there - here
        for number, times in enumerate(arrived)
        for here, there in zip(sent[number], times, strict=True)
        if window[0] <= here <= window[1]
    ]
    first = [times[0] - one.sent for one, times in zip(opened, arrived, strict=True)]
    return Observed(streams * len(script.parts), took, delays, first, busy, waited)


def _read(streams: list[_Stream], pause: float, seconds: float) -> tuple[float, float, float]:
    """Ask on all connections, one every `pause` seconds, and read; return how long it took and what it cost."""
    waiting = select.epoll()
    by_number = {one.socket.fileno(): one for one in streams}
    for number, one in by_number.items():
        one.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        one.socket.setblocking(False)  # noqa: FBT003 - it takes no keyword
        waiting.register(number, select.EPOLLIN)
    began, used, waited, woken = time.monotonic(), time.thread_time(), procfs.waited_seconds(), 0
    limit = began + seconds + _STALL_SECONDS
    asking, running, now = 0, len(streams), began
    while running:
        while asking < len(streams) and began + asking * pause <= now:
            one = streams[asking]
            one.sent = time.monotonic()
            one.socket.sendall(one.asked)
            asking += 1
        due = began + asking * pause if asking < len(streams) else limit
        for number, _ in waiting.poll(max(0.0, due - now)):
            one = by_number[number]
            data = one.socket.recv(1 << 18)
            one.pieces.append((time.monotonic(), data))
            if data.endswith(_ENDS) or not data:
                waiting.unregister(number)
                running -= 1
        woken += 1
        now = time.monotonic()
        if now > limit:
            raise BenchError(f"{running} of {len(streams)} streams did not end")
    took = now - began
    return took, (time.thread_time() - used) / took, (procfs.waited_seconds() - waited) / woken


def _arrivals(stream: _Stream, script: Answer) -> list[float]:
    """Return when each event was there to its end; raises BenchError where the answer is not the one of the script."""
    raw = b"".join(data for _, data in stream.pieces)
    start = raw.find(b"\r\n\r\n") + 4
    if not raw.startswith(b"HTTP/1.1 200 ") or not raw.endswith(_ENDS) or dechunked(raw[start:]) != script.body:
        raise BenchError(f"not the stream that was scripted, {len(raw)} bytes: {raw[:400]!r} ... {raw[-400:]!r}")
    body_ends, raw_ends = _chunks(raw, start)
    received = list(accumulate(len(data) for _, data in stream.pieces))
    arrived = []
    for end in accumulate(map(len, script.parts)):
        chunk = bisect_left(body_ends, end)
        piece = bisect_left(received, raw_ends[chunk] - (body_ends[chunk] - end))
        arrived.append(stream.pieces[piece][0])
    return arrived


def _chunks(raw: bytes, start: int) -> tuple[list[int], list[int]]:
    """Return where each chunk's data end: counted in bytes of the body, and in bytes of the answer with its framing."""
    body_ends, raw_ends, before = [], [], 0
    while size := int(raw[start : (line_end := raw.index(b"\r\n", start))], 16):
        before += size
        body_ends.append(before)
        raw_ends.append(line_end + 2 + size)
        start = line_end + 2 + size + 2
    return body_ends, raw_ends


def _sent(port: int) -> dict[int, list[float]]:
    with urllib.request.urlopen(f"http://127.0.0.1:{port}/sent", timeout=_STALL_SECONDS) as response:
        return {int(number): times for number, times in json.load(response).items()}


def percentile_99(values: list[float]) -> float:
    """Return the value that 99 of 100 do not pass."""
    return quantiles(values, n=100, method="inclusive")[98] if len(values) > 1 else values[0]
