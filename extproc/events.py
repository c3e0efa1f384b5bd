"""What an exchange is told: messages from Envoy, and the outcomes of what it asked the outside to do."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from extproc.credential import Credential
from extproc.errors import Refusal
from extproc.identity.principal import Principal

Headers = list[tuple[str, str]]
"""Header names in lower case and values (Latin-1, RFC 9110 section 5.5), in the order received, duplicates kept."""


@dataclass(frozen=True, slots=True)
class RequestHeaders:
    """Begin the exchange. `full_duplex` says whether Envoy runs both bodies in FULL_DUPLEX_STREAMED mode."""

    headers: Headers
    end_of_stream: bool
    client_address: str | None
    full_duplex: bool


@dataclass(frozen=True, slots=True)
class RequestBody:
    """Bring the next bytes of the request; the last piece may be empty."""

    data: bytes
    end_of_stream: bool


@dataclass(frozen=True, slots=True)
class RequestTrailers:
    """End the request body in place of its last piece."""

    names: list[str]


@dataclass(frozen=True, slots=True)
class ResponseHeaders:
    """Begin the response. `from_upstream` is false for a reply that Envoy made itself (`details` says why)."""

    headers: Headers
    end_of_stream: bool
    from_upstream: bool
    details: str


@dataclass(frozen=True, slots=True)
class ResponseBody:
    """Bring the next bytes of the response; the last piece may be empty."""

    data: bytes
    end_of_stream: bool


@dataclass(frozen=True, slots=True)
class ResponseTrailers:
    """End the response body in place of its last piece."""

    names: list[str]


@dataclass(frozen=True, slots=True)
class Identified:
    """Answer `Identify`: the token is good."""

    principal: Principal


@dataclass(frozen=True, slots=True)
class CredentialReady:
    """Answer `FetchCredential`: this is what to send."""

    credential: Credential


@dataclass(frozen=True, slots=True)
class Refused:
    """Answer `Identify` or `FetchCredential`: it cannot be done."""

    refusal: Refusal


@dataclass(frozen=True, slots=True)
class Recorded:
    """Answer `Record`: the entries are durable."""


@dataclass(frozen=True, slots=True)
class RecordingFailed:
    """Answer `Record`: the entries are not durable, and nothing that depends on them may be released."""


class End(StrEnum):
    """Why a stream ended before the exchange was finished."""

    CLIENT = "client"
    UPSTREAM = "upstream"
    ENVOY = "envoy"
    DRAIN = "drain"
    TIMEOUT = "timeout"
    FAULT = "fault"


@dataclass(frozen=True, slots=True)
class Ended:
    """Tell that no more can be said to Envoy; only recording is left to do."""

    end: End


EnvoyEvent = RequestHeaders | RequestBody | RequestTrailers | ResponseHeaders | ResponseBody | ResponseTrailers
Event = EnvoyEvent | Identified | CredentialReady | Refused | Recorded | RecordingFailed | Ended
