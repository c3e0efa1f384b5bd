"""Mask the injected credential where an upstream repeats it in a header; `extproc.masking` does so in bodies. Pure."""

from __future__ import annotations

from collections.abc import Iterable

from extproc.masking.channel import GATEWAY_RULE
from extproc.masking.finding import placeholder
from extproc.secret import Secret

# A shorter literal would occur in ordinary text; no credential of GitHub's is near this.
MIN_SECRET_BYTES = 8


def without_secrets(value: str, secrets: Iterable[Secret]) -> str:
    """Return `value` with every literal occurrence of the secrets masked, the longest first."""
    literals = {secret.reveal() for secret in secrets}
    # As nearly always.
    if all(literal not in value for literal in literals):
        return value
    for literal in sorted(literals, key=len, reverse=True):
        value = value.replace(literal, placeholder(GATEWAY_RULE))
    return value
