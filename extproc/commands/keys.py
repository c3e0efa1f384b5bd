"""`extproc keys`: make the keys that replicas share, and put them where each replica looks for them."""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import typer

from extproc.config_recording import CheckpointSettings
from extproc.keys import checkpoint_key, shared_keys
from extproc.keys.shared_keys import SharedKey

app = typer.Typer(help="The keys that replicas share.", no_args_is_help=True)


@app.command("make")
def make(
    out: Annotated[Path, typer.Option(help="The folder to make them in.")],
    wrapping: Annotated[  # noqa: FBT002 - a command-line flag
        bool, typer.Option("--wrapping", help="Also wrapping.key, where recording.encryption uses a key file.")
    ] = False,
    name: Annotated[
        str, typer.Option(help="The signer of checkpoints: recording.checkpoints.name of the settings.")
    ] = CheckpointSettings().name,
    key_vault: Annotated[
        str | None, typer.Option(metavar="NAME", help="Print the commands that put the keys into this Azure Key Vault.")
    ] = None,
) -> None:
    """Make the keys once, and print the public one. Exit 2 where one is there already."""
    paths = shared_keys.make(out, [key for key in _keys(name) if wrapping or not key.optional])
    for path in paths:
        print(path)  # noqa: T201 - this is the terminal
    public = checkpoint_key.load_public_key(checkpoint_key.public_path(out / checkpoint_key.FILE_NAME))
    print(f"public key: {public.vkey}")  # noqa: T201
    if key_vault is not None:
        print("\n".join(_az_commands(key_vault, paths)))  # noqa: T201


@app.command("install")
def install(
    source: Annotated[Path, typer.Option("--from", help="The folder where the keys are mounted.")],
    state: Annotated[Path, typer.Option("--state", help="The gateway's state directory.")],
) -> None:
    """Copy the keys into the state directory. Exit 2 where one is missing, unusable, or another is there already."""
    for file, is_new in shared_keys.install(source, state, _keys(CheckpointSettings().name)):
        print(f"{state / file}: {'installed' if is_new else 'there already, and the same'}")  # noqa: T201


def _keys(signer: str) -> Sequence[SharedKey]:
    return shared_keys.shared_keys(signer)


def _az_commands(vault: str, paths: Sequence[Path]) -> list[str]:
    """Return a command for each; a name in Key Vault has no dots. Base64, since a secret there is text."""
    return [
        f"az keyvault secret set --vault-name {shlex.quote(vault)} --name {path.name.replace('.', '-')}"
        f" --file {shlex.quote(str(path))} --encoding base64"
        for path in paths
    ]
