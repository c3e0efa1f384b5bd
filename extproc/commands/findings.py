"""`extproc findings`: what was masked, blocked or observed, and where a given secret was seen. It is never printed."""

from __future__ import annotations

import getpass
import sys
import time
from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.table import Table

from extproc import replay, stores
from extproc.commands.options import (
    DEFAULT_STATE,
    WIDE_TERMINAL,
    AsOption,
    JsonOption,
    LimitOption,
    ServerOption,
    SinceOption,
    StateOption,
    TokenOption,
    UntilOption,
    UserOption,
    places_of,
    print_json,
    span,
)
from extproc.commands.remote import remote_of
from extproc.errors import ConfigError, ExtprocError
from extproc.keys.fingerprint_key import load_key
from extproc.masking import private_key
from extproc.masking.finding import Action, Direction
from extproc.masking.fingerprint import Fingerprints
from extproc.store.port import FindingRow, FindingSearch

app = typer.Typer(help="Look at what was found in prompts and answers.", no_args_is_help=True)

MAX_SECRET_BYTES = 1 << 20


@app.command("list")
def list_findings(  # noqa: PLR0917 - options, passed by name
    ctx: typer.Context,
    rule: Annotated[str | None, typer.Option(help="The rule that found it; * stands for anything.")] = None,
    user: UserOption = None,
    direction: Annotated[Direction | None, typer.Option(help="Which way the text went.")] = None,
    action: Annotated[Action | None, typer.Option(help="What was done.")] = None,
    session: Annotated[str | None, typer.Option(help="A session id.")] = None,
    since: SinceOption = None,
    until: UntilOption = None,
    limit: LimitOption = 100,
    server: ServerOption = None,
    token: TokenOption = None,
    as_user: AsOption = None,
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
    remote = remote_of(ctx, server, state, token, as_user)
    if remote is None:
        rows = stores.archive_of(places_of(state)).findings(search, limit=limit)
    else:
        rows = remote.findings(search, limit)
    _show(rows, as_json=as_json)


@app.command("match")
def match_secret(  # noqa: PLR0917
    ctx: typer.Context,
    limit: LimitOption = 100,
    server: ServerOption = None,
    token: TokenOption = None,
    as_user: AsOption = None,
    state: StateOption = DEFAULT_STATE,
    as_json: JsonOption = False,  # noqa: FBT002
) -> None:
    """Say where and when a secret was seen: exit 0 if it was, 1 if not. It is read from standard input."""
    try:
        remote = remote_of(ctx, server, state, token, as_user)
        rows = _matching(state, limit) if remote is None else remote.match(_candidate(), limit)
    except ConfigError:
        raise
    except ExtprocError as failure:
        # Exit 1 would say that the secret was never seen.
        raise ConfigError(str(failure)) from failure
    if rows or as_json:
        _show(rows, as_json=as_json)
    else:
        print("not seen")  # noqa: T201 - this is the terminal
    raise typer.Exit(0 if rows else 1)


def _matching(state: Path, limit: int) -> list[FindingRow]:
    places = places_of(state)
    fingerprints = Fingerprints(load_key(places.fingerprint_key))
    archive = stores.archive_of(places)
    return archive.findings(FindingSearch(fingerprint=fingerprints.of(_candidate())), limit=limit)


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
    return private_key.searched_for(secret)


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
            replay.printable(f"{row.action}\n{row.direction}"),
            replay.printable(row.session),
            replay.printable(row.exchange),
        ]
        table.add_row(*cells[: len(table.columns)])
    console.print(table)
