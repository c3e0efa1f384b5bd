"""Close connections on which no request comes: uvicorn waits for one's head for ever, and takes only so many."""

from __future__ import annotations

import asyncio
from typing import Final

from uvicorn.protocols.http.h11_impl import H11Protocol

HEAD_SECONDS: Final = 15.0
"""How long a connection may be there, or go on after an answer, until the head of a request is there."""


class HeadsInTime(H11Protocol):
    """HTTP/1.1 whose connections end where no request begins within `head_seconds`."""

    head_seconds = HEAD_SECONDS
    _timer: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Begin to wait."""
        super().connection_made(transport)
        self._wait()

    def connection_lost(self, exc: Exception | None) -> None:
        """Wait no more."""
        self._rest()
        super().connection_lost(exc)

    def handle_events(self) -> None:
        """Take what came; with the head of a request the wait is over: bodies have limits of their own."""
        super().handle_events()
        # uvicorn's types say otherwise, but before the first request there is none.
        if self.cycle is not None and not self.cycle.response_complete:  # type: ignore[redundant-expr]
            self._rest()

    def on_response_complete(self) -> None:
        """Wait for the next request, unless it is there already."""
        self._wait()
        super().on_response_complete()

    def _wait(self) -> None:
        self._rest()
        self._timer = self.loop.call_later(self.head_seconds, self.timeout_keep_alive_handler)

    def _rest(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
