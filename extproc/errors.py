"""What can go wrong, by stable code. A code is also a metric label and part of the contract with clients."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum


class Code(StrEnum):
    """Stable codes: shown to clients, written to records, counted in metrics. Never renamed."""

    IDENTITY_MISSING = "identity.missing"
    IDENTITY_MALFORMED = "identity.malformed"
    IDENTITY_ALGORITHM = "identity.algorithm"
    IDENTITY_ISSUER = "identity.issuer"
    IDENTITY_AUDIENCE = "identity.audience"
    IDENTITY_EXPIRED = "identity.expired"
    IDENTITY_NOT_YET_VALID = "identity.not_yet_valid"
    IDENTITY_KEY_UNKNOWN = "identity.key_unknown"
    IDENTITY_SIGNATURE = "identity.signature"
    IDENTITY_CLAIMS = "identity.claims"
    IDENTITY_UNAVAILABLE = "identity.unavailable"
    IDENTITY_GROUPS_UNAVAILABLE = "identity.groups_unavailable"
    REQUEST_PATH = "request.path"
    REQUEST_HEADERS = "request.headers"
    REQUEST_BODY = "request.body"
    REQUEST_MISDIRECTED = "request.misdirected"
    REQUEST_REFUSED = "request.refused"
    REQUEST_TOO_LARGE = "request.too_large"
    CONNECT_REFUSED = "connect.refused"
    CONNECT_TLS = "connect.tls"
    ENDPOINT_UNKNOWN = "endpoint.unknown"
    POLICY_DENIED = "policy.denied"
    APPROVAL_DENIED = "approval.denied"
    APPROVAL_EXPIRED = "approval.expired"
    APPROVAL_UNAVAILABLE = "approval.unavailable"
    MASKING_BLOCKED = "masking.blocked"
    CREDENTIAL_UNAVAILABLE = "credential.unavailable"
    CREDENTIAL_REFUSED = "credential.refused"
    RECORDING_UNAVAILABLE = "recording.unavailable"
    UPSTREAM_UNAVAILABLE = "upstream.unavailable"
    UPSTREAM_INCOMPLETE = "upstream.incomplete"
    UPSTREAM_RESET = "upstream.reset"
    UPSTREAM_CONTENT_TYPE = "upstream.content_type"
    UPSTREAM_ENCODED = "upstream.encoded"
    UPSTREAM_TOO_LARGE = "upstream.too_large"
    CLIENT_GONE = "client.gone"
    GATEWAY_TIMEOUT = "gateway.timeout"
    GATEWAY_DRAINING = "gateway.draining"
    GATEWAY_PROTOCOL = "gateway.protocol"
    GATEWAY_INTERNAL = "gateway.internal"


@dataclass(frozen=True, slots=True)
class Refusal:
    """Say no: the HTTP status, the stable code and one sentence for the person at the client.

    The message never quotes a token, a prompt or an exception's text.
    """

    status: int
    code: Code
    message: str


class ExtprocError(Exception):
    """Be the base of what we raise on purpose; its text is fit to be shown to an operator."""


class ConfigError(ExtprocError):
    """Say which file, which line or key, and what was expected. The command exits with 2."""


class Refused(ExtprocError):
    """Carry a refusal out of an adapter (identity, credential) to `call`, which turns it into an event."""

    def __init__(self, refusal: Refusal) -> None:
        super().__init__(f"{refusal.code}: {refusal.message}")
        self.refusal = refusal


class StoreUnavailable(ExtprocError):
    """Say that an entry could not be made durable; nothing that depends on it may be released."""
