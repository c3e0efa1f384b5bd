"""What somebody who owns the file of the record can do to it; all on a copy of a state directory."""

from __future__ import annotations

import shutil
import sqlite3
from contextlib import closing
from pathlib import Path

import msgspec

from extproc.recording.entry import address_of, canonical_bytes, read_head


def copy_of(state: Path, name: str) -> Path:
    """Copy a state directory beside itself, without the sockets in it."""
    made = state.with_name(f"{state.name}-{name}")
    shutil.copytree(state, made, ignore=shutil.ignore_patterns("*.sock"))
    return made


def change(state: Path, script: str, **values: str | int) -> None:
    """Run statements on the file, without the guards that it has; `{name}` in them is quoted text or a number."""
    with closing(sqlite3.connect(state / "record.db", isolation_level=None)) as connection:
        _drop_guards(connection)
        connection.executescript(script.format(**{name: _quoted(value) for name, value in values.items()}))


def rehash(state: Path, log: str, index: int) -> None:
    """Give an entry another author, and have everything after it follow on that."""
    with closing(sqlite3.connect(state / "record.db", isolation_level=None)) as connection:
        _drop_guards(connection)
        prev = ""
        rows = connection.execute("SELECT idx, head FROM entry WHERE log = ? AND idx >= ? ORDER BY idx", (log, index))
        for at, data in rows.fetchall():
            head = read_head(data)
            changed = {"facts": {**head.facts, "user": "mallory"}} if at == index else {"prev": prev}
            forged = canonical_bytes(msgspec.structs.replace(head, **changed))
            prev = address_of(forged)
            query = "UPDATE entry SET head = ?, hash = ? WHERE log = ? AND idx = ?"
            connection.execute(query, (forged, prev, log, at))


def _drop_guards(connection: sqlite3.Connection) -> None:
    query = "SELECT type, name FROM sqlite_master WHERE type IN ('trigger', 'index') AND sql IS NOT NULL"
    for kind, name in connection.execute(query).fetchall():
        connection.execute(f"DROP {kind} {name}")


def _quoted(value: str | int) -> str:
    return str(value) if isinstance(value, int) else "'" + value.replace("'", "''") + "'"
