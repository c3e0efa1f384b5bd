"""What an exchange asks for: replies to Envoy, and work of the outside, each answered by an event."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import msgspec

from extproc.approval.approval import Request
from extproc.endpoint import Upstream
from extproc.errors import Code
from extproc.events import Headers
from extproc.secret import Secret


class PassRequestHeaders(msgspec.Struct, frozen=True, gc=False):
    """Let the request headers go on, changed; only now does Envoy choose the upstream."""

    set_headers: Headers
    remove_headers: list[str]
    decision_id: str


class PassRequestBody(msgspec.Struct, frozen=True, gc=False):
    """Let these bytes of the request go on."""

    data: bytes
    end_of_stream: bool


class PassRequestTrailers(msgspec.Struct, frozen=True, gc=False):
    """Let the request end with trailers, without the named ones."""

    remove: list[str]


class PassResponseHeaders(msgspec.Struct, frozen=True, gc=False):
    """Let the response headers go on to the client, changed."""

    set_headers: Headers
    remove_headers: list[str]


class PassResponseBody(msgspec.Struct, frozen=True, gc=False):
    """Let these bytes go to the client."""

    data: bytes
    end_of_stream: bool


class PassResponseTrailers(msgspec.Struct, frozen=True, gc=False):
    """Let the response end with trailers, without the named ones."""

    remove: list[str]


class Respond(msgspec.Struct, frozen=True, gc=False):
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


class Identify(msgspec.Struct, frozen=True, gc=False):
    """Verify the token; answered by `Identified` or `Refused`."""

    token: Secret


class FetchCredential(msgspec.Struct, frozen=True, gc=False):
    """Get the named upstream credential; answered by `CredentialReady` or `Refused`."""

    name: str
    upstream: Upstream


class Record(msgspec.Struct, frozen=True, gc=False):
    """Make these entries durable, together; answered by `Recorded` or `RecordingFailed`."""

    opening: dict[str, Any] | None
    closing: dict[str, Any] | None

    def __repr__(self) -> str:
        """Leave out the entries: they hold prompts."""
        return f"Record(opening={self.opening is not None}, closing={self.closing is not None})"


class Compute(msgspec.Struct, frozen=True, gc=False):
    """Run `work`, which is pure and may take long for `size` bytes, and answer with `Computed`.

    `apart` is for work of people nobody knows: it waits in a queue of its own, and holds up nobody else's.
    """

    work: Callable[[], object]
    size: int
    apart: bool = False


class Ask(msgspec.Struct, frozen=True, gc=False):
    """Ask approvers, and go on meanwhile; answered by `Decided`, with a `Tick` now and then until then."""

    request: Request

    def __repr__(self) -> str:
        """Leave out what is proposed."""
        return f"Ask({self.request.id!r})"


class Finish(msgspec.Struct, frozen=True, gc=False):
    """End the ext_proc stream with OK: everything Envoy waits for was said. The only effect that may."""


class Fail(msgspec.Struct, frozen=True, gc=False):
    """End the ext_proc stream with an error, so that Envoy fails the exchange."""

    code: Code


Effect = Reply | Identify | FetchCredential | Record | Compute | Ask | Finish | Fail
