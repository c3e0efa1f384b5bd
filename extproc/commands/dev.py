"""`extproc dev`: the development gateway. What it runs is imported where it is used: production does not have it."""

from __future__ import annotations

import asyncio
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from typing import Annotated

import typer
from rich.console import Console

from extproc.commands.options import DEFAULT_STATE, StateOption
from extproc.errors import ConfigError

app = typer.Typer(help="The development gateway.", no_args_is_help=True)


@app.callback()
def dev() -> None:
    """Run the development gateway."""
    if find_spec("extproc.dev") is None:
        raise ConfigError(
            "dev: this installation has no development gateway; it is in the source checkout (`make run`)"
        )


@app.command("up")
def dev_up(
    upstream: Annotated[str | None, typer.Option(help="http://HOST:PORT in place of the demo upstream.")] = None,
    state: StateOption = DEFAULT_STATE,
) -> None:
    """Run everything on this machine, in the foreground, until Ctrl-C."""
    from extproc.dev import files, runner  # noqa: PLC0415

    with _interruptible():
        asyncio.run(runner.run(state.resolve(), files.Ports(), upstream or None, lambda line: print(line, flush=True)))  # noqa: T201


@app.command("token")
def dev_token(
    user: Annotated[str, typer.Option(help="A demo user, or any name together with --groups.")],
    groups: Annotated[
        str | None, typer.Option("--groups", "--group", help="Comma-separated; by default the demo user's.")
    ] = None,
    minutes: Annotated[int, typer.Option(min=1, help="How long the token is valid.")] = 60,
    state: StateOption = DEFAULT_STATE,
) -> None:
    """Print a token of the development issuer."""
    from extproc.dev import keys, users  # noqa: PLC0415

    if groups is None and user not in users.DEMO_USERS:
        raise ConfigError(f"--user: {user!r} is none of {', '.join(users.DEMO_USERS)}; name its groups with --groups")
    names = users.DEMO_USERS.get(user, ()) if groups is None else tuple(name for name in groups.split(",") if name)
    token = keys.token_for(state, user, names, now=time.time(), lifetime_seconds=minutes * 60)
    print(token)  # noqa: T201


@app.command("demo")
def dev_demo(state: StateOption = DEFAULT_STATE) -> None:
    """Walk through the running development gateway."""
    from extproc.dev import demo  # noqa: PLC0415

    demo.run(state, Console(highlight=False))


@contextmanager
def _interruptible() -> Iterator[None]:
    try:
        yield
    except KeyboardInterrupt:
        sys.exit(130)
