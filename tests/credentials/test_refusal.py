from __future__ import annotations

from extproc.credentials.refusal import unavailable
from extproc.errors import Code


def test_the_refusal_names_the_credential_and_the_cause() -> None:
    refusal = unavailable("team-a", "it is empty")
    assert (refusal.status, refusal.code) == (503, Code.CREDENTIAL_UNAVAILABLE)
    assert refusal.message == "The gateway's credential 'team-a' is not available: it is empty."
