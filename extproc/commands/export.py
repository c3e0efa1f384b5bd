"""`extproc export`: what was recorded, as files, with what proves it."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Annotated, BinaryIO

import typer
from rich.console import Console

from extproc import stores
from extproc.commands import access
from extproc.commands.evidence import KeysOption, public_keys
from extproc.commands.options import (
    DEFAULT_STATE,
    FindingOption,
    GroupOption,
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
    span,
)
from extproc.config_recording import Places
from extproc.errors import ConfigError
from extproc.export import bundle as export_bundle
from extproc.export import exporting
from extproc.export import schedule as export_schedule
from extproc.export.bundle import Bundle, Manifest
from extproc.export.exporting import Source
from extproc.export.formats import SUFFIX, Format, rendering
from extproc.store.port import Archive, Search

Progress = Callable[[int, int], None]

_FORMAT_OF = {suffix: name for name, suffix in SUFFIX.items()}


def export(  # noqa: PLR0917 - options, passed by name
    session: Annotated[str | None, typer.Option(help="A session id.")] = None,
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
    wanted: Annotated[Format, typer.Option("--format", help="How documents are written.")] = Format.JSONL,
    out: Annotated[
        Path | None,
        typer.Option(
            help="A folder gets documents and proofs; a file (named *.jsonl, *.har, *.md) or standard output, which is"
            " the default, only documents."
        ),
    ] = None,
    resume: Annotated[bool, typer.Option("--resume", help="Go on with an export that was stopped.")] = False,  # noqa: FBT002 - a command-line flag
    since_last: Annotated[
        Path | None,
        typer.Option(help="Export what is new since the run that wrote this file, into a new folder below --out."),
    ] = None,
    public_key: KeysOption = None,
    state: StateOption = DEFAULT_STATE,
) -> None:
    """Export what fits all that is given; that you do is recorded."""
    now = time.time()
    first, last = span(since, until, now)
    search = Search(
        user=user,
        group=group,
        model=model,
        outcome=outcome,
        repository=repository,
        path=path,
        finding=finding,
        session=session,
        text=text,
        since=first,
        until=last,
    )
    is_file = out is not None and out.suffix in _FORMAT_OF and not out.is_dir()
    if since_last is not None and (out is None or is_file or resume):
        raise ConfigError("--since-last: expected a folder with --out, and no --resume: it resumes by itself")
    if resume and (out is None or is_file):
        raise ConfigError("--resume: expected a folder with --out; only there is what was done before")
    # Opened first: where there is no store, nothing is read, and nothing is left behind.
    places = places_of(state)
    archive = stores.archive_of(places)
    _note(places, search, wanted, out)
    if out is None:
        _stream(archive, search, wanted, sys.stdout.buffer)
    elif is_file:
        _to_file(archive, search, wanted, out)
    else:
        source = Source(archive, stores.ledger_of(places), public_keys(places, public_key))
        with _progress() as progress:
            if since_last is None:
                fresh = exporting.begin(source, search, wanted, now, {})
                made = [_to_folder(source, fresh, out, progress, resume=resume)]
            else:
                made = export_schedule.run(
                    source, since_last, out, search=search, wanted=wanted, now=now, progress=progress
                )
        _tell(places, made)


def _note(places: Places, search: Search, wanted: Format, out: Path | None) -> None:
    asked = {name: value for name, value in asdict(search).items() if value is not None}
    # Heads hold no fractions.
    asked = {name: round(value) if isinstance(value, float) else value for name, value in asked.items()}
    access.note(places, "export", format=wanted.value, out=None if out is None else str(out), **asked)


# --- documents alone -------------------------------------------------------------------------------------------------


def _stream(archive: Archive, search: Search, wanted: Format, out: BinaryIO) -> None:
    file = rendering(wanted)
    out.write(file.begin())
    out.writelines(map(file.add, archive.exchanges(search)))
    out.write(file.end())
    out.flush()


def _to_file(archive: Archive, search: Search, wanted: Format, out: Path) -> None:
    if _FORMAT_OF[out.suffix] is not wanted:
        raise ConfigError(f"--out: a file of format {wanted} is named *{SUFFIX[wanted]}, got {out.name}")
    temporary = out.with_name(f".{out.name}.new")
    try:
        # Prompts are nobody else's business.
        descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
        with os.fdopen(descriptor, "wb") as file:
            _stream(archive, search, wanted, file)
        temporary.replace(out)
    except OSError as error:
        raise ConfigError(f"{out}: cannot be written: {error.strerror}") from error


# --- with proofs -----------------------------------------------------------------------------------------------------


def _to_folder(source: Source, fresh: Manifest, out: Path, progress: Progress, *, resume: bool) -> Bundle:
    bundle = export_bundle.load(out)
    if bundle is None:
        bundle = export_bundle.create(out, fresh)
    elif not resume:
        raise ConfigError(f"{out}: there is an export already; --resume goes on with one that was stopped")
    known = bundle.manifest
    if known.format != fresh.format or not exporting.same_search(known.search, fresh.search):
        raise ConfigError(f"{out}: the export there is of another search or format; give it again as it was")
    if left_out := exporting.run(source, bundle, progress):
        told = "no checkpoint covers what is some seconds old; export again"
        exchanges = "1 exchange was" if left_out == 1 else f"{left_out} exchanges were"
        print(f"extproc: {exchanges} left out: {told}", file=sys.stderr)  # noqa: T201 - this is the terminal
    return bundle


@contextmanager
def _progress() -> Iterator[Progress]:
    console = Console(stderr=True, highlight=False)
    if not console.is_terminal:
        yield lambda _documents, _bytes: None
        return
    with console.status("exporting") as status:

        def show(documents: int, size: int) -> None:
            status.update(f"{documents} documents, {size / 1e6:.1f} MB of the current part")

        yield show


def _tell(places: Places, made: list[Bundle]) -> None:
    for bundle in made:
        # Who knows this digest knows that nothing in the bundle was changed; so it is recorded too.
        access.note(places, "exported", out=str(bundle.folder), manifest=bundle.digest)
        documents = sum(bundle.manifest.contents.values())
        told = f"{documents} document{'s' * (documents != 1)}"
        print(f"{bundle.folder}: {told}, manifest {bundle.digest}")  # noqa: T201 - this is the terminal
    if not made:
        print("nothing new")  # noqa: T201
