"""Find findings in the search index, page by page, newest first; what is shown of them is what their heads say."""

from __future__ import annotations

import json
import sqlite3
from dataclasses import dataclass
from typing import Any, Final

import msgspec

from extproc.recording.entry import Head
from extproc.store.port import FindingPage, FindingRow, FindingSearch
from extproc.store.searching import finding_fits, finding_rows, readable
from extproc.store.sqlite_index_names import exactly, fitting
from extproc.store.sqlite_index_search import numbers_of
from extproc.store.sqlite_index_wanted import key_at

_ANY: Final = "{column} IN (SELECT value FROM json_each(:{name}))"
_CALLER: Final = "caller IN (SELECT whole FROM member WHERE element IN (SELECT value FROM json_each(:{name})))"


@dataclass(frozen=True, slots=True)
class Place:
    """A finding in the index, and the number of the entry that has it."""

    key: int
    position: int
    number: int


def places(connection: sqlite3.Connection, search: FindingSearch, limit: int, after: str | None) -> list[Place]:
    """Return where findings are that come after a cursor, one more than `limit` where there are more."""
    conditions, values = _conditions(connection, search)
    values["limit"] = limit + 1 if limit > 0 else 0
    if after is not None:
        conditions.append("(key, position) < (:key, :position)")
        values["key"], values["position"] = numbers_of(after)
    query = f"""
    SELECT key, position, number FROM finding WHERE {" AND ".join(conditions) or "true"}
    ORDER BY key DESC, position DESC LIMIT :limit
    """  # noqa: S608 - literals
    return [Place(*row) for row in connection.execute(query, values)]


def page(record: sqlite3.Connection, found: list[Place], search: FindingSearch, limit: int) -> FindingPage:
    """Read what was found from the record; what is not there, or not so there, is left out."""
    query = "SELECT number, head FROM entry WHERE number IN (SELECT value FROM json_each(?))"
    numbers = json.dumps([place.number for place in found])
    heads = {number: head for number, head in record.execute(query, (numbers,)) if head is not None}
    rows = [
        row
        for place in found[:limit]
        for row in _rows(heads.get(place.number))[place.position : place.position + 1]
        if finding_fits(row, search)
    ]
    after = f"{found[limit - 1].key}.{found[limit - 1].position}" if len(found) > limit else None
    return FindingPage(rows, after)


def _conditions(connection: sqlite3.Connection, search: FindingSearch) -> tuple[list[str], dict[str, Any]]:
    names = {
        "rule": None if search.rule is None else fitting(connection, search.rule, "rule"),
        "direction": _exactly(connection, search.direction, "direction"),
        "action": _exactly(connection, search.action, "action"),
        "session": _exactly(connection, search.session, "session"),
        "fingerprint": _exactly(connection, search.fingerprint, "fingerprint"),
        "user": _exactly(connection, search.user, "user", "principal"),
        "principal": _exactly(connection, search.principal, "principal"),
    }
    given = {name: ids for name, ids in names.items() if ids is not None}
    conditions = [(_CALLER if name in {"user", "principal"} else _ANY).format(column=name, name=name) for name in given]
    values: dict[str, Any] = {name: json.dumps(ids) for name, ids in given.items()}
    for name, at, condition in (("since", search.since, "key >= :since"), ("until", search.until, "key < :until")):
        if at is not None:
            conditions.append(condition)
            values[name] = key_at(at)
    return conditions, values


def _exactly(connection: sqlite3.Connection, text: str | None, *kinds: str) -> list[int] | None:
    return None if text is None else exactly(connection, text, *kinds)


def _rows(canonical: bytes | None) -> list[FindingRow]:
    try:
        head: Head | None = None if canonical is None else readable(canonical)
    except (msgspec.DecodeError, RecursionError):
        return []
    return [] if head is None else finding_rows(head)
