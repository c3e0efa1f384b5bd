"""What is told of an approval: enough to decide whether to look at it, and never the proposal itself."""

from __future__ import annotations

from typing import Final, Literal, Protocol
from urllib.parse import quote

import msgspec

from extproc.approval.approval import Approval, State
from extproc.approval.touch import Touch
from extproc.errors import ExtprocError

# A notice stays small whatever a model proposes; the whole of it is behind the link.
MAX_TOUCHES: Final = 50
MAX_CHARS: Final = 512


class Notice(msgspec.Struct, frozen=True):
    """One notice, as it is sent: `touches` are the first of `touches_total`, `expires_at` is in unix seconds."""

    event: Literal["approval.requested", "approval.ended"]
    id: str
    state: State
    rule: str
    requester: str
    touches: tuple[Touch, ...]
    touches_total: int
    expires_at: float
    link: str | None


class NotSent(ExtprocError):
    """Say why a notice did not arrive, without any address or key; `again`: another try may help."""

    def __init__(self, reason: str, *, again: bool) -> None:
        super().__init__(reason)
        self.again = again


class Channel(Protocol):
    """Bring notices somewhere."""

    @property
    def name(self) -> str:
        """Return what logs call it: its place in the settings, since its address may be a secret."""
        ...

    async def send(self, notice: Notice) -> None:
        """Try once; raises NotSent. What failed may have arrived all the same."""
        ...


def notice_of(approval: Approval, link: str | None) -> Notice:
    """Return what to tell of an approval as it stands; `{id}` in `link` stands for its id."""
    request = approval.request
    return Notice(
        event="approval.requested" if approval.state is State.PENDING else "approval.ended",
        id=request.id,
        state=approval.state,
        rule=request.rule.rule_id,
        requester=request.name[:MAX_CHARS],
        touches=tuple(_cut(touch) for touch in request.touches[:MAX_TOUCHES]),
        touches_total=len(request.touches),
        expires_at=request.expires_at,
        link=None if link is None else link.replace("{id}", quote(request.id, safe="")),
    )


def _cut(touch: Touch) -> Touch:
    return Touch(
        touch.act,
        touch.tool[:MAX_CHARS],
        path=touch.path and touch.path[:MAX_CHARS],
        repository=touch.repository and touch.repository[:MAX_CHARS],
        branch=touch.branch and touch.branch[:MAX_CHARS],
    )
