"""What an exchange is told: messages from Envoy, and the outcomes of what it asked the outside to do.

All are msgspec Structs: made for every message of Envoy, and several times faster to make than frozen dataclasses.
"""

from __future__ import annotations

from enum import StrEnum

import msgspec

from extproc.approval.approval import Approval
from extproc.credential import Credential
from extproc.errors import Refusal
from extproc.identity.principal import Principal
from extproc.secret import Secret

Headers = list[tuple[str, str]]
"""Header names in lower case and values (Latin-1, RFC 9110 section 5.5), in the order received, duplicates kept."""


class Connect(msgspec.Struct, frozen=True, gc=False):
    """Tell of the CONNECT around a request: its decision id, its `host:port`, and its Proxy-Authorization."""

    id: str
    authority: str
    authorization: Secret


class RequestHeaders(msgspec.Struct, frozen=True, gc=False):
    """Begin the exchange.

    `full_duplex` says whether Envoy runs both bodies in FULL_DUPLEX_STREAMED mode; `server_name` is the one that TLS
    was asked for (SNI), empty without.
    """

    headers: Headers
    end_of_stream: bool
    client_address: str | None
    full_duplex: bool
    server_name: str = ""
    connect: Connect | None = None


class RequestBody(msgspec.Struct, frozen=True, gc=False):
    """Bring the next bytes of the request; the last piece may be empty."""

    data: bytes
    end_of_stream: bool


class RequestTrailers(msgspec.Struct, frozen=True, gc=False):
    """End the request body in place of its last piece."""

    names: list[str]


class ResponseHeaders(msgspec.Struct, frozen=True, gc=False):
    """Begin the response. `from_upstream` is false for a reply that Envoy made itself."""

    headers: Headers
    end_of_stream: bool
    from_upstream: bool


class ResponseBody(msgspec.Struct, frozen=True, gc=False):
    """Bring the next bytes of the response; the last piece may be empty."""

    data: bytes
    end_of_stream: bool


class ResponseTrailers(msgspec.Struct, frozen=True, gc=False):
    """End the response body in place of its last piece."""

    names: list[str]


class Identified(msgspec.Struct, frozen=True, gc=False):
    """Answer `Identify`: the token is good."""

    principal: Principal


class CredentialReady(msgspec.Struct, frozen=True, gc=False):
    """Answer `FetchCredential`: this is what to send."""

    credential: Credential


class Refused(msgspec.Struct, frozen=True, gc=False):
    """Answer `Identify` or `FetchCredential`: it cannot be done."""

    refusal: Refusal


class Recorded(msgspec.Struct, frozen=True, gc=False):
    """Answer `Record`: the entries are durable."""


class RecordingFailed(msgspec.Struct, frozen=True, gc=False):
    """Answer `Record`: the entries are not durable, and nothing that depends on them may be released."""


class Computed(msgspec.Struct, frozen=True, gc=False):
    """Answer `Compute`: what the work returned."""

    result: object


class Decided(msgspec.Struct, frozen=True, gc=False):
    """Answer `Ask`: how it ended; None, and why in one sentence, where nobody could be asked."""

    approval: Approval | None
    why: str = ""


class Tick(msgspec.Struct, frozen=True, gc=False):
    """Tell that time has passed while approvers are asked: the client may need a sign of life."""


class End(StrEnum):
    """Why a stream ended before the exchange was finished."""

    CLIENT = "client"
    UPSTREAM = "upstream"
    ENVOY = "envoy"
    DRAIN = "drain"
    TIMEOUT = "timeout"
    RECORDING = "recording"
    FAULT = "fault"


class Ended(msgspec.Struct, frozen=True, gc=False):
    """Tell that no more can be said to Envoy; only recording is left to do.

    `received` and `sent` are the bytes that went through a tunnel, from the client and to it.
    """

    end: End
    received: int = 0
    sent: int = 0


class TlsFailed(msgspec.Struct, frozen=True, gc=False):
    """Tell of a client in a tunnel that could not agree on TLS with us; `reason` is that of the TLS library."""

    connect: Connect
    client_address: str | None
    reason: str


EnvoyEvent = RequestHeaders | RequestBody | RequestTrailers | ResponseHeaders | ResponseBody | ResponseTrailers
Event = (
    EnvoyEvent | Identified | CredentialReady | Refused | Recorded | RecordingFailed | Computed | Decided | Tick | Ended
)
