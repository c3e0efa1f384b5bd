"""Show the document of an exchange (`extproc.recording.document`): what was said, decided, found and approved. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import takewhile
from typing import Any, Final

from extproc.console.showing import shapes
from extproc.console.showing.marks import Finding, Findings
from extproc.console.showing.messages import Kind, Message, Page, Part, Teller, begin_of_turn, place_of
from extproc.console.templates import visible
from extproc.masking.finding import Direction

CUT_CHARS: Final = 20_000
"""How much of a text a session's page shows; the page of the exchange shows it all."""

ALL_CHARS: Final = 4_000_000
"""How much of a text the page of an exchange shows: more than a browser can."""

MAX_EARLIER: Final = 500
"""Earlier messages that the page of an exchange shows."""


@dataclass(frozen=True, slots=True)
class Approval:
    """What waited for approvers; `waited` in seconds."""

    id: str
    state: str
    rule: str
    what: list[str]
    waited: float | None
    why: str | None
    covered_by: str | None
    verdicts: list[dict[str, Any]]


@dataclass(frozen=True, slots=True)
class Answer:
    """One choice of an answer."""

    parts: list[Part]
    finish_reason: str | None


@dataclass(frozen=True, slots=True)
class Shown:
    """An exchange as its template shows it; texts in it are as they were recorded, parts are markup.

    `earlier` counts the messages that were sent again and stand in earlier exchanges; `before` has them where the whole
    prompt is shown. `removed` says why there is no content. With `is_cut` the page was full before all was shown.
    """

    id: str
    session: str | None
    opened_at: float | None
    user: str | None
    model: str | None
    outcome: str
    removed: str | None = None
    request: str = ""
    turn: list[str] = field(default_factory=list)
    retry_of: str | None = None
    earlier: int = 0
    before: list[Message] = field(default_factory=list)
    messages: list[Message] = field(default_factory=list)
    calls: list[Part] = field(default_factory=list)
    answers: list[Answer] = field(default_factory=list)
    unparsed: list[Part] = field(default_factory=list)
    is_cut: bool = False
    approvals: list[Approval] = field(default_factory=list)
    findings: list[dict[str, str]] = field(default_factory=list)
    ending: list[tuple[str, str]] = field(default_factory=list)
    code: str | None = None
    error: str | None = None

    @property
    def failed(self) -> bool:
        """Say whether somebody who looks for errors wants to see it."""
        return self.error is not None or self.outcome not in {"completed", "-"}


def session(documents: Sequence[Mapping[str, Any]], *, numbered: bool) -> list[Shown]:
    """Show the exchanges of a session; turns are numbered where the documents begin with the session's first."""
    page, turns = Page(CUT_CHARS), dict[str, int]()
    return [_shown(one, page, turns if numbered else None, whole=False) for one in documents]


def alone(document: Mapping[str, Any]) -> Shown:
    """Show one exchange with its whole prompt."""
    return _shown(document, Page(ALL_CHARS), None, whole=True)


def _shown(document: Mapping[str, Any], page: Page, turns: dict[str, int] | None, *, whole: bool) -> Shown:
    if "removed" in document:
        return _removed(document)
    request = shapes.members(document.get("request"))
    response = shapes.members(document.get("response"))
    exchange_id = _id(document.get("id")) or ""
    findings = Findings(document.get("findings"))
    prompt = Teller(page, exchange_id, findings, Direction.PROMPT)
    answer = Teller(page, exchange_id, findings, Direction.ANSWER)
    messages, endpoint = shapes.elements(request.get("messages")), request.get("endpoint")
    begin = begin_of_turn(messages)
    # In their order, so that findings of earlier messages are not taken for those of later ones.
    shown = range(max(0, begin - MAX_EARLIER) if whole else begin, len(messages))
    told = {
        at: prompt.message(messages[at], place_of(endpoint, messages, at))
        for at in takewhile(lambda _: not page.is_full, shown)
    }
    turn = shapes.members(document.get("turn"))
    error = shapes.members(document.get("error"))
    return Shown(
        id=exchange_id,
        session=_id(document.get("session")),
        opened_at=shapes.number(document.get("opened_at")),
        user=shapes.text(shapes.members(document.get("principal")).get("name")),
        model=shapes.text(request.get("model")) or shapes.text(response.get("model")),
        outcome=shapes.text(document.get("outcome")) or "-",
        request=" ".join(filter(None, (shapes.text(request.get("method")), shapes.text(request.get("path"))))),
        turn=list(_turn(turn, turns)),
        retry_of=_id(turn.get("retry_of")),
        earlier=begin,
        before=[one for at, one in told.items() if at < begin],
        messages=[one for at, one in told.items() if at >= begin],
        calls=_calls(prompt, request),
        answers=_answers(answer, response),
        unparsed=answer.parts((Kind.OTHER, "", one) for one in shapes.elements(response.get("unparsed"))),
        # Known only now, when all of the above is told.
        is_cut=page.is_full,
        approvals=[_approval(one) for one in shapes.objects(document.get("approvals"))],
        findings=_told(findings.all),
        ending=list(_ending(document)),
        code=shapes.text(error.get("code")),
        error=shapes.text(error.get("message")) or shapes.text(response.get("error")),
    )


def _removed(document: Mapping[str, Any]) -> Shown:
    facts = shapes.members(document.get("facts"))
    return Shown(
        id=_id(document.get("id")) or "",
        session=_id(document.get("session")),
        opened_at=shapes.number(document.get("opened_at")),
        user=shapes.text(facts.get("user")),
        model=shapes.text(facts.get("model")),
        outcome=shapes.text(facts.get("outcome")) or "-",
        removed=shapes.text(document.get("removed")) or "removed",
        findings=_told(shapes.objects(facts.get("findings"))),
        code=shapes.text(facts.get("code")),
        ending=list(_ending({"response": facts, "decision": facts})),
    )


def _id(value: Any) -> str | None:  # noqa: ANN401 - JSON
    """Return a text that is to be in a URL too, where half a character cannot be."""
    told = shapes.text(value)
    return None if told is None else visible(told)


def _turn(turn: Mapping[str, Any], turns: dict[str, int] | None) -> Iterator[str]:
    turn_id, purpose = shapes.text(turn.get("id")), shapes.text(turn.get("purpose"))
    if turn_id is not None and turns is not None:
        yield f"turn {turns.setdefault(turn_id, len(turns) + 1)}"
    if purpose is not None:
        yield purpose


def _calls(teller: Teller, holder: Mapping[str, Any]) -> list[Part]:
    found = shapes.objects(holder.get("tool_calls"))
    return teller.parts((Kind.CALL, shapes.text(one.get("name")) or "?", one.get("arguments")) for one in found)


def _answers(teller: Teller, response: Mapping[str, Any]) -> list[Answer]:
    found: list[Answer] = []
    choices: list[Mapping[str, Any]] = [*shapes.objects(response.get("choices"))]
    for choice in choices or [response]:
        said = ((Kind.REASONING, choice.get("reasoning")), (Kind.TEXT, choice.get("text")))
        parts = teller.parts((kind, "", text) for kind, text in said if isinstance(text, str) and text)
        parts += _calls(teller, choice)
        if parts:
            found.append(Answer(parts, shapes.text(choice.get("finish_reason"))))
    return found


def _approval(approval: Mapping[str, Any]) -> Approval:
    waited = shapes.number(approval.get("waited_ms"))
    return Approval(
        id=_id(approval.get("id")) or "",
        state=shapes.text(approval.get("state")) or "?",
        rule=shapes.text(approval.get("rule")) or "?",
        what=[_touch(one) for one in shapes.objects(approval.get("touches"))],
        waited=None if waited is None else waited / 1000,
        why=shapes.text(approval.get("why")),
        covered_by=_id(approval.get("granted")),
        verdicts=[_verdict(one) for one in shapes.objects(approval.get("verdicts"))],
    )


def _touch(touch: Mapping[str, Any]) -> str:
    return " ".join(filter(None, (shapes.text(touch.get(name)) for name in ("act", "path", "repository", "branch"))))


def _told(findings: Sequence[Finding]) -> list[dict[str, str]]:
    names = ("rule", "direction", "where", "action", "fingerprint")
    return [{name: _id(one.get(name)) or "?" for name in names} for one in findings]


def _verdict(verdict: Mapping[str, Any]) -> dict[str, Any]:
    return {
        "name": shapes.text(verdict.get("name")) or shapes.text(verdict.get("approver")) or "?",
        "approved": verdict.get("approved") is True,
        "reason": shapes.text(verdict.get("reason")),
        "scope": shapes.text(verdict.get("scope")),
        "at": shapes.number(verdict.get("at")),
    }


def _ending(document: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    response, decision = shapes.members(document.get("response")), shapes.members(document.get("decision"))
    usage = shapes.members(response.get("usage")) or response
    client, timing = shapes.members(document.get("client")), shapes.members(document.get("timing"))
    closed = shapes.number(timing.get("closed"))
    facts = (
        ("status", response.get("status")),
        ("rule", decision.get("rule")),
        ("finish reason", response.get("finish_reason")),
        ("tokens in", usage.get("input_tokens")),
        ("tokens out", usage.get("output_tokens")),
        ("took", None if closed is None else f"{closed / 1000:.1f} s"),
        ("repository", shapes.members(document.get("request")).get("repository")),
        ("client", client.get("user_agent")),
    )
    yield from ((name, told) for name, value in facts if (told := shapes.text(value)) is not None)
