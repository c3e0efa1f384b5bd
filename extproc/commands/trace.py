"""`extproc trace`: which suggestions lines of code come from, who asked for them, and who approved."""

from __future__ import annotations

import re
import subprocess
import sys
import time
from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.table import Table

from extproc import replay, stores
from extproc.commands.options import (
    DEFAULT_STATE,
    AsOption,
    JsonOption,
    ServerOption,
    StateOption,
    TokenOption,
    moment,
    places_of,
    print_json,
)
from extproc.commands.remote import remote_of
from extproc.errors import ConfigError, ExtprocError
from extproc.keys.fingerprint_key import load_key
from extproc.tracing import trace as tracing
from extproc.tracing.trace import Range, Target
from extproc.tracing.unified_diff import targets_of_diff

MAX_BYTES = 64 << 20
"""Longest file or diff that is read."""

CONTEXT_LINES = 10
"""Lines around the added ones of a commit: they help to choose between suggestions."""

_WIDE_TERMINAL = 150

# Whatever the user's or the repository's configuration says: no colours, no other programs, names with a/ and b/.
_GIT_SHOW = (
    *("git", "--no-pager", "-c", "core.quotePath=true", "-c", "diff.submodule=short", "show", "--format=%ct"),
    *("--no-color", "--no-ext-diff", "--no-textconv", "--no-show-signature", "--no-notes", "-m", "--first-parent"),
    *("--patch", f"--unified={CONTEXT_LINES}", "--src-prefix=a/", "--dst-prefix=b/"),
)


def trace(  # noqa: PLR0917 - options, passed by name
    ctx: typer.Context,
    files: Annotated[list[str] | None, typer.Argument(metavar="[FILE[:LINES]]...", help="Such as a.py:10-40.")] = None,
    commit: Annotated[str | None, typer.Option(metavar="REV", help="The lines that a git commit added.")] = None,
    diff: Annotated[str | None, typer.Option(metavar="FILE", help="The lines that a diff adds; - is stdin.")] = None,
    before: Annotated[str | None, typer.Option(help="When the lines were there: an ISO time, or an age.")] = None,
    server: ServerOption = None,
    token: TokenOption = None,
    as_user: AsOption = None,
    state: StateOption = DEFAULT_STATE,
    as_json: JsonOption = False,  # noqa: FBT002 - a command-line flag
) -> None:
    """Say which suggestions lines come from: exit 0 if any are known, 1 if none, 2 if it could not be looked for."""
    if sum(given is not None and given != [] for given in (files, commit, diff)) != 1:
        raise ConfigError("expected one of: files, --commit REV, --diff FILE")
    at = None if before is None else moment("--before", before, time.time())
    try:
        remote = remote_of(ctx, server, state, token, as_user)
        committed_at, targets = _targets(files, commit, diff)
        at = committed_at if at is None else at
        ranges = _local(state, targets, at) if remote is None else remote.trace(targets, at)
    except ConfigError:
        raise
    except ExtprocError as failure:
        # Exit 1 would say that nobody proposed these lines.
        raise ConfigError(str(failure)) from failure
    _show(ranges, sum(len(target.wanted) for target in targets), as_json=as_json)
    raise typer.Exit(0 if ranges else 1)


def _local(state: Path, targets: list[Target], at: float | None) -> list[Range]:
    places = places_of(state)
    return list(tracing.trace(targets, load_key(places.fingerprint_key), stores.archive_of(places), at))


# --- What is traced --------------------------------------------------------------------------------------------------


def _targets(files: list[str] | None, commit: str | None, diff: str | None) -> tuple[float | None, list[Target]]:
    """Return what is asked about, and when it was committed, where it was."""
    if commit is not None:
        return _of_commit(commit)
    if diff is not None:
        return None, list(targets_of_diff(_decoded(_read_diff(diff))))
    return None, [_of_file(name) for name in files or ()]


def _of_file(name: str) -> Target:
    path, start, end = _selection(name)
    try:
        with path.open("rb") as file:
            data = file.read(MAX_BYTES + 1)
    except OSError as error:
        raise ConfigError(f"{path}: cannot be read: {error.strerror}") from error
    if len(data) > MAX_BYTES:
        raise ConfigError(f"{path}: longer than {MAX_BYTES} bytes")
    if b"\0" in data:
        raise ConfigError(f"{path}: expected text, got binary data")
    lines = _decoded(data).removesuffix("\n").split("\n")
    if not 1 <= start <= (end or start) or start > len(lines) or (end or 0) > len(lines):
        raise ConfigError(f"{name}: expected lines between 1 and {len(lines)}")
    numbers = list(range(1, len(lines) + 1))
    return Target(str(path), numbers, lines, set(numbers[start - 1 : end]))


def _selection(name: str) -> tuple[Path, int, int | None]:
    """Return the path, and the first and last line; the last is None where no lines are named."""
    selected = re.fullmatch(r"(?P<path>.+):(?P<start>\d{1,9})(?:-(?P<end>\d{1,9}))?", name)
    if selected is None or Path(name).exists():
        return Path(name), 1, None
    start = int(selected["start"])
    return Path(selected["path"]), start, int(selected["end"] or start)


def _read_diff(name: str) -> bytes:
    try:
        data = sys.stdin.buffer.read(MAX_BYTES + 1) if name == "-" else Path(name).read_bytes()
    except OSError as error:
        raise ConfigError(f"--diff: {name}: cannot be read: {error.strerror}") from error
    if len(data) > MAX_BYTES:
        raise ConfigError(f"--diff: longer than {MAX_BYTES} bytes")
    return data


def _of_commit(revision: str) -> tuple[float, list[Target]]:
    """Return when a commit was made, and the lines it added; of a merge, those its first parent did not have."""
    if revision.startswith("-"):
        raise ConfigError(f"--commit: expected a revision, got the option {revision!r}")
    named = _git("git", "rev-parse", "--verify", "--quiet", f"{revision}^{{commit}}", about=revision).strip()
    if not re.fullmatch(r"[0-9a-f]{40,64}", named):
        raise ConfigError(f"--commit: {revision}: expected one commit")
    time_line, _, patch = _git(*_GIT_SHOW, named, "--", about=revision).partition("\n")
    return float(time_line), list(targets_of_diff(patch))


def _git(*command: str, about: str) -> str:
    try:
        done = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, check=False)  # noqa: S603 - no shell
    except OSError as error:
        raise ConfigError(f"--commit: git cannot be run: {error.strerror}") from error
    if done.returncode != 0:
        said = _decoded(done.stderr).strip().splitlines()
        raise ConfigError(f"--commit: {about}: {replay.printable(said[0]) if said else 'git knows no such commit'}")
    return _decoded(done.stdout)


def _decoded(data: bytes) -> str:
    return data.decode("utf-8-sig", "replace")


# --- What is shown ---------------------------------------------------------------------------------------------------


def _show(ranges: list[Range], wanted: int, *, as_json: bool) -> None:
    if as_json:
        for one in ranges:
            print_json(_row(one))
        return
    console = Console(highlight=False, markup=False)
    if not ranges:
        console.print(f"none of {wanted} lines is known to have been proposed")
        return
    for path in dict.fromkeys(one.path for one in ranges):
        console.print(replay.printable(path))
        console.print(_table([one for one in ranges if one.path == path], wide=console.width >= _WIDE_TERMINAL))
    found = sum(one.end - one.start + 1 for one in ranges)
    exchanges = len({one.source.exchange for one in ranges})
    console.print(f"{found} of {wanted} lines were proposed, in {exchanges} exchange{'s' * (exchanges != 1)}")


def _table(ranges: list[Range], *, wide: bool) -> Table:
    """Return one line for each range, two on a terminal that is not wide."""
    table = Table(box=None, pad_edge=False)
    pairs = [("lines", "match"), ("who", "when"), ("model", "approved by"), ("session", "exchange")]
    for pair in pairs:
        for heading in pair if wide else ["\n".join(pair)]:
            table.add_column(heading, overflow="fold")
    for one in ranges:
        source = one.source
        exact = "exact" if one.match == "exact" else f"edited {one.similarity:.0%}"
        later = " later" if one.is_later else ""
        others = f" (+{one.others})" if one.others else ""
        cells = [
            (f"{one.start}-{one.end}" if one.end > one.start else str(one.start), exact),
            (source.user or "-", time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(source.opened_at)) + later),
            (source.model or "-", _verdicts(one)),
            (source.session or "-", source.exchange + others),
        ]
        shown = [[replay.printable(cell) for cell in pair] for pair in cells]
        table.add_row(*[cell for pair in shown for cell in (pair if wide else ["\n".join(pair)])])
    return table


def _verdicts(one: Range) -> str:
    approved, denied = ", ".join(one.source.approved_by), ", ".join(one.source.denied_by)
    return "; ".join([*([approved] if approved else []), *([f"denied by {denied}"] if denied else [])]) or "-"


def _row(one: Range) -> dict[str, Any]:
    facts = {"path": one.path, "start": one.start, "end": one.end, "match": one.match, "similarity": one.similarity}
    return {**facts, **asdict(one.source), "others": one.others, "later": one.is_later}
