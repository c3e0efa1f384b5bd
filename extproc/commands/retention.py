"""`extproc retention`: see what would be removed by rule, remove it, and hold what must stay."""

from __future__ import annotations

import secrets
import time
from collections.abc import Sequence
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.table import Table

from extproc import stores
from extproc.commands import entries
from extproc.commands.acting import ConfigOption, principal_of
from extproc.commands.evidence import KeysOption, public_keys
from extproc.commands.options import (
    DEFAULT_STATE,
    AsOption,
    JsonOption,
    StateOption,
    TokenOption,
    places_of,
    print_json,
)
from extproc.config_recording import Places
from extproc.errors import ConfigError, ExtprocError
from extproc.recording.facts import bounded, microseconds
from extproc.replay import printable
from extproc.retention import legal_hold
from extproc.retention import rules_file as retention_file
from extproc.retention.legal_hold import Hold
from extproc.retention.plan import Count, Plan
from extproc.retention.retaining import Done, Retention

app = typer.Typer(help="Remove what was recorded by rule, and hold what must stay.", no_args_is_help=True)
hold = typer.Typer(help="Legal holds: what must not be removed.", no_args_is_help=True)
app.add_typer(hold, name="hold")

FILE_NAME = "retention.yaml"
"""The rules, in the state directory."""

RulesOption = Annotated[
    Path | None, typer.Option("--rules", help=f"The retention rules; by default {FILE_NAME} of the state directory.")
]
ReasonOption = Annotated[str, typer.Option(help="Why; it is recorded.")]


@app.command("check")
def check(file: Path) -> None:
    """Check a file of retention rules: exit 0 when it is good, 2 with every fault and its line when not."""
    rules = retention_file.load(file)
    days, count = rules.longest_heads_days, len(rules.rules)
    kept = f"what is no exchange is kept {days} day{'s' * (days != 1)}"
    print(f"{file}: {count} rule{'s' * (count != 1)} and the default; {kept}")  # noqa: T201 - this is the terminal


@app.command("plan")
def show_plan(
    rules: RulesOption = None,
    public_key: KeysOption = None,
    state: StateOption = DEFAULT_STATE,
    as_json: JsonOption = False,  # noqa: FBT002 - a command-line flag
) -> None:
    """Show what the rules would remove now. Nothing is changed."""
    plan = _retention(places_of(state), public_key).plan(retention_file.load(rules or state / FILE_NAME))
    _show(plan, as_json=as_json)


@app.command("apply")
def apply(  # noqa: PLR0917 - options, passed by name
    ctx: typer.Context,
    rules: RulesOption = None,
    token: TokenOption = None,
    as_user: AsOption = None,
    config: ConfigOption = None,
    public_key: KeysOption = None,
    state: StateOption = DEFAULT_STATE,
    as_json: JsonOption = False,  # noqa: FBT002
) -> None:
    """Remove what the rules say, after a record of it is in the store; and what an earlier run did not finish."""
    by = principal_of(state, config, token, as_user, ctx.obj).id
    loaded = retention_file.load(rules or state / FILE_NAME)
    places = places_of(state)
    retention = _retention(places, public_key)
    eraser, record = stores.eraser_of(places), partial(entries.record, places)
    _tell(retention.apply(retention.plan(loaded), loaded, eraser, record, by), as_json=as_json)


@app.command("erase")
def erase(  # noqa: PLR0917
    ctx: typer.Context,
    session: Annotated[str, typer.Option(help="The session whose content is made unreadable.")],
    reason: ReasonOption,
    in_use: Annotated[  # noqa: FBT002 - a flag
        bool, typer.Option("--in-use", help="Also a session of the last hours; what it says next is unreadable too.")
    ] = False,
    token: TokenOption = None,
    as_user: AsOption = None,
    config: ConfigOption = None,
    public_key: KeysOption = None,
    state: StateOption = DEFAULT_STATE,
    as_json: JsonOption = False,  # noqa: FBT002
) -> None:
    """Erase the data keys of a session, and the bodies that were stored without one. Heads stay."""
    by = principal_of(state, config, token, as_user, ctx.obj).id
    told, places = _reason(reason), places_of(state)
    eraser, record = stores.eraser_of(places), partial(entries.record, places)
    done = _retention(places, public_key).erase(session, eraser, record, by=by, reason=told, in_use=in_use)
    _tell(done, as_json=as_json)


# --- holds -----------------------------------------------------------------------------------------------------------


@hold.command("add")
def add_hold(  # noqa: PLR0917
    ctx: typer.Context,
    reason: ReasonOption,
    session: Annotated[str | None, typer.Option(help="A session.")] = None,
    user: Annotated[str | None, typer.Option(help="The name or id of a principal.")] = None,
    group: Annotated[str | None, typer.Option(help="A group, as the issuer names it.")] = None,
    repository: Annotated[str | None, typer.Option(help="OWNER/NAME, where * stands for anything.")] = None,
    token: TokenOption = None,
    as_user: AsOption = None,
    config: ConfigOption = None,
    state: StateOption = DEFAULT_STATE,
) -> None:
    """Hold the sessions in which an exchange fits all that is given; print the id of the hold."""
    given = {"session": session, "user": user, "group": group, "repository": repository}
    selector = {name: value for name, value in given.items() if value}
    by, hold_id = principal_of(state, config, token, as_user, ctx.obj).id, secrets.token_hex(8)
    entries.record(places_of(state), [legal_hold.on(hold_id, selector, reason=_reason(reason), by=by, at=_now())])
    print(hold_id)  # noqa: T201


@hold.command("release")
def release_hold(  # noqa: PLR0917
    ctx: typer.Context,
    hold_id: Annotated[str, typer.Argument(metavar="ID", help="The id of a hold.")],
    reason: ReasonOption,
    token: TokenOption = None,
    as_user: AsOption = None,
    config: ConfigOption = None,
    public_key: KeysOption = None,
    state: StateOption = DEFAULT_STATE,
) -> None:
    """Release a hold: the rules apply again."""
    by = principal_of(state, config, token, as_user, ctx.obj).id
    places = places_of(state)
    known = {one.id: one for one in _retention(places, public_key).holds()}
    if hold_id not in known:
        raise ExtprocError(f"no hold that stands has the id {hold_id!r}")
    entries.record(
        places, [legal_hold.off(secrets.token_hex(8), known[hold_id], reason=_reason(reason), by=by, at=_now())]
    )
    print(f"{hold_id} released")  # noqa: T201


@hold.command("list")
def list_holds(
    public_key: KeysOption = None,
    state: StateOption = DEFAULT_STATE,
    as_json: JsonOption = False,  # noqa: FBT002
) -> None:
    """List the holds that stand, the oldest first."""
    holds = _retention(places_of(state), public_key).holds()
    if as_json:
        for one in holds:
            print_json(_hold_row(one))
        return
    table = Table(box=None, pad_edge=False)
    for heading in ("hold", "since", "what", "reason", "by"):
        table.add_column(heading, no_wrap=heading in {"hold", "since"}, overflow="fold")
    for one in holds:
        what = " ".join(f"{name}={value}" for name, value in sorted(one.selector.items()))
        table.add_row(one.id, _day(one.at), *(printable(text) for text in (what, one.reason, one.by)))
    Console(highlight=False, markup=False).print(table)


# --- what they have in common ----------------------------------------------------------------------------------------


def _retention(places: Places, given: Sequence[Path] | None) -> Retention:
    keys = public_keys(places, given)
    return Retention(stores.ledger_of(places), keys, _now(), partial(secrets.token_hex, 16))


def _now() -> int:
    return microseconds(time.time())


def _reason(text: str) -> str:
    if not text.strip():
        raise ConfigError("--reason: expected a reason, which is recorded")
    return str(bounded({"reason": text})["reason"])


def _hold_row(one: Hold) -> dict[str, Any]:
    return {"id": one.id, "at": one.at / 1_000_000, "selector": dict(one.selector), "reason": one.reason, "by": one.by}


def _row(kind: str, rule: str | None, count: Count) -> dict[str, Any]:
    times = {name: None if at is None else at / 1_000_000 for name, at in _times(count).items()}
    return {"kind": kind, "rule": rule, "number": count.number, "bytes": count.size, **times}


def _times(count: Count) -> dict[str, int | None]:
    return {"oldest": count.oldest, "newest": count.newest}


def _show(plan: Plan, *, as_json: bool) -> None:
    rows = [_row("bodies", name, count) for name, count in sorted(plan.bodies.items())]
    rows += [_row("heads", name, count) for name, count in sorted(plan.heads.items())]
    rows += [_row("held", None, plan.held)] if plan.held.number else []
    if as_json:
        for row in rows:
            print_json(row)
        return
    if not rows:
        print("nothing to remove")  # noqa: T201
        return
    table = Table(box=None, pad_edge=False)
    for heading in ("what", "rule", "number", "bytes", "oldest", "newest"):
        table.add_column(heading, justify="right" if heading in {"number", "bytes"} else "left")
    for row in rows:
        what = "bodies that a legal hold keeps" if row["kind"] == "held" else row["kind"]
        times = (_day(round(row[name] * 1_000_000)) for name in ("oldest", "newest"))
        table.add_row(what, row["rule"] or "", str(row["number"]), str(row["bytes"]), *times)
    Console(highlight=False, markup=False).print(table)


def _tell(done: Done, *, as_json: bool) -> None:
    if as_json:
        print_json({**asdict(done), "held": sorted(done.held)})
        return
    print(f"removed {done.bodies} bodies, {done.blobs} parts of bodies, {done.keys} data keys, {done.entries} entries")  # noqa: T201
    for session in sorted(done.held):
        print(f"not removed, under legal hold since: session {session}")  # noqa: T201


def _day(at: int) -> str:
    return time.strftime("%Y-%m-%d %H:%M", time.localtime(at / 1_000_000))
