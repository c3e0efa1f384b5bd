"""What clients tell GitHub about themselves, without saying who they are: passed on masked, or kept here. Pure."""

from __future__ import annotations

from typing import Final

from extproc.dialect.port import BadRequest
from extproc.encoding import BadEncoding, decoder
from extproc.errors import Code, Refusal
from extproc.policy import Decision, Effect

PASSED: Final = Decision(Effect.ALLOW, "telemetry", "The policy passes telemetry on.")
BLOCKED: Final = Decision(Effect.DENY, "telemetry", "The policy blocks telemetry.")
BLOCKING: Final = Refusal(200, Code.POLICY_DENIED, BLOCKED.reason)

_MAX_RATIO: Final = 200
"""Text seldom shrinks to a twentieth; the same bound as for answers."""

# A language server without a list of `Configs` asks again a hundred times a second.
_NO_EXPERIMENTS: Final = b'{"Features":[],"Flights":{},"Configs":[],"ParameterGroups":[],"AssignmentContext":""}'
# The ingestion answer of Application Insights, which is what clients speak to.
_TAKEN: Final = b'{"itemsReceived":0,"itemsAccepted":0,"errors":[]}'


def kept_answer(method: str) -> bytes:
    """Return what a client is told whose telemetry goes nowhere, so that it stays calm."""
    return _NO_EXPERIMENTS if method == "GET" else _TAKEN


def readable(body: bytes, content_encoding: str, max_bytes: int) -> bytes:
    """Return a telemetry body decoded, so that it can be masked; raises BadRequest."""
    try:
        decoding = decoder(content_encoding, max_ratio=_MAX_RATIO, max_bytes=max_bytes)
        if decoding is None:
            return body
        return decoding.feed(body) + decoding.finish()
    except BadEncoding as fault:
        raise BadRequest(f"its content-encoding is not what it says: {fault}") from None
