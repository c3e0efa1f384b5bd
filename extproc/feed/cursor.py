"""Where a feed stands, kept in a small file so that it goes on there after a restart."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path
from typing import Final

import msgspec

from extproc.errors import ConfigError

_VERSION: Final = 1


class Cursor(msgspec.Struct, frozen=True):
    """For each log the index of the next entry to tell; null: the log is closed and all of it was told."""

    v: int
    next: dict[str, int | None]


def load(path: Path) -> Cursor:
    """Return the cursor of a file, that of the very beginning where there is none; raises ConfigError."""
    try:
        cursor = msgspec.json.decode(path.read_bytes(), type=Cursor)
    except FileNotFoundError:
        return Cursor(_VERSION, {})
    except OSError as error:
        raise ConfigError(f"{path}: cannot be read: {error.strerror}") from None
    except ValueError:
        raise ConfigError(f"{path}: no cursor of a feed; without the file the feed begins anew") from None
    if cursor.v != _VERSION:
        raise ConfigError(f"{path}: a cursor of version {cursor.v}, expected {_VERSION}")
    return cursor


def save(path: Path, cursor: Cursor) -> None:
    """Replace the file, whole or not at all; durable when this returns. Raises OSError."""
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(msgspec.json.encode(cursor, order="sorted"))
            file.flush()
            os.fsync(file.fileno())
        Path(name).replace(path)
    except BaseException:
        Path(name).unlink(missing_ok=True)
        raise
    # Where a power cut undoes the rename, the cursor is an older one: some is told twice, nothing is left out.
