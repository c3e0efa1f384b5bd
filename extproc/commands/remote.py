"""The console that a command asks with `--server`, and as whom."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

import typer

from extproc.address import is_loopback
from extproc.errors import ConfigError

if TYPE_CHECKING:
    from extproc.remote.record import Remote


def remote_of(
    ctx: typer.Context,
    server: str | None,
    state: Path,
    token: str | None,
    as_user: str | None,
    *,
    acts: bool = False,
) -> Remote | None:
    """Return the console to ask, None where the local store is meant; raises ExtprocError and ConfigError.

    A demo user that is named goes before a token. Only what `acts` is done on the local store as somebody.
    """
    if server is None:
        if as_user is not None and not acts:
            raise ConfigError("--as: expected --server with it: this machine's administrator reads the local store")
        return None
    # Imported here: most commands read the local store, and loading what speaks to a server takes a while.
    from extproc.commands.acting import demo_token  # noqa: PLC0415
    from extproc.remote.identity import token_for  # noqa: PLC0415
    from extproc.remote.record import Remote  # noqa: PLC0415
    from extproc.remote.server import check_address  # noqa: PLC0415

    check_address(server)
    if as_user is not None:
        if not is_loopback(urlsplit(server).hostname):
            raise ConfigError("--as: demo users are those of a development gateway on this machine; use --token")
        token = demo_token(state, as_user)
    return Remote(server, *token_for(server, token, ctx.obj))
