"""The error object of OpenAI's API, which clients of chat, completions and responses show to the person."""

from __future__ import annotations

import msgspec

from extproc.errors import Refusal


def openai_error(refusal: Refusal, decision_id: str) -> bytes:
    """Return the body of a refusal, in the form of the OpenAI API reference, "Error codes"."""
    error = {
        "message": refusal.message,
        "type": "invalid_request_error" if refusal.status < 500 else "server_error",
        "code": refusal.code.value,
        "param": None,
        "decision_id": decision_id,
    }
    return msgspec.json.encode({"error": error})
