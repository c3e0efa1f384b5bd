"""What commands have in common: options, the local store, and JSON output."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer

from extproc.config import load_settings
from extproc.config_recording import Places, RecordingSettings, StoreSettings
from extproc.console import moments
from extproc.errors import ConfigError
from extproc.recording.document import Outcome

StateOption = Annotated[
    Path, typer.Option("--state-dir", envvar="EXTPROC_STATE_DIR", help="Where the gateway keeps its state.")
]
JsonOption = Annotated[bool, typer.Option("--json", help="One JSON object per line.")]
LimitOption = Annotated[int, typer.Option(min=1, max=1_000_000_000, help="At most so many.")]
UserOption = Annotated[str | None, typer.Option(help="The name or id of a principal.")]
GroupOption = Annotated[str | None, typer.Option(help="A group of theirs.")]
ModelOption = Annotated[str | None, typer.Option(help="The model that was asked for.")]
OutcomeOption = Annotated[Outcome | None, typer.Option(help="How an exchange ended.")]
RepositoryOption = Annotated[str | None, typer.Option(help="OWNER/NAME; * stands for anything.")]
PathOption = Annotated[str | None, typer.Option(help="A file that a tool call names; * stands for anything.")]
FindingOption = Annotated[str | None, typer.Option(help="A rule that found something; * stands for anything.")]
TextOption = Annotated[str | None, typer.Option(help="Words that were asked or answered, in any case.")]
SinceOption = Annotated[str | None, typer.Option(help="Not before: an ISO date or time, or an age such as 7d.")]
UntilOption = Annotated[str | None, typer.Option(help="Before: an ISO date or time, or an age such as 12h.")]
TokenOption = Annotated[
    str | None,
    typer.Option(
        envvar="EXTPROC_TOKEN",
        help="A token of an issuer that the gateway trusts; better by EXTPROC_TOKEN: arguments can be read by other"
        " users of the machine.",
    ),
]
AsOption = Annotated[str | None, typer.Option("--as", help="A demo user; only with a development gateway's state.")]
ServerOption = Annotated[
    str | None,
    typer.Option(
        "--server", envvar="EXTPROC_SERVER", metavar="URL", help="The console to ask; by default the local store."
    ),
]
DEFAULT_STATE = Path(".extproc")

WIDE_TERMINAL = 110
"""Columns from which a table has room for more than its most important columns."""


def moment(option: str, text: str, now: float) -> float:
    """Return the unix time of an ISO date or time (local unless it says its zone) or of an age (`90m`, `7d`).

    Raises ConfigError, which names the option.
    """
    try:
        return moments.moment(text, now, in_utc=False)
    except ValueError:
        raise ConfigError(f"{option}: {moments.EXPECTED}, got {text!r}") from None


def span(since: str | None, until: str | None, now: float) -> tuple[float | None, float | None]:
    """Return the unix times that `--since` and `--until` mean; raises ConfigError."""
    return (
        None if since is None else moment("--since", since, now),
        None if until is None else moment("--until", until, now),
    )


def places_of(state: Path) -> Places:
    """Return where the gateway of a state directory keeps things; without settings there it is what `make run` uses."""
    settings = state / "gateway.yaml"
    if settings.exists():
        return load_settings(settings).places(state)
    return Places(state, Path(), StoreSettings(sqlite=Path("record.db")), RecordingSettings())


def print_json(value: object) -> None:
    """Print one line of JSON."""
    print(json.dumps(value, ensure_ascii=False))  # noqa: T201 - this is the terminal
