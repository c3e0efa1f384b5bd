"""Group exchanges into sessions."""

from __future__ import annotations

import hashlib
from collections import OrderedDict
from dataclasses import dataclass
from functools import lru_cache

from extproc.recording.turn import Turns


@dataclass(slots=True)
class _Open:
    session: str
    last_seen: float


class Sessions:
    """Name the session of each exchange.

    A client that names its session (`x-client-session-id` and the like) decides the grouping, but only among the
    exchanges of its own principal: a session id is what a client says, not evidence. Where the client says nothing, all
    that the same principal sends with the same client within `gap_seconds` of each other is one session; that part is
    held in memory, so a restart begins new ones. At most `limit` such sessions are remembered, the least recent go.
    `turns` knows what belongs together within a session.
    """

    def __init__(self, *, gap_seconds: float, limit: int = 50_000) -> None:
        self.turns = Turns()
        self._gap = gap_seconds
        self._limit = limit
        self._open: OrderedDict[tuple[str, str], _Open] = OrderedDict()

    def name(self, principal_id: str, named: str | None, user_agent: str | None, now: float) -> str:
        """Return the session id: 16 hex digits, the same for the same principal and session name, always."""
        if named is not None:
            return _digest("named", principal_id, named)
        key = (principal_id, user_agent or "")
        known = self._open.pop(key, None)
        if known is None or now - known.last_seen > self._gap:
            known = _Open(_digest("timed", *key, repr(now)), now)
        known.last_seen = max(known.last_seen, now)
        self._open[key] = known
        if len(self._open) > self._limit:
            self._open.popitem(last=False)
        return known.session


@lru_cache(maxsize=1024)
def _digest(*parts: str) -> str:
    # Each part is preceded by its length, so that no two lists of parts give the same bytes.
    text = "".join(f"{len(part)}:{part}" for part in parts)
    return hashlib.sha256(text.encode("utf-8", "surrogateescape")).hexdigest()[:16]
