"""The console's pages for tests: over real stores in a folder of their own, each request by whoever is named."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path
from typing import Any, Final
from urllib.parse import urlencode

import aiohttp
import httpx
from aiohttp import web
from starlette.responses import PlainTextResponse
from starlette.types import ASGIApp, Receive, Scope, Send

from extproc import stores
from extproc.approval.approval import Request
from extproc.config_recording import Places, RecordingSettings, StoreSettings
from extproc.console.accesses import Accesses
from extproc.console.app import make_app
from extproc.console.composed import once
from extproc.console.configuration import Configuration
from extproc.console.page import Console
from extproc.console.reading import Reading
from extproc.console.roles import Roles
from extproc.console.services import Services
from extproc.console.templates import environment
from extproc.dev.users import DEMO_USERS
from extproc.exchange_id import exchange_id
from extproc.identity.principal import Principal
from extproc.keys.fingerprint_key import load_or_create_key
from extproc.store.sqlite_approvals import SqliteApprovals
from extproc.store.sqlite_store import SqliteStore
from extproc.tracing.lines import proposed_fingerprints
from tests.approving import request
from tests.recording_of import NOW, Exchange, Log

URL: Final = "http://127.0.0.1:8088"
CSRF: Final = "the token of this session"

HOSTILE: Final = "<script>alert(1)</script>\"'><img src=x onerror=alert(2)>\u202e{{7*7}}"
"""A text that would run, or be read in another order, where a page does not escape it."""


class Desk:
    """A console, the stores that it reads, and what a browser does.

    `now` may be set; records and approvals may be added at any time. Users are those of `DEMO_USERS`.
    """

    def __init__(self, places: Places, approvals: SqliteApprovals, services: Services) -> None:
        self.now = NOW + 60
        self.places = places
        self.approvals = approvals
        self.key = load_or_create_key(places.fingerprint_key)
        self._log = Log()
        self.console = self._console(services)
        pages = make_app(self.console, _no_api, _NoSignIn(), _SignedIn)  # type: ignore[arg-type]
        transport = httpx.ASGITransport(pages, client=("192.0.2.7", 4711))
        self._client = httpx.AsyncClient(transport=transport, base_url=URL)

    def _console(self, services: Services) -> Console:
        def now() -> float:
            return self.now

        reading = Reading(
            archive=once(lambda: stores.archive_of(self.places)),
            listing=once(lambda: stores.listing_of(self.places, now)),
            ledger=lambda: stores.opened_ledger(self.places),
            public_keys=list,
            fingerprint_key=lambda: self.key,
            accesses=Accesses(self.places, now, exchange_id),
        )
        groups = {name: frozenset({name}) for name in ("developers", "approvers", "auditors", "admins")}
        return Console(
            reading=reading,
            approvals=lambda: self.approvals,
            services=services,
            roles=Roles(groups["developers"], groups["approvers"], groups["auditors"], groups["admins"]),
            configuration=Configuration("1.0", "settings", "policy", "digest"),
            templates=environment(),
            now=now,
            url=URL,
        )

    async def record(self, *exchanges: Exchange) -> None:
        """Record exchanges (`tests.recording_of.exchange`), with the lines that they propose."""
        entries = []
        before = len(self._log.blobs)
        for opening, closing in exchanges:
            lines = proposed_fingerprints(closing["response"], self.key, opening["request"])
            entries.append(self._log.exchange(opening, closing, lines=lines))
        store = SqliteStore(self.places.record)
        try:
            await store.put(entries, self._log.blobs[before:])
        finally:
            await store.aclose()

    async def ask(self, approval_id: str, **changes: Any) -> Request:
        """Let something wait for approval (`tests.approving.request`)."""
        one = request(approval_id, **{"requested_at": NOW, "expires_at": NOW + 900, **changes})
        await self.approvals.request(one)
        return one

    async def get(self, path: str, user: str | None = "alice", *, part: bool = False, **query: str) -> httpx.Response:
        """Load a page as somebody, or the live part of it; `query` is for paths that have none."""
        return await self._client.get(
            path, params=query or None, headers=_as(user) | ({"x-fragment": "1"} if part else {})
        )

    async def post(self, path: str, user: str | None = "alice", **fields: str) -> httpx.Response:
        """Send a form of the pages as somebody; `csrf` is right unless it is given."""
        headers = _as(user) | {"content-type": "application/x-www-form-urlencoded", "sec-fetch-site": "same-origin"}
        return await self._client.post(path, headers=headers, content=urlencode({"csrf": CSRF, **fields}))

    async def aclose(self) -> None:
        """Close what was opened."""
        await self._client.aclose()
        await self.approvals.aclose()


@asynccontextmanager
async def opened(folder: Path, metrics: Sequence[str | None] = ("extproc_streams_open 3\n",)) -> AsyncIterator[Desk]:
    """Give a desk over an empty record; each of `metrics` is what one service says of itself, None fails."""
    places = Places(folder, Path(), StoreSettings(sqlite=Path("record.db")), RecordingSettings(replica="console"))
    store = SqliteStore(places.record)
    await store.put([])
    await store.aclose()
    approvals = SqliteApprovals(places.approvals, instance="gateway", now=NOW)
    async with _serving(metrics) as addresses, aiohttp.ClientSession() as session:
        desk = Desk(places, approvals, Services(addresses, session))
        try:
            yield desk
        finally:
            await desk.aclose()


def principal(user: str) -> Principal:
    """Return a demo user, verified; the ids are those of `tests.approving` and `tests.recording_of`."""
    return Principal(f"issuer#{user}", user, "person", "issuer", user, frozenset(DEMO_USERS.get(user, ())))


def is_inert(html: str) -> bool:
    """Say whether a page shows `HOSTILE`, and none of it as markup, as code of a template or in another order."""
    runs = re.search(r"<script>alert|<img src=x|\u202e|[\"']&gt;&lt;img", html)
    return runs is None and "&lt;script&gt;alert(1)&lt;/script&gt;" in html and "{{7*7}}" in html


@asynccontextmanager
async def _serving(metrics: Sequence[str | None]) -> AsyncIterator[list[str]]:
    runners, addresses = [], []
    for text in metrics:
        app = web.Application()
        app.router.add_get("/metrics", partial(_metrics, text))
        runner = web.AppRunner(app, access_log=None)
        await runner.setup()
        site = web.TCPSite(runner, "127.0.0.1", 0)
        await site.start()
        runners.append(runner)
        addresses.append(f"http://127.0.0.1:{runner.addresses[0][1]}")
    try:
        yield addresses
    finally:
        for runner in runners:
            await runner.cleanup()


async def _metrics(text: str | None, _request: web.Request) -> web.Response:
    return web.Response(text=text, status=503 if text is None else 200)


def _as(user: str | None) -> dict[str, str]:
    return {} if user is None else {"x-user": user}


class _SignedIn:
    """Put the session of whoever the request names into the scope, as `browser_sessions` does for a cookie."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        user = dict(scope["headers"]).get(b"x-user")
        scope["session"] = {} if user is None else {"principal": principal(user.decode()), "csrf": CSRF}
        await self._app(scope, receive, send)


class _NoSignIn:
    """Stand for the sign-in, which has tests of its own."""

    def routes(self) -> list[Any]:
        """Return no routes."""
        return []


_no_api = PlainTextResponse("no API here", 404)
