"""Decide what fits a search, and sum it up, alike for every store; a store narrows down what is looked at. Pure."""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from typing import Annotated, Any, Final, TypedDict

import msgspec

from extproc.globs import text_regex
from extproc.recording.entry import Head, read_head
from extproc.store.port import (
    MODELS_SHOWN,
    FindingRow,
    FindingSearch,
    ModelUse,
    Overview,
    Search,
    SessionRow,
    Step,
)

MAX_STEPS: Final = 1_000
"""Most steps of an overview."""

_ASKED = ("messages", "tool_calls")
_ANSWERED = ("text", "reasoning", "tool_calls", "choices", "unparsed")
_LABELS = frozenset({"role", "type", "id", "tool_call_id"})
"""Members of messages and calls that say what they are, and are no part of what was said."""


_Count = Annotated[int, msgspec.Meta(ge=0, lt=1 << 53)]


class _Found(msgspec.Struct, forbid_unknown_fields=True):
    rule: str
    direction: str
    where: str
    offset: int
    action: str
    at: float
    fingerprint: str


class _Facts(TypedDict, total=False):
    user: str | None
    principal: str | None
    groups: list[str] | None
    client: str | None
    model: str | None
    repository: str | None
    outcome: str | None
    code: str | None
    closed_at: _Count | None
    input_tokens: _Count | None
    output_tokens: _Count | None
    paths: list[str] | None
    findings: list[_Found] | None
    findings_more: _Count
    approvals: list[str] | None
    approvals_more: _Count


def readable(canonical: bytes) -> Head:
    """Return a head whose facts are of the types that `extproc.recording.facts` gives them.

    Raises msgspec.DecodeError for any other: somebody altered it.
    """
    head = read_head(canonical)
    msgspec.convert(head.facts, _Facts)
    return head


def glob(pattern: str) -> Callable[[str], bool]:
    """Return what says whether a text fits a glob, in which `*` stands for anything."""
    regex = re.compile(text_regex(pattern), re.DOTALL)
    return lambda text: regex.fullmatch(text) is not None


def head_filter(search: Search) -> Callable[[Head], bool]:
    """Return what says whether an exchange fits all of a search but its times and its `text`.

    Lists that were cut for the head (`extproc.recording.facts.MAX_LISTED`) are looked through as far as it has them.
    """
    tests: list[Callable[[dict[str, Any]], bool]] = []
    if (user := search.user) is not None:
        tests.append(lambda facts: user in {facts.get("user"), facts.get("principal")})
    if (principal := search.principal) is not None:
        tests.append(lambda facts: facts.get("principal") == principal)
    if (group := search.group) is not None:
        tests.append(lambda facts: group in _list(facts, "groups"))
    for name, wanted in (("model", search.model), ("outcome", search.outcome)):
        if wanted is not None:
            tests.append(lambda facts, name=name, wanted=wanted: facts.get(name) == wanted)  # type: ignore[misc]
    if search.repository is not None:
        repository = glob(search.repository)
        tests.append(lambda facts: repository(facts.get("repository") or ""))
    if search.path is not None:
        path = glob(search.path)
        tests.append(lambda facts: any(map(path, _list(facts, "paths"))))
    if search.finding is not None:
        rule = glob(search.finding)
        tests.append(lambda facts: any(rule(one["rule"]) for one in _list(facts, "findings")))
    session = search.session
    return lambda head: (session is None or head.session == session) and all(test(head.facts) for test in tests)


def says(document: Mapping[str, Any], text: str) -> bool:
    """Say whether a text occurs, without regard to case, in what was asked and answered."""
    wanted = text.casefold()
    request, response = document.get("request") or {}, document.get("response") or {}
    left: list[Any] = [request.get(name) for name in _ASKED] + [response.get(name) for name in _ANSWERED]
    while left:
        match left.pop():
            case str() as found if wanted in found.casefold():
                return True
            case list() as items:
                left += items
            case dict() as members:
                left += members.values()
    return False


def said_anew(document: Mapping[str, Any]) -> str:
    """Return the texts of an exchange that were not said before: agents send the whole conversation again each time.

    Those are what follows the last message of an assistant, the calls of a client, and all of the answer. Arguments of
    calls are JSON in a text: the texts in it are returned as they were meant. Images are left out.
    """
    request, response = document.get("request") or {}, document.get("response") or {}
    messages = request.get("messages")
    left: list[Any] = [response.get(name) for name in reversed(_ANSWERED)]
    left += [request.get("tool_calls"), new_messages(messages if isinstance(messages, list) else [])]
    found: list[str] = []
    while left:
        match left.pop():
            case str() as text if not text.startswith("data:"):
                found.append(text)
            case list() as items:
                left += reversed(items)
            case dict() as members:
                left += [_meant(name, members[name]) for name in reversed(members) if name not in _LABELS]
    return "\n".join(found)


def new_messages(messages: list[Any]) -> list[Any]:
    """Return the messages of this turn: those after the last one of an assistant."""
    for at in range(len(messages) - 1, -1, -1):
        if isinstance(messages[at], dict) and messages[at].get("role") == "assistant":
            return messages[at + 1 :]
    return messages


def _meant(name: str, value: Any) -> Any:  # noqa: ANN401 - JSON
    if name != "arguments" or not isinstance(value, str):
        return value
    try:
        return msgspec.json.decode(value)
    except (msgspec.DecodeError, UnicodeEncodeError, RecursionError):
        return value


def session_row(session: str, heads: Iterable[Head]) -> SessionRow:
    """Sum up a session, of which these are the exchanges, at least one, in any order."""
    ordered = sorted(heads, key=lambda head: head.at)
    facts = [head.facts for head in ordered]
    return SessionRow(
        id=session,
        user=_last(facts, "user"),
        principal=_last(facts, "principal"),
        started_at=ordered[0].at / 1_000_000,
        ended_at=max(head.facts.get("closed_at") or head.at for head in ordered) / 1_000_000,
        exchanges=len(ordered),
        models=sorted({model for one in facts if (model := one.get("model")) is not None}),
        outcomes=dict(Counter(one.get("outcome") or "unknown" for one in facts)),
        client=_last(facts, "client"),
        repositories=sorted({repository for one in facts if (repository := one.get("repository"))}),
        input_tokens=sum(one.get("input_tokens") or 0 for one in facts),
        output_tokens=sum(one.get("output_tokens") or 0 for one in facts),
        findings=sum(how_many(one, "findings") for one in facts),
        approvals=sum(how_many(one, "approvals") for one in facts),
    )


def how_many(facts: Mapping[str, Any], name: str) -> int:
    """Return how long a list of facts is, with what was cut from it (`extproc.recording.facts.bounded`)."""
    more: int = facts.get(f"{name}_more") or 0
    return len(facts.get(name) or ()) + more


def bounds_of_steps(since: float, until: float, steps: int) -> list[float]:
    """Return where steps of equal length begin, and the end of the last; raises ValueError where there are none."""
    # Written so that what is not a number fails, too.
    if not (1 <= steps <= MAX_STEPS and 0 <= since < until < math.inf):
        raise ValueError(f"expected a span of time and 1 to {MAX_STEPS} steps")
    return [since + (until - since) * step / steps for step in range(steps)] + [until]


def overview(steps: list[Step], uses: Iterable[ModelUse]) -> Overview:
    """Sum up steps; `uses` are those of all models."""
    most = sorted(uses, key=lambda use: (-use.input_tokens - use.output_tokens, use.model))
    return Overview(
        steps=steps,
        exchanges=sum(step.exchanges for step in steps),
        findings=sum(step.findings for step in steps),
        refused=sum(step.refused for step in steps),
        models=most[:MODELS_SHOWN],
    )


def finding_rows(head: Head) -> list[FindingRow]:
    """Return the findings of an exchange, as far as its head has them."""
    facts = head.facts
    return [
        FindingRow(
            id=f"{head.id}-{position}",
            exchange=head.id,
            session=head.session,
            opened_at=head.at / 1_000_000,
            user=facts.get("user"),
            principal=facts.get("principal"),
            model=facts.get("model"),
            repository=facts.get("repository"),
            **found,
        )
        for position, found in enumerate(_list(facts, "findings"))
    ]


def finding_fits(row: FindingRow, search: FindingSearch) -> bool:
    """Say whether a finding fits all of a search but its times."""
    names = ("direction", "action", "session", "fingerprint")
    return (
        (search.rule is None or glob(search.rule)(row.rule))
        and (search.user is None or search.user in {row.user, row.principal})
        and search.principal in {None, row.principal}
        and all(getattr(search, name) in {None, getattr(row, name)} for name in names)
    )


def _list(facts: dict[str, Any], name: str) -> list[Any]:
    value: list[Any] = facts.get(name) or []
    return value


def _last(facts: list[dict[str, Any]], name: str) -> Any:  # noqa: ANN401 - JSON
    return next((value for one in reversed(facts) if (value := one.get(name)) is not None), None)
