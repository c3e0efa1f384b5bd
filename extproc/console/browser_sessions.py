"""Server-side sessions of browsers: kept in this process's memory only, found by a cookie that says nothing."""

from __future__ import annotations

import hashlib
import re
import secrets
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Final

from starlette.requests import Request
from starlette.types import ASGIApp, Message, Receive, Scope, Send

PENDING_SECONDS: Final = 600.0
"""How long a session lasts in which nobody has signed in yet: the time to sign in at the issuer."""

_COOKIE: Final = "extproc-session"
# Browsers take such a cookie only over https, for the whole host and from no other host (RFC 6265bis section 4.1.3.2).
_SECURE_COOKIE: Final = f"__Host-{_COOKIE}"
_ID_BYTES: Final = 32
_ID: Final = re.compile("[A-Za-z0-9_-]{43}")  # 32 bytes in base64url
_VISIT: Final = "extproc.visit"


@dataclass(slots=True)
class _Kept:
    values: dict[str, Any]
    begun: float
    seen: float


@dataclass(slots=True)
class _Visit:
    """One request: the key of its session where it has one, and the cookie to send where that changed."""

    scope: Scope
    key: bytes | None
    is_over: bool = False
    cookie: str | None = None


class BrowserSessions:
    """Put the session of a browser, a dict, into the scope; it begins when something is put into it.

    Times in seconds: after signing in (`renew`) it ends `seconds` later, or after a silence of `idle_seconds`; before,
    after PENDING_SECONDS. At most `limit` are kept, half of them signed in: who comes without signing in pushes out
    only others of that kind, and of each kind the oldest go first. Requests of live parts of a page (x-fragment) break
    no silence, since nobody need be there.
    """

    def __init__(
        self,
        app: ASGIApp,
        *,
        now: Callable[[], float],
        is_secure: bool,
        seconds: float,
        idle_seconds: float,
        limit: int = 10_000,
    ) -> None:
        self._app = app
        self._now = now
        self._name = _SECURE_COOKIE if is_secure else _COOKIE
        self._attributes = "; HttpOnly; Path=/; SameSite=Lax" + ("; Secure" if is_secure else "")
        self._pending = _Sessions(limit // 2, PENDING_SECONDS, PENDING_SECONDS)
        self._signed_in = _Sessions(limit - limit // 2, seconds, idle_seconds)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handle a request with its session, which is a new and empty one where the cookie names none."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        visit = _Visit(scope, self._key(scope))
        kept = None if visit.key is None else self._find(visit.key, is_person=not _is_fragment(scope))
        if kept is None:
            visit.key = None
        scope["session"] = {} if kept is None else kept.values
        scope[_VISIT] = (self, visit)

        async def sending(message: Message) -> None:
            # It must be known before the browser has the cookie.
            if message["type"] == "http.response.start":
                if visit.key is None and not visit.is_over and scope["session"]:
                    self._begin(visit, self._pending)
                if visit.cookie is not None:
                    message = {**message, "headers": [*message["headers"], (b"set-cookie", visit.cookie.encode())]}
            await send(message)

        await self._app(scope, receive, sending)

    def renew(self, visit: _Visit) -> None:
        """Do what `renew` of this module says."""
        self._forget(visit)
        self._begin(visit, self._signed_in)

    def end(self, visit: _Visit) -> None:
        """Do what `end` of this module says."""
        self._forget(visit)
        visit.key, visit.is_over = None, True
        visit.cookie = f"{self._name}={self._attributes}; Max-Age=0"

    def _key(self, scope: Scope) -> bytes | None:
        lines = [value.decode("latin-1") for name, value in scope["headers"] if name == b"cookie"]
        pairs = [pair.strip(" \t").partition("=") for line in lines for pair in line.split(";")]
        found = [value for name, _, value in pairs if name == self._name]
        # A cookie that comes twice was put there by somebody else, and nobody can tell which is ours.
        return _key_of(found[0]) if len(found) == 1 and _ID.fullmatch(found[0]) else None

    def _find(self, key: bytes, *, is_person: bool) -> _Kept | None:
        now = self._now()
        found = self._signed_in.find(key, now)
        if found is None:
            return self._pending.find(key, now)
        if is_person:
            self._signed_in.touch(key, now)
        return found

    def _begin(self, visit: _Visit, where: _Sessions) -> None:
        name, now = secrets.token_urlsafe(_ID_BYTES), self._now()
        visit.key = _key_of(name)
        where.put(visit.key, _Kept(visit.scope["session"], now, now))
        visit.cookie = f"{self._name}={name}{self._attributes}"

    def _forget(self, visit: _Visit) -> None:
        if visit.key is not None:
            self._pending.discard(visit.key)
            self._signed_in.discard(visit.key)
        # Other requests of the browser that are under way have the same dict: it is emptied, and this one gets another.
        visit.scope["session"].clear()
        visit.scope["session"] = {}


def renew(request: Request) -> None:
    """Give somebody who has just signed in a new and empty session under a new id; the old one is forgotten.

    An id that somebody else knew before, or put into the browser, is worth nothing afterwards (session fixation).
    """
    sessions, visit = request.scope[_VISIT]
    sessions.renew(visit)


def end(request: Request) -> None:
    """Forget the session and take the cookie from the browser."""
    sessions, visit = request.scope[_VISIT]
    sessions.end(visit)


@dataclass(slots=True)
class _Sessions:
    """Sessions of one kind, by the digest of their id, in the order in which they were last used."""

    limit: int
    seconds: float
    idle_seconds: float
    kept: OrderedDict[bytes, _Kept] = field(default_factory=OrderedDict)

    def find(self, key: bytes, now: float) -> _Kept | None:
        """Return the session, where it has not ended."""
        found = self.kept.get(key)
        if found is not None and self._is_over(found, now):
            self.discard(key)
            return None
        return found

    def touch(self, key: bytes, now: float) -> None:
        """Note that it is used."""
        self.kept[key].seen = now
        self.kept.move_to_end(key)

    def put(self, key: bytes, one: _Kept) -> None:
        """Keep one more; those that ended go, and where there are too many the one that was not used for longest."""
        while self.kept:
            oldest, kept = next(iter(self.kept.items()))
            if len(self.kept) < self.limit and not self._is_over(kept, one.begun):
                break
            self.discard(oldest)
        self.kept[key] = one

    def discard(self, key: bytes) -> None:
        """Forget it, and what requests that are under way still hold of it."""
        found = self.kept.pop(key, None)
        if found is not None:
            found.values.clear()

    def _is_over(self, one: _Kept, now: float) -> bool:
        return now >= one.begun + self.seconds or now >= one.seen + self.idle_seconds


def _key_of(name: str) -> bytes:
    # Whoever reads this process's memory, a dump of it say, cannot use what they find.
    return hashlib.sha256(name.encode()).digest()


def _is_fragment(scope: Scope) -> bool:
    return (b"x-fragment", b"1") in scope["headers"]
