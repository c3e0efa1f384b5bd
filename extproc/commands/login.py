"""`extproc login`, `logout`, `token`, `whoami`: sign in at the company's identity provider, and give clients a token.

Each takes the environment from the context (`ctx.obj`), which the command line sets.
"""

from __future__ import annotations

import asyncio
import sys
import time
import webbrowser
from collections.abc import Mapping
from contextlib import suppress
from datetime import datetime
from enum import StrEnum
from pathlib import Path
from typing import Annotated

import aiohttp
import msgspec
import typer

from extproc.errors import ExtprocError
from extproc.signin import browser, device
from extproc.signin.authority import remove_authorities
from extproc.signin.current import DEFAULT_AUDIENCE, client_session, current_token, source_before_sign_in
from extproc.signin.discovery import Provider, check_profile, discover, fetch_profile, scope_of
from extproc.signin.kept import Keeper, SignIn, keeper_of, load
from extproc.signin.oauth import Tokens
from extproc.signin.profile import Profile
from extproc.signin.tokens import NOT_SIGNED_IN, revoke, sign_in_of

DEFAULT_GATEWAY = "http://127.0.0.1:8080"


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
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask before the first sign-in for a gateway.")] = False,  # noqa: FBT002
) -> None:
    """Sign in for a gateway at the company's identity provider."""
    environ: Mapping[str, str] = ctx.obj
    changes = {"issuer": issuer, "client_id": client_id, "scopes": tuple(scope) if scope else None, "use": use}
    told = {name: str(value) if isinstance(value, Use) else value for name, value in changes.items() if value}
    keeper = keeper_of(environ)
    last = _last(keeper)
    address = gateway or (last.profile.gateway if last else DEFAULT_GATEWAY)
    profile, provider = asyncio.run(_learnt(keeper, address, told))
    # Whoever names the issuer, the client and the scopes chooses what the token is good for.
    _say(f"Signing in at {profile.issuer} as the client {profile.client_id} for the gateway {profile.gateway}.")
    _say(f"Asked for: {scope_of(profile, provider)}.")
    if not yes and (last is None or not _is_for_the_same(last.profile, profile)):
        _confirm(profile)
    if in_browser is None:
        in_browser = _has_browser(environ) and provider.authorization_endpoint is not None
    made = asyncio.run(_login(keeper, profile, provider, in_browser=in_browser, in_file=in_file))
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
    source = source_before_sign_in(ctx.obj)
    instead = f"; tokens come from {source}, which goes before a sign-in" if source else ""
    kept = load(ctx.obj)
    if kept is None:
        raise ExtprocError(f"{NOT_SIGNED_IN}{instead}")
    who = f"{kept.name} (issuer {kept.profile.issuer}, gateway {kept.profile.gateway})"
    until = datetime.fromtimestamp(kept.expires_at).astimezone().isoformat(" ", "minutes")
    if kept.refresh_token is None and kept.expires_at <= time.time():
        raise ExtprocError(f"the sign-in of {who} expired {until}: run `extproc login`{instead}")
    renewed = "refreshed automatically" if kept.refresh_token else "not refreshed"
    _say(f"{who}, token until {until}, {renewed}{instead}")


# --- what they do ----------------------------------------------------------------------------------------------------


async def _learnt(keeper: Keeper, gateway: str, changes: Mapping[str, object]) -> tuple[Profile, Provider]:
    # A place that cannot be written is told now, and not when somebody has signed in.
    async with keeper.locked():
        pass
    async with client_session() as session:
        if {"issuer", "client_id"} <= changes.keys():
            profile = msgspec.convert({"gateway": gateway, **changes}, Profile)
        else:
            profile = msgspec.structs.replace(await fetch_profile(session, gateway), **changes)
        check_profile(profile, "login")
        return profile, await discover(session, profile.issuer)


def _is_for_the_same(last: Profile, profile: Profile) -> bool:
    return (last.gateway, last.issuer) == (profile.gateway, profile.issuer)


def _confirm(profile: Profile) -> None:
    """Ask who is at the terminal: the address may be of a page or a mail. Without a terminal there is nobody to ask."""
    if sys.stdin is not None and sys.stdin.isatty():
        where = f"{profile.gateway} at {profile.issuer} (client {profile.client_id})"
        typer.confirm(f"Sign in for {where}?", abort=True)


async def _login(keeper: Keeper, profile: Profile, provider: Provider, *, in_browser: bool, in_file: bool) -> SignIn:
    async with client_session() as session:
        # Before the new one: an issuer may end all that the same person and client have (RFC 7009 section 2.1).
        async with keeper.locked():
            await _revoke_last(keeper, session)
        made = sign_in_of(profile, await _signed_in(session, profile, provider, in_browser=in_browser), time.time())
    # Not while another process refreshes the sign-in that this one takes the place of.
    async with keeper.locked():
        keeper.save(made, in_file=in_file)
    return made


async def _revoke_last(keeper: Keeper, session: aiohttp.ClientSession) -> None:
    if (last := _last(keeper)) is not None:
        # Best effort: an issuer that is gone must not keep anybody from signing in at another one.
        with suppress(ExtprocError):
            await revoke(last, session)


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
    async with keeper.locked(), client_session() as session:
        try:
            kept = keeper.load()
        except ExtprocError:
            # Unreadable: it can be removed all the same.
            kept = None
        try:
            keeper.forget()
            remove_authorities(environ)
            keeper.forget_lock()
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


def _last(keeper: Keeper) -> SignIn | None:
    """Return the sign-in that is kept: "run `extproc login`" is said when that one has expired."""
    try:
        return keeper.load()
    except ExtprocError:
        return None  # What cannot be read is replaced.


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
