"""`extproc env`: print the settings that point a client at the gateway."""

from __future__ import annotations

import os
import ssl
import sys
import tempfile
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

# Where systems keep them in one file (Go's crypto/x509, root_linux.go); a Python built elsewhere does not know that.
_SYSTEM_BUNDLES = ("/etc/ssl/certs/ca-certificates.crt", "/etc/pki/tls/certs/ca-bundle.crt", "/etc/ssl/ca-bundle.pem")


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
        _put(path.with_name(BUNDLE), _bundle(_of_system(environ), profile.ca_pem.encode()))
    except OSError as error:
        raise ConfigError(f"{path}: the gateway's authority cannot be written ({error.strerror})") from None
    return path


def _bundle(system: bytes, own: bytes) -> bytes:
    # Within a command that `extproc run` started, the system's authorities are those with ours already.
    others = system.removesuffix(own)
    # Two certificates on one line are none (RFC 7468 section 3).
    return others + (b"\n" if others and not others.endswith(b"\n") else b"") + own


def _of_system(environ: Mapping[str, str]) -> bytes:
    """Return the authorities that programs trust now, as far as they are in one file."""
    known = environ.get("SSL_CERT_FILE") or ssl.get_default_verify_paths().cafile
    named = known or next((path for path in _SYSTEM_BUNDLES if Path(path).is_file()), None)
    return b"" if not named or not Path(named).is_file() else Path(named).read_bytes()


def _put(path: Path, content: bytes) -> None:
    if not path.exists() or path.read_bytes() != content:
        # Another client may read it at this moment: it sees the old one or the new one.
        # A name of its own: two commands may begin at the same time.
        descriptor, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
        try:
            with os.fdopen(descriptor, "wb") as file:
                file.write(content)
            Path(name).replace(path)
        finally:
            Path(name).unlink(missing_ok=True)
