"""The fake's query language: what it answers is what Cosmos DB documents, and what it does not know it refuses."""

from __future__ import annotations

from typing import Any

import pytest

from tests.cosmos.sql import QueryError, parse

ITEMS = [
    {"_rid": "1", "id": "a", "n": 1, "tags": ["x", "y"], "facts": {"user": "alice"}},
    {"_rid": "2", "id": "b", "n": 2, "tags": ["y"], "facts": {"user": None}},
    {"_rid": "3", "id": "c", "n": "2", "tags": "y"},
]


def ids(where: str, **parameters: Any) -> str:
    query = parse(f'SELECT VALUE c["id"] FROM c WHERE {where}')  # noqa: S608 - conditions of this file
    return "".join(row for row, _, _ in query.run(ITEMS, {f"@{name}": value for name, value in parameters.items()}))


@pytest.mark.parametrize(
    ("where", "expected"),
    [
        ("c.n = 1", "a"),
        ("c.n >= 1", "ab"),
        ("c.n != 1", "bc"),
        ('c.n IN (1, "2")', "ac"),
        ("NOT c.n = 1", "bc"),
        ("c.missing = 1 OR c.n = 1", "a"),
        ("NOT c.missing = 1", ""),
        ('c.facts["user"] = null', "b"),
        ('ARRAY_CONTAINS(c.tags, "y")', "ab"),
        ("ARRAY_CONTAINS(@wanted, c.n)", "ab"),
        ("EXISTS(SELECT VALUE t FROM t IN c.tags WHERE t = @tag)", "a"),
        ('STARTSWITH(c.facts["user"], "al") AND CONTAINS(c["id"], "a")', "a"),
        ("IS_DEFINED(c.facts)", "ab"),
        ("IS_NUMBER(c.n)", "ab"),
    ],
)
def test_conditions_keep_only_what_is_true(where: str, expected: str) -> None:
    assert ids(where, tag="x", wanted=[1, 2]) == expected


def test_items_are_joined_with_their_elements_and_projected() -> None:
    rows = [row for row, _, _ in parse("SELECT t AS tag, c.n FROM c JOIN t IN c.tags").run(ITEMS, {})]
    assert rows == [{"tag": "x", "n": 1}, {"tag": "y", "n": 1}, {"tag": "y", "n": 2}]


def test_order_goes_by_type_first_and_leaves_out_what_is_not_there() -> None:
    found = [row["id"] for row, _, _ in parse('SELECT * FROM c ORDER BY c["n"] DESC').run(ITEMS, {})]
    assert found == ["c", "b", "a"]
    assert list(parse('SELECT * FROM c ORDER BY c["none"]').run(ITEMS, {})) == []


@pytest.mark.parametrize(
    "text",
    [
        "SELEC * FROM c",
        "SELECT * FROM d",
        "SELECT * FROM c WHERE c.user = 1",
        "SELECT * FROM c WHERE c.order = 1",
        "SELECT * FROM c WHERE LOWER(c.n) = 1",
        "SELECT * FROM c WHERE c.n = ",
        "SELECT * FROM c WHERE c.n = 'a'",
        "SELECT * FROM c LIMIT 1",
        "SELECT * FROM c; DELETE",
    ],
)
def test_what_is_not_known_is_refused(text: str) -> None:
    with pytest.raises(QueryError):
        list(parse(text).run(ITEMS, {}))
