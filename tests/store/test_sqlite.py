from __future__ import annotations

import sqlite3
import stat
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import pytest

from extproc.errors import ConfigError, StoreUnavailable
from extproc.recording.entry import WrappedKey
from extproc.store.sqlite import connect, must_exist, reading
from extproc.store.sqlite_archive import SqliteArchive
from extproc.store.sqlite_ledger import SqliteLedger
from extproc.store.sqlite_store import SqliteStore
from tests.recording_of import Log, exchange

FOUND = {
    "rule": "r",
    "direction": "prompt",
    "where": "w",
    "offset": 1,
    "action": "mask",
    "at": 2,
    "fingerprint": "f",
}  # fmt: skip


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "state" / "record.db"


async def fill(path: Path) -> None:
    """Put a row into every table."""
    log, store = Log("a.0.1"), SqliteStore(path)
    long = exchange("x", findings=[FOUND], messages=[{"role": "user", "content": "word " * 2000}])
    await store.put([log.exchange(*long, lines=["l"])], log.blobs, [WrappedKey("k", "s1", b"w")])
    await store.put_checkpoint("a.0.1", 1, "note")
    await store.aclose()


TABLES = {
    "entry": "hash = 'x'",
    "blob": "data = x''",
    "data_key": "wrapped = x''",
    "checkpoint": "note = ''",
    "lines": "fingerprints = x''",
    "finding": "rule = 'x'",
}


@pytest.mark.parametrize("table", TABLES)
async def test_no_statement_changes_or_removes_anything(path: Path, table: str) -> None:
    await fill(path)
    with closing(sqlite3.connect(path)) as other:
        for statement in (f"UPDATE {table} SET {TABLES[table]}", f"DELETE FROM {table}"):  # noqa: S608
            with pytest.raises(sqlite3.IntegrityError, match="append-only"):
                other.execute(statement)
            other.rollback()
        assert other.execute(f"SELECT count(*) FROM {table}").fetchone() == (1,)  # noqa: S608


@pytest.mark.parametrize("change", ["hash = 'x'", "head = CAST('{}' AS BLOB)", "idx = 7", "log = 'b'", "body = x'00'"])
async def test_even_the_eraser_changes_nothing_of_an_entry_but_that_its_body_goes(path: Path, change: str) -> None:
    await fill(path)
    with closing(sqlite3.connect(path)) as eraser:
        eraser.execute("INSERT INTO erasing VALUES (1)")
        with pytest.raises(sqlite3.IntegrityError, match="append-only"):
            eraser.execute(f"UPDATE entry SET body = NULL, {change}")  # noqa: S608
        for table in ("blob", "data_key", "checkpoint", "lines", "finding"):
            with pytest.raises(sqlite3.IntegrityError, match="append-only"):
                eraser.execute(f"UPDATE {table} SET {TABLES[table]}")  # noqa: S608
        with pytest.raises(sqlite3.IntegrityError, match="append-only"):
            eraser.execute("DELETE FROM checkpoint")


async def test_while_one_connection_erases_no_other_can(path: Path) -> None:
    await fill(path)
    with closing(sqlite3.connect(path, timeout=0)) as eraser, closing(sqlite3.connect(path, timeout=0)) as other:
        eraser.execute("INSERT INTO erasing VALUES (1)")
        with pytest.raises(sqlite3.OperationalError, match="locked"):
            other.execute("DELETE FROM blob")
        assert other.execute("SELECT count(*) FROM erasing").fetchone() == (0,)


async def test_only_the_owner_may_read_the_files(path: Path) -> None:
    store = SqliteStore(path)
    log = Log()
    await store.put([log.exchange(*exchange("x"))])
    files = list(path.parent.iterdir())
    assert len(files) == 3
    assert {stat.S_IMODE(one.stat().st_mode) for one in files} == {0o600}
    await store.aclose()


@pytest.mark.parametrize(
    "spoil",
    [
        lambda path: path.mkdir(parents=True),
        lambda path: path.parent.write_text("a file where the folder should be"),
        lambda path: (path.parent.mkdir(), path.write_bytes(b"not a database " * 100)),
    ],
    ids=["a folder in its place", "no folder", "another file"],
)
async def test_a_place_that_cannot_hold_a_store_is_told_when_it_is_used(
    path: Path, spoil: Callable[[Path], object]
) -> None:
    spoil(path)
    store = SqliteStore(path)
    with pytest.raises(StoreUnavailable, match=str(path)):
        await store.put_checkpoint("log", 0, "note")
    await store.aclose()


async def test_a_store_that_cannot_be_opened_now_is_opened_when_it_can_be(path: Path) -> None:
    path.parent.write_text("a file where the folder should be")
    store = SqliteStore(path)
    path.parent.unlink()
    await store.put_checkpoint("log", 0, "note")
    await store.aclose()


def test_a_store_of_an_earlier_version_is_refused_by_writer_and_reader(path: Path) -> None:
    path.parent.mkdir()
    with closing(sqlite3.connect(path)) as old:
        old.execute("CREATE TABLE opening (id TEXT PRIMARY KEY)")
    for use in (lambda: SqliteStore(path), lambda: SqliteLedger(path).logs()):
        with pytest.raises(ConfigError, match="an earlier development version"):
            use()


# --- reading ---------------------------------------------------------------------------------------------------------


def test_a_store_that_is_not_there_is_told(path: Path) -> None:
    with pytest.raises(StoreUnavailable, match=r"there is no store at .*; has the gateway run"):
        must_exist(path)


@pytest.mark.parametrize(
    ("content", "why"), [(b"", "no such table: entry"), (b"not a database " * 100, "file is not a database")]
)
def test_a_file_that_is_no_store_is_told(tmp_path: Path, content: bytes, why: str) -> None:
    file = tmp_path / "record.db"
    file.write_bytes(content)
    for read in (SqliteArchive(file).sessions, SqliteLedger(file).logs):
        with pytest.raises(StoreUnavailable, match=f"cannot read the store {file}: {why}"):
            read()


async def test_a_reader_cannot_write(path: Path) -> None:
    await fill(path)
    with reading(path) as connection, pytest.raises(sqlite3.OperationalError, match="readonly"):
        connection.execute("INSERT INTO checkpoint VALUES ('a', 1, 'n')")


async def test_a_head_that_is_none_is_told_as_something_to_verify(path: Path) -> None:
    await fill(path)
    with closing(connect(path, 1)) as other:
        other.execute("DROP TRIGGER entry_stays")
        other.execute("""UPDATE entry SET head = CAST('{"kind":"exchange","id":"x","at":1}' AS BLOB)""")
    with pytest.raises(StoreUnavailable, match="not as it was recorded; `extproc verify`"):
        SqliteArchive(path).exchange("x")
    assert [one.head for one in SqliteLedger(path).entries("a.0.1")] == [b'{"kind":"exchange","id":"x","at":1}']
