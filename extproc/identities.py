"""Verify tokens as the settings say: for the console, and once for a command that acts."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

import aiohttp

from extproc.config import Config
from extproc.config_issuers import EntraSettings
from extproc.credentials.source import FileSource
from extproc.errors import ConfigError, Refused
from extproc.identity.principal import Principal
from extproc.keys.graph import Graph
from extproc.keys.verifier import Verifier
from extproc.secret import Secret


async def identify(config: Config, token: Secret, now: Callable[[], float]) -> Principal:
    """Return the principal of a token, verified exactly as the gateway does it; raises Refused and ConfigError."""
    async with verifier_of(config, now) as verifier:
        return await verifier.verify(token)


@asynccontextmanager
async def verifier_of(config: Config, now: Callable[[], float]) -> AsyncIterator[Verifier]:
    """Verify tokens exactly as the gateway does it, with an HTTP session of its own; raises ConfigError."""
    # No cookies and no proxy of the environment: what is asked here decides who gets in.
    async with aiohttp.ClientSession(cookie_jar=aiohttp.DummyCookieJar()) as session:
        verifier = Verifier(config.issuers, session=session, now=now, graph=graph_of(config, session, now))
        try:
            yield verifier
        finally:
            await verifier.aclose()


def graph_of(config: Config, session: aiohttp.ClientSession, clock: Callable[[], float]) -> Graph | None:
    """Return the source of groups that a token was too small for, None where none is set up; raises ConfigError."""
    entra = [one for one in config.settings.issuers if isinstance(one, EntraSettings) and one.graph is not None]
    if len(entra) > 1:
        raise ConfigError("issuers: at most one Entra entry may have `graph`")
    for one in entra:
        if one.graph is not None:
            try:
                secret = FileSource("graph", config.base / one.graph.client_secret_file).read()
            except Refused as refused:
                raise ConfigError(f"issuers: graph.client_secret_file: {refused.refusal.message}") from None
            return Graph(
                session=session,
                now=clock,
                client_id=one.graph.client_id,
                client_secret=secret,
                login_base=one.login_base,
                graph_base=one.graph_base,
            )
    return None
