"""A target that takes signed batches over HTTP."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import aiohttp

from extproc.feed.event import Event
from extproc.feed.port import TargetUnavailable
from extproc.notify.webhook import PostFailed, SignedPost
from extproc.secret import Secret


class WebhookTarget:
    """Post batches of NDJSON, signed as notices are. `now` tells unix seconds; `url` may hold a token: a secret."""

    def __init__(
        self,
        name: str,
        url: Secret,
        key: Secret,
        *,
        session: aiohttp.ClientSession,
        now: Callable[[], float],
        timeout_seconds: float = 30.0,
    ) -> None:
        self.name = name
        self._post = SignedPost(url, key, session=session, now=now, timeout_seconds=timeout_seconds)

    async def send(self, events: Sequence[Event]) -> None:
        """Post all at once; any 2xx means taken. See the port."""
        try:
            status = await self._post(b"".join(event.line + b"\n" for event in events), "application/x-ndjson")
        except PostFailed as failure:
            raise TargetUnavailable(str(failure)) from None
        if not 200 <= status < 300:
            raise TargetUnavailable(f"the answer has status {status}")
