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

CROWDED: Final = Refusal(200, Code.POLICY_DENIED, "More telemetry came at once than the gateway passes on.")

# Nobody says who sends it, so it may cost next to nothing: what real clients send at once is a tenth of these sizes.
MAX_BYTES: Final = 256 * 1024
"""Largest body, as sent and decoded."""
MAX_AT_ONCE: Final = 16
"""So many exchanges of telemetry run at once; what comes beyond is answered and goes nowhere."""
READ_SECONDS: Final = 10.0
"""So long may its body take to arrive."""

# A language server without a list of `Configs` asks again a hundred times a second.
_NO_EXPERIMENTS: Final = b'{"Features":[],"Flights":{},"Configs":[],"ParameterGroups":[],"AssignmentContext":""}'
# The ingestion answer of Application Insights, which is what clients speak to.
_TAKEN: Final = b'{"itemsReceived":0,"itemsAccepted":0,"errors":[]}'


def kept_answer(method: str) -> bytes:
    """Return what a client is told whose telemetry goes nowhere, so that it stays calm."""
    return _NO_EXPERIMENTS if method == "GET" else _TAKEN


def readable(body: bytes, content_encoding: str) -> bytes:
    """Return a telemetry body decoded, so that it can be masked; raises BadRequest."""
    try:
        # So little may grow as it likes up to its bound.
        decoding = decoder(content_encoding, max_ratio=MAX_BYTES, max_bytes=MAX_BYTES)
        decoded = body if decoding is None else decoding.feed(body) + decoding.finish()
    except BadEncoding as fault:
        raise BadRequest(f"its content-encoding is not what it says: {fault}") from None
    if not _is_utf8(decoded):
        # In another charset no secret would be found.
        raise BadRequest("it is not UTF-8")
    return decoded


def _is_utf8(data: bytes) -> bool:
    """Say whether it is text in UTF-8; with NUL, which JSON never has as it is, it is UTF-16 that looks like it."""
    try:
        data.decode()
    except UnicodeDecodeError:
        return False
    return b"\0" not in data


class Slots:
    """Count the exchanges of telemetry that run now."""

    def __init__(self) -> None:
        self._taken = 0

    def take(self) -> bool:
        """Take one, if any is left."""
        if self._taken >= MAX_AT_ONCE:
            return False
        self._taken += 1
        return True

    def give(self) -> None:
        """Give one back."""
        self._taken -= 1
