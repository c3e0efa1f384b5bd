"""`extproc findings`: what was masked, blocked or observed, and where a given secret was seen. It is never printed."""

from __future__ import annotations

import getpass
import sys
import time
from dataclasses import asdict
from typing import Annotated

import typer
from rich.console import Console
from rich.table import Table

from extproc import replay, stores
from extproc.commands.options import (
    DEFAULT_STATE,
    WIDE_TERMINAL,
    JsonOption,
    LimitOption,
    SinceOption,
    StateOption,
    UntilOption,
    UserOption,
    places_of,
    print_json,
    span,
)
from extproc.errors import ConfigError, StoreUnavailable
from extproc.keys.fingerprint_key import load_key
from extproc.masking import private_key
from extproc.masking.finding import Action, Direction
from extproc.masking.fingerprint import Fingerprints
from extproc.store.port import FindingRow, FindingSearch

app = typer.Typer(help="Look at what was found in prompts and answers.", no_args_is_help=True)

MAX_SECRET_BYTES = 1 << 20


@app.command("list")
def list_findings(  # noqa: PLR0917 - options, passed by name
    rule: Annotated[str | None, typer.Option(help="The rule that found it; * stands for anything.")] = None,
    user: UserOption = None,
    direction: Annotated[Direction | None, typer.Option(help="Which way the text went.")] = None,
    action: Annotated[Action | None, typer.Option(help="What was done.")] = None,
    session: Annotated[str | None, typer.Option(help="A session id.")] = None,
    since: SinceOption = None,
    until: UntilOption = None,
    limit: LimitOption = 100,
    state: StateOption = DEFAULT_STATE,
    as_json: JsonOption = False,  # noqa: FBT002 - a command-line flag
) -> None:
    """List findings, the newest first."""
    first, last = span(since, until, time.time())
    search = FindingSearch(
        rule=rule,
        user=user,
        direction=direction,
        action=action,
        session=session,
        since=first,
        until=last,
    )
    rows = stores.archive_of(places_of(state)).findings(search, limit=limit)
    _show(rows, as_json=as_json)


@app.command("match")
def match_secret(
    limit: LimitOption = 100,
    state: StateOption = DEFAULT_STATE,
    as_json: JsonOption = False,  # noqa: FBT002
) -> None:
    """Say where and when a secret was seen: exit 0 if it was, 1 if not. It is read from standard input."""
    places = places_of(state)
    fingerprints = Fingerprints(load_key(places.fingerprint_key))
    try:
        archive = stores.archive_of(places)
        rows = archive.findings(FindingSearch(fingerprint=fingerprints.of(_candidate())), limit=limit)
    except StoreUnavailable as failure:
        # Exit 1 would say that the secret was never seen.
        raise ConfigError(str(failure)) from failure
    if rows or as_json:
        _show(rows, as_json=as_json)
    else:
        print("not seen")  # noqa: T201 - this is the terminal
    raise typer.Exit(0 if rows else 1)


def _candidate() -> bytes:
    if sys.stdin.isatty():
        secret = getpass.getpass("Secret (not shown): ").encode("utf-8", "surrogateescape")
    else:
        secret = sys.stdin.buffer.read(MAX_SECRET_BYTES + 1)
        secret = secret.removesuffix(b"\n").removesuffix(b"\r") if secret.endswith(b"\n") else secret
    if not secret:
        raise ConfigError("expected a secret on standard input, got nothing")
    if len(secret) > MAX_SECRET_BYTES:
        raise ConfigError(f"expected one secret on standard input, got more than {MAX_SECRET_BYTES} bytes")
    # A private key is the same however its lines are ended and indented.
    if private_key.begin(text := secret.decode("utf-8", "replace"), 0):
        return private_key.body(text).encode()
    return secret


def _show(rows: list[FindingRow], *, as_json: bool) -> None:
    if as_json:
        for row in rows:
            print_json(asdict(row))
        return
    console = Console(highlight=False, markup=False)
    wide = console.width >= WIDE_TERMINAL
    # Two lines for each finding leave room for long rules and places in 80 columns.
    table = Table(box=None, pad_edge=False)
    for heading in ("time", "user", "found", "action", "session", *(["exchange"] if wide else [])):
        table.add_column(heading, no_wrap=heading not in {"user", "found"}, overflow="fold")
    for row in rows:
        cells = [
            time.strftime("%Y-%m-%d\n%H:%M:%S", time.localtime(row.opened_at + row.at / 1000)),
            replay.printable(row.user or "-"),
            replay.printable(f"{row.rule}\n{row.where} @{row.offset}"),
            f"{row.action}\n{row.direction}",
            row.session,
            row.exchange,
        ]
        table.add_row(*cells[: len(table.columns)])
    console.print(table)
