"""`extproc store`: make the places where exchanges are recorded and approvals kept."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Annotated
from urllib.parse import urlsplit

import typer

from extproc import config as config_file
from extproc import stores
from extproc.errors import ConfigError, ExtprocError

app = typer.Typer(help="Make and check the store.", no_args_is_help=True)


@app.command("provision")
def provision(
    config: Annotated[Path, typer.Option(help="The settings file.")] = Path("gateway.yaml"),
    max_throughput: Annotated[
        int | None,
        typer.Option(min=1000, help="Most request units per second of autoscale, each; serverless without."),
    ] = None,
    group: Annotated[str, typer.Option(help="The resource group, in the commands that are printed.")] = "GROUP",
    principal: Annotated[str, typer.Option(help="The object id of the service's identity, likewise.")] = "PRINCIPAL_ID",
    console_principal: Annotated[
        str | None, typer.Option(help="That of the console, where it runs apart with an identity of its own.")
    ] = None,
) -> None:
    """Make the containers in Azure Cosmos DB, or print the commands that do: exit 1 where one is there and not right.

    With a key in the settings they are made at once. A workload's identity must not make containers, so then somebody
    with rights on the account runs the `az` commands that are printed. A SQLite store needs no provisioning.
    """
    places = config_file.load_settings(config).places(config.parent)
    section = places.store.cosmos
    if section is None:
        raise ConfigError(f"{config}: store.cosmos: expected; a SQLite file is made by the service itself")
    from extproc.store import cosmos_layout, cosmos_provision  # noqa: PLC0415 - loading the SDK takes a while

    if section.key_file is None:
        account = (urlsplit(section.endpoint).hostname or "").partition(".")[0]
        containers = (section.container, section.approvals_container)
        identities = cosmos_layout.Identities(principal, console_principal)
        commands = cosmos_layout.az_commands(account, group, section.database, containers, identities)
        print("\n".join(commands))  # noqa: T201 - this is the terminal
        return
    record = stores.cosmos_settings(places, section)
    approvals = replace(record, container=section.approvals_container)
    for settings, layout in ((record, cosmos_layout.RECORD), (approvals, cosmos_layout.APPROVALS)):
        drift = cosmos_provision.provision(settings, layout, max_throughput=max_throughput)
        if drift:
            raise ExtprocError(f"container {settings.container} is there, and not as it should be: {'; '.join(drift)}")
        print(f"container {settings.container} of database {settings.database} is ready")  # noqa: T201
