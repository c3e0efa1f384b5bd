"""What commands have in common: options, the local store, and JSON output."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer

from extproc.store.sqlite import SqliteArchive

StateOption = Annotated[
    Path, typer.Option("--state-dir", envvar="EXTPROC_STATE_DIR", help="Where the gateway keeps its state.")
]
JsonOption = Annotated[bool, typer.Option("--json", help="One JSON object per line.")]
LimitOption = Annotated[int, typer.Option(min=1, help="At most so many.")]
DEFAULT_STATE = Path(".extproc")

WIDE_TERMINAL = 110
"""Columns from which a table has room for more than its most important columns."""


def archive_of(state: Path) -> SqliteArchive:
    """Open the store of a state directory for reading."""
    return SqliteArchive(state / "extproc.db")


def print_json(value: object) -> None:
    """Print one line of JSON."""
    print(json.dumps(value, ensure_ascii=False))  # noqa: T201 - this is the terminal
