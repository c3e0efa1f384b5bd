"""What a spool writes for an exchange, and the chain of its log: packed, protected, sealed. No I/O."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

import msgspec

from extproc.recording.document import merged
from extproc.recording.entry import Chain, Draft, Kind
from extproc.recording.envelope import DataKey
from extproc.recording.facts import bounded, facts_of, microseconds
from extproc.recording.packing import body_of, identity, pack
from extproc.spool import records

MAX_KNOWN: Final = 200_000
"""So many addresses of stored parts are remembered, the sessions used longest ago go first. A part that was forgotten
is stored again, which changes nothing: it has the same address."""


MAX_SESSIONS: Final = 10_000
"""So many sessions are remembered."""

SESSION_SECONDS: Final = 3600.0
"""How long what a session has stored counts as stored, and its data key is used. Much shorter than bodies are kept, so
that nothing refers to what is removed with the bodies that stored it; and an erased data key is used no longer."""


NewKey = Callable[[str, str], DataKey]
"""Makes the data key of a session, given the session and the key's id."""


@dataclass(slots=True)
class _Open:
    """An exchange that was opened: what of it is needed until it is sealed."""

    session: str
    packed: bytes
    slim: dict[str, Any]
    """The opening without what was asked: the facts are made of it."""
    listed: list[str]
    key: DataKey | None
    sent: int = 0


@dataclass(slots=True)
class _Session:
    """What is remembered of a session since some time: its data key, and the addresses of what is stored."""

    since: float
    key: DataKey | None
    known: set[str] = field(default_factory=set)


@dataclass(slots=True)
class Frames:
    """Payloads to be written together, and what is true once they are."""

    chain: Chain
    payloads: list[bytes] = field(default_factory=list)
    opened: dict[str, _Open] = field(default_factory=dict)
    sealed: set[str] = field(default_factory=set)
    known: dict[str, set[str]] = field(default_factory=dict)


class Sealer:
    """Turn openings and closings into the records of one log.

    `add` and `end` fill `Frames` and change nothing else; `commit` says that they were written. These are called one
    after the other, in any thread; `place` and `is_open` meanwhile, on the event loop. `lines` returns the fingerprints
    of the lines of code that the answer in a document proposes; what was asked is not in that document.
    """

    def __init__(
        self,
        chain: Chain,
        *,
        lines: Callable[[Mapping[str, Any]], list[str]] = lambda _: [],
        new_key: NewKey | None = None,
    ) -> None:
        self.chain = chain
        self._lines = lines
        self._new_key = new_key
        self._key_count = 0
        self._open: dict[str, _Open] = {}
        self._sessions: OrderedDict[str, _Session] = OrderedDict()
        self._known_count = 0

    @property
    def open_count(self) -> int:
        """Return how many exchanges were opened and not sealed."""
        return len(self._open)

    def is_open(self, exchange_id: str) -> bool:
        """Say whether an exchange was opened and is not sealed."""
        return exchange_id in self._open

    def place(self, exchange_id: str, data: bytes) -> tuple[int, bytes] | None:
        """Return where bytes stand in an answer, and how they are kept; None for an exchange that is not open."""
        opened = self._open.get(exchange_id)
        if opened is None:
            return None
        offset = opened.sent
        opened.sent += len(data)
        return offset, data if opened.key is None else opened.key.protect(data)

    def begin(self) -> Frames:
        """Return empty frames that go on where the log stands."""
        return Frames(self.chain)

    def add(self, frames: Frames, opening: dict[str, Any] | None, closing: dict[str, Any] | None) -> None:
        """Add what records an opening, a closing, or both at once; on an error nothing was added."""
        blobs: list[tuple[str, bytes]] = []
        if opening is not None:
            exchange_id: str = opening["id"]
            opened, blobs = self._opened(frames, opening)
        elif closing is not None:
            exchange_id = closing["id"]
            if exchange_id in frames.sealed:
                raise ValueError("the exchange is closed already")
            opened = frames.opened.get(exchange_id) or self._open[exchange_id]
        else:
            raise ValueError("nothing to record")
        chain = frames.chain
        if closing is None:
            payload = records.encoded(opened_record(exchange_id, opened, blobs))
            frames.opened[exchange_id] = opened
        else:
            payload, chain = entry_payload(chain, self._draft(opened, closing), opened.key, blobs)
            frames.sealed.add(exchange_id)
        frames.chain = chain
        frames.payloads.append(payload)
        if blobs:
            frames.known.setdefault(opened.session, set()).update(address for address, _ in blobs)

    def end(self, frames: Frames, now: float, reason: str) -> None:
        """Add the entry that closes the log."""
        payload, frames.chain = entry_payload(frames.chain, closed(self.chain.log, now, reason))
        frames.payloads.append(payload)

    def commit(self, frames: Frames) -> None:
        """Take over what was written."""
        self.chain = frames.chain
        self._open.update(frames.opened)
        for exchange_id in frames.sealed:
            self._open.pop(exchange_id, None)
        for session, addresses in frames.known.items():
            self._remember(session, addresses)

    def reopen(self, record: records.Opened, opening: bytes, key: DataKey | None) -> None:
        """Take over an exchange that a dead process left open; `opening` is the record's, in the clear."""
        slim = _slim(msgspec.json.decode(opening))
        self._open[record.id] = _Open(record.session, opening, slim, record.listed, key)

    def _opened(self, frames: Frames, opening: dict[str, Any]) -> tuple[_Open, list[tuple[str, bytes]]]:
        session: str = opening["session"]
        kept = self._session(session, opening["opened_at"])
        key, known, fresh = kept.key, kept.known, frames.known.get(session, ())
        packed = pack(
            opening,
            protect=identity if key is None else key.protect,
            is_known=lambda address: address in known or address in fresh,
        )
        listed = [address for address, _ in packed.blobs]
        return _Open(session, packed.data, _slim(opening), listed, key), packed.blobs

    def _draft(self, opened: _Open, closing: dict[str, Any]) -> Draft:
        body = body_of(opened.packed, closing)
        document = merged(opened.slim, closing)
        return Draft(
            kind=Kind.EXCHANGE,
            id=closing["id"],
            session=opened.session,
            at=microseconds(opened.slim["opened_at"]),
            facts=facts_of(document),
            body=body if opened.key is None else opened.key.protect(body),
            blobs=opened.listed,
            key=None if opened.key is None else opened.key.id,
            lines=self._lines(document),
        )

    def _session(self, session: str, now: float) -> _Session:
        kept = self._sessions.get(session)
        if kept is None or now - kept.since > SESSION_SECONDS:
            self._known_count -= 0 if kept is None else len(kept.known)
            kept = self._sessions[session] = _Session(now, self._key(session))
        self._sessions.move_to_end(session)
        while len(self._sessions) > MAX_SESSIONS or (self._known_count > MAX_KNOWN and len(self._sessions) > 1):
            self._known_count -= len(self._sessions.popitem(last=False)[1].known)
        return kept

    def _key(self, session: str) -> DataKey | None:
        if self._new_key is None:
            return None
        # One that is made again must have another name: it is another key.
        self._key_count += 1
        return self._new_key(session, f"{self.chain.log}.{self._key_count}")

    def _remember(self, session: str, addresses: Collection[str]) -> None:
        # Of a session that was let go meanwhile the parts are stored again.
        if (kept := self._sessions.get(session)) is not None:
            before = len(kept.known)
            kept.known.update(addresses)
            self._known_count += len(kept.known) - before


def closed(log: str, now: float, reason: str) -> Draft:
    """Return the entry that ends a log."""
    at = microseconds(now)
    return Draft(Kind.CLOSED, closed_id(log), session_of(log), at, bounded({"reason": reason}))


def closed_id(log: str) -> str:
    """Return the id of the entry that ends a log."""
    return f"{log}.closed"


def session_of(log: str) -> str:
    """Return where entries belong that are of no session: to their log."""
    return f"log:{log}"


def opened_record(exchange_id: str, opened: _Open, blobs: list[tuple[str, bytes]]) -> records.Opened:
    """Return the record of an opening."""
    kept = opened.packed if opened.key is None else opened.key.protect(opened.packed)
    return records.Opened(exchange_id, opened.session, kept, _wrapped(opened.key), blobs, opened.listed)


def entry_payload(
    chain: Chain, draft: Draft, key: DataKey | None = None, blobs: Sequence[tuple[str, bytes]] = ()
) -> tuple[bytes, Chain]:
    """Seal a draft; return the record of the entry, and the chain after it."""
    sealed, following = chain.seal(draft)
    record = records.Entry(
        id=draft.id,
        index=chain.index,
        session=draft.session,
        head=sealed.head,
        hash=sealed.hash,
        body=sealed.body,
        lines=sealed.lines,
        key=_wrapped(key),
        blobs=list(blobs),
    )
    return records.encoded(record), following


def _wrapped(key: DataKey | None) -> records.WrappedKey | None:
    return None if key is None else (key.id, key.wrapped)


def _slim(opening: dict[str, Any]) -> dict[str, Any]:
    request = dict(opening["request"])
    request.pop("messages", None)
    request.pop("tools", None)
    return {**opening, "request": request}
