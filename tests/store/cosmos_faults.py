"""What may go wrong between us and Cosmos DB, for the suite over all stores."""

from __future__ import annotations

from tests.cosmos.fault import Fault

STALL = 0.4
"""Seconds that an answer may take, in these tests."""

COSMOS_FAULTS: dict[str, tuple[Fault, bool]] = {
    "failed before": (Fault("write"), False),
    "failed but persisted": (Fault("write", commit=True), False),
    "timeout": (Fault("write", stall=2 * STALL), False),
    "timeout but persisted": (Fault("write", stall=2 * STALL, commit=True), False),
    "408": (Fault("write", status=408), False),
    "410": (Fault("write", status=410, sub_status=1002), False),
    "429": (Fault("write", status=429, retry_after_ms=1, times=3), False),
    "429 inside": (Fault("batch", status=429, retry_after_ms=1, inside=True), False),
    "449": (Fault("write", status=449), False),
    "449 but persisted": (Fault("write", status=449, commit=True), False),
    "500": (Fault("write", status=500), False),
    "503": (Fault("write", status=503, times=3), False),
    "503 but persisted": (Fault("write", status=503, commit=True), False),
    "write region moved": (Fault("write", status=403, sub_status=3), False),
    "batches too large": (Fault("batch", status=413, times=3), False),
    "dropped for ever": (Fault("write", times=None), True),
    "429 for ever": (Fault("write", status=429, retry_after_ms=1, times=None), True),
    "503 for ever": (Fault("write", status=503, times=None), True),
    "401": (Fault("write", status=401), True),
    "403": (Fault("write", status=403, sub_status=5300), True),
    "412": (Fault("write", status=412), True),
    "413": (Fault("write", status=413, times=None), True),
}
"""Each fault, and whether a call that suffers it fails: False where our own retries help."""
