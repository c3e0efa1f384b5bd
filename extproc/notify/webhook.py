"""A webhook for programs: signed JSON, and how its receiver checks the signature."""

from __future__ import annotations

import hashlib
import hmac
import re
from collections.abc import Callable
from pathlib import Path
from typing import Final

import aiohttp
import msgspec

from extproc.credentials.source import FileSource
from extproc.errors import ConfigError, Refused
from extproc.notify.notice import Notice, NotSent
from extproc.secret import Secret

SIGNATURE_HEADER: Final = "x-extproc-signature"
MAX_AGE_SECONDS: Final = 300.0
"""How old a signature may be where the receiver says nothing else."""

# As many as HMAC-SHA256 gives; a shorter key is weaker than the hash (RFC 2104 section 3).
_MIN_KEY_CHARS: Final = 32
_SIGNATURE = re.compile(r"t=([0-9]{1,12}),v1=([0-9a-f]{64})")


class PostFailed(Exception):
    """Say of what kind the failure was; its text could quote the address."""


class SignedPost:
    """Post signed bodies to one address. `now` tells unix seconds; `url` may hold a token, so it is a secret."""

    def __init__(
        self,
        url: Secret,
        key: Secret,
        *,
        session: aiohttp.ClientSession,
        now: Callable[[], float],
        timeout_seconds: float,
    ) -> None:
        self._url = url
        self._key = key
        self._session = session
        self._now = now
        self._timeout = aiohttp.ClientTimeout(total=timeout_seconds)

    async def __call__(self, body: bytes, content_type: str) -> int:
        """Post once, signed now, and return the status; raises PostFailed."""
        headers = {"content-type": content_type, SIGNATURE_HEADER: sign(body, self._key, int(self._now()))}
        try:
            # A redirect is a failure: nobody but the operator names who is told.
            async with self._session.post(
                self._url.reveal(), data=body, headers=headers, allow_redirects=False, timeout=self._timeout
            ) as response:
                return response.status
        except (aiohttp.ClientError, TimeoutError, OSError) as error:
            raise PostFailed(f"the request failed ({type(error).__name__})") from None


class Webhook:
    """Post notices, as JSON; see `SignedPost`."""

    def __init__(
        self,
        name: str,
        url: Secret,
        key: Secret,
        *,
        session: aiohttp.ClientSession,
        now: Callable[[], float],
        timeout_seconds: float = 10.0,
    ) -> None:
        self.name = name
        self._post = SignedPost(url, key, session=session, now=now, timeout_seconds=timeout_seconds)

    async def send(self, notice: Notice) -> None:
        """Post once, signed now; any 2xx is success. Raises NotSent."""
        try:
            status = await self._post(msgspec.json.encode(notice), "application/json")
        except PostFailed as failure:
            raise NotSent(str(failure), again=True) from None
        if not 200 <= status < 300:
            raise NotSent(f"the answer has status {status}", again=status in {408, 429} or status >= 500)


def sign(body: bytes, key: Secret, at: int) -> str:
    """Return the value of the signature header for a body that is sent at `at`, in unix seconds."""
    return f"t={at},v1={_digest(body, key, str(at))}"


def verify_signature(
    header: str, body: bytes, key: Secret, now: float, max_age_seconds: float = MAX_AGE_SECONDS
) -> bool:
    """Say whether `body`, byte for byte as received, was signed under `key` at most `max_age_seconds` from `now`.

    Within that time a copy is still good: a receiver that must not act twice remembers `event` and `id`.
    """
    match = _SIGNATURE.fullmatch(header)
    if match is None:
        return False
    at, given = match.groups()
    genuine = hmac.compare_digest(given, _digest(body, key, at))
    return genuine and abs(now - int(at)) <= max_age_seconds


def read_key(path: Path) -> Secret:
    """Return the signing key that a file holds; raises ConfigError."""
    try:
        key = FileSource("signing key", path).read()
    except Refused as refused:
        raise ConfigError(f"key_file: {refused.refusal.message}") from None
    if len(key.reveal()) < _MIN_KEY_CHARS:
        raise ConfigError(f"key_file: expected at least {_MIN_KEY_CHARS} characters")
    return key


def _digest(body: bytes, key: Secret, at: str) -> str:
    return hmac.new(key.reveal().encode(), f"{at}.".encode() + body, hashlib.sha256).hexdigest()
