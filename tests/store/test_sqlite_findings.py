from __future__ import annotations

import sqlite3
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from extproc.recording.facts import MAX_LISTED
from extproc.store.port import FindingSearch
from extproc.store.sqlite_archive import SqliteArchive
from tests.recording_of import exchange, record


def found(**changes: Any) -> dict[str, Any]:
    usual = {"rule": "npm-token", "direction": "prompt", "where": "messages[0].content", "offset": 4}
    return {**usual, "action": "mask", "at": 1.5, "fingerprint": "f" * 32, **changes}


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "record.db"


async def test_names_of_any_kind_come_back_as_they_were(path: Path) -> None:
    odd = "a'b\"[0]\n日本 🙂 \0"
    made = exchange("x", user=odd, model=odd, repository=odd, findings=[found(where=odd, rule=odd)])
    await record(path, [made])
    (row,) = SqliteArchive(path).findings(FindingSearch(user=odd))
    assert (row.where, row.rule, row.model, row.repository, row.user) == (odd, odd, odd, odd, odd)


@pytest.mark.parametrize(
    ("rule", "expected"),
    [("a*", ["a[b]?c"]), ("a[b]?c", ["a[b]?c"]), ("a[b]*", ["a[b]?c"]), ("ab?c", []), ("a[b]xc", []), ("A*", [])],
)
async def test_only_a_star_is_special_in_the_glob_of_a_rule(path: Path, rule: str, expected: list[str]) -> None:
    await record(path, [exchange("x", findings=[found(rule="a[b]?c")])])
    assert [row.rule for row in SqliteArchive(path).findings(FindingSearch(rule=rule))] == expected


@pytest.mark.parametrize("changes", ["fingerprint = 'other'", "rule = 'other'", "position = 1", "entry = 9"])
async def test_a_finding_that_somebody_made_up_beside_the_heads_is_not_shown(path: Path, changes: str) -> None:
    await record(path, [exchange("x", findings=[found()])])
    with closing(sqlite3.connect(path, isolation_level=None)) as forger:
        forger.executescript(f"DROP TRIGGER finding_stays; UPDATE finding SET {changes}")  # noqa: S608 - a literal above
    archive = SqliteArchive(path)
    assert archive.findings(FindingSearch(fingerprint="other")) == []
    assert archive.findings(FindingSearch(rule="other")) == []
    assert {(row.rule, row.fingerprint) for row in archive.findings()} <= {("npm-token", "f" * 32)}


async def test_findings_beyond_what_a_head_lists_are_in_the_document_only(path: Path) -> None:
    findings = [found(offset=number) for number in range(MAX_LISTED + 5)]
    await record(path, [exchange("x", findings=findings)])
    archive = SqliteArchive(path)
    rows = archive.findings(limit=1000)
    assert [row.offset for row in rows] == list(reversed(range(MAX_LISTED)))
    assert len((archive.exchange("x") or {})["findings"]) == MAX_LISTED + 5
