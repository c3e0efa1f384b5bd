"""Ask an issuer or Microsoft Graph for one JSON object over HTTP."""

from __future__ import annotations

import json
from collections.abc import Mapping

import aiohttp

from extproc.errors import ExtprocError


class FetchFailed(ExtprocError):
    """Say why there is no answer; the text holds neither credentials nor the body."""


async def fetch_json(
    session: aiohttp.ClientSession,
    url: str,
    *,
    timeout_seconds: float,
    max_bytes: int,
    method: str = "GET",
    headers: Mapping[str, str] | None = None,
    form: Mapping[str, str] | None = None,
    body: Mapping[str, object] | None = None,
) -> dict[str, object]:
    """Return the JSON object of a 200 answer of at most `max_bytes`; raise FetchFailed otherwise.

    Redirects are failures: the address was configured or discovered, and nobody else may name another.
    """
    try:
        async with session.request(
            method,
            url,
            headers=headers,
            data=form,
            json=body,
            allow_redirects=False,
            timeout=aiohttp.ClientTimeout(total=timeout_seconds),
        ) as response:
            if response.status != 200:
                raise FetchFailed(f"the answer has status {response.status}")
            raw = await read_bounded(response, max_bytes)
    except (aiohttp.ClientError, TimeoutError, OSError) as error:
        # Only the kind of error: its text can quote the request, credentials included.
        raise FetchFailed(f"the request failed ({type(error).__name__})") from None
    if raw is None:
        raise FetchFailed(f"the answer is longer than {max_bytes} bytes")
    try:
        value = json.loads(raw)
    except (ValueError, RecursionError):
        raise FetchFailed("the answer is not JSON") from None
    if not isinstance(value, dict):
        raise FetchFailed("the answer is not a JSON object")
    return value


async def read_bounded(response: aiohttp.ClientResponse, max_bytes: int) -> bytes | None:
    """Return the body of an answer, or None where it is longer than `max_bytes`."""
    raw = bytearray()
    async for chunk in response.content.iter_any():
        raw += chunk
        if len(raw) > max_bytes:
            return None
    return bytes(raw)
