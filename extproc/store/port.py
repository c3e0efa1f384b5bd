"""What recording asks of a store, and what readers ask of it.

Five ports, each declared by its user: `Recorder` (an exchange, answered by the spool), `Store` (the shipper, which
moves the spool's entries), `Archive` (people who look at exchanges), `Listing` (the console's lists of very many) and
`Ledger` (whoever proves that nothing was changed). `Eraser` is for removing by rule. Conformance suites in tests/store
run over every adapter.
"""

from __future__ import annotations

from collections.abc import Awaitable, Collection, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, Final, Protocol

from extproc.recording.entry import Blob, Sealed, WrappedKey


class Recorder(Protocol):
    """Keep what happens in exchanges, append-only.

    An exchange has one opening and at most one closing; neither is ever changed. What `append` returns is done only
    when they are durable (they survive a power cut), and fails with `StoreUnavailable` when that is not so or not
    known. Both of one call become durable together. Safe for many concurrent callers on one event loop; what was called
    is written, whether or not anybody waits for it. Both are JSON objects; the caller does not change them after the
    call.
    """

    def append(self, opening: dict[str, Any] | None, closing: dict[str, Any] | None) -> Awaitable[None]:
        """Make opening and closing durable."""
        ...

    def answering(self, exchange_id: str, status: int, content_type: str | None) -> None:
        """Note that an answer's headers are about to go to the client; as `piece`."""
        ...

    def piece(self, exchange_id: str, at: float, data: bytes) -> None:
        """Note bytes that are about to go to the client, `at` milliseconds after the opening.

        When it returns they survive the death of this process, if not a power cut; the caller releases them only then.
        Raises `StoreUnavailable`.
        """
        ...


class Conflict(Exception):
    """Say that a store already has something else where this belongs: somebody altered the record.

    `what` names the entry or blob. Never retried: it is an alarm.
    """

    def __init__(self, what: str) -> None:
        super().__init__(f"the store has something else in the place of {what}")
        self.what = what


class Store(Protocol):
    """Take entries and keep them for good; only ever creates.

    Everything may be put again: what is there already and equal is done. So a caller that does not know whether a
    call succeeded repeats it. Raises `StoreUnavailable` where something may not have been taken (part of it may have
    been), and `Conflict` where something different is in its place; then everything else of the call was taken or
    `StoreUnavailable` raised. What is taken is durable. One caller at a time.
    """

    async def put(self, entries: Sequence[Sealed], blobs: Sequence[Blob] = (), keys: Sequence[WrappedKey] = ()) -> None:
        """Take these, keys and blobs first: an entry that is there has its parts. Sessions and logs may be mixed."""
        ...

    async def put_checkpoint(self, log: str, size: int, note: str) -> None:
        """Take a signed checkpoint of a log."""
        ...

    async def aclose(self) -> None:
        """Let go of files and connections."""
        ...


@dataclass(frozen=True, slots=True)
class SessionRow:
    """One line of a session list; times in unix seconds."""

    id: str
    user: str | None
    principal: str | None
    started_at: float
    ended_at: float
    exchanges: int
    models: list[str]
    outcomes: dict[str, int]
    client: str | None
    repositories: list[str]
    input_tokens: int
    output_tokens: int
    findings: int
    approvals: int


@dataclass(frozen=True, slots=True)
class FindingRow:
    """One finding, with what is known of its exchange.

    `id` is the exchange and the place among the `findings` of its document. `opened_at` is in unix seconds, `at` in
    milliseconds after it. `direction` and `action` are as in `extproc.masking.finding`.
    """

    id: str
    exchange: str
    session: str
    opened_at: float
    user: str | None
    principal: str | None
    model: str | None
    repository: str | None
    rule: str
    direction: str
    where: str
    offset: int
    action: str
    at: float
    fingerprint: str


@dataclass(frozen=True, slots=True)
class Search:
    """Which exchanges are meant: those that fit all that is given.

    `user` is a name or a principal's id, `principal` nothing but the id. `repository`, `path` (of a file that a tool
    call names) and `finding` (the id of a rule) are globs where `*` stands for anything. `text` is looked for, without
    regard to case, in what was asked and answered. `since` and `until` are unix seconds and mean the opening; `until`
    itself is not included.
    """

    user: str | None = None
    group: str | None = None
    model: str | None = None
    outcome: str | None = None
    repository: str | None = None
    path: str | None = None
    finding: str | None = None
    session: str | None = None
    text: str | None = None
    since: float | None = None
    until: float | None = None
    principal: str | None = None


@dataclass(frozen=True, slots=True)
class FindingSearch:
    """Which findings are meant: those that fit all that is given; `rule` is a glob, the rest is as in `Search`."""

    rule: str | None = None
    user: str | None = None
    direction: str | None = None
    action: str | None = None
    session: str | None = None
    fingerprint: str | None = None
    since: float | None = None
    until: float | None = None
    principal: str | None = None


class Archive(Protocol):
    """Read what was recorded; changes nothing. Raises `StoreUnavailable`.

    A document is that of `extproc.recording.document`. Of an exchange whose body was removed by rule, or whose data key
    was erased, it has `id`, `session`, `opened_at`, `facts` and `removed`, which says why.
    """

    def sessions(self, search: Search = Search(), *, limit: int = 100) -> list[SessionRow]:
        """Return the most recent sessions that have an exchange that fits, the newest first."""
        ...

    def session(self, session_id: str) -> Iterator[dict[str, Any]]:
        """Yield the documents of a session in the order they were opened; nothing for an unknown one."""
        ...

    def exchange(self, exchange_id: str) -> dict[str, Any] | None:
        """Return the document of an exchange."""
        ...

    def exchanges(self, search: Search = Search(), *, limit: int | None = None) -> Iterator[dict[str, Any]]:
        """Yield the documents that fit, the oldest first."""
        ...

    def findings(self, search: FindingSearch = FindingSearch(), *, limit: int = 100) -> list[FindingRow]:
        """Return the most recent findings that fit, the newest first."""
        ...

    def lines(self, fingerprints: Collection[str]) -> Iterator[tuple[str, str]]:
        """Yield (fingerprint, exchange id) for every exchange that proposed a line with one of these."""
        ...


@dataclass(frozen=True, slots=True)
class SessionPage:
    """A page of sessions; `after` is the cursor of the next page, None where nothing is left."""

    rows: list[SessionRow]
    after: str | None


@dataclass(frozen=True, slots=True)
class FindingPage:
    """A page of findings; `after` as in `SessionPage`."""

    rows: list[FindingRow]
    after: str | None


@dataclass(frozen=True, slots=True)
class Step:
    """What was opened in one step of time, which begins `at` (unix seconds); `refused` have a code in their facts."""

    at: float
    exchanges: int
    findings: int
    refused: int


@dataclass(frozen=True, slots=True)
class ModelUse:
    """What a model was asked for."""

    model: str
    exchanges: int
    input_tokens: int
    output_tokens: int


@dataclass(frozen=True, slots=True)
class Overview:
    """What was opened in a span of time: in equal steps, and as a whole; the models with most tokens first."""

    steps: list[Step]
    exchanges: int
    findings: int
    refused: int
    models: list[ModelUse]


MODELS_SHOWN: Final = 10
"""Most models in an overview."""


class Listing(Protocol):
    """List what is in an archive of a million exchanges, page by page. Changes nothing of the record.

    Called from several threads. Raises `StoreUnavailable`, and ValueError for a cursor that is none.
    """

    def sessions(self, search: Search = Search(), *, limit: int = 50, after: str | None = None) -> SessionPage:
        """Return sessions that have an exchange that fits, that with the newest such first; each is summed up whole."""
        ...

    def overview(self, *, since: float, until: float, steps: int, principal: str | None = None) -> Overview:
        """Sum up what was opened from `since` on and before `until`, in so many steps; nothing in one is zeros.

        Raises ValueError where there is no such span or no step.
        """
        ...

    def findings(
        self, search: FindingSearch = FindingSearch(), *, limit: int = 50, after: str | None = None
    ) -> FindingPage:
        """Return the findings that fit, the newest first."""
        ...

    def catch_up(self) -> None:
        """Take in what is new, take out what was removed by rule: what an index does on its own account, now and then.

        It may take minutes. The other methods answer from what is there now, too.
        """
        ...


@dataclass(frozen=True, slots=True)
class Stored:
    """An entry as a store has it, which may not be what was put.

    `index` is the place that the store keeps it at. `hash` is what the store says it is. `body` is None where there is
    none (any more).
    """

    log: str
    index: int
    head: bytes
    hash: str
    body: bytes | None
    lines: list[str] = field(default_factory=list)


class Ledger(Protocol):
    """Read the record as evidence: bytes, not meanings. Changes nothing. Raises `StoreUnavailable`."""

    def logs(self) -> list[str]:
        """Return the names of all logs that have an entry or a checkpoint, sorted."""
        ...

    def entries(self, log: str, start: int = 0, *, bodies: bool = True) -> Iterator[Stored]:
        """Yield the entries of a log from index `start` on, in the order of their indexes.

        Without `bodies`, `body` is always None; that is faster.
        """
        ...

    def find(self, exchange_id: str) -> Stored | None:
        """Return the entry of an exchange."""
        ...

    def checkpoints(self, log: str, *, newest: int | None = None) -> list[str]:
        """Return the signed notes of a log that the store has, the smallest size first; with `newest` the last few."""
        ...

    def blobs(self, session: str, addresses: Collection[str]) -> dict[str, bytes]:
        """Return those of these blobs that are there."""
        ...

    def key(self, session: str, key_id: str) -> WrappedKey | None:
        """Return a data key, None where it was erased."""
        ...


class Eraser(Protocol):
    """Remove by rule; needs rights that the service itself does not have. Raises `StoreUnavailable`.

    Called only after the prune record that lists what is removed is in the store. Removing what is gone is no error.
    """

    def remove_bodies(self, entries: Sequence[tuple[str, int]]) -> int:
        """Remove the bodies of these entries, given as (log, index), and keep their heads; return how many there were.

        Lines of these entries go too.
        """
        ...

    def remove_blobs(self, session: str, addresses: Collection[str]) -> int:
        """Remove these blobs; return how many there were."""
        ...

    def remove_keys(self, session: str) -> int:
        """Remove the data keys of a session: what they encrypted is gone for good; return how many there were."""
        ...

    def remove_entries(self, log: str, below: int) -> int:
        """Remove the entries of a log with an index below this one, heads and all; return how many there were."""
        ...
