from __future__ import annotations

import sqlite3
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import pytest

from extproc.errors import StoreUnavailable
from extproc.recording.entry import WrappedKey
from extproc.store.sqlite_eraser import SqliteEraser
from extproc.store.sqlite_ledger import SqliteLedger
from extproc.store.sqlite_store import SqliteStore
from tests.recording_of import Log, exchange

ANSWER = "an answer that nobody may read any more"
PROMPT = "a prompt that nobody may read any more " * 100
KEY = b"a wrapped key that nobody may use any more"


@pytest.fixture
async def path(tmp_path: Path) -> Path:
    path, log = tmp_path / "record.db", Log("a.0.1")
    made = exchange("x", answered=ANSWER, messages=[{"role": "user", "content": PROMPT}])
    entries = [log.exchange(*made, lines=["the-line-of-x"]), log.exchange(*exchange("y"))]
    store = SqliteStore(path)
    await store.put(entries, log.blobs, [WrappedKey("k", "s1", KEY)])
    await store.aclose()
    return path


def bytes_of(path: Path) -> bytes:
    return b"".join(file.read_bytes() for file in path.parent.glob("record.db*"))


def addresses_of(path: Path) -> list[str]:
    with closing(sqlite3.connect(path)) as connection:
        return [address for (address,) in connection.execute("SELECT address FROM blob")]


@pytest.mark.parametrize(
    ("gone", "remove"),
    [
        (ANSWER.encode(), lambda path: SqliteEraser(path).remove_bodies([("a.0.1", 0)])),
        (b"the-line-of-x", lambda path: SqliteEraser(path).remove_bodies([("a.0.1", 0)])),
        (PROMPT.encode()[:1000], lambda path: SqliteEraser(path).remove_blobs("s1", addresses_of(path))),
        (KEY, lambda path: SqliteEraser(path).remove_keys("s1")),
        (b'"id":"x"', lambda path: SqliteEraser(path).remove_entries("a.0.1", 1)),
    ],
)
def test_what_is_removed_is_in_none_of_the_files_any_more(
    path: Path, gone: bytes, remove: Callable[[Path], int]
) -> None:
    assert gone in bytes_of(path)
    assert remove(path) == 1
    assert gone not in bytes_of(path)
    assert b'"id":"y"' in bytes_of(path)


def test_the_door_is_shut_afterwards(path: Path) -> None:
    SqliteEraser(path).remove_bodies([("a.0.1", 0)])
    with closing(sqlite3.connect(path)) as other:
        for statement in ("UPDATE entry SET body = NULL", "DELETE FROM entry", "DELETE FROM blob"):
            with pytest.raises(sqlite3.IntegrityError, match="append-only"):
                other.execute(statement)


def test_what_fails_in_the_middle_removes_nothing(path: Path) -> None:
    with closing(sqlite3.connect(path)) as other:
        other.executescript(
            "CREATE TRIGGER fails BEFORE UPDATE ON entry BEGIN SELECT RAISE(ABORT, 'as if the disk failed'); END;"
        )
    with pytest.raises(StoreUnavailable, match=f"cannot remove from the store {path}: as if the disk failed"):
        SqliteEraser(path).remove_bodies([("a.0.1", 0)])
    entry = SqliteLedger(path).find("x")
    assert entry is not None
    assert entry.body is not None
    assert entry.lines == ["the-line-of-x"]


def test_a_locked_store_and_one_that_is_not_there_are_told(path: Path) -> None:
    with closing(sqlite3.connect(path, isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        with pytest.raises(StoreUnavailable, match="database is locked"):
            SqliteEraser(path, busy_seconds=0.01).remove_keys("s1")
    with pytest.raises(StoreUnavailable, match="there is no store"):
        SqliteEraser(path.with_name("other.db"))


def test_very_many_are_removed_at_once(path: Path) -> None:
    listed = [("a.0.1", number) for number in range(100_000)]
    assert SqliteEraser(path).remove_bodies(listed) == 2


def test_whoever_made_something_of_entries_learns_which_were_touched(path: Path) -> None:
    eraser = SqliteEraser(path)
    eraser.remove_bodies([("a.0.1", 1), ("a.0.1", 9)])
    eraser.remove_bodies([("a.0.1", 1)])
    eraser.remove_keys("s1")
    eraser.remove_entries("a.0.1", 2)
    with closing(sqlite3.connect(path)) as other:
        assert other.execute("SELECT place, entry FROM erased").fetchall() == [(1, 2), (2, 1), (3, 2)]
