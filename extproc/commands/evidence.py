"""What commands about evidence have in common: where the store, the public keys and the witnesses' notes are."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Annotated, Final

import msgspec
import typer

from extproc import stores
from extproc.commands.options import places_of
from extproc.config import load_settings
from extproc.config_recording import FileWitness, Places
from extproc.errors import ConfigError, StoreUnavailable
from extproc.keys.checkpoint_key import load_public_key, public_path
from extproc.recording.checkpoint import MAX_NOTE_CHARS, PublicKey
from extproc.store.port import Ledger

ConfigOption = Annotated[
    Path | None, typer.Option(help="The settings file of the gateway; by default gateway.yaml of the state directory.")
]
KeysOption = Annotated[
    list[Path] | None,
    typer.Option(
        "--public-key",
        help="A key that checkpoints are checked with, may be repeated; by default the one"
        " of the state directory. An auditor gives a copy of their own.",
    ),
]

MAX_LINE_BYTES: Final = 8 * MAX_NOTE_CHARS
"""Longest line of a witness: room for a note in JSON."""

_SIGNATURE: Final = "— "


def places(state: Path, config: Path | None) -> Places:
    """Return where things are, as the settings file says."""
    return places_of(state) if config is None else load_settings(config).places(config.parent)


def ledger_at(where: Places) -> Ledger:
    """Open the store as evidence; raises ConfigError: 1 as the exit code would say that something is wrong with it."""
    try:
        return stores.ledger_of(where)
    except StoreUnavailable as failure:
        raise ConfigError(str(failure)) from failure


def public_keys(where: Places, given: Sequence[Path] | None) -> list[PublicKey]:
    """Return the keys that are given, or else that of the gateway itself; raises ConfigError."""
    return [load_public_key(path) for path in given or [public_path(where.checkpoint_key)]]


def witnesses(where: Places, given: Sequence[Path] | None) -> list[Path]:
    """Return the files that are given, or else those of the settings that are there; raises ConfigError."""
    if given:
        for path in given:
            if not path.exists():
                raise ConfigError(f"{path}: there is no such file of a witness")
        return list(given)
    known = [one.path for one in where.recording.checkpoints.witnesses if isinstance(one, FileWitness)]
    return [where.state / path for path in known if path != Path("-") and (where.state / path).exists()]


def notes(paths: Sequence[Path]) -> Iterator[str]:
    """Yield the notes that files of witnesses hold; of a folder those of all files in it, in the order of their names.

    A file has lines of JSON (`{"at": …, "note": …}`), or notes as they are, with blank lines between them. What is
    neither is yielded as it is: whoever checks notes counts it. Raises ConfigError.
    """
    for path in paths:
        files = sorted(one for one in path.rglob("*") if one.is_file()) if path.is_dir() else [path]
        for file in files:
            try:
                yield from _of_file(file)
            except OSError as error:
                raise ConfigError(f"{file}: the notes of the witness cannot be read: {error.strerror}") from error


def _of_file(path: Path) -> Iterator[str]:
    plain: list[str] = []
    size = 0
    with path.open("rb") as file:
        while line := file.readline(MAX_LINE_BYTES):
            text = line.decode(errors="replace")
            if line.startswith(b"{"):
                yield from _joined(plain)
                yield _of_line(line)
                continue
            # After the signatures comes the next note, or a blank line. What is too long is none.
            is_after = plain and plain[-1].startswith(_SIGNATURE) and not text.startswith(_SIGNATURE)
            if is_after or size > MAX_LINE_BYTES:
                yield from _joined(plain)
            if plain or text.strip():
                size = size + len(text) if plain else len(text)
                plain.append(text)
    yield from _joined(plain)


def _joined(lines: list[str]) -> Iterator[str]:
    if lines:
        yield "".join(lines)
        lines.clear()


def _of_line(line: bytes) -> str:
    try:
        note = msgspec.json.decode(line)["note"]
    except (ValueError, KeyError, RecursionError):
        return line.decode(errors="replace")
    return note if isinstance(note, str) else line.decode(errors="replace")
