from __future__ import annotations

import sqlite3
import subprocess
import sys
from contextlib import closing
from pathlib import Path

import pytest

from extproc.errors import StoreUnavailable
from extproc.store.sqlite_ledger import SqliteLedger
from tests.recording_of import exchange, record


@pytest.fixture
async def path(tmp_path: Path) -> Path:
    """Make a store of more entries than are read at once."""
    await record(tmp_path / "record.db", [exchange(f"x{number}") for number in range(1100)])
    return tmp_path / "record.db"


@pytest.mark.parametrize("bodies", [True, False])
@pytest.mark.parametrize("start", [0, 1, 499, 500, 1099, 1100])
def test_entries_are_read_in_pages_without_a_seam(path: Path, start: int, *, bodies: bool) -> None:
    found = list(SqliteLedger(path).entries("test.0.1", start, bodies=bodies))
    assert [one.index for one in found] == list(range(start, 1100))
    assert all((one.body is not None) == bodies for one in found)


def test_what_somebody_changed_is_read_as_it_is_now(path: Path) -> None:
    with closing(sqlite3.connect(path, isolation_level=None)) as forger:
        forger.executescript("DROP TRIGGER entry_stays; DROP TRIGGER entry_remains;")
        forger.execute("UPDATE entry SET hash = 'forged' WHERE idx = 3")
        forger.execute("DELETE FROM entry WHERE idx = 4")
        forger.execute("UPDATE entry SET idx = -5 WHERE idx = 6")
        forger.execute("UPDATE entry SET log = 'other' WHERE idx = 7")
    ledger = SqliteLedger(path)
    found = list(ledger.entries("test.0.1"))
    assert [one.index for one in found[:7]] == [-5, 0, 1, 2, 3, 5, 8]
    assert found[4].hash == "forged"
    assert ledger.logs() == ["other", "test.0.1"]


def test_what_cannot_be_read_keeps_nobody_from_reading_the_rest(path: Path) -> None:
    with closing(sqlite3.connect(path, isolation_level=None)) as forger:
        forger.executescript("DROP TRIGGER entry_stays")
        forger.execute("INSERT INTO lines SELECT number, x'00' FROM entry WHERE idx = 2")
        forger.execute("UPDATE entry SET hash = CAST(x'ff' AS TEXT) WHERE idx = 3")
        forger.execute("INSERT INTO checkpoint VALUES ('test.0.1', 1, CAST(x'ff' AS TEXT))")
    ledger = SqliteLedger(path)
    found = list(ledger.entries("test.0.1"))
    assert len(found) == 1100
    assert (found[2].lines, found[3].hash, ledger.checkpoints("test.0.1")) == ([], r"\xff", [r"\xff"])


def test_tables_that_somebody_made_otherwise_are_not_read(path: Path) -> None:
    with closing(sqlite3.connect(path, isolation_level=None)) as forger:
        forger.executescript("ALTER TABLE entry RENAME TO old; CREATE TABLE entry AS SELECT * FROM old")
    with pytest.raises(StoreUnavailable, match="not those that the gateway made"):
        SqliteLedger(path).logs()


def test_reading_for_long_does_not_keep_writers_from_tidying_up(path: Path) -> None:
    entries = SqliteLedger(path).entries("test.0.1")
    next(entries)
    with closing(sqlite3.connect(path, isolation_level=None, timeout=0)) as writer:
        writer.execute("INSERT INTO checkpoint VALUES ('test.0.1', 1, 'note')")
        busy, _, _ = writer.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()
    assert busy == 0
    assert sum(1 for _ in entries) == 1099


def test_a_store_that_goes_while_it_is_read_is_told(path: Path) -> None:
    ledger = SqliteLedger(path)
    path.unlink()
    with pytest.raises(StoreUnavailable, match="unable to open"):
        ledger.logs()


def test_proving_loads_nothing_that_writes() -> None:
    script = (
        "import sys, extproc.store.sqlite_ledger; print(*(name for name in sys.modules if 'extproc.store' in name))"
    )
    done = subprocess.run([sys.executable, "-c", script], check=True, capture_output=True, text=True)  # noqa: S603
    assert set(done.stdout.split()) == {
        *("extproc.store", "extproc.store.port", "extproc.store.sqlite", "extproc.store.sqlite_ledger"),
    }
