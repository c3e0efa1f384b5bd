from __future__ import annotations

import sqlite3
from contextlib import closing
from pathlib import Path
from random import Random

import pytest

from extproc.store.port import FindingSearch, Search
from extproc.store.sqlite_eraser import SqliteEraser
from extproc.store.sqlite_index import SqliteIndex
from extproc.store.sqlite_index_file import open_for_reading
from tests.recording_of import NOW, Exchange, exchange, record

WORD = "xylophonequarrel"
LOG = "test.0.1"
FINDING = {"rule": "zebra-token", "direction": "prompt", "where": "w", "offset": 1, "action": "mask", "at": 1.0}


def made(count: int) -> list[Exchange]:
    """Return exchanges of many words, of which every tenth says a rare one in a session of its own."""
    random, found = Random(3), []  # noqa: S311 - the same each time
    for n in range(count):
        words = " ".join(f"{random.getrandbits(40):x}" for _ in range(30))
        rare = n % 10 == 5
        found.append(
            exchange(
                f"x{n}",
                session=f"rare{n}" if rare else "plain",
                at=NOW + n,
                answered=f"{words} {WORD} {n}" if rare else words,
                user="walrus" if rare else "alice",
                paths=["secret/armadillo.txt"] if rare else ["usual.txt"],
                findings=[{**FINDING, "fingerprint": "e" * 32}] if rare else [],
            )
        )
    return found


@pytest.fixture
async def path(tmp_path: Path) -> Path:
    await record(tmp_path / "record.db", made(3000))
    return tmp_path / "record.db"


@pytest.fixture
def index(path: Path) -> SqliteIndex:
    index = SqliteIndex(path, path.with_name("search.db"))
    index.catch_up()
    return index


def raw(path: Path) -> bytes:
    """Return all bytes of the index and what SQLite keeps beside it."""
    return b"".join(file.read_bytes() for file in path.parent.glob("search.db*"))


def kept(path: Path, word: str) -> list[bytes]:
    """Return the compressed texts that have a word, as they stand in the file."""
    with closing(open_for_reading(path.with_name("search.db"))) as connection:
        query = "SELECT text FROM said WHERE key IN (SELECT rowid FROM words WHERE words MATCH ?)"
        return [text for (text,) in connection.execute(query, (word,))]


def found(index: SqliteIndex, **search: str) -> int:
    return len(index.sessions(Search(**search), limit=1000).rows)  # type: ignore[arg-type]


RARE = [(LOG, n) for n in range(3000) if n % 10 == 5]


def test_words_whose_bodies_were_removed_are_neither_found_nor_in_the_file(path: Path, index: SqliteIndex) -> None:
    texts = kept(path, WORD)
    # A word stands there whole, or without what it shares with the one before it.
    assert WORD[2:].encode() in raw(path)
    assert len(texts) == 300
    assert all(text[-40:] in raw(path) for text in texts)
    SqliteEraser(path).remove_bodies(RARE)
    assert found(index, text=WORD) == 0
    assert found(index, text=WORD, user="walrus") == 0
    index.catch_up()
    assert WORD[2:].encode() not in raw(path)
    assert not any(text[-40:] in raw(path) for text in texts)
    # What heads say is still there.
    assert found(index, user="walrus") == found(index, path="secret/*") == 300
    assert found(index) == 301
    index.close()


def test_of_an_exchange_that_went_whole_nothing_is_left(path: Path, index: SqliteIndex) -> None:
    names = [b"walrus", b"armadillo", b"zebra-token", b"e" * 32, b"rare1235"]
    assert all(name in raw(path) for name in [*names, WORD[2:].encode()])
    SqliteEraser(path).remove_entries(LOG, 2996)
    assert found(index, text=WORD) == found(index, user="walrus") == found(index, path="secret/*") == 0
    assert index.findings(FindingSearch(rule="zebra*")).rows == []
    (row,) = index.sessions().rows
    assert (row.id, row.exchanges, row.user) == ("plain", 4, "alice")
    index.catch_up()
    assert not any(name in raw(path) for name in [*names, WORD[2:].encode()])
    assert found(index, user="alice") == found(index, path="usual.txt") == 1
    index.close()


def test_a_session_is_summed_up_without_what_went(path: Path, index: SqliteIndex) -> None:
    SqliteEraser(path).remove_entries(LOG, 1000)
    (row,) = index.sessions(Search(session="plain")).rows
    assert (row.exchanges, row.started_at) == (1800, NOW + 1000)
    index.close()


async def test_what_comes_while_it_is_overwritten_is_found_and_what_went_is_gone_in_the_end(
    path: Path, index: SqliteIndex, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("extproc.store.sqlite_index_erasing.PAGES_AT_ONCE", 5)
    SqliteEraser(path).remove_bodies(RARE[:200])
    steps = 0
    assert found(index, text=WORD) == 100
    while index._scrub_on():
        steps += 1
        if steps == 3:
            await record(path, [exchange("new", session="new", at=NOW + 9999, answered="fresh words")], log="b.0.1")
            assert found(index, text="fresh words") == 1
            SqliteEraser(path).remove_bodies(RARE[200:])
            assert found(index, text=WORD) == 0
    assert steps > 5
    index.catch_up()
    assert WORD[2:].encode() not in raw(path)
    assert found(index, text="fresh words") == 1
    index.close()


def test_what_a_reader_still_sees_is_overwritten_the_next_time(path: Path, index: SqliteIndex) -> None:
    with closing(open_for_reading(path.with_name("search.db"))):
        SqliteEraser(path).remove_bodies(RARE)
        index.catch_up()
        assert WORD[2:].encode() in raw(path)
    index.catch_up()
    assert WORD[2:].encode() not in raw(path)
    index.close()


async def test_what_was_erased_before_the_index_was_made_is_not_in_it(path: Path) -> None:
    SqliteEraser(path).remove_bodies(RARE)
    SqliteEraser(path).remove_entries(LOG, 10)
    index = SqliteIndex(path, path.with_name("other.db"))
    assert found(index, text=WORD) == 0
    assert found(index, user="walrus") == 299
    index.close()


async def test_an_entry_with_the_number_of_one_that_went_is_another(tmp_path: Path) -> None:
    path = tmp_path / "record.db"
    await record(path, [exchange("x", session="old")])
    index = SqliteIndex(path, tmp_path / "search.db")
    assert found(index, session="old") == 1
    SqliteEraser(path).remove_entries(LOG, 1)
    await record(path, [exchange("y", session="new")], log="b.0.1")
    with closing(sqlite3.connect(path)) as connection:
        assert connection.execute("SELECT number FROM entry").fetchall() == [(1,)]
    assert [row.id for row in index.sessions().rows] == ["new"]
    index.close()
