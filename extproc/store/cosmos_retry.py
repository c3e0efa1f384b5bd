"""Try again what Cosmos DB did not do for reasons that pass, for a bounded time."""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Final, TypeVar

from azure.core.exceptions import AzureError
from azure.cosmos.exceptions import CosmosBatchOperationError, CosmosHttpResponseError

from extproc.errors import StoreUnavailable

T = TypeVar("T")

FIRST_PAUSE_SECONDS: Final = 0.1
LONGEST_PAUSE_SECONDS: Final = 5.0

_PASSING: Final = frozenset({408, 410, 429, 449})
# 403 with 3: not the write region (any more); with 1008: the account is not in this region (any more).
# 404 with 1002: this replica is behind the session. All from "HTTP status codes for Azure Cosmos DB".
_PASSING_WITH: Final = frozenset({(403, 3), (403, 1008), (404, 1002)})
_ANSWERS: Final = frozenset({404, 409, 413})

_REASONS: Final = {
    401: "the credential is not accepted",
    403: "the identity or the network may not do this",
    404: "there is no such database or container: provision it first",
    412: "a condition was not met",
    413: "an item is too large",
}


@dataclass(frozen=True, slots=True)
class Retrying:
    """Repeat what fails for reasons that pass: throttled, timed out, moved, disconnected, out of order.

    Pauses grow exponentially, with full jitter, to `LONGEST_PAUSE_SECONDS`; the server's `retry-after` is honoured.
    `clock`, `sleep` (seconds) and `jitter` (0 to 1) are there for tests.
    """

    attempt_seconds: float
    patience_seconds: float
    clock: Callable[[], float] = time.monotonic
    sleep: Callable[[float], Awaitable[None]] = asyncio.sleep
    jitter: Callable[[], float] = random.random

    def deadline(self) -> float:
        """Return when, on `clock`, a call that begins now gives up."""
        return self.clock() + self.patience_seconds

    async def run(self, operation: Callable[[], Awaitable[T]], deadline: float) -> T:
        """Return what the operation returns.

        Raises StoreUnavailable, and the SDK's error where that is an answer: 404, 409 and 413.
        """
        attempt = 0
        while True:
            try:
                async with asyncio.timeout(self.attempt_seconds):
                    return await operation()
            except (AzureError, TimeoutError, OSError) as error:
                if _status(error)[0] in _ANSWERS and not _passes(error):
                    raise
                reason = reason_of(error)
                if not _passes(error):
                    raise StoreUnavailable(reason) from None
                await self.pause(attempt, deadline, reason, _retry_after(error))
            attempt += 1

    async def pause(self, attempt: int, deadline: float, reason: str, at_least: float = 0.0) -> None:
        """Wait before the attempt after `attempt`; raises StoreUnavailable where that would be too late."""
        longest = min(LONGEST_PAUSE_SECONDS, FIRST_PAUSE_SECONDS * 2 ** min(attempt, 16))
        seconds = at_least + self.jitter() * longest
        if self.clock() + seconds > deadline:
            raise StoreUnavailable(f"{reason}; gave up after {attempt + 1} attempts")
        await self.sleep(seconds)


def reason_of(error: Exception) -> str:
    """Return in words why Cosmos DB did not answer; never what the server says, which may quote what was sent."""
    status, sub_status = _status(error)
    if status is None:
        return f"Cosmos DB cannot be reached: {type(error).__name__}"
    also = _REASONS.get(status, "it may work later" if _passes(error) else "it will not take this")
    return f"Cosmos DB answered {status}/{sub_status or 0}: {also}"


def _passes(error: Exception) -> bool:
    status, sub_status = _status(error)
    return status is None or status >= 500 or status in _PASSING or (status, sub_status) in _PASSING_WITH


def _status(error: Exception) -> tuple[int | None, int | None]:
    # Other errors of the SDK have a status, too, but they are about tokens.
    if isinstance(error, CosmosHttpResponseError | CosmosBatchOperationError):
        return error.status_code, error.sub_status
    return None, None


def _retry_after(error: Exception) -> float:
    headers = getattr(error, "headers", None) or {}
    try:
        return min(float(headers.get("x-ms-retry-after-ms", 0)) / 1000, 60.0)
    except ValueError:
        return 0.0
