from __future__ import annotations

from pathlib import Path

import pytest

from extproc.store.archive_listing import KEPT_OVERVIEWS, KEPT_SECONDS, ArchiveListing
from extproc.store.port import Search
from extproc.store.sqlite_archive import SqliteArchive
from extproc.store.sqlite_eraser import SqliteEraser
from tests.recording_of import NOW, exchange, record


class Clock:
    def __init__(self) -> None:
        self.time = NOW

    def __call__(self) -> float:
        return self.time


@pytest.fixture
async def path(tmp_path: Path) -> Path:
    await record(tmp_path / "record.db", [exchange(f"{n}", session=f"s{n}", at=NOW + n) for n in range(10)])
    return tmp_path / "record.db"


async def test_an_overview_is_kept_for_some_seconds(path: Path) -> None:
    clock = Clock()
    listing = ArchiveListing(SqliteArchive(path), clock)

    def count() -> int:
        return listing.overview(since=NOW, until=NOW + 100, steps=1).exchanges

    assert count() == 10
    await record(path, [exchange("new", at=NOW + 50)], log="b.0.1")
    clock.time += KEPT_SECONDS - 0.1
    assert count() == 10
    assert listing.overview(since=NOW, until=NOW + 100, steps=1, principal="issuer#alice").exchanges == 11
    clock.time += 0.2
    assert count() == 11


def test_only_so_many_overviews_are_kept(path: Path) -> None:
    listing = ArchiveListing(SqliteArchive(path), lambda: NOW)
    for steps in range(1, KEPT_OVERVIEWS + 5):
        listing.overview(since=NOW, until=NOW + 100, steps=steps)
    assert len(listing._kept) == KEPT_OVERVIEWS


def test_of_more_than_is_read_an_overview_has_the_newest(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("extproc.store.archive_listing.MAX_EXCHANGES", 4)
    whole = ArchiveListing(SqliteArchive(path), lambda: NOW).overview(since=NOW, until=NOW + 10, steps=10)
    assert [step.exchanges for step in whole.steps] == [0] * 6 + [1] * 4


def test_exchanges_whose_content_went_are_counted_by_their_facts(path: Path) -> None:
    SqliteEraser(path).remove_bodies([("test.0.1", n) for n in range(10)])
    whole = ArchiveListing(SqliteArchive(path), lambda: NOW).overview(since=NOW, until=NOW + 10, steps=1)
    assert whole.exchanges == 10
    assert [(use.model, use.exchanges) for use in whole.models] == [("gpt-5", 10)]


def test_pages_end_where_turning_them_would_read_too_much(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("extproc.store.archive_listing.MAX_PLACE", 4)
    listing = ArchiveListing(SqliteArchive(path), lambda: NOW)
    first = listing.sessions(Search(), limit=4)
    assert first.after is not None
    assert listing.sessions(Search(), limit=4, after=first.after).after is None
    with pytest.raises(ValueError, match="not a place"):
        listing.sessions(Search(), after="from-5")
