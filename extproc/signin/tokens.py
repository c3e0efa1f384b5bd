"""Turn an issuer's tokens into a sign-in, and keep its token fresh."""

from __future__ import annotations

import asyncio
import signal
from collections.abc import Callable, Coroutine, Mapping
from contextlib import suppress

import aiohttp

from extproc.errors import ExtprocError, Refused
from extproc.identity.token import parse
from extproc.keys.fetch import FetchFailed
from extproc.secret import Secret
from extproc.signin.discovery import Provider, discover
from extproc.signin.kept import Keeper, SignIn
from extproc.signin.oauth import OAuthRefused, Tokens, post, request_tokens, shown
from extproc.signin.postponed import postponed
from extproc.signin.profile import Profile

FRESH_SECONDS = 300.0
"""How long a token that is handed out is still good for; a third of its life where that is shorter."""
NOT_SIGNED_IN = "not signed in: run `extproc login`"
_NAMES = ("preferred_username", "upn", "email", "name", "sub")


def sign_in_of(profile: Profile, tokens: Tokens, now: float) -> SignIn:
    """Return the sign-in that `tokens` make; raises ExtprocError where they hold none that a gateway takes."""
    token = tokens.access_token if profile.use == "access_token" else tokens.id_token
    if token is None:
        raise ExtprocError(f"{profile.issuer} gave no ID token, which is what the gateway takes: ask who runs it")
    try:
        claims = parse(token.reveal()).claims
    except Refused as refused:
        # Such as the opaque tokens that many issuers give for themselves, when no scope names the gateway.
        what = profile.use.replace("_", " ")
        message = f"{profile.issuer} gave an {what} that no gateway takes: {refused.refusal.message}"
        raise ExtprocError(f"{message} Ask for the gateway's own scope (--scope).") from None
    lifetime = tokens.expires_in if profile.use == "access_token" else None
    # By durations, not by the issuer's times: whether the clocks agree does not matter here.
    expires_at = now + (lifetime or _lifetime(claims, now))
    return SignIn(profile, _name(claims), token, tokens.refresh_token, now, expires_at)


async def fresh_token(
    keeper: Keeper, session: aiohttp.ClientSession, now: Callable[[], float], *, for_long: bool = False
) -> Secret:
    """Return the kept token while it is good for a while, else a refreshed one, which is kept before it is used.

    With `for_long` it has half of its life before it, for clients that cannot be given another one. Raises
    ExtprocError: nobody is signed in, or the kept token has expired and the issuer refuses or does not answer.
    """
    kept = _kept(keeper)
    if _is_fresh(kept, now(), for_long=for_long):
        return kept.token
    # Refresh tokens are good once, and a second use ends the sign-in (RFC 9700 section 4.14.2): one process at a time,
    # which looks again at what the one before it left.
    async with keeper.locked():
        kept = _kept(keeper)
        if _is_fresh(kept, now(), for_long=for_long):
            return kept.token
        try:
            return (await _refreshed(keeper, kept, session, now)).token
        except (FetchFailed, OAuthRefused) as failure:
            if _is_good(kept, now()):
                return kept.token
            issuer = kept.profile.issuer
            if isinstance(failure, FetchFailed):
                told = f"the token has expired, and {issuer} does not answer ({failure}): try again when it does"
            else:
                told = f"the token has expired, and {issuer} gives no other ({failure}): run `extproc login`"
            raise ExtprocError(told) from None


async def revoke(kept: SignIn, session: aiohttp.ClientSession) -> bool:
    """Have the issuer forget the refresh token (RFC 7009); False where it has no way to, raises ExtprocError."""
    endpoint = (await discover(session, kept.profile.issuer)).revocation_endpoint
    if endpoint is None or kept.refresh_token is None:
        return False
    form = {
        "token": kept.refresh_token.reveal(),
        "token_type_hint": "refresh_token",
        "client_id": kept.profile.client_id,
    }
    await post(session, endpoint, form)
    return True


async def _refreshed(keeper: Keeper, kept: SignIn, session: aiohttp.ClientSession, now: Callable[[], float]) -> SignIn:
    if kept.refresh_token is None:
        if _is_good(kept, now()):
            return kept
        raise ExtprocError("the sign-in has expired: run `extproc login`")
    provider = await discover(session, kept.profile.issuer)

    async def renew(refresh_token: Secret) -> SignIn:
        renewed = await _renewed(kept, refresh_token, provider, session, now)
        keeper.replace(renewed)
        return renewed

    return await _to_the_end(renew(kept.refresh_token))


async def _renewed(
    kept: SignIn,
    refresh_token: Secret,
    provider: Provider,
    session: aiohttp.ClientSession,
    now: Callable[[], float],
) -> SignIn:
    form = {
        "grant_type": "refresh_token",
        "refresh_token": refresh_token.reveal(),
        "client_id": kept.profile.client_id,
    }
    try:
        tokens = await request_tokens(session, provider.token_endpoint, form)
    except OAuthRefused as refused:
        if refused.error == "invalid_grant":
            message = f"{kept.profile.issuer} has ended the sign-in ({refused}): run `extproc login`"
            raise ExtprocError(message) from None
        raise
    # RFC 6749 section 6: without a new refresh token the old one stays good.
    if tokens.refresh_token is None:
        tokens = Tokens(tokens.access_token, tokens.id_token, refresh_token, tokens.expires_in)
    return sign_in_of(kept.profile, tokens, now())


async def _to_the_end(renewing: Coroutine[None, None, SignIn]) -> SignIn:
    """Await `renewing` whatever says stop: the issuer's new refresh token is the only one, and must be kept."""
    task = asyncio.ensure_future(renewing)
    with postponed(signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        try:
            return await asyncio.shield(task)
        finally:
            while not task.done():
                with suppress(asyncio.CancelledError):
                    await asyncio.wait([task])


def _kept(keeper: Keeper) -> SignIn:
    kept = keeper.load()
    if kept is None:
        raise ExtprocError(NOT_SIGNED_IN)
    return kept


def _is_fresh(kept: SignIn, now: float, *, for_long: bool) -> bool:
    lifetime = kept.expires_at - kept.obtained_at
    margin = lifetime / 2 if for_long else min(FRESH_SECONDS, lifetime / 3)
    # A clock that was set back says nothing about the token any more.
    return kept.obtained_at <= now and now + margin <= kept.expires_at


def _is_good(kept: SignIn, now: float) -> bool:
    return now < kept.expires_at


def _lifetime(claims: Mapping[str, object], now: float) -> float:
    expiry, issued = claims.get("exp"), claims.get("iat", now)
    if isinstance(expiry, int | float) and isinstance(issued, int | float) and 0 < expiry - issued < 1e9:
        return float(expiry - issued)
    raise ExtprocError("the issuer's token does not say how long it is good (exp, iat): ask who runs the issuer")


def _name(claims: Mapping[str, object]) -> str:
    found = (claims.get(name) for name in _NAMES)
    return shown(next((text for text in found if isinstance(text, str) and text), "somebody without a name"))
