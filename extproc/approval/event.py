"""The life of an approval as events, which are all that is stored of it; its state is folded from them. Pure."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from enum import StrEnum

from extproc.approval.approval import Approval, Request, State, Verdict


class Kind(StrEnum):
    """What happened."""

    REQUESTED = "requested"
    VERDICT = "verdict"
    ENDED = "ended"  # expired, cancelled or interrupted
    VIEWED = "viewed"


@dataclass(frozen=True, slots=True)
class View:
    """Somebody looked at the proposed change; `who` is the id of a principal, or of the local administrator."""

    who: str
    name: str
    at: float
    address: str | None = None


@dataclass(frozen=True, slots=True)
class Event:
    """One thing that happened to an approval: who did it (the gateway itself: None), when, from where.

    `sequence` counts an approval's events from 0. `state` is where the approval stands after it. `document` is the
    request or the verdict itself, None for the other kinds.
    """

    approval: str
    sequence: int
    kind: Kind
    state: State
    at: float
    who: str | None = None
    name: str | None = None
    address: str | None = None
    document: Request | Verdict | None = None


def requested(request: Request) -> Event:
    """Make the first event of an approval."""
    return Event(
        approval=request.id,
        sequence=0,
        kind=Kind.REQUESTED,
        state=State.PENDING,
        at=request.requested_at,
        who=request.principal,
        name=request.name,
        address=request.address,
        document=request,
    )


def decided(approval: Approval, sequence: int) -> Event:
    """Make the event of the last verdict of an approval."""
    verdict = approval.verdicts[-1]
    return Event(
        approval=approval.request.id,
        sequence=sequence,
        kind=Kind.VERDICT,
        state=approval.state,
        at=verdict.at,
        who=verdict.approver,
        name=verdict.name,
        address=verdict.address,
        document=verdict,
    )


def fold(events: Iterable[Event]) -> Approval | None:
    """Return the approval that these events, in their order, make; None for no events."""
    approval: Approval | None = None
    for event in events:
        match event:
            case Event(kind=Kind.REQUESTED, document=Request() as request):
                approval = Approval(request, State.PENDING)
            case Event(kind=Kind.VERDICT, document=Verdict() as verdict) if approval is not None:
                ended_at = None if event.state is State.PENDING else event.at
                verdicts = (*approval.verdicts, verdict)
                approval = replace(approval, state=event.state, verdicts=verdicts, ended_at=ended_at)
            case Event(kind=Kind.ENDED) if approval is not None:
                approval = replace(approval, state=event.state, ended_at=event.at)
            case Event(kind=Kind.VIEWED) if approval is not None:
                continue
            case _:
                raise ValueError(f"approval {event.approval}: event {event.sequence} ({event.kind}) fits nothing")
    return approval
