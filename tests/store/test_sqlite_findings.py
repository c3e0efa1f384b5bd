from __future__ import annotations

import sqlite3
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, closing
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from extproc.errors import StoreUnavailable
from extproc.store.port import FindingRow
from extproc.store.sqlite import SqliteArchive, SqliteRecorder

NOW = 1_760_000_000.0


def finding(rule: str = "npm-token", **changes: Any) -> dict[str, Any]:
    return {
        "rule": rule,
        "direction": "prompt",
        "where": "messages[0].content",
        "offset": 4,
        "action": "mask",
        "at": 1.5,
        "fingerprint": "f" * 32,
        **changes,
    }


def opening(exchange_id: str, *findings: dict[str, Any], at: float = NOW, **changes: Any) -> dict[str, Any]:
    return {
        "id": exchange_id,
        "session": "s1",
        "opened_at": at,
        "principal": {"id": "issuer#alice", "name": "alice"},
        "client": {"user_agent": "cli"},
        "request": {"model": "gpt-5", "repository": "acme/app"},
        "findings": list(findings),
        **changes,
    }


def ending(exchange_id: str, *findings: dict[str, Any], at: float = NOW) -> dict[str, Any]:
    return {"id": exchange_id, "closed_at": at + 1, "outcome": "completed", "findings": list(findings)}


IN_ANSWER = finding("aws-key", direction="answer", where="0.text", offset=9, at=80.0, fingerprint="a" * 32)
ROW = FindingRow(
    id="x-0",
    exchange="x",
    session="s1",
    opened_at=NOW,
    user="alice",
    principal="issuer#alice",
    model="gpt-5",
    repository="acme/app",
    rule="npm-token",
    direction="prompt",
    where="messages[0].content",
    offset=4,
    action="mask",
    at=1.5,
    fingerprint="f" * 32,
)
ANSWER_ROW = replace(
    ROW,
    id="x-1",
    rule="aws-key",
    direction="answer",
    where="0.text",
    offset=9,
    at=80.0,
    fingerprint="a" * 32,
)


@asynccontextmanager
async def recorder(path: Path) -> AsyncIterator[SqliteRecorder]:
    made = SqliteRecorder(path, instance="one", now=NOW)
    try:
        yield made
    finally:
        await made.aclose()


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "extproc.db"


@pytest.mark.parametrize("together", [True, False])
async def test_findings_are_rows_with_the_facts_of_their_exchange_newest_first(path: Path, *, together: bool) -> None:
    entries = opening("x", finding()), ending("x", IN_ANSWER)
    async with recorder(path) as store:
        for call in [entries] if together else [(entries[0], None), (None, entries[1])]:
            await store.append(*call)
        archive = SqliteArchive(path)
        assert archive.findings() == [ANSWER_ROW, ROW]
        document = archive.exchange("x") or {}
        for row in archive.findings():
            shown = document["findings"][int(row.id.removeprefix("x-"))]
            assert shown == {name: getattr(row, name) for name in shown}


async def test_the_findings_of_a_prompt_can_be_read_while_the_exchange_runs(path: Path) -> None:
    async with recorder(path) as store:
        await store.append(opening("x", finding()), None)
        assert SqliteArchive(path).findings() == [ROW]


async def test_an_exchange_of_nobody_about_no_model_has_findings_too(path: Path) -> None:
    entry = opening("x", finding(), principal=None, request={})
    async with recorder(path) as store:
        await store.append(entry, ending("x", IN_ANSWER))
    nobody: dict[str, Any] = {"user": None, "principal": None, "model": None, "repository": None}
    assert SqliteArchive(path).findings() == [replace(ANSWER_ROW, **nobody), replace(ROW, **nobody)]


async def test_names_of_any_kind_come_back_as_they_were(path: Path) -> None:
    odd = "a'b\"[0]\n日本 🙂"
    async with recorder(path) as store:
        request = {"model": odd, "repository": odd}
        await store.append(opening("x", finding(where=odd), request=request), ending("x", IN_ANSWER))
    answer, prompt = SqliteArchive(path).findings()
    assert (prompt.where, prompt.model, prompt.repository) == (odd, odd, odd)
    assert (answer.model, answer.repository) == (odd, odd)


@pytest.mark.parametrize(
    ("wanted", "expected"),
    [
        ({}, ["c-0", "b-0", "a-1", "a-0"]),
        ({"rule": "aws-key"}, ["a-1"]),
        ({"rule": "aws-*"}, ["a-1"]),
        ({"rule": "*-*"}, ["c-0", "b-0", "a-1", "a-0"]),
        ({"rule": "aws"}, []),
        ({"user": "bob"}, ["b-0"]),
        ({"user": "issuer#bob"}, ["b-0"]),
        ({"user": "bob' OR 1=1 --"}, []),
        ({"direction": "answer"}, ["a-1"]),
        ({"action": "block"}, ["c-0"]),
        ({"session": "s2"}, ["b-0"]),
        ({"fingerprint": "f" * 32}, ["b-0", "a-0"]),
        ({"since": NOW + 10}, ["c-0", "b-0"]),
        ({"until": NOW + 10}, ["a-1", "a-0"]),
        ({"since": NOW + 10, "until": NOW + 20}, ["b-0"]),
        ({"rule": "npm*", "user": "alice", "action": "mask"}, ["a-0"]),
        ({"limit": 2}, ["c-0", "b-0"]),
        ({"limit": 1, "user": "alice"}, ["c-0"]),
    ],
)
async def test_findings_are_filtered(path: Path, wanted: dict[str, Any], expected: list[str]) -> None:
    bob = {"id": "issuer#bob", "name": "bob"}
    async with recorder(path) as store:
        await store.append(opening("c", finding(action="block", fingerprint="c" * 32), at=NOW + 20), None)
        await store.append(opening("a", finding(), at=NOW), ending("a", IN_ANSWER))
        await store.append(opening("b", finding(), at=NOW + 10, session="s2", principal=bob), None)
    assert [row.id for row in SqliteArchive(path).findings(**wanted)] == expected


# --- append-only and whole -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("statement", ["UPDATE finding SET rule = 'x'", "DELETE FROM finding"])
async def test_no_statement_changes_or_removes_a_finding(path: Path, statement: str) -> None:
    async with recorder(path) as store:
        await store.append(opening("x", finding()), None)
        with closing(sqlite3.connect(path)) as other, pytest.raises(sqlite3.IntegrityError, match="append-only"):
            other.execute(statement)
        assert SqliteArchive(path).findings() == [ROW]


@pytest.mark.parametrize("bad", [{"rule": "r"}, {**finding(), "rule": None}, finding(offset="x")])
async def test_an_entry_whose_findings_cannot_be_kept_is_refused_whole_and_alone(path: Path, bad: Any) -> None:
    async with recorder(path) as store:
        await store.append(opening("x", finding()), None)
        with pytest.raises(StoreUnavailable):
            await store.append(opening("y", finding(), bad), None)
        with pytest.raises(StoreUnavailable):
            await store.append(None, ending("x", IN_ANSWER, bad))
        archive = SqliteArchive(path)
        assert archive.exchange("y") is None
        assert (archive.exchange("x") or {})["outcome"] == "open"
        assert archive.findings() == [ROW]
        await store.append(None, ending("x", IN_ANSWER))
        assert archive.findings() == [ANSWER_ROW, ROW]


# --- stores made before there were findings --------------------------------------------------------------------------

OLD_SCHEMA = """
CREATE TABLE opening (
  id TEXT PRIMARY KEY, instance TEXT NOT NULL, session TEXT NOT NULL, opened_at REAL NOT NULL,
  principal TEXT, user TEXT, model TEXT, client TEXT, document BLOB NOT NULL
) STRICT;
CREATE TABLE closing (
  id TEXT PRIMARY KEY REFERENCES opening (id), closed_at REAL NOT NULL, outcome TEXT NOT NULL, document BLOB NOT NULL
) STRICT;
INSERT INTO opening VALUES ('old', 'gone', 's1', 1.0, NULL, NULL, NULL, NULL, CAST('{"id": "old"}' AS BLOB));
"""


@pytest.fixture
def old(path: Path) -> Path:
    with closing(sqlite3.connect(path)) as connection:
        connection.executescript(OLD_SCHEMA)
    return path


async def test_a_store_from_before_findings_opens_and_takes_them(old: Path) -> None:
    async with recorder(old) as store:
        assert store.interrupted == 1
        await store.append(opening("x", finding()), ending("x", IN_ANSWER))
    archive = SqliteArchive(old)
    assert archive.findings() == [ANSWER_ROW, ROW]
    assert (archive.exchange("old") or {})["findings"] == []


def test_a_store_that_never_had_findings_says_so_rather_than_that_there_were_none(old: Path) -> None:
    with pytest.raises(StoreUnavailable, match=r"cannot read the findings of .*: no such table: finding"):
        SqliteArchive(old).findings()
