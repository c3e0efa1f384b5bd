"""`extproc approvals`: see what waits for a person, and answer it."""

from __future__ import annotations

import asyncio
import socket
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Annotated, TypeVar

import typer
from rich.console import Console
from rich.table import Table

from extproc.approval import change
from extproc.approval.approval import Approval, Scope, State, Verdict
from extproc.approval.event import Event, View
from extproc.approval.row import detail, row
from extproc.approval.touch import Touch
from extproc.commands.access import account
from extproc.commands.acting import AsOption, ConfigOption, TokenOption, principal_of
from extproc.commands.options import (
    DEFAULT_STATE,
    WIDE_TERMINAL,
    JsonOption,
    LimitOption,
    StateOption,
    places_of,
    print_json,
)
from extproc.errors import ConfigError, ExtprocError
from extproc.identity.principal import Principal
from extproc.replay import printable
from extproc.store.approvals_port import Answers
from extproc.store.sqlite_approvals import SqliteApprovals

app = typer.Typer(help="See what waits for approval, and answer it.", no_args_is_help=True)

T = TypeVar("T")

ApprovalArgument = Annotated[str, typer.Argument(metavar="ID", help="The id of an approval.")]


@app.command("list")
def list_approvals(
    state_is: Annotated[State | None, typer.Option("--state", help="Only those that stand so.")] = None,
    user: Annotated[str | None, typer.Option(help="The name or id of who asked.")] = None,
    limit: LimitOption = 100,
    state: StateOption = DEFAULT_STATE,
    as_json: JsonOption = False,  # noqa: FBT002 - a command-line flag
) -> None:
    """List approvals, the newest first."""
    approvals = _with_store(state, lambda store: store.newest(state=state_is, user=user, limit=limit))
    now = time.time()
    if as_json:
        for one in approvals:
            print_json(row(one, now))
        return
    console = Console(highlight=False, markup=False)
    wide = console.width >= WIDE_TERMINAL
    table = Table(box=None, pad_edge=False)
    for heading in ("approval", "state", "user", "left", "touches", *(["rule", "requested"] if wide else [])):
        table.add_column(heading, no_wrap=heading not in {"user", "touches", "rule"}, overflow="fold")
    for one in approvals:
        request = one.request
        cells = [
            request.id,
            one.state,
            printable(request.name),
            _left(one, now),
            printable("\n".join(_touch(touch) for touch in request.touches)),
            printable(request.rule.rule_id),
            time.strftime("%m-%d %H:%M:%S", time.localtime(request.requested_at)),
        ]
        table.add_row(*cells[: len(table.columns)])
    console.print(table)


@app.command("show")
def show_approval(
    approval_id: ApprovalArgument,
    state: StateOption = DEFAULT_STATE,
    as_json: JsonOption = False,  # noqa: FBT002
) -> None:
    """Show an approval and the proposed change; that you looked is recorded."""
    name = account()
    view = View(f"local-administrator:{name}", name, time.time(), _here())

    async def look(store: Answers) -> tuple[Approval | None, list[Event]]:
        return await store.viewed(approval_id, view), await store.events(approval_id)

    approval, events = _with_store(state, look)
    if approval is None:
        raise ExtprocError("unknown: No approval has this id.")
    if as_json:
        print_json(detail(approval, events, view.at))
    else:
        print(printable("\n".join(_description(approval, events, view.at))))  # noqa: T201 - this is the terminal
        print()  # noqa: T201
        print(printable(change.text_of(approval.request.proposal)))  # noqa: T201


@app.command("approve")
def approve(  # noqa: PLR0917 - options, passed by name
    ctx: typer.Context,
    approval_id: ApprovalArgument,
    reason: Annotated[str, typer.Option(help="Why; it is recorded.")] = "",
    scope: Annotated[Scope, typer.Option(help="What it is good for, of what the rule offers.")] = Scope.ONCE,
    token: TokenOption = None,
    as_user: AsOption = None,
    config: ConfigOption = None,
    state: StateOption = DEFAULT_STATE,
) -> None:
    """Approve what waits: exit 0 when the approval stands, 1 when it is refused."""
    principal = principal_of(state, config, token, as_user, ctx.obj)
    _answer(state, approval_id, principal, approved=True, reason=reason, scope=scope)


@app.command("deny")
def deny(  # noqa: PLR0917
    ctx: typer.Context,
    approval_id: ApprovalArgument,
    reason: Annotated[str, typer.Option(help="Why; the developer is told.")],
    token: TokenOption = None,
    as_user: AsOption = None,
    config: ConfigOption = None,
    state: StateOption = DEFAULT_STATE,
) -> None:
    """Deny what waits: exit 0 when the denial stands, 1 when it is refused."""
    if not reason.strip():
        raise ConfigError("--reason: expected a reason, which the developer is told")
    principal = principal_of(state, config, token, as_user, ctx.obj)
    _answer(state, approval_id, principal, approved=False, reason=reason, scope=Scope.ONCE)


def _with_store(state: Path, work: Callable[[Answers], Awaitable[T]]) -> T:
    async def run() -> T:
        store = SqliteApprovals(places_of(state).approvals, instance=None, now=time.time())
        try:
            return await work(store)
        finally:
            await store.aclose()

    return asyncio.run(run())


def _answer(state: Path, approval_id: str, who: Principal, *, approved: bool, reason: str, scope: Scope) -> None:
    verdict = Verdict(who.id, who.name, approved, reason, scope, time.time(), _here())
    result = _with_store(state, lambda store: store.verdict(approval_id, verdict, who.groups))
    if not isinstance(result, Approval):
        raise ExtprocError(printable(f"{result.why}: {result.message}"))
    given, wanted = len(result.verdicts), result.request.rule.count
    missing = f" ({given} of {wanted} approvals)" if result.state is State.PENDING else ""
    print(f"{result.request.id} {result.state}{missing}")  # noqa: T201


def _here() -> str:
    return f"command line of {socket.gethostname()}"


def _description(approval: Approval, events: list[Event], now: float) -> list[str]:
    request, rule = approval.request, approval.request.rule
    needed = f"{rule.count} approval(s) of {', '.join(sorted(rule.approvers))}, for {' or '.join(rule.scopes)}"
    left = f", {_left(approval, now)} left" if approval.state is State.PENDING else ""
    facts = [
        ("approval", request.id),
        ("state", f"{approval.state}{left}"),
        ("requested by", f"{request.name} ({request.principal})"),
        ("rule", f"{rule.rule_id}{': ' if rule.message else ''}{rule.message}"),
        ("needs", needed),
        ("model", request.model or "-"),
        ("exchange", f"{request.exchange} of session {request.session}"),
        *(("touches", _touch(touch)) for touch in request.touches),
        *((_at(event.at), _happened(event)) for event in events),
    ]
    # One line each, whatever is in a name, a path or a reason: nobody writes lines of their own in here.
    return [f"{name:<20} {' '.join(fact.splitlines())}" for name, fact in facts]


def _happened(event: Event) -> str:
    by = f" by {event.name}" if event.name else ""
    place = f" from {event.address}" if event.address else ""
    if isinstance(event.document, Verdict):
        verdict = event.document
        what = f"approved for {verdict.scope}" if verdict.approved else "denied"
        return f"{what}{by}{place}{f': {verdict.reason}' if verdict.reason else ''}"
    return f"{event.state if event.document is None and event.who is None else event.kind}{by}{place}"


def _touch(touch: Touch) -> str:
    place = " ".join(part for part in (touch.repository, touch.branch, touch.path) if part is not None)
    return f"{touch.act} {place or 'anything'} ({touch.tool})"


def _left(approval: Approval, now: float) -> str:
    if approval.state is not State.PENDING:
        return "-"
    minutes, seconds = divmod(max(0, int(approval.request.expires_at - now)), 60)
    return f"{minutes}:{seconds:02}"


def _at(at: float) -> str:
    return time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(at))
