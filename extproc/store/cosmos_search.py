"""Searches as queries in Cosmos DB's language, with all that is searched for as parameters. Pure.

They only narrow down what is read, by what is indexed; `extproc.store.searching` then decides. So a glob asks for what
its beginning and its longest piece say.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Final

from extproc.recording.entry import Kind
from extproc.recording.facts import microseconds
from extproc.store.port import FindingSearch, Search

IN_A_LOG: Final = 'c["type"] = "entry" AND IS_STRING(c["log"]) AND c["index"] >= 0'
"""The condition for what a ledger has, so that readers see nothing else."""


@dataclass(slots=True)
class Query:
    """Conditions that must all hold, and the values of their parameters."""

    # The SDK cannot order texts among numbers, and somebody may have put one there. What is in no place of a log is not
    # shown: whoever verifies logs does not see it either.
    conditions: list[str] = field(
        default_factory=lambda: [IN_A_LOG, f'c["kind"] = "{Kind.EXCHANGE}"', 'IS_NUMBER(c["at"])']
    )
    values: dict[str, Any] = field(default_factory=dict)

    def text(self, what: str, order: str) -> str:
        """Return the query for `what` of each item, ordered by the time of opening: `ASC` or `DESC`."""
        conditions = " AND ".join(self.conditions)
        return f'SELECT {what} FROM c WHERE {conditions} ORDER BY c["at"] {order}'  # noqa: S608 - values are parameters

    def also(self, condition: str, value: object) -> None:
        """Add a condition in which `{}` stands for a value."""
        self.conditions.append(condition.format(self._parameter(value)))

    def glob(self, subject: str, pattern: str) -> str:
        """Return a condition that holds, at least, for what fits a glob."""
        pieces = pattern.split("*")
        if len(pieces) == 1:
            return f"{subject} = {self._parameter(pattern)}"
        conditions = [f"IS_DEFINED({subject})"]
        if pieces[0]:
            conditions.append(f"STARTSWITH({subject}, {self._parameter(pieces[0])})")
        if longest := max(pieces[1:], key=len):
            conditions.append(f"CONTAINS({subject}, {self._parameter(longest)})")
        return " AND ".join(conditions)

    def _parameter(self, value: object) -> str:
        name = f"p{len(self.values)}"
        self.values[name] = value
        return f"@{name}"


def exchanges(search: Search) -> Query:
    """Return the query of exchanges that may fit; its session is to be given to the reader, as a partition key."""
    query = Query()
    _times_and_user(query, search)
    for name in ("model", "outcome"):
        if (wanted := getattr(search, name)) is not None:
            query.also(f'c["facts"]["{name}"] = {{}}', wanted)
    if search.group is not None:
        query.also('ARRAY_CONTAINS(c["facts"]["groups"], {})', search.group)
    if search.repository is not None and search.repository.strip("*"):
        query.conditions.append(query.glob('c["facts"]["repository"]', search.repository))
    if search.path is not None:
        query.conditions.append(_exists("p", "paths", [query.glob("p", search.path)]))
    if search.finding is not None:
        query.conditions.append(_exists("f", "findings", [query.glob('f["rule"]', search.finding)]))
    return query


def findings(search: FindingSearch) -> Query:
    """Return the query of exchanges that may have a finding that fits; the session as in `exchanges`."""
    query = Query()
    _times_and_user(query, search)
    about = ['IS_DEFINED(f["rule"])'] if search.rule is None else [query.glob('f["rule"]', search.rule)]
    if search.fingerprint is not None:
        query.values["fingerprint"] = search.fingerprint
        about.append('f["fingerprint"] = @fingerprint')
    query.conditions.append(_exists("f", "findings", about))
    return query


def _exists(name: str, fact: str, conditions: list[str]) -> str:
    condition = " AND ".join(conditions)
    return f'EXISTS(SELECT VALUE {name} FROM {name} IN c["facts"]["{fact}"] WHERE {condition})'  # noqa: S608 - values are parameters


def _times_and_user(query: Query, search: Search | FindingSearch) -> None:
    if search.since is not None:
        query.also('c["at"] >= {}', microseconds(search.since))
    if search.until is not None:
        query.also('c["at"] < {}', microseconds(search.until))
    if search.user is not None:
        query.values["user"] = search.user
        query.conditions.append('(c["facts"]["user"] = @user OR c["facts"]["principal"] = @user)')
    if search.principal is not None:
        query.also('c["facts"]["principal"] = {}', search.principal)
