"""Bring the search index up to date with the record: read what is new there, and write what is searched by."""

from __future__ import annotations

import json
import sqlite3
import zlib
from dataclasses import dataclass
from functools import partial
from typing import Any, Final

import msgspec

from extproc.recording.entry import Head, Kind
from extproc.recording.reading import document
from extproc.store import sqlite_index_sums as sums
from extproc.store.port import FindingRow
from extproc.store.searching import finding_rows, how_many, readable, said_anew
from extproc.store.sqlite_index_file import KEYS_PER_MICROSECOND
from extproc.store.sqlite_index_names import Names, digest
from extproc.store.sqlite_ledger import blobs_of, key_of

ENTRIES_AT_ONCE: Final = 2_000
CHARS_AT_ONCE: Final = 8_000_000
"""A transaction ends after so many entries, or so much text: it is kept in memory until then."""


@dataclass(frozen=True, slots=True)
class Entry:
    """An entry of the record; `head` is None for what is no exchange, and for what cannot be read."""

    number: int
    hash: str
    head: Head | None
    text: str


def is_same_record(record: sqlite3.Connection, number: int, digest: str) -> bool:
    """Return whether the record still has the entry that was the last of it."""
    if number == 0:
        return True
    row = record.execute("SELECT hash FROM entry WHERE number = ?", (number,)).fetchone()
    return row is not None and row[0] == digest


def next_entries(record: sqlite3.Connection, after: int, *, texts: bool) -> list[Entry]:
    """Return some entries of the record with higher numbers; none where there are no more."""
    query = "SELECT number, hash, head, body FROM entry WHERE number > ? ORDER BY number LIMIT ?"
    found: list[Entry] = []
    chars = 0
    for number, name, canonical, body in record.execute(query, (after, ENTRIES_AT_ONCE)):
        head = _exchange(canonical)
        text = _said(record, head, body) if texts and head is not None else ""
        found.append(Entry(number, name, head, text))
        chars += len(text)
        if chars > CHARS_AT_ONCE:
            break
    return found


def _exchange(canonical: bytes) -> Head | None:
    try:
        head = readable(canonical)
    except (msgspec.DecodeError, RecursionError):
        # Somebody altered it: `extproc verify` names it. A list of the others is still of use.
        return None
    return head if head.kind is Kind.EXCHANGE else None


def _said(record: sqlite3.Connection, head: Head, body: bytes | None) -> str:
    """Return what was said; nothing where that is gone, or encrypted."""
    blobs, key = partial(blobs_of, record), partial(key_of, record)
    read = document(head, body, blobs=blobs, key=key, envelope=None)
    return "" if "removed" in read else said_anew(read)


def write(connection: sqlite3.Connection, batch: list[Entry]) -> None:
    """Write some entries, in a transaction that is open, and note that they are there."""
    names = Names(connection)
    for entry in batch:
        if entry.head is not None:
            _write(connection, names, entry.number, entry.head, entry.text)
    last = batch[-1]
    connection.execute("UPDATE state SET number = ?, hash = ?", (last.number, last.hash))


def _write(connection: sqlite3.Connection, names: Names, number: int, head: Head, text: str) -> None:
    facts, key = head.facts, _free_key(connection, head.at)
    session = names.id("session", head.session)
    caller, callers = _caller(names, facts)
    path_ids = [names.id("path", path) for path in facts.get("paths") or ()]
    found = finding_rows(head)
    rule_ids = [names.id("rule", rule) for rule in sorted({row.rule for row in found})]
    model, outcome = names.maybe("model", facts.get("model")), names.maybe("outcome", facts.get("outcome"))
    repository = names.id("repository", facts.get("repository") or "")
    client = names.maybe("client", facts.get("client"))
    paths = names.whole("paths", digest(facts["paths"]), path_ids) if path_ids else None
    rules = names.whole("rules", digest(sorted({row.rule for row in found})), rule_ids) if rule_ids else None
    took, is_refused = (facts.get("closed_at") or head.at) - head.at, facts.get("code") is not None
    counts = (
        *(facts.get("input_tokens") or 0, facts.get("output_tokens") or 0),
        *(how_many(facts, "findings"), how_many(facts, "approvals")),
    )
    connection.execute(
        "INSERT INTO exchange VALUES (?,?,?,?,?,?,?,?,?,?,?,?,?,?,?,?)",
        (key, number, session, caller, model, repository, outcome, paths, rules, client, is_refused, took, *counts),
    )
    ended = key // KEYS_PER_MICROSECOND + took
    alike = sums.Alike(session, caller, client, model, repository, outcome, key, key, ended, 1, *counts)
    sums.add(connection, alike)
    rows = [(key, position, number, session, caller, *_finding(names, row)) for position, row in enumerate(found)]
    connection.executemany("INSERT INTO finding VALUES (?,?,?,?,?,?,?,?,?)", rows)
    if text:
        ids = {session, model, outcome, repository, *callers, *path_ids, *rule_ids} - {0}
        _write_words(connection, key, text, " ".join(map(str, sorted(ids))))


def _write_words(connection: sqlite3.Connection, key: int, text: str, facts: str) -> None:
    connection.execute("INSERT INTO words (rowid, said, facts) VALUES (?,?,?)", (key, text, facts))
    kept = zlib.compress(f"{facts}\n{text}".encode(), 1)
    connection.execute("INSERT INTO said (key, text) VALUES (?,?)", (key, kept))


def words_of(kept: bytes) -> tuple[str, str]:
    """Return what was said and the facts, as they were given to the index of words."""
    facts, _, text = zlib.decompress(kept).decode().partition("\n")
    return text, facts


def _free_key(connection: sqlite3.Connection, at: int) -> int:
    """Return the next key of a microsecond; after very many in one, those are told to be of the next."""
    first = at * KEYS_PER_MICROSECOND
    query = "SELECT max(key) FROM exchange WHERE key >= ? AND key < ?"
    while True:
        (last,) = connection.execute(query, (first, first + KEYS_PER_MICROSECOND)).fetchone()
        if last is None:
            return first
        if last + 1 < first + KEYS_PER_MICROSECOND:
            return int(last) + 1
        first += KEYS_PER_MICROSECOND


def _caller(names: Names, facts: dict[str, Any]) -> tuple[int, list[int]]:
    """Return the id of who called, and those of name, principal and groups."""
    user, principal, groups = facts.get("user"), facts.get("principal"), facts.get("groups") or []
    found = [names.maybe("user", user), names.maybe("principal", principal)]
    elements = [one for one in found if one] + [names.id("group", group) for group in groups]
    return names.whole("caller", json.dumps([user, principal, groups]), elements), elements


def _finding(names: Names, row: FindingRow) -> tuple[int, int, int, int]:
    return (
        names.id("rule", row.rule),
        names.id("direction", row.direction),
        names.id("action", row.action),
        names.id("fingerprint", row.fingerprint),
    )
