"""What the suite over all stores needs: how a backend is opened and disturbed. The tests are in test_conformance.py.

A backend is one store, which several processes could have open. To add one: implement `Backend`, give it a function
like `sqlite_backend.opened`, name that in `test_conformance.BACKENDS` and its faults in `FAULTS`. Readers block: a
server that a backend needs must run in another thread or process.
"""

from __future__ import annotations

from contextlib import AbstractContextManager
from typing import Protocol

from extproc.recording.envelope import Envelope
from extproc.store.port import Archive, Eraser, Ledger, Store
from tests.store.cosmos_faults import COSMOS_FAULTS


class Backend(Protocol):
    """One store, empty at first; closes what it opened when it ends."""

    async def store(self) -> Store:
        """Open the store for writing, as another process does."""
        ...

    def archive(self, envelope: Envelope | None = None) -> Archive:
        """Open it for reading."""
        ...

    def ledger(self) -> Ledger:
        """Open it for proving."""
        ...

    def eraser(self) -> Eraser:
        """Open it for removing by rule."""
        ...

    def fault(self, store: Store, name: str) -> AbstractContextManager[None]:
        """Make the next call of `store` suffer one of the backend's `FAULTS`; all is well again at the end."""
        ...


FAULTS: dict[str, dict[str, bool]] = {
    "sqlite": {"failed before": True, "failed but persisted": True, "locked": True, "full": True, "read-only": True},
    "cosmos": {name: fails for name, (_, fails) in COSMOS_FAULTS.items()},
}
"""The faults of each backend, and whether a call that suffers it fails; False where the adapter's own retries help."""
