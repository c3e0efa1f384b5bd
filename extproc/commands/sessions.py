"""`extproc sessions` and `extproc replay`: find recorded sessions, and look at them."""

from __future__ import annotations

import time
from dataclasses import asdict
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.table import Table

from extproc import replay, stores
from extproc.commands import access
from extproc.commands.options import (
    DEFAULT_STATE,
    WIDE_TERMINAL,
    FindingOption,
    GroupOption,
    JsonOption,
    LimitOption,
    ModelOption,
    OutcomeOption,
    PathOption,
    RepositoryOption,
    SinceOption,
    StateOption,
    TextOption,
    UntilOption,
    UserOption,
    places_of,
    print_json,
    span,
)
from extproc.errors import ExtprocError
from extproc.store.port import Archive, Search, SessionRow

app = typer.Typer(help="Look at recorded sessions.", no_args_is_help=True)


@app.command("list")
def list_sessions(  # noqa: PLR0917 - options, passed by name
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
    rows = stores.archive_of(places_of(state)).sessions(search, limit=limit)
    if as_json:
        for row in rows:
            print_json(asdict(row))
    else:
        _show(rows)


@app.command("show")
def show_session(
    session: Annotated[str, typer.Argument(help="A session id, or the id of one exchange.")],
    state: StateOption = DEFAULT_STATE,
    as_json: JsonOption = False,  # noqa: FBT002
) -> None:
    """Show the exchanges of a session; that you do is recorded."""
    places = places_of(state)
    documents = _documents(stores.archive_of(places), session)
    access.note(places, "show", target=session, exchanges=len(documents))
    if as_json:
        for document in documents:
            print_json(document)
    else:
        replay.play(documents, Console(highlight=False, markup=False), speed=1, wait=False)


def replay_session(
    session: Annotated[
        str | None, typer.Argument(help="A session or exchange id; by default the newest session.")
    ] = None,
    speed: Annotated[float, typer.Option(min=0.01, help="2 plays twice as fast.")] = 1.0,
    no_wait: Annotated[bool, typer.Option("--no-wait", help="Show everything at once.")] = False,  # noqa: FBT002
    state: StateOption = DEFAULT_STATE,
    as_json: JsonOption = False,  # noqa: FBT002
) -> None:
    """Play a session with its original timing; that you do is recorded."""
    places = places_of(state)
    archive = stores.archive_of(places)
    target = session or _newest(archive)
    documents = _documents(archive, target)
    access.note(places, "replay", target=target, exchanges=len(documents))
    if as_json:
        for document in documents:
            for delay, text in replay.frames(document):
                print_json({"id": document["id"], "after_seconds": delay, "text": text})
    else:
        replay.play(documents, Console(highlight=False, markup=False), speed=speed, wait=not no_wait)


def _documents(archive: Archive, session: str) -> list[dict[str, Any]]:
    documents = list(archive.session(session))
    if not documents and (one := archive.exchange(session)) is not None:
        documents = [one]
    if not documents:
        raise ExtprocError(f"no session or exchange has the id {session!r}")
    return documents


def _newest(archive: Archive) -> str:
    rows = archive.sessions(limit=1)
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
            row.id,
            replay.printable(row.user or "-"),
            time.strftime("%Y-%m-%d %H:%M", time.localtime(row.started_at)),
            str(row.exchanges),
            "\n".join(f"{count} {outcome}" for outcome, count in sorted(row.outcomes.items())),
            replay.printable("\n".join(row.models)),
            replay.printable(row.client or "-"),
        ]
        table.add_row(*cells[: len(table.columns)])
    console.print(table)
