"""`extproc env`: print the settings that point a client at the gateway."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from typing import Annotated

import typer

from extproc.client_settings.choice import printed_mode
from extproc.client_settings.settings import Client, Mode, Trust, settings_for
from extproc.client_settings.shells import Shell, render
from extproc.secret import Secret
from extproc.signin.authority import REPLACING, AuthorityFiles, write_authority
from extproc.signin.current import current_profile, current_token

ClientOption = Annotated[list[Client] | None, typer.Option(help="The client, may be repeated.")]
ModeOption = Annotated[Mode | None, typer.Option(help="By the base URL, or through the forward proxy.")]


def env(
    context: typer.Context,
    client: ClientOption = None,
    mode: ModeOption = None,
    shell: Annotated[Shell, typer.Option(help="The language to print.")] = Shell.SH,
) -> None:
    """Print the settings of a client: `eval "$(extproc env)"`; by default those of Copilot CLI."""
    environ = environ_of(context)
    clients = client or [Client.COPILOT_CLI]
    profile = current_profile(environ)
    chosen = mode or printed_mode(clients, profile)
    # What is printed cannot be refreshed.
    token = Secret(current_token(environ, for_long=True))
    trust = trust_of(write_authority(profile, environ), environ)
    settings = settings_for(clients, chosen, profile, token, trust)
    sys.stdout.write(render(settings, shell))


def environ_of(context: typer.Context) -> Mapping[str, str]:
    """Return the environment, which the command line hands on as the context's object."""
    environ: Mapping[str, str] = context.obj
    return environ


def trust_of(files: AuthorityFiles | None, environ: Mapping[str, str]) -> Trust | None:
    """Return the files that clients are told of, and which variables name another one in their place."""
    if files is None:
        return None
    return Trust(files.added, files.bundle, tuple(name for name in REPLACING if environ.get(name)))
