"""`extproc sessions` and `extproc replay`: find recorded sessions, and look at them."""

from __future__ import annotations

import time
from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.table import Table

from extproc import replay, stores
from extproc.commands import access
from extproc.commands.options import (
    DEFAULT_STATE,
    WIDE_TERMINAL,
    AsOption,
    FindingOption,
    GroupOption,
    JsonOption,
    LimitOption,
    ModelOption,
    OutcomeOption,
    PathOption,
    RepositoryOption,
    ServerOption,
    SinceOption,
    StateOption,
    TextOption,
    TokenOption,
    UntilOption,
    UserOption,
    places_of,
    print_json,
    span,
)
from extproc.commands.remote import remote_of
from extproc.errors import ExtprocError
from extproc.store.port import Archive, Search, SessionRow

app = typer.Typer(help="Look at recorded sessions.", no_args_is_help=True)


@app.command("list")
def list_sessions(  # noqa: PLR0917 - options, passed by name
    ctx: typer.Context,
    user: UserOption = None,
    group: GroupOption = None,
    model: ModelOption = None,
    outcome: OutcomeOption = None,
    repository: RepositoryOption = None,
    path: PathOption = None,
    finding: FindingOption = None,
    text: TextOption = None,
    since: SinceOption = None,
    until: UntilOption = None,
    limit: LimitOption = 100,
    server: ServerOption = None,
    token: TokenOption = None,
    as_user: AsOption = None,
    state: StateOption = DEFAULT_STATE,
    as_json: JsonOption = False,  # noqa: FBT002 - a command-line flag
) -> None:
    """List sessions that have an exchange which fits all that is given, the newest first."""
    first, last = span(since, until, time.time())
    search = Search(
        user=user,
        group=group,
        model=model,
        outcome=outcome,
        repository=repository,
        path=path,
        finding=finding,
        text=text,
        since=first,
        until=last,
    )
    remote = remote_of(ctx, server, state, token, as_user)
    if remote is None:
        rows = stores.archive_of(places_of(state)).sessions(search, limit=limit)
    else:
        rows = remote.sessions(search, limit)
    if as_json:
        for row in rows:
            print_json(asdict(row))
    else:
        _show(rows)


@app.command("show")
def show_session(  # noqa: PLR0917
    ctx: typer.Context,
    session: Annotated[str, typer.Argument(help="A session id, or the id of one exchange.")],
    server: ServerOption = None,
    token: TokenOption = None,
    as_user: AsOption = None,
    state: StateOption = DEFAULT_STATE,
    as_json: JsonOption = False,  # noqa: FBT002
) -> None:
    """Show the exchanges of a session; that you do is recorded."""
    remote = remote_of(ctx, server, state, token, as_user)
    documents = _local(state, "show", session) if remote is None else remote.documents(session)
    if as_json:
        for document in documents:
            print_json(document)
    else:
        replay.play(documents, Console(highlight=False, markup=False), speed=1, wait=False)


def replay_session(  # noqa: PLR0917
    ctx: typer.Context,
    session: Annotated[
        str | None, typer.Argument(help="A session or exchange id; by default the newest session.")
    ] = None,
    speed: Annotated[float, typer.Option(min=0.01, help="2 plays twice as fast.")] = 1.0,
    no_wait: Annotated[bool, typer.Option("--no-wait", help="Show everything at once.")] = False,  # noqa: FBT002
    server: ServerOption = None,
    token: TokenOption = None,
    as_user: AsOption = None,
    state: StateOption = DEFAULT_STATE,
    as_json: JsonOption = False,  # noqa: FBT002
) -> None:
    """Play a session with its original timing; that you do is recorded."""
    remote = remote_of(ctx, server, state, token, as_user)
    if remote is None:
        documents = _local(state, "replay", session)
    else:
        documents = remote.documents(session or _newest(remote.sessions(Search(), 1)))
    if as_json:
        for document in documents:
            for delay, text in replay.frames(document):
                print_json({"id": document["id"], "after_seconds": delay, "text": text})
    else:
        replay.play(documents, Console(highlight=False, markup=False), speed=speed, wait=not no_wait)


def _local(state: Path, action: str, session: str | None) -> list[dict[str, Any]]:
    """Return documents of the local store, by default those of the newest session; that they are read is recorded."""
    places = places_of(state)
    archive = stores.archive_of(places)
    target = session or _newest(archive.sessions(limit=1))
    documents = _documents(archive, target)
    access.note(places, action, target=target, exchanges=len(documents))
    return documents


def _documents(archive: Archive, session: str) -> list[dict[str, Any]]:
    documents = list(archive.session(session))
    if not documents and (one := archive.exchange(session)) is not None:
        documents = [one]
    if not documents:
        raise ExtprocError(f"no session or exchange has the id {session!r}")
    return documents


def _newest(rows: list[SessionRow]) -> str:
    if not rows:
        raise ExtprocError("nothing is recorded yet")
    return rows[0].id


def _show(rows: list[SessionRow]) -> None:
    table = Table(box=None, pad_edge=False)
    console = Console(highlight=False, markup=False)
    wide = console.width >= WIDE_TERMINAL
    for heading in ("session", "user", "started", "exchanges", "outcomes", "models", *(["client"] if wide else [])):
        table.add_column(heading, no_wrap=heading not in {"models", "client"})
    for row in rows:
        cells = [
            replay.printable(row.id),
            replay.printable(row.user or "-"),
            time.strftime("%Y-%m-%d %H:%M", time.localtime(row.started_at)),
            str(row.exchanges),
            replay.printable("\n".join(f"{count} {outcome}" for outcome, count in sorted(row.outcomes.items()))),
            replay.printable("\n".join(row.models)),
            replay.printable(row.client or "-"),
        ]
        table.add_row(*cells[: len(table.columns)])
    console.print(table)
