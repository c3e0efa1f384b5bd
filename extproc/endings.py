"""The ends of an exchange that are neither its answer nor a decision: why, how they count, what the client is told."""

from __future__ import annotations

from collections.abc import Mapping

from extproc.errors import Code, Refusal
from extproc.events import End
from extproc.masking.finding import blocked_message
from extproc.recording.document import Outcome

RECORDING = Refusal(503, Code.RECORDING_UNAVAILABLE, "The exchange cannot be recorded now, so it was not let through.")

ENDED: Mapping[End, tuple[Outcome, Refusal]] = {
    End.CLIENT: (
        Outcome.ABORTED,
        Refusal(499, Code.CLIENT_GONE, "The client went away before the answer was complete."),
    ),
    End.UPSTREAM: (Outcome.UPSTREAM_ERROR, Refusal(502, Code.UPSTREAM_RESET, "The upstream broke the answer off.")),
    End.ENVOY: (Outcome.FAILED, Refusal(500, Code.GATEWAY_PROTOCOL, "Envoy broke the exchange off, or the protocol.")),
    End.DRAIN: (Outcome.INTERRUPTED, Refusal(503, Code.GATEWAY_DRAINING, "The gateway was stopped during the answer.")),
    End.TIMEOUT: (Outcome.FAILED, Refusal(504, Code.GATEWAY_TIMEOUT, "The exchange made no progress for too long.")),
    End.RECORDING: (Outcome.FAILED, RECORDING),
    End.FAULT: (Outcome.FAILED, Refusal(500, Code.GATEWAY_INTERNAL, "A fault of the gateway ended the exchange.")),
}

INCOMPLETE = Refusal(502, Code.UPSTREAM_INCOMPLETE, "The upstream ended its stream without the terminal event.")

UNKNOWN_ENDPOINT = Refusal(
    403, Code.ENDPOINT_UNKNOWN, "This gateway does not know this endpoint, so it is not passed on."
)

RENEWAL = Refusal(
    403,
    Code.POLICY_DENIED,
    "A token of this gateway buys no other one: send the one of your identity provider (run `extproc login`).",
)


def refused_by_envoy(status: int) -> Refusal:
    """Say that Envoy did not take the request; `status` is what it answered."""
    return Refusal(status, Code.REQUEST_REFUSED, "Upgrades and malformed requests do not pass this gateway.")


def unavailable(envoy_status: int) -> Refusal:
    """Say that Envoy got no answer from the upstream; `envoy_status` is what it made of that."""
    status = envoy_status if envoy_status in {502, 503, 504} else 502
    return Refusal(status, Code.UPSTREAM_UNAVAILABLE, "The upstream cannot be reached, or did not answer.")


def blocked(rule: str) -> Refusal:
    """Say that a secret was found that policy does not let pass; `rule` found it."""
    return Refusal(422, Code.MASKING_BLOCKED, blocked_message(rule))
