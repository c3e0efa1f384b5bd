"""What commands need now: the profile of the gateway, and a fresh token for it, of whoever or whatever runs them."""

from __future__ import annotations

import asyncio
import ssl
import time
from collections.abc import Mapping
from pathlib import Path

import aiohttp
import msgspec

from extproc.errors import ConfigError, ExtprocError
from extproc.signin.authority import trusting
from extproc.signin.discovery import fetch_profile
from extproc.signin.kept import keeper_of, load
from extproc.signin.oauth import shown
from extproc.signin.profile import Profile
from extproc.signin.tokens import NOT_SIGNED_IN, fresh_token
from extproc.signin.workload import checked_token, token_of_file, workload_token

DEFAULT_AUDIENCE = "copilot-extproc"
LOOK_SECONDS = 2.0
"""How long a gateway may take to tell whether its profile has changed since the sign-in."""
_SOURCES = ("EXTPROC_TOKEN", "EXTPROC_TOKEN_FILE", "ACTIONS_ID_TOKEN_REQUEST_URL", "AZURE_FEDERATED_TOKEN_FILE")


def current_token(
    environ: Mapping[str, str],
    *,
    audience: str | None = None,
    token_file: Path | None = None,
    for_long: bool = False,
) -> str:
    """Return a fresh token for the gateway, of the first there is: the file named, else what the environment gives.

    That is EXTPROC_TOKEN, EXTPROC_TOKEN_FILE, the workload's own (GitHub Actions, Azure workload identity), and last
    the kept sign-in, whose token has half of its life before it with `for_long`. Raises ExtprocError (not signed in,
    refused) and ConfigError.
    """
    named = token_file or (Path(environ["EXTPROC_TOKEN_FILE"]) if environ.get("EXTPROC_TOKEN_FILE") else None)
    if token_file is None and environ.get("EXTPROC_TOKEN"):
        return checked_token(environ["EXTPROC_TOKEN"], "EXTPROC_TOKEN").reveal()
    if named is not None:
        return token_of_file(named).reveal()
    asked_for = audience or environ.get("EXTPROC_AUDIENCE") or DEFAULT_AUDIENCE
    return asyncio.run(_asked_token(environ, asked_for, for_long=for_long))


def source_before_sign_in(environ: Mapping[str, str]) -> str | None:
    """Return the variable that tokens come from before any sign-in, None where none is set."""
    return next((name for name in _SOURCES if environ.get(name)), None)


def signed_in_token(environ: Mapping[str, str]) -> str:
    """Return a fresh token of the kept sign-in alone; raises ExtprocError and ConfigError."""

    async def run() -> str:
        async with client_session() as session:
            return (await fresh_token(keeper_of(environ), session, time.time)).reveal()

    return asyncio.run(run())


def current_profile(environ: Mapping[str, str]) -> Profile:
    """Return what the gateway at EXTPROC_GATEWAY tells of itself, or without that variable the kept sign-in's profile.

    The latter with the proxy and the authority that its gateway names now, where it answers. Raises ExtprocError (not
    signed in, the gateway does not answer) and ConfigError.
    """
    if gateway := environ.get("EXTPROC_GATEWAY"):
        return asyncio.run(_profile(gateway))
    kept = load(environ)
    if kept is None:
        raise ExtprocError(f"{NOT_SIGNED_IN}, or name the gateway with EXTPROC_GATEWAY")
    return asyncio.run(_as_told_now(kept.profile))


def client_session(tls: ssl.SSLContext | None = None) -> aiohttp.ClientSession:
    """Return a session for the gateway and the issuer; `tls` says whom to trust, by default whom the system trusts."""
    # No cookies and no proxy of the environment: that proxy may be the gateway itself, which lets nobody to the issuer.
    connector = None if tls is None else aiohttp.TCPConnector(ssl=tls)
    return aiohttp.ClientSession(cookie_jar=aiohttp.DummyCookieJar(), connector=connector)


async def _profile(gateway: str) -> Profile:
    async with client_session() as session:
        return await fetch_profile(session, gateway)


async def _as_told_now(kept: Profile) -> Profile:
    try:
        async with client_session(trusting(kept.ca_pem)) as session:
            told = await fetch_profile(session, kept.gateway, timeout_seconds=LOOK_SECONDS)
    except ExtprocError:
        return kept
    # Another gateway or issuer takes another sign-in, and the rest of it is what this person signed in with.
    if (told.gateway.rstrip("/"), told.issuer) != (kept.gateway.rstrip("/"), kept.issuer):
        return kept
    return msgspec.structs.replace(kept, proxy=told.proxy, ca_pem=told.ca_pem)


async def _asked_token(environ: Mapping[str, str], audience: str, *, for_long: bool) -> str:
    async with client_session() as session:
        found = await workload_token(environ, audience, session)
        if found is not None:
            return found.reveal()
        kept = load(environ)
        if environ.get("GITHUB_ACTIONS") == "true" and kept is None:
            raise ExtprocError("this job may not have a token: give it `permissions: id-token: write`")
        if kept is not None:
            _check_same_gateway(kept.profile.gateway, environ)
        return (await fresh_token(keeper_of(environ), session, time.time, for_long=for_long)).reveal()


def _check_same_gateway(signed_in: str, environ: Mapping[str, str]) -> None:
    """Raise ConfigError where EXTPROC_GATEWAY names another gateway than the one that the sign-in is for.

    A variable, which a folder's settings may set, must not lead a person's token elsewhere.
    """
    named = environ.get("EXTPROC_GATEWAY") or signed_in
    if named.rstrip("/") != signed_in.rstrip("/"):
        told = f"EXTPROC_GATEWAY names {shown(named)}, but the sign-in is for {signed_in}"
        raise ConfigError(f"{told}: unset the variable, or run `extproc login` for that gateway")
