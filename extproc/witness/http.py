"""A witness behind HTTP: whatever takes a checkpoint by POST."""

from __future__ import annotations

import aiohttp

from extproc.credentials.source import FileSource
from extproc.errors import Refused
from extproc.secret import Secret
from extproc.witness.port import WitnessUnavailable


class HttpWitness:
    """Post each note as `text/plain` to one address, with the token of a file as `Bearer` where there is one.

    Any 2xx means taken, 409 that it is there already. `url` may hold a token, so it is a secret.
    """

    def __init__(
        self,
        name: str,
        url: Secret,
        *,
        session: aiohttp.ClientSession,
        token: FileSource | None = None,
        timeout_seconds: float = 10.0,
    ) -> None:
        self.name = name
        self._url = url
        self._session = session
        self._token = token
        self._timeout = aiohttp.ClientTimeout(total=timeout_seconds)

    async def publish(self, log: str, size: int, note: str) -> None:  # noqa: ARG002 - the note says both
        """Post once; see the port."""
        headers = {"content-type": "text/plain; charset=utf-8"}
        if self._token is not None:
            headers["authorization"] = f"Bearer {_read(self._token)}"
        try:
            # A redirect is a failure: nobody but the operator names who the witness is.
            async with self._session.post(
                self._url.reveal(), data=note.encode(), headers=headers, allow_redirects=False, timeout=self._timeout
            ) as response:
                status = response.status
        except (aiohttp.ClientError, TimeoutError, OSError) as error:
            # Only the kind of error: its text can quote the address.
            raise WitnessUnavailable(f"the request failed ({type(error).__name__})") from None
        if not (200 <= status < 300 or status == 409):
            raise WitnessUnavailable(f"the answer has status {status}")


def _read(source: FileSource) -> str:
    try:
        return source.read().reveal()
    except Refused as refused:
        raise WitnessUnavailable(refused.refusal.message) from None
