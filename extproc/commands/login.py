"""`extproc login`, `logout`, `token`, `whoami`: sign in at the company's identity provider, and give clients a token.

Each takes the environment from the context (`ctx.obj`), which the command line sets.
"""

from __future__ import annotations

import asyncio
import sys
import time
import webbrowser
from collections.abc import Mapping
from datetime import datetime
from enum import StrEnum
from pathlib import Path
from typing import Annotated

import aiohttp
import msgspec
import typer

from extproc.errors import ConfigError, ExtprocError
from extproc.signin import browser, device
from extproc.signin.discovery import Provider, check_profile, discover, fetch_profile, scope_of
from extproc.signin.kept import SignIn, keeper_of, load
from extproc.signin.oauth import Tokens, shown
from extproc.signin.profile import Profile
from extproc.signin.tokens import NOT_SIGNED_IN, fresh_token, revoke, sign_in_of
from extproc.signin.workload import checked_token, token_of_file, workload_token

DEFAULT_GATEWAY = "http://127.0.0.1:8080"
DEFAULT_AUDIENCE = "copilot-extproc"


class Prefix(StrEnum):
    """How GitHub's own tokens begin; clients that look for it are content with a token of ours behind it."""

    OAUTH = "gho_"
    USER = "ghu_"
    SERVER = "ghs_"
    FINE_GRAINED = "github_pat_"


class Use(StrEnum):
    """Which of the issuer's tokens the gateway takes."""

    ACCESS_TOKEN = "access_token"  # noqa: S105 - a kind of token, not one
    ID_TOKEN = "id_token"  # noqa: S105


# --- for other commands ----------------------------------------------------------------------------------------------


def current_token(environ: Mapping[str, str], *, audience: str | None = None, token_file: Path | None = None) -> str:
    """Return a fresh token for the gateway, of the first there is: the file named, else what the environment gives.

    That is EXTPROC_TOKEN, EXTPROC_TOKEN_FILE, the workload's own (GitHub Actions, Azure workload identity), and last
    the kept sign-in. Raises ExtprocError (not signed in, refused) and ConfigError.
    """
    named = token_file or (Path(environ["EXTPROC_TOKEN_FILE"]) if environ.get("EXTPROC_TOKEN_FILE") else None)
    if token_file is None and environ.get("EXTPROC_TOKEN"):
        return checked_token(environ["EXTPROC_TOKEN"], "EXTPROC_TOKEN").reveal()
    if named is not None:
        return token_of_file(named).reveal()
    return asyncio.run(_asked_token(environ, audience or environ.get("EXTPROC_AUDIENCE") or DEFAULT_AUDIENCE))


def signed_in_token(environ: Mapping[str, str]) -> str:
    """Return a fresh token of the kept sign-in alone; raises ExtprocError and ConfigError."""

    async def run() -> str:
        async with _session() as session:
            return (await fresh_token(keeper_of(environ), session, time.time)).reveal()

    return asyncio.run(run())


def current_profile(environ: Mapping[str, str]) -> Profile:
    """Return what the gateway at EXTPROC_GATEWAY tells of itself, or without that variable the kept sign-in's profile.

    Raises ExtprocError (not signed in, the gateway does not answer) and ConfigError.
    """
    if gateway := environ.get("EXTPROC_GATEWAY"):
        return asyncio.run(_profile(gateway))
    kept = load(environ)
    if kept is None:
        raise ExtprocError(f"{NOT_SIGNED_IN}, or name the gateway with EXTPROC_GATEWAY")
    return kept.profile


# --- the commands ----------------------------------------------------------------------------------------------------


def login(  # noqa: PLR0917 - options, passed by name
    ctx: typer.Context,
    gateway: Annotated[
        str | None,
        typer.Argument(
            envvar="EXTPROC_GATEWAY",
            metavar="GATEWAY_URL",
            help=f"Where the gateway is; by default as in the last sign-in, else {DEFAULT_GATEWAY}.",
        ),
    ] = None,
    issuer: Annotated[str | None, typer.Option(help="The OIDC issuer, in place of the one the gateway names.")] = None,
    client_id: Annotated[
        str | None, typer.Option(help="The public client to sign in with. With --issuer the gateway is not asked.")
    ] = None,
    scope: Annotated[list[str] | None, typer.Option(help="What to ask for; may be repeated.")] = None,
    use: Annotated[Use | None, typer.Option(help="Which of the issuer's tokens the gateway takes.")] = None,
    in_browser: Annotated[
        bool | None,
        typer.Option(
            "--browser/--device", help="Where to sign in; by default the browser of this machine, if it can open one."
        ),
    ] = None,
    in_file: Annotated[bool, typer.Option("--file", help="Keep the sign-in in a file, not in the keyring.")] = False,  # noqa: FBT002
) -> None:
    """Sign in for a gateway at the company's identity provider."""
    environ: Mapping[str, str] = ctx.obj
    changes = {"issuer": issuer, "client_id": client_id, "scopes": tuple(scope) if scope else None, "use": use}
    told = {name: str(value) if isinstance(value, Use) else value for name, value in changes.items() if value}
    address = gateway or _last_gateway(environ) or DEFAULT_GATEWAY
    made = asyncio.run(_login(environ, address, told, in_browser=in_browser, in_file=in_file))
    until = datetime.fromtimestamp(made.expires_at).astimezone().strftime("%H:%M")
    renewed = "refreshed automatically" if made.refresh_token else "then sign in again"
    _say(f"Signed in as {made.name} (issuer {made.profile.issuer}) until {until}; {renewed}.")
    _say("Next: `extproc run -- copilot`, or `extproc env` for the settings of other clients.")


def logout(ctx: typer.Context) -> None:
    """Forget the sign-in, here and at the issuer."""
    asyncio.run(_logout(ctx.obj))


def token(
    ctx: typer.Context,
    prefix: Annotated[
        Prefix | None, typer.Option(help="What to put before it; Copilot CLI takes gho_ in GH_TOKEN.")
    ] = None,
    token_file: Annotated[
        Path | None, typer.Option(help="A file with the token, such as Kubernetes projects (EXTPROC_TOKEN_FILE).")
    ] = None,
    audience: Annotated[
        str, typer.Option(envvar="EXTPROC_AUDIENCE", help="What a workload asks its token for.")
    ] = DEFAULT_AUDIENCE,
) -> None:
    """Print a fresh token for the gateway, and nothing else."""
    _say(f"{prefix or ''}{current_token(ctx.obj, audience=audience, token_file=token_file)}")


def whoami(ctx: typer.Context) -> None:
    """Say who is signed in here, and until when."""
    kept = load(ctx.obj)
    if kept is None:
        raise ExtprocError(NOT_SIGNED_IN)
    until = datetime.fromtimestamp(kept.expires_at).astimezone().isoformat(" ", "minutes")
    renewed = "refreshed automatically" if kept.refresh_token else "not refreshed"
    _say(f"{kept.name} (issuer {kept.profile.issuer}, gateway {kept.profile.gateway}), token until {until}, {renewed}")


# --- what they do ----------------------------------------------------------------------------------------------------


async def _asked_token(environ: Mapping[str, str], audience: str) -> str:
    async with _session() as session:
        found = await workload_token(environ, audience, session)
        if found is not None:
            return found.reveal()
        kept = load(environ)
        if environ.get("GITHUB_ACTIONS") == "true" and kept is None:
            raise ExtprocError("this job may not have a token: give it `permissions: id-token: write`")
        if kept is not None:
            _check_same_gateway(kept.profile.gateway, environ)
        return (await fresh_token(keeper_of(environ), session, time.time)).reveal()


def _check_same_gateway(signed_in: str, environ: Mapping[str, str]) -> None:
    """Raise ConfigError where EXTPROC_GATEWAY names another gateway than the one that the sign-in is for.

    A variable, which a folder's settings may set, must not lead a person's token elsewhere.
    """
    named = environ.get("EXTPROC_GATEWAY") or signed_in
    if named.rstrip("/") != signed_in.rstrip("/"):
        told = f"EXTPROC_GATEWAY names {shown(named)}, but the sign-in is for {signed_in}"
        raise ConfigError(f"{told}: unset the variable, or run `extproc login` for that gateway")


async def _profile(gateway: str) -> Profile:
    async with _session() as session:
        return await fetch_profile(session, gateway)


async def _login(
    environ: Mapping[str, str], gateway: str, changes: Mapping[str, object], *, in_browser: bool | None, in_file: bool
) -> SignIn:
    keeper = keeper_of(environ)
    # A place that cannot be written is told now, and not when somebody has signed in.
    async with keeper.locked():
        pass
    async with _session() as session:
        if {"issuer", "client_id"} <= changes.keys():
            profile = msgspec.convert({"gateway": gateway, **changes}, Profile)
        else:
            profile = msgspec.structs.replace(await fetch_profile(session, gateway), **changes)
        check_profile(profile, "login")
        provider = await discover(session, profile.issuer)
        if in_browser is None:
            in_browser = _has_browser(environ) and provider.authorization_endpoint is not None
        # Whoever names the issuer, the client and the scopes chooses what the token is good for.
        _say(f"Signing in at {profile.issuer} as the client {profile.client_id} for the gateway {profile.gateway}.")
        _say(f"Asked for: {scope_of(profile, provider)}.")
        made = sign_in_of(profile, await _signed_in(session, profile, provider, in_browser=in_browser), time.time())
    # Not while another process refreshes the sign-in that this one takes the place of.
    async with keeper.locked():
        keeper.save(made, in_file=in_file)
    return made


async def _signed_in(
    session: aiohttp.ClientSession, profile: Profile, provider: Provider, *, in_browser: bool
) -> Tokens:
    client_id, scope = profile.client_id, scope_of(profile, provider)
    if in_browser:
        return await browser.sign_in(session, provider, client_id, scope, opener=_open)
    return await device.sign_in(
        session, provider, client_id, scope, show=_show, sleep=asyncio.sleep, now=time.monotonic
    )


async def _logout(environ: Mapping[str, str]) -> None:
    keeper = keeper_of(environ)
    async with keeper.locked(), _session() as session:
        try:
            kept = keeper.load()
        except ExtprocError:
            # Unreadable: it can be removed all the same.
            kept = None
        try:
            keeper.forget()
        finally:
            # Even where a locked keyring keeps its entry: at the issuer it is good for nothing then.
            await _revoke(kept, session)
    _say("Signed out." if kept is not None else "Nobody is signed in now.")


async def _revoke(kept: SignIn | None, session: aiohttp.ClientSession) -> None:
    try:
        if kept is not None:
            await revoke(kept, session)
    except ExtprocError as error:
        raise ExtprocError(f"the issuer was not told that this sign-in has ended: {error}") from None


def _last_gateway(environ: Mapping[str, str]) -> str | None:
    """Return the gateway of the sign-in that is kept: "run `extproc login`" is said when that one has expired."""
    try:
        kept = load(environ)
    except ExtprocError:
        return None  # What cannot be read is replaced.
    return None if kept is None else kept.profile.gateway


def _session() -> aiohttp.ClientSession:
    # No cookies and no proxy of the environment: that proxy may be the gateway itself, which lets nobody to the issuer.
    return aiohttp.ClientSession(cookie_jar=aiohttp.DummyCookieJar())


def _has_browser(environ: Mapping[str, str]) -> bool:
    """Say whether a browser that opens here is before the eyes of who runs this command: not so over SSH."""
    if environ.get("SSH_CONNECTION") or environ.get("SSH_TTY"):
        return False
    return sys.platform == "darwin" or any(environ.get(name) for name in ("DISPLAY", "WAYLAND_DISPLAY", "BROWSER"))


def _open(url: str) -> None:
    _say(f"Sign in with the browser. If none opens, open this address on this machine:\n  {url}")
    webbrowser.open(url)


def _show(prompt: device.Prompt) -> None:
    _say(f"To sign in, open {prompt.address} and enter the code {prompt.code}")
    if prompt.address_with_code is not None:
        _say(f"or open {prompt.address_with_code}")


def _say(text: str) -> None:
    # At once: what follows may wait for a person who has to read it.
    print(text, flush=True)  # noqa: T201 - this is the terminal
