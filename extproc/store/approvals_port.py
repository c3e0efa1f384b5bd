"""What approvals ask of a store: one side holds exchanges and waits, the other answers."""

from __future__ import annotations

from typing import Literal, Protocol

from extproc.approval.approval import Approval, Request, State, Verdict, VerdictRefusal
from extproc.approval.event import Event, View

Ending = Literal[State.CANCELLED, State.EXPIRED, State.INTERRUPTED]


class Held(Protocol):
    """Keep the approvals that exchanges wait for.

    Only events are stored (`extproc.approval.event`), append-only; an approval ends once, by compare-and-swap over all
    processes. What is written is durable when the call returns. Every call raises `StoreUnavailable` where the store
    cannot be read, or where it is not known that it took the event. Safe for many concurrent callers on one event loop;
    a cancelled caller may or may not have written.
    """

    async def request(self, request: Request) -> None:
        """Begin an approval. Its id must be new."""
        ...

    async def end(self, approval_id: str, state: Ending, at: float) -> Approval | None:
        """End a pending approval; return how it ended, which is otherwise when it had ended before. None: unknown."""
        ...

    async def granted(self, principal: str, rule_id: str, session: str) -> list[Approval]:
        """Return what was approved for more than once and may cover a request, the newest first, at most 100.

        These are approvals for a window, and those for this session, of the last 24 hours at least: no longer window
        can be given. `extproc.approval.approval.covers` decides.
        """
        ...

    async def get(self, approval_id: str) -> Approval | None:
        """Return an approval as it stands."""
        ...

    async def ended(self, after: str | None) -> tuple[str, list[str]]:
        """Return the ids of the approvals that ended after a cursor, by whatever process, and the next cursor.

        None begins now. They are in no order, and one that ended shortly before the cursor may be among them again.
        Meant to be asked a few times a second, once for all that a process waits for.
        """
        ...


class Answers(Protocol):
    """Answer approvals and look at them; durability, errors and concurrency are as for `Held`."""

    async def verdict(self, approval_id: str, verdict: Verdict, groups: frozenset[str]) -> Approval | VerdictRefusal:
        """Add a verdict if `extproc.approval.approval.decide` accepts it at `verdict.at`.

        It is decided and written in one step: of two verdicts at once, the second is judged after the first.
        """
        ...

    async def viewed(self, approval_id: str, view: View) -> Approval | None:
        """Write down that somebody looks at an approval, and return it. None: unknown."""
        ...

    async def get(self, approval_id: str) -> Approval | None:
        """Return an approval as it stands."""
        ...

    async def newest(
        self,
        *,
        state: State | None = None,
        approver_groups: frozenset[str] | None = None,
        user: str | None = None,
        limit: int = 100,
    ) -> list[Approval]:
        """Return the newest approvals that fit all that is given, the newest first.

        `approver_groups`: one of them may decide. `user` is the name or id of who asked.
        """
        ...

    async def events(self, approval_id: str) -> list[Event]:
        """Return all that happened to an approval, in order; nothing for an unknown one."""
        ...


class Approvals(Held, Answers, Protocol):
    """Be both sides: what an adapter implements."""
