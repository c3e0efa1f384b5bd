"""Word what is wrong with a credential: its name and the cause, never its content."""

from __future__ import annotations

from extproc.errors import Code, Refusal


def unavailable(name: str, cause: str) -> Refusal:
    """Refuse because credential `name` cannot be used; `cause` completes the sentence and helps its operator."""
    return Refusal(503, Code.CREDENTIAL_UNAVAILABLE, f"The gateway's credential {name!r} is not available: {cause}.")
