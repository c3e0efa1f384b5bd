"""What an exchange asks for: replies to Envoy, and work of the outside, each answered by an event."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from extproc.endpoint import Upstream
from extproc.errors import Code
from extproc.events import Headers
from extproc.secret import Secret


@dataclass(frozen=True, slots=True)
class PassRequestHeaders:
    """Let the request headers go on, changed; only now does Envoy choose the upstream."""

    set_headers: Headers
    remove_headers: list[str]
    decision_id: str


@dataclass(frozen=True, slots=True)
class PassRequestBody:
    """Let these bytes of the request go on."""

    data: bytes
    end_of_stream: bool


@dataclass(frozen=True, slots=True)
class PassRequestTrailers:
    """Let the request end with trailers, without the named ones."""

    remove: list[str]


@dataclass(frozen=True, slots=True)
class PassResponseHeaders:
    """Let the response headers go on to the client, changed."""

    set_headers: Headers
    remove_headers: list[str]


@dataclass(frozen=True, slots=True)
class PassResponseBody:
    """Let these bytes go to the client."""

    data: bytes
    end_of_stream: bool


@dataclass(frozen=True, slots=True)
class PassResponseTrailers:
    """Let the response end with trailers, without the named ones."""

    remove: list[str]


@dataclass(frozen=True, slots=True)
class Respond:
    """Answer the client in place of the upstream; possible until the first byte of a response was released."""

    status: int
    headers: Headers
    body: bytes
    details: str
    decision_id: str


Reply = (
    PassRequestHeaders
    | PassRequestBody
    | PassRequestTrailers
    | PassResponseHeaders
    | PassResponseBody
    | PassResponseTrailers
    | Respond
)


@dataclass(frozen=True, slots=True)
class Identify:
    """Verify the token; answered by `Identified` or `Refused`."""

    token: Secret


@dataclass(frozen=True, slots=True)
class FetchCredential:
    """Get the named upstream credential; answered by `CredentialReady` or `Refused`."""

    name: str
    upstream: Upstream


@dataclass(frozen=True, slots=True)
class Record:
    """Make these entries durable, together; answered by `Recorded` or `RecordingFailed`."""

    opening: dict[str, Any] | None = field(repr=False)
    closing: dict[str, Any] | None = field(repr=False)


@dataclass(frozen=True, slots=True)
class Finish:
    """End the ext_proc stream with OK: everything Envoy waits for was said. The only effect that may."""


@dataclass(frozen=True, slots=True)
class Fail:
    """End the ext_proc stream with an error, so that Envoy fails the exchange."""

    code: Code


Effect = Reply | Identify | FetchCredential | Record | Finish | Fail
