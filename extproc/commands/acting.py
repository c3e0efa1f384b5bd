"""Who acts with a command: a verified identity, as for a request through the gateway."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated

import typer

from extproc import config as config_file
from extproc.errors import ConfigError
from extproc.identities import identify
from extproc.identity.principal import Principal
from extproc.secret import Secret
from extproc.signin.current import signed_in_token
from extproc.signin.kept import load

ConfigOption = Annotated[
    Path | None, typer.Option(help="The gateway's settings file; by default gateway.yaml of the state directory.")
]


def principal_of(
    state: Path,
    config: Path | None,
    token: str | None,
    as_user: str | None,
    environ: Mapping[str, str] | None = None,
) -> Principal:
    """Return the verified identity of who acts: of `--as`, else of `--token`, else of who is signed in here.

    A demo user's token and a kept one are verified like any other; `environ` says where the sign-in is kept.
    """
    # EXTPROC_TOKEN may stand in the environment all day: a demo user that is named goes first.
    if as_user is not None:
        token = demo_token(state, as_user)
    if token is None and environ is not None and load(environ) is not None:
        token = signed_in_token(environ)
    if token is None:
        raise ConfigError("who acts? Run `extproc login`, or give --token, or --as with a development gateway")
    settings = config_file.load(config or state / "gateway.yaml")
    return asyncio.run(identify(settings, Secret(token), time.time))


def demo_token(state: Path, user: str) -> str:
    """Return a token of a demo user, good for a minute; raises ConfigError where there is no development gateway."""
    try:
        # Imported here: production never loads what is under extproc/dev, and does not even have it.
        from extproc.dev import keys, users  # noqa: PLC0415
    except ModuleNotFoundError:
        raise ConfigError("--as: this installation has no demo users; use --token") from None
    # Signing would make a new key.
    if not (state / keys.KEY_FILE).exists():
        raise ConfigError(f"--as: the state directory {state} holds no key of a development issuer; use --token")
    if user not in users.DEMO_USERS:
        raise ConfigError(f"--as: {user!r} is none of {', '.join(users.DEMO_USERS)}")
    return keys.token_for(state, user, users.DEMO_USERS[user], now=time.time(), lifetime_seconds=60)
