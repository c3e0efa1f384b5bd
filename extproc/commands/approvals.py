"""`extproc approvals`: see what waits for a person, and answer it."""

from __future__ import annotations

import asyncio
import socket
import time
from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Annotated, TypeVar

import msgspec
import typer
from rich.console import Console
from rich.table import Table

from extproc import stores
from extproc.approval import change
from extproc.approval.approval import Approval, Scope, State, Verdict
from extproc.approval.event import View
from extproc.approval.row import detail, row
from extproc.approval.touch import Touch
from extproc.commands.access import account
from extproc.commands.acting import ConfigOption, principal_of
from extproc.commands.options import (
    DEFAULT_STATE,
    WIDE_TERMINAL,
    AsOption,
    JsonOption,
    LimitOption,
    ServerOption,
    StateOption,
    TokenOption,
    places_of,
    print_json,
)
from extproc.commands.remote import remote_of
from extproc.console.api.shapes import ApprovalDetail, ApprovalRow, EventRow
from extproc.errors import ConfigError, ExtprocError
from extproc.identity.principal import Principal
from extproc.replay import printable
from extproc.store.approvals_port import Answers

app = typer.Typer(help="See what waits for approval, and answer it.", no_args_is_help=True)

T = TypeVar("T")

ApprovalArgument = Annotated[str, typer.Argument(metavar="ID", help="The id of an approval.")]


@app.command("list")
def list_approvals(  # noqa: PLR0917 - options, passed by name
    ctx: typer.Context,
    state_is: Annotated[State | None, typer.Option("--state", help="Only those that stand so.")] = None,
    user: Annotated[str | None, typer.Option(help="The name or id of who asked.")] = None,
    limit: LimitOption = 100,
    server: ServerOption = None,
    token: TokenOption = None,
    as_user: AsOption = None,
    state: StateOption = DEFAULT_STATE,
    as_json: JsonOption = False,  # noqa: FBT002 - a command-line flag
) -> None:
    """List approvals, the newest first."""
    remote = remote_of(ctx, server, state, token, as_user)
    if remote is None:
        found = _with_store(state, lambda store: store.newest(state=state_is, user=user, limit=limit))
        now = time.time()
        rows = [msgspec.convert(row(one, now), ApprovalRow) for one in found]
    else:
        rows = remote.approvals(state=state_is, user=user, limit=limit)
    if as_json:
        for one in rows:
            print_json(msgspec.to_builtins(one))
        return
    _show(rows)


def _show(rows: list[ApprovalRow]) -> None:
    console = Console(highlight=False, markup=False)
    wide = console.width >= WIDE_TERMINAL
    table = Table(box=None, pad_edge=False)
    for heading in ("approval", "state", "user", "left", "touches", *(["rule", "requested"] if wide else [])):
        table.add_column(heading, no_wrap=heading not in {"user", "touches", "rule"}, overflow="fold")
    for one in rows:
        cells = [
            printable(one.id),
            one.state,
            printable(one.user),
            _left(one),
            printable("\n".join(_touch(touch) for touch in one.touches)),
            printable(one.rule),
            time.strftime("%m-%d %H:%M:%S", time.localtime(one.requested_at)),
        ]
        table.add_row(*cells[: len(table.columns)])
    console.print(table)


@app.command("show")
def show_approval(  # noqa: PLR0917
    ctx: typer.Context,
    approval_id: ApprovalArgument,
    server: ServerOption = None,
    token: TokenOption = None,
    as_user: AsOption = None,
    state: StateOption = DEFAULT_STATE,
    as_json: JsonOption = False,  # noqa: FBT002
) -> None:
    """Show an approval and the proposed change; that you looked is recorded."""
    remote = remote_of(ctx, server, state, token, as_user)
    approval = _looked_at(state, approval_id) if remote is None else remote.approval(approval_id)
    if as_json:
        print_json(msgspec.to_builtins(approval))
    else:
        print(printable("\n".join(_description(approval))))  # noqa: T201 - this is the terminal
        print()  # noqa: T201
        print(printable(change.text_of(approval.proposal)))  # noqa: T201


@app.command("approve")
def approve(  # noqa: PLR0917 - options, passed by name
    ctx: typer.Context,
    approval_id: ApprovalArgument,
    reason: Annotated[str, typer.Option(help="Why; it is recorded.")] = "",
    scope: Annotated[Scope, typer.Option(help="What it is good for, of what the rule offers.")] = Scope.ONCE,
    server: ServerOption = None,
    token: TokenOption = None,
    as_user: AsOption = None,
    config: ConfigOption = None,
    state: StateOption = DEFAULT_STATE,
) -> None:
    """Approve what waits: exit 0 when the approval stands, 1 when it is refused."""
    if (remote := remote_of(ctx, server, state, token, as_user, acts=True)) is not None:
        _tell(remote.answer(approval_id, approved=True, reason=reason, scope=scope))
        return
    principal = principal_of(state, config, token, as_user, ctx.obj)
    _tell(_answer(state, approval_id, principal, approved=True, reason=reason, scope=scope))


@app.command("deny")
def deny(  # noqa: PLR0917
    ctx: typer.Context,
    approval_id: ApprovalArgument,
    reason: Annotated[str, typer.Option(help="Why; the developer is told.")],
    server: ServerOption = None,
    token: TokenOption = None,
    as_user: AsOption = None,
    config: ConfigOption = None,
    state: StateOption = DEFAULT_STATE,
) -> None:
    """Deny what waits: exit 0 when the denial stands, 1 when it is refused."""
    if not reason.strip():
        raise ConfigError("--reason: expected a reason, which the developer is told")
    if (remote := remote_of(ctx, server, state, token, as_user, acts=True)) is not None:
        _tell(remote.answer(approval_id, approved=False, reason=reason, scope=Scope.ONCE))
        return
    principal = principal_of(state, config, token, as_user, ctx.obj)
    _tell(_answer(state, approval_id, principal, approved=False, reason=reason, scope=Scope.ONCE))


def _with_store(state: Path, work: Callable[[Answers], Awaitable[T]]) -> T:
    async def run() -> T:
        async with AsyncExitStack() as stack:
            return await work(stores.approvals_of(places_of(state), stack, instance=None, now=time.time))

    return asyncio.run(run())


def _looked_at(state: Path, approval_id: str) -> ApprovalDetail:
    """Return an approval of the local store; that somebody looks is written down."""
    name = account()
    view = View(f"local-administrator:{name}", name, time.time(), _here())

    async def look(store: Answers) -> ApprovalDetail | None:
        found = await store.viewed(approval_id, view)
        if found is None:
            return None
        return msgspec.convert(detail(found, await store.events(approval_id), view.at), ApprovalDetail)

    approval = _with_store(state, look)
    if approval is None:
        raise ExtprocError("unknown: No approval has this id.")
    return approval


def _answer(state: Path, approval_id: str, who: Principal, *, approved: bool, reason: str, scope: Scope) -> ApprovalRow:
    verdict = Verdict(who.id, who.name, approved, reason, scope, time.time(), _here())
    result = _with_store(state, lambda store: store.verdict(approval_id, verdict, who.groups))
    if not isinstance(result, Approval):
        raise ExtprocError(printable(f"{result.why}: {result.message}"))
    return msgspec.convert(row(result, verdict.at), ApprovalRow)


def _tell(result: ApprovalRow) -> None:
    given, wanted = len(result.verdicts), result.count
    missing = f" ({given} of {wanted} approvals)" if result.state is State.PENDING else ""
    print(printable(f"{result.id} {result.state}{missing}"))  # noqa: T201


def _here() -> str:
    return f"command line of {socket.gethostname()}"


def _description(approval: ApprovalDetail) -> list[str]:
    needed = f"{approval.count} approval(s) of {', '.join(approval.approvers)}, for {' or '.join(approval.scopes)}"
    left = f", {_left(approval)} left" if approval.state is State.PENDING else ""
    facts = [
        ("approval", approval.id),
        ("state", f"{approval.state}{left}"),
        ("requested by", f"{approval.user} ({approval.principal})"),
        ("rule", f"{approval.rule}{': ' if approval.message else ''}{approval.message}"),
        ("needs", needed),
        ("model", approval.model or "-"),
        ("exchange", f"{approval.exchange} of session {approval.session}"),
        *(("touches", _touch(touch)) for touch in approval.touches),
        *((_at(event.at), _happened(event)) for event in approval.events),
    ]
    # One line each, whatever is in a name, a path or a reason: nobody writes lines of their own in here.
    return [f"{name:<20} {' '.join(fact.splitlines())}" for name, fact in facts]


def _happened(event: EventRow) -> str:
    by = f" by {event.name}" if event.name else ""
    place = f" from {event.address}" if event.address else ""
    if (verdict := event.verdict) is not None:
        what = f"approved for {verdict.scope}" if verdict.approved else "denied"
        return f"{what}{by}{place}{f': {verdict.reason}' if verdict.reason else ''}"
    return f"{event.state if event.who is None else event.kind}{by}{place}"


def _touch(touch: Touch) -> str:
    place = " ".join(part for part in (touch.repository, touch.branch, touch.path) if part is not None)
    return f"{touch.act} {place or 'anything'} ({touch.tool})"


def _left(approval: ApprovalRow) -> str:
    if approval.seconds_left is None:
        return "-"
    minutes, seconds = divmod(int(approval.seconds_left), 60)
    return f"{minutes}:{seconds:02}"


def _at(at: float) -> str:
    return time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(at))
