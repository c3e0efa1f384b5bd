"""What a viewer may read of the record: the one place where roles are applied to it, and where reading is recorded."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, replace
from itertools import islice
from typing import Any, Final, TypeVar

from extproc.console.accesses import Accesses
from extproc.console.fair import Fair
from extproc.console.roles import Viewer
from extproc.errors import ExtprocError
from extproc.masking.fingerprint import Fingerprints
from extproc.masking.private_key import searched_for
from extproc.recording.checkpoint import PublicKey
from extproc.store.port import (
    Archive,
    FindingPage,
    FindingSearch,
    Ledger,
    Listing,
    Overview,
    Search,
    SessionPage,
)
from extproc.tracing import trace as tracing
from extproc.tracing.trace import Range, Target
from extproc.verification.receipts import newest_checkpoint, receipt_of

MAX_SHOWN: Final = 200
"""Exchanges of a session that are shown at once."""

MAX_SHOWN_BYTES: Final = 64 * 1024 * 1024
"""How long their bodies were together, unless it is one: agents send all that was said each time."""

_NARROWING: Final = ("user", "group", "model", "outcome", "repository", "path", "finding", "session")


T = TypeVar("T")


class Unknown(ExtprocError):
    """Say that there is no such thing, or that this viewer may not know of it: nobody can tell which."""


@dataclass(frozen=True, slots=True)
class Slice:
    """Documents of a session in the order they were opened, from number `start` on; `more`: others follow."""

    session: str
    start: int
    documents: list[dict[str, Any]]
    more: bool


@dataclass(frozen=True, slots=True)
class Signed:
    """A checkpoint that an entry is below: who signed it and when (unix seconds), and how many entries it is about."""

    name: str
    at: float
    size: int


class Reading:
    """Read for viewers. Sources are opened when they are first needed: the gateway, which makes them, may start later.

    Every method raises `StoreUnavailable`, and `Busy` where too much of the same viewer is under way. Those that name
    one thing raise `Unknown`; those that need a key raise `ConfigError` where it is missing.
    """

    def __init__(
        self,
        *,
        archive: Callable[[], Archive],
        listing: Callable[[], Listing],
        ledger: Callable[[], AbstractContextManager[Ledger]],
        public_keys: Callable[[], Sequence[PublicKey]],
        fingerprint_key: Callable[[], bytes],
        accesses: Accesses,
    ) -> None:
        self._archive = archive
        self._listing = listing
        self._ledger = ledger
        self._public_keys = public_keys
        self._fingerprint_key = fingerprint_key
        self._accesses = accesses
        self._fair = Fair()

    def catch_up(self) -> None:
        """Have the listing catch up, which may take minutes; in a thread of its own."""
        self._listing().catch_up()

    async def overview(self, viewer: Viewer, *, since: float, until: float, steps: int, everyone: bool) -> Overview:
        """Return the figures of a time: of everyone, which says nothing of whom, or of the viewer alone."""
        principal = None if everyone else viewer.principal.id
        return await self._run(
            viewer, lambda: self._listing().overview(since=since, until=until, steps=steps, principal=principal)
        )

    async def sessions(self, viewer: Viewer, search: Search, *, limit: int, after: str | None) -> SessionPage:
        """Return a page of sessions, the newest first; raises ValueError for a cursor that is none."""
        if search.text is not None:
            # Whether one person said it is another question than whether anybody did.
            about = {name: told for name in _NARROWING if (told := getattr(search, name)) is not None}
            await self._accesses.note_once(viewer, "search", text=search.text, **about)
        confined = search if viewer.only is None else replace(search, principal=viewer.only)
        return await self._run(viewer, lambda: self._listing().sessions(confined, limit=limit, after=after))

    async def session(self, viewer: Viewer, session_id: str, *, start: int = 0, limit: int = MAX_SHOWN) -> Slice:
        """Return documents of a session, as many as are not too many and not too long; the reading is recorded."""

        def read() -> Slice:
            shown: list[dict[str, Any]] = []
            size = 0
            # One more than is shown tells whether there are more.
            for one in islice(self._archive().session(session_id), start, start + limit + 1):
                if not _may_see(viewer, one):
                    continue
                size += _body_bytes(one)
                if len(shown) == limit or (shown and size > MAX_SHOWN_BYTES):
                    return Slice(session_id, start, shown, more=True)
                shown.append(one)
            return Slice(session_id, start, shown, more=False)

        found = await self._run(viewer, read)
        if not found.documents:
            raise Unknown(f"no session has the id {session_id!r}")
        seen = len(found.documents)
        await self._accesses.note_once(viewer, "replay", target=session_id, start=start, exchanges=seen)
        return found

    async def exchange(self, viewer: Viewer, exchange_id: str) -> dict[str, Any]:
        """Return the document of an exchange; that somebody reads it is recorded."""
        document = await self._document(viewer, exchange_id)
        await self._accesses.note_once(viewer, "show", target=exchange_id, exchanges=1)
        return document

    async def signed(self, documents: Collection[Mapping[str, Any]]) -> dict[str, Signed]:
        """Return for those of these exchanges that are below a valid checkpoint the newest one of their log."""
        entries = {str(one["id"]): one["entry"] for one in documents if "entry" in one}

        def read() -> dict[str, Signed]:
            keys = self._public_keys()
            found: dict[str, Signed] = {}
            with self._ledger() as ledger:
                logs = {str(entry["log"]) for entry in entries.values()}
                newest = {log: newest_checkpoint(ledger, keys, log) for log in logs}
            for exchange_id, entry in entries.items():
                checkpoint = newest[entry["log"]]
                if checkpoint is not None and entry["index"] < checkpoint.size:
                    found[exchange_id] = Signed(checkpoint.name, checkpoint.at, checkpoint.size)
            return found

        return await asyncio.to_thread(read)

    async def receipt(self, viewer: Viewer, exchange_id: str, *, with_body: bool = False) -> bytes:
        """Return the receipt of an exchange, which was checked (`extproc.recording.receipt`).

        Raises ExtprocError, which says why, where it is not proven. With its body it is content: that is recorded.
        """
        await self._document(viewer, exchange_id)
        if with_body:
            await self._accesses.note(viewer, "receipt", exchange=exchange_id)

        def make() -> bytes:
            with self._ledger() as ledger:
                return receipt_of(ledger, self._public_keys(), exchange_id, with_body=with_body)

        return await self._run(viewer, make)

    async def findings(self, viewer: Viewer, search: FindingSearch, *, limit: int, after: str | None) -> FindingPage:
        """Return a page of findings, the newest first; raises ValueError for a cursor that is none."""
        confined = search if viewer.only is None else replace(search, principal=viewer.only)
        return await self._run(viewer, lambda: self._listing().findings(confined, limit=limit, after=after))

    async def fingerprint(self, secret: str) -> str:
        """Return the fingerprint by which findings of a secret are found; the secret is kept nowhere."""
        key = await asyncio.to_thread(self._fingerprint_key)
        return Fingerprints(key).of(searched_for(secret.encode("utf-8", "surrogatepass")))

    async def trace(self, viewer: Viewer, targets: Sequence[Target], before: float | None = None) -> list[Range]:
        """Return the suggestions that lines come from; that somebody asks is recorded."""
        lines = sum(len(one.wanted) for one in targets)
        await self._accesses.note(viewer, "trace", lines=lines)

        def run() -> list[Range]:
            proposals = _Visible(self._archive(), viewer)
            return list(tracing.trace(targets, self._fingerprint_key(), proposals, before))

        return await self._run(viewer, run)

    async def _run(self, viewer: Viewer, work: Callable[[], T]) -> T:
        return await self._fair.run(viewer.principal.id, work)

    async def _document(self, viewer: Viewer, exchange_id: str) -> dict[str, Any]:
        document = await self._run(viewer, lambda: self._archive().exchange(exchange_id))
        if document is None or not _may_see(viewer, document):
            raise Unknown(f"no exchange has the id {exchange_id!r}")
        return document


class _Visible:
    """What tracing asks of an archive, without what a viewer may not see."""

    def __init__(self, archive: Archive, viewer: Viewer) -> None:
        self._archive = archive
        self._viewer = viewer

    def lines(self, fingerprints: Collection[str]) -> Iterator[tuple[str, str]]:
        """Yield (fingerprint, exchange id) for exchanges that may be seen."""
        seen: dict[str, bool] = {}
        for fingerprint, exchange_id in self._archive.lines(fingerprints):
            if exchange_id not in seen:
                seen[exchange_id] = self._viewer.only is None or self.exchange(exchange_id) is not None
            if seen[exchange_id]:
                yield fingerprint, exchange_id

    def exchange(self, exchange_id: str) -> dict[str, Any] | None:
        """Return the document of an exchange that may be seen."""
        document = self._archive.exchange(exchange_id)
        return document if document is not None and _may_see(self._viewer, document) else None


def principal_of(document: Mapping[str, Any]) -> str | None:
    """Return the id of the principal of an exchange, also of one whose content was removed."""
    whose: str | None = (document.get("principal") or {}).get("id") or (document.get("facts") or {}).get("principal")
    return whose


def _may_see(viewer: Viewer, document: Mapping[str, Any]) -> bool:
    return viewer.only is None or principal_of(document) == viewer.only


def _body_bytes(document: Mapping[str, Any]) -> int:
    request, response = document.get("request") or {}, document.get("response") or {}
    return (request.get("body_bytes") or 0) + (response.get("body_bytes") or 0)
