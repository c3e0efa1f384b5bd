"""Exchanges as a store has them, for tests: packed, sealed and put."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from extproc.recording.document import merged
from extproc.recording.entry import Blob, Chain, Draft, Kind, Sealed
from extproc.recording.facts import facts_of, microseconds
from extproc.recording.packing import body_of, pack
from extproc.store.sqlite_store import SqliteStore

NOW = 1_760_000_000.0
SESSION = "s1"

Exchange = tuple[dict[str, Any], dict[str, Any]]
"""The opening and the closing of an exchange, as `extproc.recording.document` makes them."""


def exchange(
    exchange_id: str,
    *,
    session: str = SESSION,
    at: float = NOW,
    user: str | None = "alice",
    groups: Sequence[str] = ("developers",),
    outcome: str = "completed",
    answered: str = "Hello",
    findings: Sequence[dict[str, Any]] = (),
    paths: Sequence[str] = (),
    **request: Any,
) -> Exchange:
    """Return an exchange; `request` has what the request is beside the usual, `findings` are those of the prompt."""
    principal = None if user is None else {"id": f"issuer#{user}", "name": user, "groups": list(groups)}
    usual = {"model": "gpt-5", "repository": "acme/app", "messages": [{"role": "user", "content": "say hello"}]}
    calls = [{"id": "c", "name": "edit", "arguments": "{}", "paths": list(paths)}] if paths else []
    opening = {
        "v": 1,
        "id": exchange_id,
        "session": session,
        "opened_at": at,
        "principal": principal,
        "decision": {"effect": "allow", "rule": "developers"},
        "client": {"user_agent": "copilot/1.0", "address": "192.0.2.1"},
        "request": {**usual, **request},
        "findings": list(findings),
        "masking": None,
    }
    closing = {
        "v": 1,
        "id": exchange_id,
        "closed_at": at + 1,
        "outcome": outcome,
        "error": None,
        "response": {"status": 200, "text": answered, "tool_calls": calls},
        "timing": None,
        "findings": [],
        "masking": None,
        "approvals": [],
    }
    return opening, closing


class Log:
    """Seal exchanges and other entries one after the other, as one process does, which knows what blobs it put."""

    def __init__(self, name: str = "test.0.1") -> None:
        self._chain = Chain(name)
        self._known: set[tuple[str, str]] = set()
        self.blobs: list[Blob] = []

    def exchange(self, opening: dict[str, Any], closing: dict[str, Any], *, lines: Sequence[str] = ()) -> Sealed:
        """Seal an exchange; its new blobs are appended to `blobs`."""
        session = opening["session"]
        packed = pack(opening, is_known=lambda address: (session, address) in self._known)
        new = [Blob(session, address, data) for address, data in packed.blobs]
        self._known |= {(session, one.address) for one in new}
        self.blobs += new
        facts = facts_of(merged(opening, closing))
        body = body_of(packed.data, closing)
        addresses = [one.address for one in new]
        at = microseconds(opening["opened_at"])
        draft = Draft(Kind.EXCHANGE, opening["id"], session, at, facts, body, addresses, lines=list(lines))
        return self.seal(draft)

    def seal(self, draft: Draft) -> Sealed:
        """Seal anything else."""
        sealed, self._chain = self._chain.seal(draft)
        return sealed


async def record(path: Path, exchanges: Sequence[Exchange], log: str = "test.0.1") -> list[Sealed]:
    """Put exchanges into the SQLite store of this path, which need not be there; return their entries."""
    written = Log(log)
    entries = [written.exchange(*one) for one in exchanges]
    store = SqliteStore(path)
    try:
        await store.put(entries, written.blobs)
    finally:
        await store.aclose()
    return entries
