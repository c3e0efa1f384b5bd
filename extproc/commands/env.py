"""`extproc env`: print the settings that point a client at the gateway."""

from __future__ import annotations

import ssl
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated

import typer

from extproc.client_settings.choice import printed_mode
from extproc.client_settings.settings import BUNDLE, Client, Mode, settings_for
from extproc.client_settings.shells import Shell, render
from extproc.commands.login import current_profile, current_token
from extproc.errors import ConfigError
from extproc.secret import Secret
from extproc.signin.kept import keeper_of
from extproc.signin.profile import Profile

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
    token = Secret(current_token(environ))
    settings = settings_for(clients, chosen, profile, token, write_authority(profile, environ))
    sys.stdout.write(render(settings, shell))


def environ_of(context: typer.Context) -> Mapping[str, str]:
    """Return the environment, which the command line hands on as the context's object."""
    environ: Mapping[str, str] = context.obj
    return environ


def write_authority(profile: Profile, environ: Mapping[str, str]) -> Path | None:
    """Write the authority of the gateway, and the bundle with it, where clients can name them; None where it has none.

    Raises ConfigError.
    """
    if profile.ca_pem is None:
        return None
    path = keeper_of(environ).file.with_name("ca.pem")
    try:
        path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        _put(path, profile.ca_pem.encode())
        # Within a command that `extproc run` started, the system's authorities are those with ours already.
        _put(
            path.with_name(BUNDLE), _of_system(environ).removesuffix(profile.ca_pem.encode()) + profile.ca_pem.encode()
        )
    except OSError as error:
        raise ConfigError(f"{path}: the gateway's authority cannot be written ({error.strerror})") from None
    return path


def _of_system(environ: Mapping[str, str]) -> bytes:
    """Return the authorities that programs trust now, as far as they are in one file."""
    named = environ.get("SSL_CERT_FILE") or ssl.get_default_verify_paths().cafile
    return b"" if not named or not Path(named).is_file() else Path(named).read_bytes()


def _put(path: Path, content: bytes) -> None:
    if not path.exists() or path.read_bytes() != content:
        # Another client may read it at this moment: it sees the old one or the new one.
        new = path.with_suffix(".new")
        new.write_bytes(content)
        new.replace(path)
