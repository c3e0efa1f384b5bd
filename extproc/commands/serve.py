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
from extproc.workers import supervise


def serve(
    context: typer.Context,
    config: Annotated[Path, typer.Option(help="The settings file.")] = Path("gateway.yaml"),
    worker: Annotated[int | None, typer.Option(hidden=True, min=0, help="One of several workers.")] = None,
) -> None:
    """Run the ext_proc service: as many workers as the settings say."""
    environ: Mapping[str, str] = context.obj
    settings = config_file.load(config)
    logs.configure()
    if worker is None and settings.settings.workers > 1:
        uvloop.run(supervise(settings, config, environ))
    else:
        uvloop.run(run_service(settings, environ, worker))
