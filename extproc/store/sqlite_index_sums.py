"""Sum up what the search index has: sessions, and spans of time."""

from __future__ import annotations

import json
import sqlite3
from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from itertools import pairwise
from typing import Final, NamedTuple

from extproc.store.port import ModelUse, Overview, SessionRow, Step
from extproc.store.searching import bounds_of_steps, overview
from extproc.store.sqlite_index_file import KEYS_PER_MICROSECOND
from extproc.store.sqlite_index_names import exactly, texts_of
from extproc.store.sqlite_index_wanted import key_at

_ADD: Final = """
INSERT INTO summed VALUES (?,?,?,?,?,?,?,?,?,?,?,?,?,?)
ON CONFLICT (session, caller, client, model, repository, outcome) DO UPDATE SET
  first = min(first, excluded.first), last = max(last, excluded.last), ended = max(ended, excluded.ended),
  exchanges = exchanges + excluded.exchanges, input = input + excluded.input, output = output + excluded.output,
  findings = findings + excluded.findings, approvals = approvals + excluded.approvals
"""
_AGAIN: Final = f"""
INSERT INTO summed SELECT session, caller, client, model, repository, outcome, min(key), max(key),
  max(key / {KEYS_PER_MICROSECOND} + took), count(*), sum(input), sum(output), sum(findings), sum(approvals)
FROM exchange INDEXED BY exchange_by_session WHERE session IN (SELECT value FROM json_each(?)) GROUP BY 1, 2, 3, 4, 5, 6
"""  # noqa: S608 - a number
_STEP: Final = """
SELECT model, count(*), sum(findings), sum(refused), sum(input), sum(output) FROM exchange {by}
WHERE key >= ? AND key < ? {who} GROUP BY model
"""
_OF_PRINCIPAL: Final = "AND caller IN (SELECT whole FROM member WHERE element = ?)"


class Alike(NamedTuple):
    """Exchanges of a session that have the same names, summed up; a row of `summed`."""

    session: int
    caller: int
    client: int
    model: int
    repository: int
    outcome: int
    first: int
    last: int
    ended: int
    exchanges: int
    input: int
    output: int
    findings: int
    approvals: int


def add(connection: sqlite3.Connection, one: Alike) -> None:
    """Add to the sums of a session."""
    connection.execute(_ADD, one)


def sum_up_again(connection: sqlite3.Connection, sessions: Sequence[int]) -> None:
    """Make the sums of some sessions anew, from the exchanges that are there."""
    listed = (json.dumps(sessions),)
    connection.execute("DELETE FROM summed WHERE session IN (SELECT value FROM json_each(?))", listed)
    connection.execute(_AGAIN, listed)


def session_rows(connection: sqlite3.Connection, sessions: Sequence[int]) -> list[SessionRow]:
    """Sum up sessions, given and returned in the same order."""
    alike: defaultdict[int, list[Alike]] = defaultdict(list)
    query = "SELECT * FROM summed WHERE session IN (SELECT value FROM json_each(?))"
    for one in map(Alike._make, connection.execute(query, (json.dumps(sessions),))):
        alike[one.session].append(one)
    texts = texts_of(connection, {name for several in alike.values() for one in several for name in one[:6]})
    return [_row(texts[session], alike[session], texts) for session in sessions]


def _row(session: str, alike: list[Alike], texts: dict[int, str]) -> SessionRow:
    alike.sort(key=lambda one: one.last)
    who = [json.loads(texts[one.caller]) for one in alike]
    outcomes: Counter[str] = Counter()
    for one in alike:
        outcomes[texts.get(one.outcome, "unknown")] += one.exchanges
    return SessionRow(
        id=session,
        user=_last(user for user, _, _ in who),
        principal=_last(principal for _, principal, _ in who),
        started_at=min(one.first for one in alike) // KEYS_PER_MICROSECOND / 1_000_000,
        ended_at=max(one.ended for one in alike) / 1_000_000,
        exchanges=sum(one.exchanges for one in alike),
        models=sorted({texts[one.model] for one in alike if one.model}),
        outcomes=dict(outcomes),
        client=_last(texts.get(one.client) for one in alike),
        repositories=sorted({texts[one.repository] for one in alike} - {""}),
        input_tokens=sum(one.input for one in alike),
        output_tokens=sum(one.output for one in alike),
        findings=sum(one.findings for one in alike),
        approvals=sum(one.approvals for one in alike),
    )


def _last(values: Iterable[str | None]) -> str | None:
    return next((one for one in reversed(list(values)) if one is not None), None)


def overview_of(
    connection: sqlite3.Connection, *, since: float, until: float, steps: int, principal: str | None
) -> Overview:
    """Sum up a span of time; raises ValueError where there is no such span or no step."""
    bounds = bounds_of_steps(since, until, steps)
    query, who = _STEP.format(by="NOT INDEXED", who=""), list[int]()
    if principal is not None:
        # No name has the id 0: of somebody who is not known nothing is counted.
        who = exactly(connection, principal, "principal") or [0]
        query = _STEP.format(by="INDEXED BY exchange_by_caller", who=_OF_PRINCIPAL)
    found: list[Step] = []
    uses: defaultdict[int, Counter[str]] = defaultdict(Counter)
    for begin, end in pairwise(bounds):
        rows = connection.execute(query, (key_at(begin), key_at(end), *who)).fetchall()
        _, exchanges, findings, refused, *_ = map(sum, zip((0,) * 6, *([0, *row[1:]] for row in rows), strict=True))
        found.append(Step(begin, exchanges, findings, refused))
        for model, count, _, _, tokens_in, tokens_out in rows:
            if model:
                uses[model].update(exchanges=count, input_tokens=tokens_in, output_tokens=tokens_out)
    texts = texts_of(connection, uses)
    return overview(found, (ModelUse(texts[model], **use) for model, use in uses.items()))
