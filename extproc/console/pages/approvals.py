"""Approvals: what waits for whom, what is proposed, and the verdict."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from markupsafe import Markup, escape
from starlette.requests import Request
from starlette.responses import RedirectResponse, Response

from extproc.approval.approval import Approval, Scope, State, Verdict, VerdictRefusal, Why
from extproc.approval.change import text_of as change_of
from extproc.approval.event import Event, Kind, View
from extproc.approval.touch import Touch
from extproc.console.answering import MAX_WAITING, NEEDS_REASON, STATUS, answer, choices_of, may_see, newest_for
from extproc.console.asked import choice_of, exchange_link, text_of
from extproc.console.guard import PageRoute
from extproc.console.page import PageFault, address_of, console_of, form_of, is_fragment, page, viewer_of
from extproc.console.reading import Unknown
from extproc.console.roles import INVOLVED, Viewer
from extproc.console.showing import change
from extproc.console.showing.marks import Marker
from extproc.errors import StoreUnavailable

MAX_HISTORY: Final = 200
MAX_REASON_CHARS: Final = 4000

FOLDED_LINES: Final = 400
"""A proposed change of more lines is folded, with what is in it said outside."""


@dataclass(frozen=True, slots=True)
class Waiting:
    """What waits: for the viewer, that with the least time first, and for others, the newest first."""

    mine: list[Approval]
    others: list[Approval]


@dataclass(frozen=True, slots=True)
class Change:
    """A proposed change as it is shown."""

    drawn: Markup
    lines: int
    added: int
    removed: int

    @property
    def is_long(self) -> bool:
        """Say whether it is folded."""
        return self.lines > FOLDED_LINES


@dataclass(frozen=True, slots=True)
class Happening:
    """Something that happened to an approval; looks of one person are told together, `at` is the last one."""

    what: str
    at: float
    who: str | None
    name: str | None
    address: str | None
    reason: str = ""
    times: int = 1


# --- The list --------------------------------------------------------------------------------------------------------


async def show(request: Request) -> Response:
    """Show what waits and what was decided; the live part has only what waits."""
    console, viewer = console_of(request), viewer_of(request)
    store = console.approvals()
    pending = await newest_for(viewer, store, state=State.PENDING, limit=MAX_WAITING)
    waiting = _sorted(pending, viewer, console.now())
    if is_fragment(request):
        return page(request, "approvals_waiting.html", waiting=waiting, in_words=in_words)
    state = choice_of(request.query_params, "state", State)
    user = text_of(request.query_params, "user")
    found = await newest_for(viewer, store, state=state, user=user, limit=MAX_HISTORY)
    history = [one for one in found if state is not None or one.state is not State.PENDING]
    return page(
        request,
        "approvals.html",
        waiting=waiting,
        in_words=in_words,
        history=history,
        is_cut=len(found) == MAX_HISTORY,
        state=state,
        states=list(State),
        user=user,
    )


def _sorted(pending: list[Approval], viewer: Viewer, now: float) -> Waiting:
    mine = [one for one in pending if choices_of(one, viewer, now).approve]
    others = [one for one in pending if one not in mine]
    return Waiting(sorted(mine, key=lambda one: one.request.expires_at), others)


def in_words(touch: Touch) -> str:
    """Say what a touch does to what, and where."""
    where = [] if touch.repository is None else [f"in {touch.repository}"]
    where += [] if touch.branch is None else [f"on {touch.branch}"]
    what = [touch.path] if touch.path is not None else ([] if where else ["anything"])
    return " ".join([touch.act, *what, *where])


# --- One approval ----------------------------------------------------------------------------------------------------


async def show_one(request: Request) -> Response:
    """Show an approval and what it proposes; that somebody looks is recorded. The live part has only how it stands."""
    if is_fragment(request):
        return page(request, "approval_state.html", approval=await _approval(request), viewer_id=_id(request))
    return await _detail(request, await _approval(request))


async def decide(request: Request) -> Response:
    """Add a verdict; where it is not accepted, the approval is shown as it stands, and why."""
    console, form = console_of(request), form_of(request)
    approval = await _approval(request)
    verdict = form.get("verdict")
    if verdict not in {"approve", "deny"}:
        raise PageFault(422, "verdict: expected approve or deny.")
    approved = verdict == "approve"
    reason = form.get("reason", "").replace("\r\n", "\n").strip()
    scope = choice_of(form, "scope", Scope) if approved else None
    if len(reason) > MAX_REASON_CHARS:
        told = f"The reason is longer than {MAX_REASON_CHARS} characters."
        return await _detail(request, approval, status=422, told=told, reason=reason)
    if not approved and not reason:
        return await _detail(request, approval, status=422, told=NEEDS_REASON)
    try:
        result = await answer(
            viewer_of(request),
            console.approvals(),
            approval.request.id,
            approved=approved,
            reason=reason,
            scope=scope or Scope.ONCE,
            now=console.now(),
            address=address_of(request),
        )
    except StoreUnavailable:
        told = "The store of approvals cannot be used at the moment; look up whether your verdict counts."
        raise PageFault(503, told) from None
    if isinstance(result, VerdictRefusal):
        if result.why is Why.UNKNOWN:
            raise Unknown(result.message)
        now_it_is = await _approval(request)
        return await _detail(request, now_it_is, status=STATUS[result.why], told=result.message, reason=reason)
    return RedirectResponse(f"/approvals/{approval.request.id}", 303)


async def _approval(request: Request) -> Approval:
    approval = await console_of(request).approvals().get(request.path_params["id"])
    if approval is None or not may_see(approval, viewer_of(request)):
        raise Unknown("no approval has this id")
    return approval


async def _detail(
    request: Request, approval: Approval, *, status: int = 200, told: str | None = None, reason: str = ""
) -> Response:
    console, viewer = console_of(request), viewer_of(request)
    store, asked, who = console.approvals(), approval.request, viewer.principal
    await store.viewed(asked.id, View(who.id, who.name, console.now(), address_of(request)))
    sees_session = viewer.sees_everyone or who.id == asked.principal
    return page(
        request,
        "approval.html",
        status=status,
        approval=approval,
        viewer_id=who.id,
        choices=choices_of(approval, viewer, console.now()),
        change=_change(asked.proposal),
        happenings=_happenings(await store.events(asked.id)),
        exchange=exchange_link(asked.session, asked.exchange) if sees_session else None,
        in_words=in_words,
        told=told,
        reason=reason,
        max_reason=MAX_REASON_CHARS,
    )


def _id(request: Request) -> str:
    return viewer_of(request).principal.id


class _Plain(Marker):
    """Mark nothing: what was masked in a proposal is told by the exchange, which is not at hand here."""

    def markup(self, text: str) -> Markup:
        """Return the text, escaped."""
        return escape(text)


def _change(proposal: str) -> Change:
    text = change_of(proposal)
    drawn = change.shown(text, _Plain(iter(())))
    # The lines themselves are escaped: none of them can say this.
    added, removed = (drawn.count(f'<span class="{name}">') for name in ("add", "del"))
    return Change(drawn, text.count("\n") + 1, added, removed)


def _happenings(events: list[Event]) -> list[Happening]:
    """Return what happened in its order, with the looks of each person together."""
    looks: dict[tuple[str | None, str | None], list[Event]] = {}
    found: list[Happening] = []
    for event in events:
        if event.kind is Kind.VIEWED:
            looks.setdefault((event.who, event.address), []).append(event)
        else:
            found.append(_happening(event))
    for each in looks.values():
        last = each[-1]
        found.append(Happening("looked at it", last.at, last.who, last.name, last.address, times=len(each)))
    return sorted(found, key=lambda one: one.at)


def _happening(event: Event) -> Happening:
    what, reason = {Kind.REQUESTED: "asked for it"}.get(event.kind, f"{event.state}"), ""
    if isinstance(event.document, Verdict):
        what, reason = ("approved" if event.document.approved else "denied"), event.document.reason
        what += f" ({event.document.scope})" if event.document.approved else ""
    return Happening(what, event.at, event.who, event.name, event.address, reason)


ROUTES: Final = (
    PageRoute("/approvals", show, INVOLVED),
    PageRoute("/approvals/{id}", show_one, INVOLVED),
    # Who may decide is said by the rule of each approval.
    PageRoute("/approvals/{id}/verdict", decide, INVOLVED, "POST"),
)
