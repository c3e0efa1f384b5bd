"""Hand out the upstream credential that policy chose."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass

import aiohttp

from extproc.credential import Credential, CredentialSpec
from extproc.credentials.exchange import Exchange, Flights, Tally
from extproc.credentials.grant import Grant
from extproc.credentials.refusal import unavailable
from extproc.credentials.source import EnvironmentSource, FileSource
from extproc.endpoint import Upstream
from extproc.errors import ConfigError, Refused
from extproc.secret import Secret


@dataclass(frozen=True, slots=True)
class CredentialState:
    """How often a credential was exchanged and how often that failed; when its token expires, None without one."""

    refreshed: int
    failed: int
    expires: float | None


class Credentials:
    """Keep every configured credential ready for use, in one event loop.

    `now` returns Unix seconds. `session` stays the caller's: it should keep no cookies and use no proxy of the
    environment. Raises ConfigError where two specifications have the same name.
    """

    def __init__(
        self,
        specs: Iterable[CredentialSpec],
        *,
        environ: Mapping[str, str],
        session: aiohttp.ClientSession,
        now: Callable[[], float],
    ) -> None:
        self._environ = environ
        self._session = session
        self._now = now
        self._flights: Flights = set()
        self._held: dict[str, _Held] = {}
        for spec in specs:
            if spec.name in self._held:
                raise ConfigError(f"credential {spec.name!r} is configured twice")
            self._held[spec.name] = _Held(spec, self._source(spec))

    def ready(self, name: str, upstream: Upstream) -> Credential | None:
        """Return what `get` would, None where it would have to wait. Raises Refused with `credential.unavailable`."""
        held = self._usable(name, upstream)
        exchange = held.exchange
        if exchange is None or upstream is Upstream.GITHUB_API:
            return held.raw
        grant = exchange.current()
        return None if grant is None else _exchanged(held.spec, exchange.github, grant, upstream)

    async def get(self, name: str, upstream: Upstream) -> Credential:
        """Return credential `name` for a request to `upstream`; waits only where a token must be exchanged first.

        An exchanged token goes to Copilot's hosts; GitHub's API gets the GitHub token itself. Raises Refused with
        `credential.unavailable`.
        """
        held = self._usable(name, upstream)
        exchange = held.exchange
        if exchange is None or upstream is Upstream.GITHUB_API:
            return held.raw
        return _exchanged(held.spec, exchange.github, await exchange.grant(), upstream)

    def state(self) -> Mapping[str, CredentialState]:
        """Return by name how each credential stands that is exchanged; the others do not expire."""
        return {
            name: CredentialState(
                held.tally.refreshed, held.tally.failed, None if held.exchange is None else held.exchange.expires
            )
            for name, held in self._held.items()
            if held.spec.exchange is not None
        }

    async def aclose(self) -> None:
        """Abandon every exchange under way; whoever waits for one is cancelled."""
        flights = tuple(self._flights)
        for flight in flights:
            flight.cancel()
        await asyncio.gather(*flights, return_exceptions=True)

    def _usable(self, name: str, upstream: Upstream) -> _Held:
        """Return the credential with the token its source holds now; a changed token gets an exchange of its own."""
        held = self._held.get(name)
        if held is None:
            raise Refused(unavailable(name, "no credential of that name is configured"))
        spec = held.spec
        if upstream not in spec.upstreams:
            raise Refused(unavailable(name, f"it is not for {upstream}"))
        github = held.source.read()
        if github != held.github:
            held.github = github
            held.raw = _raw(spec, github)
            if spec.exchange is not None:
                held.exchange = Exchange(
                    name,
                    spec.exchange,
                    github,
                    session=self._session,
                    now=self._now,
                    flights=self._flights,
                    tally=held.tally,
                )
        return held

    def _source(self, spec: CredentialSpec) -> FileSource | EnvironmentSource:
        if spec.file is not None:
            return FileSource(spec.name, spec.file)
        return EnvironmentSource(spec.name, spec.env or "", self._environ)


class _Held:
    """One credential with the GitHub token last read from its source."""

    __slots__ = ("exchange", "github", "raw", "source", "spec", "tally")

    def __init__(self, spec: CredentialSpec, source: FileSource | EnvironmentSource) -> None:
        self.spec = spec
        self.source = source
        self.github = Secret("")
        self.raw = _raw(spec, self.github)
        self.exchange: Exchange | None = None
        # A token that replaces another goes on counting.
        self.tally = Tally()


def _raw(spec: CredentialSpec, github: Secret) -> Credential:
    return Credential(
        authorization=Secret(f"{spec.scheme} {github.reveal()}"),
        headers=spec.headers,
        headers_if_missing=spec.headers_if_missing,
        api_host=None,
        secrets=(github,),
    )


def _exchanged(spec: CredentialSpec, github: Secret, grant: Grant, upstream: Upstream) -> Credential:
    return Credential(
        authorization=grant.authorization,
        headers=spec.headers,
        headers_if_missing=spec.headers_if_missing,
        # `endpoints.api` says nothing about the host of inline completions.
        api_host=grant.api_host if upstream is Upstream.COPILOT_API else None,
        secrets=(github, grant.token),
    )
