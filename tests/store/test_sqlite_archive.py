from __future__ import annotations

import random
import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

from extproc.recording.document import merged
from extproc.recording.entry import Blob, Chain, Draft, Kind, WrappedKey, address_of
from extproc.recording.envelope import Envelope
from extproc.recording.facts import facts_of
from extproc.recording.packing import body_of, pack
from extproc.store.port import FindingSearch, Search
from extproc.store.sqlite_archive import SqliteArchive, _query
from extproc.store.sqlite_eraser import SqliteEraser
from extproc.store.sqlite_store import SqliteStore
from tests.recording_of import NOW, exchange, record

COUNT = 1200


@pytest.fixture
async def path(tmp_path: Path) -> Path:
    """Make a store of more exchanges than are read at once, in no order, many of them at the same time."""
    made = [exchange(f"{n:04}", at=NOW + n // 3, session=f"s{n % 2}", user="ab"[n % 2]) for n in range(COUNT)]
    random.Random(1).shuffle(made)  # noqa: S311
    await record(tmp_path / "record.db", made)
    return tmp_path / "record.db"


def test_exchanges_are_read_in_pages_without_a_seam(path: Path) -> None:
    found = [one["id"] for one in SqliteArchive(path).exchanges()]
    assert sorted(found) == [f"{n:04}" for n in range(COUNT)]
    assert [int(one) // 3 for one in found] == sorted(n // 3 for n in range(COUNT))
    assert len(list(SqliteArchive(path).session("s1"))) == COUNT // 2
    assert len(list(SqliteArchive(path).exchanges(Search(user="a")))) == COUNT // 2
    assert [row.exchanges for row in SqliteArchive(path).sessions()] == [COUNT // 2] * 2


@pytest.mark.parametrize(
    "search",
    [Search(), Search(user="a"), Search(principal="issuer#a"), Search(session="s1"), Search(since=NOW, until=NOW + 9)],
)
@pytest.mark.parametrize("newest_first", [True, False])
def test_a_page_is_found_by_an_index_and_never_sorted(path: Path, search: Search, *, newest_first: bool) -> None:
    query, values = _query(search, newest_first=newest_first)
    page = query[query.index("(") + 1 : query.index("SELECT page.number")].rstrip().removesuffix(")")
    with closing(sqlite3.connect(path)) as connection:
        plan = [row[3] for row in connection.execute(f"EXPLAIN QUERY PLAN {page}", values)]
    assert any("USING INDEX" in step for step in plan), plan
    assert not any("TEMP B-TREE" in step or step == "SCAN entry" for step in plan), plan


async def test_what_is_encrypted_is_read_with_the_key_and_said_to_be_gone_without(tmp_path: Path) -> None:
    path, (opening, closed) = tmp_path / "record.db", exchange("x", messages=[{"content": "word " * 2000}])
    envelope = Envelope(lambda secret: secret[::-1], lambda wrapped: wrapped[::-1], lambda count: bytes(range(count)))
    key = envelope.new_key("s1", "k")
    packed = pack(opening, protect=key.protect, is_known=lambda _: False)
    body = key.protect(body_of(packed.data, closed))
    blobs = [Blob("s1", address, data) for address, data in packed.blobs]
    facts = facts_of(merged(opening, closed))
    draft = Draft(Kind.EXCHANGE, "x", "s1", 1, facts, body, [address_of(one.data) for one in blobs], "k")
    sealed, _ = Chain("a.0.1").seal(draft)
    store = SqliteStore(path)
    await store.put([sealed], blobs, [WrappedKey(key.id, key.session, key.wrapped)])
    await store.aclose()

    found = SqliteArchive(path, envelope).exchange("x") or {}
    assert found["request"] == opening["request"]
    assert [one["id"] for one in SqliteArchive(path, envelope).exchanges(Search(text="word"))] == ["x"]
    without = SqliteArchive(path).exchange("x") or {}
    assert "encrypted" in without["removed"]
    SqliteEraser(path).remove_keys("s1")
    erased = SqliteArchive(path, envelope).exchange("x") or {}
    assert "erased" in erased["removed"]
    assert erased["facts"]["user"] == "alice"


async def test_a_store_is_read_while_it_is_written(path: Path) -> None:
    documents = SqliteArchive(path).exchanges()
    first = next(documents)
    await record(path, [exchange("late", at=NOW + COUNT)], log="test.0.2")
    assert len([first, *documents]) == COUNT + 1


def test_nothing_is_found_where_nothing_is_asked_for(path: Path) -> None:
    archive = SqliteArchive(path)
    assert archive.sessions(limit=0) == []
    assert list(archive.exchanges(limit=0)) == []
    assert archive.findings(FindingSearch(), limit=0) == []
    assert list(archive.lines([])) == []
