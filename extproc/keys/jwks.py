"""Keep the signing keys of one issuer at hand: found by discovery, cached, refreshed in the background."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from dataclasses import dataclass

import aiohttp
from jwt import PyJWK

from extproc.address import url_fault
from extproc.errors import Code, Refused
from extproc.identity.issuers import Issuer
from extproc.identity.token import SIGN_IN, refused
from extproc.keys.fetch import FetchFailed, fetch_json
from extproc.keys.keyset import KeySet

_LOG = logging.getLogger(__name__)

# A hundred times the largest key set seen (Entra's, with certificates).
MAX_DOCUMENT_BYTES = 512 * 1024


@dataclass(frozen=True, slots=True)
class KeyLimits:
    """Bound how old keys may get and how often an issuer is asked; all in seconds."""

    timeout: float = 5.0
    refresh: float = 600.0
    unknown_kid_interval: float = 30.0
    max_age: float = 86_400.0
    retry_interval: float = 5.0


@dataclass(frozen=True, slots=True)
class KeyState:
    """How old the keys of an issuer are in seconds, None before the first; how often they were fetched, and not."""

    age: float | None
    refreshed: int
    failed: int


class JwksSource:
    """Give the keys of one issuer, which nobody but its own tokens can select.

    At most one request is under way; whoever needs its outcome waits for it, everybody else is served from what is
    known. After a failure the issuer is left alone for `retry_interval`, and callers are refused at once.
    """

    def __init__(
        self, issuer: Issuer, *, session: aiohttp.ClientSession, now: Callable[[], float], limits: KeyLimits
    ) -> None:
        self._issuer = issuer
        self._session = session
        self._now = now
        self._limits = limits
        self._keys: KeySet | None = None
        self._fetched_at = 0.0
        self._retry_at = float("-inf")
        self._unknown_kid_at = float("-inf")
        self._failing = False
        self._flight: asyncio.Task[None] | None = None
        self._refreshed = self._failed = 0

    def state(self) -> KeyState:
        """Return how it stands."""
        return KeyState(self.age, self._refreshed, self._failed)

    @property
    def age(self) -> float | None:
        """Seconds since the keys were last fetched with success, or None before the first time."""
        return None if self._keys is None else self._now() - self._fetched_at

    async def key(self, key_id: str | None, algorithm: str) -> PyJWK:
        """Return the key for a token's `kid` and `alg`.

        Raises Refused: `identity.key_unknown` (401), or `identity.unavailable` (503) where the issuer cannot be asked.
        """
        keys = self._usable()
        if keys is None:
            await self._wait(self._start())
            keys = self._usable()
            if keys is None:
                raise _unavailable()
            found = keys.find(key_id, algorithm)
        else:
            if self._now() - self._fetched_at >= self._limits.refresh:
                self._start()
            found = keys.find(key_id, algorithm) or await self._look_again(key_id, algorithm)
        if found is None:
            raise (_unavailable() if self._failing else _unknown())
        return found

    async def aclose(self) -> None:
        """Cancel the request that is under way, if any."""
        if self._flight is not None:
            self._flight.cancel()
            await asyncio.wait({self._flight})

    def _usable(self) -> KeySet | None:
        expired = self._keys is not None and self._now() - self._fetched_at >= self._limits.max_age
        return None if expired else self._keys

    async def _look_again(self, key_id: str | None, algorithm: str) -> PyJWK | None:
        """Ask once more for an unknown key, once per interval; who comes while that is under way shares it."""
        flight = self._flight
        if flight is None and self._now() - self._unknown_kid_at >= self._limits.unknown_kid_interval:
            flight = self._start()
            if flight is not None:
                self._unknown_kid_at = self._now()
        await self._wait(flight)
        keys = self._usable()
        return None if keys is None else keys.find(key_id, algorithm)

    @staticmethod
    async def _wait(flight: asyncio.Task[None] | None) -> None:
        # `wait` neither passes a caller's cancellation on to the shared task nor the task's outcome to the caller.
        if flight is not None:
            await asyncio.wait({flight})

    def _start(self) -> asyncio.Task[None] | None:
        """Return the request under way, begun now if need be; None while a failure is too recent."""
        if self._flight is None and self._now() >= self._retry_at:
            self._flight = asyncio.create_task(self._fetch(), name=f"jwks {self._issuer.url}")
            self._flight.add_done_callback(self._landed)
        return self._flight

    def _landed(self, _flight: asyncio.Task[None]) -> None:
        self._flight = None

    async def _fetch(self) -> None:
        started = self._now()
        # Assumed to fail until it has not, so that no unforeseen error can turn into a storm of attempts.
        self._failing, self._retry_at = True, started + self._limits.retry_interval
        try:
            keys = await self._load()
        except FetchFailed as error:
            self._retry_at = self._now() + self._limits.retry_interval
            self._failed += 1
            _LOG.warning("signing keys of %s are not refreshed: %s", self._issuer.url, error)
            return
        self._keys, self._fetched_at = keys, started
        self._failing, self._retry_at = False, started
        self._refreshed += 1

    async def _load(self) -> KeySet:
        document = await self._get(self._issuer.jwks_url or await self._discover())
        keys = KeySet(document, self._issuer.algorithms)
        if not keys:
            raise FetchFailed("the JWK set holds no usable signature key")
        return keys

    async def _discover(self) -> str:
        """Find the address of the keys (OpenID Connect Discovery 1.0 sections 4 and 4.3)."""
        issuer = self._issuer.url
        document = await self._get(issuer.rstrip("/") + "/.well-known/openid-configuration")
        if document.get("issuer") != issuer:
            raise FetchFailed("the discovery document is of another issuer")
        url = document.get("jwks_uri")
        downgraded = isinstance(url, str) and issuer.startswith("https:") and not url.startswith("https:")
        if not isinstance(url, str) or downgraded or url_fault(url):
            raise FetchFailed("the discovery document has no https jwks_uri")
        return url

    async def _get(self, url: str) -> dict[str, object]:
        return await fetch_json(self._session, url, timeout_seconds=self._limits.timeout, max_bytes=MAX_DOCUMENT_BYTES)


def _unavailable() -> Refused:
    return refused(
        Code.IDENTITY_UNAVAILABLE,
        "The signing keys of the token's issuer cannot be fetched at the moment; try again shortly.",
        503,
    )


def _unknown() -> Refused:
    return refused(
        Code.IDENTITY_KEY_UNKNOWN, f"The token is signed with a key that its issuer does not publish; {SIGN_IN}."
    )
