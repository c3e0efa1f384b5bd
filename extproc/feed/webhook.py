"""A target that takes signed batches over HTTP."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import aiohttp

from extproc.feed.event import Event
from extproc.feed.port import TargetUnavailable
from extproc.notify.webhook import SIGNATURE_HEADER, sign
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
        self._url = url
        self._key = key
        self._session = session
        self._now = now
        self._timeout = aiohttp.ClientTimeout(total=timeout_seconds)

    async def send(self, events: Sequence[Event]) -> None:
        """Post all at once; any 2xx means taken. See the port."""
        body = b"".join(event.line + b"\n" for event in events)
        headers = {"content-type": "application/x-ndjson", SIGNATURE_HEADER: sign(body, self._key, int(self._now()))}
        try:
            # A redirect is a failure: nobody but the operator names who is told.
            async with self._session.post(
                self._url.reveal(), data=body, headers=headers, allow_redirects=False, timeout=self._timeout
            ) as response:
                status = response.status
        except (aiohttp.ClientError, TimeoutError, OSError) as error:
            # Only the kind of error: its text can quote the address.
            raise TargetUnavailable(f"the request failed ({type(error).__name__})") from None
        if not 200 <= status < 300:
            raise TargetUnavailable(f"the answer has status {status}")
