"""How much a peer may ask of us: calls at once, and frames that cost us more than they cost it."""

from __future__ import annotations

from collections.abc import Callable

RESETS = 1_000
"""How many calls a peer may give up in a second that were not answered yet, beside as many as may run at once: an
Envoy gives one up for each client that hangs up. More is an attack (CVE-2023-44487). Those that were answered are not
counted: Envoy resets many a stream when its exchange is over."""

QUESTIONS = 10_000
"""How many PING and SETTINGS frames, which must be answered, a peer may send in a second (CVE-2019-9512, -9515). One
that measures the round trip sends some hundred pings."""

UNREAD = 1_000
"""How many frames may wait for a peer that does not read, beside four for each call that may run (its headers,
trailers, reset and window); DATA is not counted, windows bound it."""

GREETING_SECONDS = 10.0
"""How long a peer may take to send the preface and its first SETTINGS, which come first of all (RFC 9113 section 3.4).
Go's server waits as long for the preface (`prefaceTimeout` of golang.org/x/net/http2). Afterwards a connection may be
idle for ever: Envoy keeps those that it may need again."""


class Load:
    """The calls that run on all connections of a server, of at most `most`."""

    __slots__ = ("most", "running")

    def __init__(self, most: int) -> None:
        self.most = most
        self.running = 0


class Rate:
    """Count what may come `most` times in a second; `now` is in seconds."""

    __slots__ = ("_count", "_most", "_now", "_start")

    def __init__(self, most: int, now: Callable[[], float]) -> None:
        self._most = most
        self._now = now
        self._start = now()
        self._count = 0

    def is_over(self) -> bool:
        """Count one more, and say whether that is too many."""
        now = self._now()
        if now - self._start >= 1:
            self._start = now
            self._count = 0
        self._count += 1
        return self._count > self._most
