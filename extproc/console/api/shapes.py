"""What the REST API takes and answers, as its server and the command line's client know it. Pure."""

from __future__ import annotations

from typing import Annotated, Any, Final

import msgspec
from msgspec import Meta

from extproc.approval.approval import Scope, State, Verdict
from extproc.approval.event import Kind
from extproc.approval.touch import Touch
from extproc.masking.finding import Action, Direction
from extproc.recording.document import Outcome
from extproc.store.port import FindingRow, SessionRow
from extproc.tracing.trace import Range, Target

MAX_ROWS: Final = 500
MAX_DOCUMENTS: Final = 200
MAX_START: Final = 10_000_000
MAX_LONG_BODY_BYTES: Final = 8 * 1024 * 1024
"""Longest body of a trace, and of a secret that is looked for: JSON writes up to six bytes for one of its own."""

Rows = Annotated[int, Meta(ge=1, le=MAX_ROWS, description="At most so many.")]
Cursor = Annotated[str, Meta(description="`after` of the page before.")]
Glob = Annotated[str, Meta(description="`*` stands for anything.")]
Moment = Annotated[str, Meta(description="An ISO date or time, in UTC unless it says its zone, or an age such as 7d.")]
Words = Annotated[str, Meta(description="What was asked or answered; that somebody looks for it is recorded.")]
User = Annotated[str, Meta(description="The name or id of a principal.")]


class _Asked(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A query or a body: what nobody knows is refused, for it would be a filter that does not filter."""


# --- The record ------------------------------------------------------------------------------------------------------


class SessionsQuery(_Asked, frozen=True, kw_only=True):
    """Which sessions: those that have an exchange which fits all that is given."""

    user: User | None = None
    group: Annotated[str, Meta(description="A group of theirs.")] | None = None
    model: str | None = None
    outcome: Outcome | None = None
    repository: Glob | None = None
    path: Glob | None = None
    finding: Glob | None = None
    session: str | None = None
    text: Words | None = None
    since: Moment | None = None
    until: Moment | None = None
    limit: Rows = 100
    after: Cursor | None = None


class Sessions(msgspec.Struct, frozen=True, kw_only=True):
    """A page of sessions, that with the newest exchange first; `after` is null on the last page."""

    sessions: list[SessionRow]
    after: str | None


class SessionQuery(_Asked, frozen=True, kw_only=True):
    """Which exchanges of a session, counted from 0 in the order they were opened."""

    start: Annotated[int, Meta(ge=0, le=MAX_START)] = 0
    limit: Annotated[int, Meta(ge=1, le=MAX_DOCUMENTS)] = MAX_DOCUMENTS


class Session(msgspec.Struct, frozen=True, kw_only=True):
    """Documents of exchanges (docs/recording.md), from number `start` on; `more` says whether others follow."""

    session: str
    start: int
    documents: list[dict[str, Any]]
    more: bool


class ReceiptQuery(_Asked, frozen=True, kw_only=True):
    """Whether a receipt holds what was recorded; that it was asked for is recorded then."""

    body: bool = False


class FindingsQuery(_Asked, frozen=True, kw_only=True):
    """Which findings: those that fit all that is given."""

    rule: Glob | None = None
    user: User | None = None
    direction: Direction | None = None
    action: Action | None = None
    session: str | None = None
    fingerprint: str | None = None
    since: Moment | None = None
    until: Moment | None = None
    limit: Rows = 100
    after: Cursor | None = None


class Findings(msgspec.Struct, frozen=True, kw_only=True):
    """A page of findings, the newest first; `after` is null on the last page."""

    findings: list[FindingRow]
    after: str | None


class Match(_Asked, frozen=True, kw_only=True):
    """A secret whose findings are looked for; it is kept nowhere."""

    secret: Annotated[str, Meta(min_length=1)]
    limit: Rows = 100
    after: Cursor | None = None


class Trace(_Asked, frozen=True, kw_only=True):
    """Lines to trace: each of a target's `lines` has a number, only those `wanted` are reported, others help to decide.

    `before` is when they came to be, in unix seconds.
    """

    targets: list[Target]
    before: float | None = None


class Traced(msgspec.Struct, frozen=True, kw_only=True):
    """What is known of the lines that were wanted, in their order."""

    ranges: list[Range]


# --- Approvals -------------------------------------------------------------------------------------------------------


class ApprovalsQuery(_Asked, frozen=True, kw_only=True):
    """Which approvals; `user` is the name or id of who asked."""

    state: State | None = None
    user: User | None = None
    limit: Rows = 100


class ApprovalRow(msgspec.Struct, frozen=True, kw_only=True):
    """An approval without the proposed change (docs/approvals.md); times are unix seconds."""

    id: str
    state: State
    user: str
    principal: str
    rule: str
    message: str
    approvers: list[str]
    count: int
    scopes: list[Scope]
    touches: list[Touch]
    exchange: str
    session: str
    model: str | None
    requested_at: float
    expires_at: float
    seconds_left: float | None
    ended_at: float | None
    verdicts: list[Verdict]


class EventRow(msgspec.Struct, frozen=True, kw_only=True):
    """One thing that happened to an approval."""

    sequence: int
    kind: Kind
    state: State
    at: float
    who: str | None
    name: str | None
    address: str | None
    verdict: Verdict | None


class ApprovalDetail(ApprovalRow, frozen=True, kw_only=True):
    """An approval with the proposed change and all that happened to it."""

    proposal: str
    events: list[EventRow]


class Approvals(msgspec.Struct, frozen=True, kw_only=True):
    """Approvals, the newest first."""

    approvals: list[ApprovalRow]


class Answer(_Asked, frozen=True, kw_only=True):
    """A verdict; `scope` is for approving only, and a denial needs a reason."""

    reason: str = ""
    scope: Scope = Scope.ONCE


# --- Errors ----------------------------------------------------------------------------------------------------------


class ErrorFacts(msgspec.Struct, frozen=True, kw_only=True):
    """A stable code, and one sentence for people."""

    code: str
    message: str


class Error(msgspec.Struct, frozen=True, kw_only=True):
    """Why there is no answer."""

    error: ErrorFacts
