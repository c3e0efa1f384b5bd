"""What every `Listing` promises (`extproc.store.port`), run over each adapter."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from extproc.store.archive_listing import ArchiveListing
from extproc.store.port import FindingSearch, Listing, ModelUse, Search, Step
from extproc.store.sqlite_archive import SqliteArchive
from extproc.store.sqlite_index import SqliteIndex
from tests.recording_of import NOW, Exchange, exchange, record


@contextmanager
def indexed(path: Path) -> Iterator[Listing]:
    index = SqliteIndex(path, path.with_name("search.db"))
    yield index
    index.close()


@contextmanager
def archived(path: Path) -> Iterator[Listing]:
    yield ArchiveListing(SqliteArchive(path), lambda: NOW)


LISTINGS: dict[str, Callable[[Path], Any]] = {"index": indexed, "archive": archived}


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "record.db"


@pytest.fixture(params=list(LISTINGS))
def opened(request: pytest.FixtureRequest) -> Callable[[Path], Any]:
    return LISTINGS[request.param]


def found(**changes: Any) -> dict[str, Any]:
    usual = {"rule": "npm-token", "direction": "prompt", "where": "messages[0].content", "offset": 4}
    return {**usual, "action": "mask", "at": 1.0, "fingerprint": "f" * 32, **changes}


def used(made: Exchange, tokens: int, code: str | None = None) -> Exchange:
    made[1]["response"]["usage"] = {"input_tokens": tokens, "output_tokens": 1}
    made[1]["error"] = None if code is None else {"code": code, "message": "no"}
    return made


LIBRARY = [
    exchange("a", session="s1", at=NOW, findings=[found(), found(rule="aws-key", fingerprint="a" * 32)]),
    exchange("b", session="s2", at=NOW + 10, user="bob", groups=["developers", "ops"], model="claude"),
    exchange("c", session="s3", at=NOW + 20, repository="acme/[web]", paths=["infra/a.tf", "x.py"], outcome="denied"),
    exchange("d", session="s1", at=NOW + 30, answered="Grüß GOTT", findings=[found(action="block")]),
    exchange("e", session="s4", at=NOW + 40, user="bob", repository=None, messages=[{"content": ["One two, three."]}]),
]


@pytest.mark.parametrize(
    ("search", "expected"),
    [
        (Search(), "s4 s1 s3 s2"),
        (Search(user="bob"), "s4 s2"),
        (Search(user="issuer#alice"), "s1 s3"),
        (Search(user="bo*"), ""),
        (Search(principal="issuer#bob"), "s4 s2"),
        (Search(principal="bob"), ""),
        (Search(principal="issuer#bob", user="alice"), ""),
        (Search(group="ops"), "s2"),
        (Search(group="ops", user="bob"), "s2"),
        (Search(group="dev"), ""),
        (Search(model="claude"), "s2"),
        (Search(model=""), ""),
        (Search(outcome="denied"), "s3"),
        (Search(outcome="unknown"), ""),
        (Search(repository="acme/*"), "s1 s3 s2"),
        (Search(repository="acme/[web]"), "s3"),
        (Search(repository="*"), "s4 s1 s3 s2"),
        (Search(repository=""), "s4"),
        (Search(path="infra/*"), "s3"),
        (Search(path="*.py"), "s3"),
        (Search(path="*"), "s3"),
        (Search(path=""), ""),
        (Search(path="infra"), ""),
        (Search(finding="aws-*"), "s1"),
        (Search(finding="npm-token"), "s1"),
        (Search(finding="*"), "s1"),
        (Search(session="s1"), "s1"),
        (Search(session="s9"), ""),
        (Search(text="grüß gott"), "s1"),
        (Search(text="one two, three"), "s4"),
        (Search(text="say hello", user="bob"), "s2"),
        (Search(text="nowhere"), ""),
        (Search(since=NOW + 20), "s4 s1 s3"),
        (Search(until=NOW + 20), "s2 s1"),
        (Search(since=NOW + 10, until=NOW + 20), "s2"),
        (Search(text="say", since=NOW + 10, until=NOW + 31), "s1 s3 s2"),
        (Search(model="gpt-5", outcome="completed", path="*"), ""),
    ],
    ids=str,
)
async def test_sessions_that_have_an_exchange_that_fits_are_listed(
    path: Path, opened: Callable[[Path], Any], search: Search, expected: str
) -> None:
    await record(path, LIBRARY)
    with opened(path) as listing:
        page = listing.sessions(search)
        assert [row.id for row in page.rows] == expected.split()
        assert page.after is None


async def test_a_session_is_summed_up_whole_if_one_exchange_fits(path: Path, opened: Callable[[Path], Any]) -> None:
    await record(path, [*LIBRARY, used(exchange("f", session="s1", at=NOW + 50, model=None, user=None), 9)])
    with opened(path) as listing:
        (row,) = listing.sessions(Search(finding="aws-key")).rows
        assert row == SqliteArchive(path).sessions(Search(session="s1"))[0]
        assert (row.exchanges, row.findings, row.input_tokens, row.user) == (3, 3, 9, "alice")


@pytest.mark.parametrize("search", [Search(), Search(user="alice"), Search(text="hello"), Search(model="gpt-5")])
async def test_pages_follow_each_other_without_a_seam(
    path: Path, opened: Callable[[Path], Any], search: Search
) -> None:
    made = [exchange(f"{n:02}", session=f"s{n * 7 % 12}", at=NOW + n // 3) for n in range(40)]
    await record(path, made)
    expected = [row.id for row in SqliteArchive(path).sessions(search, limit=1000)]
    with opened(path) as listing:
        for limit in (1, 5, 12, 50):
            seen: list[str] = []
            after = None
            while True:
                page = listing.sessions(search, limit=limit, after=after)
                seen += [row.id for row in page.rows]
                after = page.after
                if after is None:
                    break
                assert len(page.rows) == limit
            assert seen == expected


@pytest.mark.parametrize(
    "after", ["", "x", "1", "1.", "-1.1", "1.1.1", "9" * 40, "1." + "9" * 19, "1.2\n", "from-0", "٣.٣"]
)
async def test_what_is_no_cursor_is_refused(path: Path, opened: Callable[[Path], Any], after: str) -> None:
    await record(path, LIBRARY)
    with opened(path) as listing:
        with pytest.raises(ValueError, match="not a place in a list"):
            listing.sessions(after=after)
        with pytest.raises(ValueError, match="not a place in a list"):
            listing.findings(FindingSearch(), after=after)


@pytest.mark.parametrize(
    ("search", "expected"),
    [
        (FindingSearch(), "d-0 a-1 a-0"),
        (FindingSearch(rule="aws-key"), "a-1"),
        (FindingSearch(rule="*-*"), "d-0 a-1 a-0"),
        (FindingSearch(rule="aws"), ""),
        (FindingSearch(user="bob"), ""),
        (FindingSearch(user="issuer#alice"), "d-0 a-1 a-0"),
        (FindingSearch(principal="issuer#alice"), "d-0 a-1 a-0"),
        (FindingSearch(principal="alice"), ""),
        (FindingSearch(direction="answer"), ""),
        (FindingSearch(action="block"), "d-0"),
        (FindingSearch(session="s1"), "d-0 a-1 a-0"),
        (FindingSearch(fingerprint="f" * 32), "d-0 a-0"),
        (FindingSearch(since=NOW + 1), "d-0"),
        (FindingSearch(until=NOW + 30), "a-1 a-0"),
    ],
    ids=str,
)
async def test_findings_are_found_newest_first_page_by_page(
    path: Path, opened: Callable[[Path], Any], search: FindingSearch, expected: str
) -> None:
    await record(path, LIBRARY)
    with opened(path) as listing:
        whole = listing.findings(search)
        assert [row.id for row in whole.rows] == expected.split()
        assert whole.rows == SqliteArchive(path).findings(search)
        assert whole.after is None
        seen, after = [], None
        while (page := listing.findings(search, limit=1, after=after)).rows:
            seen += page.rows
            after = page.after
            if after is None:
                break
        assert seen == whole.rows


async def test_an_overview_counts_by_steps_and_models(path: Path, opened: Callable[[Path], Any]) -> None:
    made = [
        exchange("a", at=NOW, findings=[found(), found()]),
        used(exchange("b", at=NOW + 9, user="bob", model="claude", outcome="denied"), 5, code="policy.denied"),
        used(exchange("c", at=NOW + 20), 50),
        used(exchange("d", at=NOW + 29, model=None), 1),
        exchange("e", at=NOW + 30),
        exchange("f", at=NOW - 1),
    ]
    await record(path, made)
    with opened(path) as listing:
        whole = listing.overview(since=NOW, until=NOW + 30, steps=3)
        assert whole.steps == [Step(NOW, 2, 2, 1), Step(NOW + 10, 0, 0, 0), Step(NOW + 20, 2, 0, 0)]
        assert (whole.exchanges, whole.findings, whole.refused) == (4, 2, 1)
        assert whole.models == [ModelUse("gpt-5", 2, 50, 1), ModelUse("claude", 1, 5, 1)]
        own = listing.overview(since=NOW, until=NOW + 30, steps=1, principal="issuer#bob")
        assert own.steps == [Step(NOW, 1, 0, 1)]
        nobody = listing.overview(since=NOW, until=NOW + 30, steps=1, principal="bob")
        assert (nobody.exchanges, nobody.models) == (0, [])


async def test_an_overview_shows_the_ten_models_with_most_tokens(path: Path, opened: Callable[[Path], Any]) -> None:
    await record(path, [used(exchange(f"{n}", model=f"m{n}"), n) for n in range(12)])
    with opened(path) as listing:
        shown = listing.overview(since=NOW, until=NOW + 1, steps=1).models
        assert [use.model for use in shown] == [f"m{n}" for n in range(11, 1, -1)]


@pytest.mark.parametrize(
    ("since", "until", "steps"),
    [(0, 1, 0), (0, 1, 100_000), (1, 1, 1), (2, 1, 1), (float("nan"), 1, 1), (0, float("inf"), 1), (-5, 1, 1)],
)
async def test_an_overview_of_no_span_is_refused(
    path: Path, opened: Callable[[Path], Any], since: float, until: float, steps: int
) -> None:
    await record(path, LIBRARY)
    with opened(path) as listing, pytest.raises(ValueError, match="expected a span of time"):
        listing.overview(since=since, until=until, steps=steps)


async def test_of_an_empty_record_nothing_is_listed(path: Path, opened: Callable[[Path], Any]) -> None:
    await record(path, [])
    with opened(path) as listing:
        assert listing.sessions().rows == []
        assert listing.findings(FindingSearch()).rows == []
        assert listing.overview(since=0, until=2e9, steps=2).steps == [Step(0, 0, 0, 0), Step(1e9, 0, 0, 0)]
