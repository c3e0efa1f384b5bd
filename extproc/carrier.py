"""What carries the streams of Envoy: the port between the service and a transport (`server`, `http2`)."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from enum import IntEnum
from typing import Final, Literal, Protocol

TransportName = Literal["http2", "grpc"]
"""What may carry streams: our own HTTP/2, or grpc.aio."""

MAX_MESSAGE_BYTES: Final = 4 << 20
"""Largest message taken from a peer; Envoy's body pieces are bounded by its connection's buffer, far below this."""


class Status(IntEnum):
    """How a stream ends (gRPC, "Status codes and their use in gRPC")."""

    OK = 0
    INVALID_ARGUMENT = 3
    DEADLINE_EXCEEDED = 4
    NOT_FOUND = 5
    RESOURCE_EXHAUSTED = 8
    FAILED_PRECONDITION = 9
    UNIMPLEMENTED = 12
    INTERNAL = 13
    UNAVAILABLE = 14


class Stream(Protocol):
    """One call of a peer. All methods are called on the event loop; after an end they do nothing."""

    @property
    def metadata(self) -> Mapping[str, str]:
        """Return what the call came with; of a name that came twice, the last value."""
        ...

    def send(self, message: bytes) -> None:
        """Send a message; messages leave in their order, and not at once where the peer does not take them."""
        ...

    def more(self) -> None:
        """Say that the next message may come, after `Receiver.receive` returned false."""
        ...

    def finish(self) -> None:
        """End the call with OK, after all that was sent."""
        ...

    def abort(self, status: Status, text: str) -> None:
        """End the call with another status and a text of ASCII; messages that did not leave yet may be lost."""
        ...


class Receiver(Protocol):
    """What serves one call. A transport that is told by an exception ends the call with INTERNAL."""

    def receive(self, message: bytes) -> bool:
        """Take a message; false where no other may come, nor the end, before `Stream.more`."""
        ...

    def end(self) -> None:
        """Take the end of the peer's messages."""
        ...

    def reset(self) -> None:
        """Learn that the peer gave the call up, or the connection broke: at any time, and nothing comes after it."""
        ...


Service = Callable[[Stream], Receiver]
"""Take a new call, in the task-free context of a transport; what is returned is told what comes."""
