"""`extproc serve`: the ext_proc service."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated

import typer
import uvloop

from extproc import config as config_file
from extproc import logs
from extproc.serve import serve as run_service


def serve(
    context: typer.Context,
    config: Annotated[Path, typer.Option(help="The settings file.")] = Path("gateway.yaml"),
) -> None:
    """Run the ext_proc service."""
    environ: Mapping[str, str] = context.obj
    settings = config_file.load(config)
    logs.configure()
    uvloop.run(run_service(settings, environ))
