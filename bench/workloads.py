"""What the ways are asked to carry: how many clients ask for what, and which columns take part."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Final

from bench.client import REQUEST_BODY_BYTES, question, request
from bench.turns import turns
from bench.ways import PEERS, Variant

_BASE: Final = (Variant.OURS, Variant.NOOP, Variant.NONE)
_TRANSPORTS: Final = (Variant.OURS, Variant.GRPC, Variant.NOOP, Variant.NONE)

Asked = Callable[[str, int], bytes | Iterator[bytes]]
"""Return what a client sends, given its token and its number."""


@dataclass(frozen=True, slots=True)
class Workload:
    """Some connections, each of which asks again as soon as it is answered, for so long."""

    name: str
    title: str
    short: str
    """What the plots call it."""
    answer: str
    asked: Asked
    variants: tuple[Variant, ...]
    connections: int = 16
    seconds: float = 1.2
    tunnel: bool = False
    """Through the forward proxy, in TLS: each connection opens one tunnel, before it is measured."""


def _chat(answer: str, size: int = REQUEST_BODY_BYTES) -> Asked:
    body = question(size, stream=answer != "plain")
    return lambda token, client: request(answer, token, body, client=client)


WORKLOADS: Final = (
    Workload(
        "plain",
        "plain JSON, 1 KB, 16 at a time",
        "1 KB",
        "plain",
        _chat("plain"),
        (Variant.OURS, Variant.GRPC, Variant.WORKERS, Variant.NOOP, Variant.NONE, *PEERS),
    ),
    Workload("plain_4k", "plain JSON, 4 KB, 16 at a time", "4 KB", "plain", _chat("plain", 4096), _BASE, seconds=1.0),
    Workload(
        "single",
        "plain JSON, 1 KB, one at a time",
        "one at a time",
        "plain",
        _chat("plain"),
        _BASE,
        connections=1,
        seconds=0.8,
    ),
    Workload(
        "burst",
        "SSE, 200 events at full speed, 16 at a time",
        "200 events",
        "burst",
        _chat("burst"),
        (*_TRANSPORTS, Variant.MITMPROXY),
    ),
    Workload(
        "turns",
        "agent turns, prompts of 200 KB, 200 events, 4 at a time",
        "200 KB prompts",
        "burst",
        lambda token, client: turns("burst", token, client=client),
        _BASE,
        connections=4,
    ),
    Workload(
        "tunnel",
        "forward proxy, plain JSON in TLS, 16 tunnels",
        "forward proxy",
        "plain",
        _chat("plain"),
        _BASE,
        seconds=1.0,
        tunnel=True,
    ),
)


@dataclass(frozen=True, slots=True)
class Streams:
    """So many streams at a time, each of 50 events a second."""

    count: int
    variants: tuple[Variant, ...]
    hold_seconds: float = 1.2
    """How long all of them are open. Few streams bring few events: they are held for longer."""
    begin_seconds: float = 1.0
    """Within how long they begin, one after the other: all at once would be a burst, not so many at a time."""

    @property
    def title(self) -> str:
        """Return what people read."""
        return "1 stream" if self.count == 1 else f"{self.count:,} streams"

    @property
    def name(self) -> str:
        """Return the key in the results."""
        return f"streams_{self.count}"


STREAMS: Final = (
    Streams(1, _BASE, hold_seconds=1.5, begin_seconds=0.0),
    Streams(16, _TRANSPORTS, hold_seconds=2.0, begin_seconds=0.5),
    Streams(100, _TRANSPORTS),
    *(Streams(count, (Variant.OURS,)) for count in (200, 300, 400)),
    Streams(500, _BASE),
    *(Streams(count, (Variant.OURS,), begin_seconds=count / 500) for count in (600, 700, 800, 900)),
    Streams(1000, _BASE, begin_seconds=2.0),
)
QUICK_STREAMS: Final = (1, 16, 100, 400)
