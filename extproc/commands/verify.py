"""`extproc verify`: recompute the evidence, and say in words what was changed. Nothing is written."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Final

import typer
from rich.console import Console

from extproc.commands.evidence import ConfigOption, KeysOption, ledger_at, notes, places, public_keys, witnesses
from extproc.commands.options import DEFAULT_STATE, JsonOption, StateOption, print_json
from extproc.errors import ConfigError, StoreUnavailable
from extproc.replay import printable
from extproc.verification.fault import Fault, LogReport, Report, moment
from extproc.verification.verify import verify as verify_record

FOLDED: Final = 5
"""More logs than these that ended, whole and proven, are told in one line."""

SHOWN: Final = 100
"""Faults that are printed; with --json they are all."""

_UNSEEN: Final = (
    "if somebody removed the end of a log together with its checkpoints, or put an old copy of the store in its place, "
    "this does not show"
)


def verify(  # noqa: PLR0917 - options, passed by name
    public_key: KeysOption = None,
    witness: Annotated[
        list[Path] | None,
        typer.Option(
            help="Checkpoints that a witness has: a file or a folder, may be repeated. By default the files of"
            " the settings."
        ),
    ] = None,
    log: Annotated[list[str] | None, typer.Option(help="Only this log, may be repeated.")] = None,
    max_silence: Annotated[
        float, typer.Option(min=1, help="Warn of a log without an end after so many seconds without a checkpoint.")
    ] = 900,
    config: ConfigOption = None,
    state: StateOption = DEFAULT_STATE,
    as_json: JsonOption = False,  # noqa: FBT002 - a command-line flag
) -> None:
    """Recompute the evidence: exit 0 when all is as it was signed, 1 when not, 2 when it could not be looked at."""
    where = places(state, config)
    keys, files, ledger = public_keys(where, public_key), witnesses(where, witness), ledger_at(where)
    try:
        with _progress() as progress:
            report = verify_record(
                ledger,
                keys,
                notes(files),
                now=time.time(),
                max_silence=max_silence,
                logs=log,
                progress=progress,
            )
    except StoreUnavailable as failure:
        # Exit 1 would say that something was changed.
        raise ConfigError(str(failure)) from failure
    if unknown := sorted(set(log or ()) - {one.log for one in report.logs}):
        raise ConfigError(f"--log: neither the store nor a witness has a log {unknown[0]!r}")
    if as_json:
        _print_json(report)
    else:
        _print(report, has_files=bool(files))
    raise typer.Exit(0 if report.is_good else 1)


@contextmanager
def _progress() -> Iterator[Callable[[int], None]]:
    """Show how many entries were read, where somebody sits before it."""
    with Console(stderr=True).status("reading") as status:
        yield lambda entries: status.update(f"{entries:,} entries read")


def _print(report: Report, *, has_files: bool) -> None:
    folded = _folded(report)
    for log in report.logs:
        if log.log not in folded:
            _say(f"{log.log}: {_standing(log)}")
    if folded:
        entries = _counted(sum(folded.values()), "entry", "entries")
        _say(f"{len(folded):,} logs that ended: {entries}, all proven (--json, or --log LOG, shows each)")
    if report.logs:
        _say("")
    _say(_totals(report))
    for warning in report.warnings:
        _say(f"warning: {_in_words(warning)}")
    if not report.witnessed:
        # A file that was emptied is no witness either.
        _say(f"warning: {'the witness has no checkpoint' if has_files else 'no witness was asked'}: {_UNSEEN}")
    if not report.is_good:
        _say("")
    for fault in report.faults[:SHOWN]:
        _say(f"{fault.kind.upper()}: {_in_words(fault)}")
    if more := len(report.faults[SHOWN:]) + report.more:
        _say(f"and {_counted(more, 'more fault', 'more faults')}; --json lists those that are named")


def _folded(report: Report) -> dict[str, int]:
    """Return the logs that are told together, with their entries: every command that reads leaves one, for ever."""
    named = {fault.log for fault in [*report.faults, *report.warnings]}
    done = [log for log in report.logs if log.closed and log.proven == log.entries and log.log not in named]
    return {log.log: log.entries for log in done} if len(done) > FOLDED else {}


def _standing(log: LogReport) -> str:
    proven = f"all below {log.proven:,} proven" if log.proven else "nothing proven"
    words = [_counted(log.entries, "entry", "entries"), proven]
    words += [f"{log.pending:,} pending"] if log.pending else []
    words += [f"{log.pruned:,} removed by rule"] if log.pruned else []
    words += [f"{log.bodies_pruned:,} without body by rule"] if log.bodies_pruned else []
    words.append(_counted(log.checkpoints, "checkpoint", "checkpoints"))
    if log.last_at is not None:
        words.append(f"the last signed {moment(log.last_at)}")
    return ", ".join([*words, "closed" if log.closed else "open"])


def _totals(report: Report) -> str:
    faults = len(report.faults) + report.more
    found = "nothing was changed" if report.is_good else _counted(faults, "fault", "faults")
    if not report.logs:
        found = "there is nothing to verify"
    entries, pending = sum(one.entries for one in report.logs), sum(one.pending for one in report.logs)
    logs = _counted(len(report.logs), "log", "logs")
    return f"{logs}, {_counted(entries, 'entry', 'entries')}, {pending:,} of them pending: {found}"


def _counted(number: int, one: str, more: str) -> str:
    return f"{number:,} {one if number == 1 else more}"


def _in_words(fault: Fault) -> str:
    place = [fault.log] if fault.log else []
    if fault.first is not None and fault.last is not None:
        place.append(f"entry {fault.first}" if fault.first == fault.last else f"entries {fault.first} to {fault.last}")
    which = [f"exchange {fault.exchange}"] if fault.exchange else []
    which += [f"session {fault.session}"] if fault.session else []
    which += [moment(fault.at / 1_000_000)] if fault.at is not None else []
    where, who = ", ".join(place), ", ".join(which)
    return f"{f'{where}: ' if where else ''}{fault.what}{f' ({who})' if who else ''}"


def _print_json(report: Report) -> None:
    for log in report.logs:
        print_json({"type": "log", "id": log.log, **asdict(log)})
    for kind, faults in (("warning", report.warnings), ("fault", report.faults)):
        for fault in faults:
            print_json({"type": kind, **asdict(fault)})
    print_json(
        {
            "type": "total",
            "good": report.is_good,
            "witnessed": report.witnessed > 0,
            "logs": len(report.logs),
            "entries": sum(one.entries for one in report.logs),
            "pending": sum(one.pending for one in report.logs),
            "faults": len(report.faults) + report.more,
            "unnamed": report.more,
        }
    )


def _say(text: str) -> None:
    # Names of logs and ids come from the store, which is what is doubted here: none may look like a line of ours.
    print(printable(text).replace("\n", " "))  # noqa: T201 - this is the terminal
