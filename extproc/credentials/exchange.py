"""Exchange one GitHub token for Copilot tokens: one request at a time, renewed before they expire."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from dataclasses import dataclass

import aiohttp

from extproc.credential import ExchangeSpec
from extproc.credentials.grant import Grant, GrantError, grant_from, status_cause
from extproc.credentials.refusal import unavailable
from extproc.errors import Refusal, Refused
from extproc.keys.fetch import read_bounded
from extproc.secret import Secret

_MAX_ANSWER_BYTES = 65_536

# Long enough not to hammer GitHub when it refuses, short enough for a person to notice that a repair has worked.
_RETRY_SECONDS = 5.0

_log = logging.getLogger(__name__)

# The event loop itself keeps only weak references to tasks.
Flights = set[asyncio.Task[Grant | Refusal]]


@dataclass(slots=True)
class Tally:
    """How often a credential was exchanged, and how often that failed."""

    refreshed: int = 0
    failed: int = 0


class Exchange:
    """Keep a valid Copilot token for the GitHub token `github` of credential `name`.

    At most one request is under way, shared by all who wait; it belongs to none of them, so a waiter that is cancelled
    does not end it. After a failed request the next one waits 5 s; meanwhile the old token serves until it expires.
    `now` returns Unix seconds; requests under way are in `flights`, whose owner may cancel them; `tally` counts them.
    All methods are called in one event loop.
    """

    __slots__ = (
        "_failed",
        "_flight",
        "_flights",
        "_grant",
        "_name",
        "_now",
        "_retry_at",
        "_session",
        "_spec",
        "_tally",
        "github",
    )

    def __init__(
        self,
        name: str,
        spec: ExchangeSpec,
        github: Secret,
        *,
        session: aiohttp.ClientSession,
        now: Callable[[], float],
        flights: Flights,
        tally: Tally,
    ) -> None:
        self.github = github
        self._name = name
        self._spec = spec
        self._session = session
        self._now = now
        self._grant: Grant | None = None
        self._flights = flights
        self._flight: asyncio.Task[Grant | Refusal] | None = None
        self._failed: Refusal | None = None
        self._retry_at = 0.0
        self._tally = tally

    @property
    def expires(self) -> float | None:
        """Return when the newest token expires (Unix seconds), None before the first."""
        return None if self._grant is None else self._grant.expires

    def current(self) -> Grant | None:
        """Return the token at hand if it is valid, and start to renew it in the background when that is due."""
        now = self._now()
        if self._grant is None or now >= self._grant.expires:
            return None
        if now >= self._grant.refresh and self._may_try(now):
            self._fly()
        return self._grant

    async def grant(self) -> Grant:
        """Return a valid token, waiting for GitHub only where there is none. Raises Refused."""
        grant = self.current()
        if grant is not None:
            return grant
        if self._failed is not None and not self._may_try(self._now()):
            raise Refused(self._failed)
        outcome = await asyncio.shield(self._fly())
        if isinstance(outcome, Refusal):
            raise Refused(outcome)
        return outcome

    def _may_try(self, now: float) -> bool:
        return self._failed is None or now >= self._retry_at

    def _fly(self) -> asyncio.Task[Grant | Refusal]:
        if self._flight is None or self._flight.done():
            self._flight = asyncio.create_task(self._renew(), name=f"exchange of credential {self._name}")
            self._flights.add(self._flight)
            self._flight.add_done_callback(self._flights.discard)
        return self._flight

    async def _renew(self) -> Grant | Refusal:
        outcome = await self._request()
        if isinstance(outcome, Grant):
            self._grant, self._failed = outcome, None
            self._tally.refreshed += 1
        else:
            self._failed, self._retry_at = outcome, self._now() + _RETRY_SECONDS
            self._tally.failed += 1
            # A failed renewal in the background has no other witness.
            _log.warning("%s", outcome.message)
        return outcome

    async def _request(self) -> Grant | Refusal:
        headers = {
            **self._spec.headers,
            "accept": "application/json",
            "authorization": f"{self._spec.scheme} {self.github.reveal()}",
        }
        timeout = aiohttp.ClientTimeout(total=self._spec.timeout_seconds)
        try:
            # A redirect could carry the GitHub token to another host.
            async with self._session.get(
                self._spec.url, headers=headers, timeout=timeout, allow_redirects=False
            ) as response:
                if response.status != 200:
                    return unavailable(self._name, status_cause(response.status))
                body = await read_bounded(response, _MAX_ANSWER_BYTES)
                if body is None:
                    return unavailable(self._name, f"GitHub's answer is larger than {_MAX_ANSWER_BYTES} bytes")
                return grant_from(body, self._spec, self._now())
        except GrantError as error:
            return unavailable(self._name, str(error))
        except TimeoutError:
            return unavailable(self._name, f"GitHub did not answer within {self._spec.timeout_seconds:g} s")
        except aiohttp.ClientError as error:
            return unavailable(self._name, f"the token exchange did not reach GitHub ({type(error).__name__})")
