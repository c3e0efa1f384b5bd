"""A ledger in memory, and targets that fail when told to."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from typing import Any

from extproc.errors import StoreUnavailable
from extproc.feed.event import Event
from extproc.feed.port import TargetUnavailable
from extproc.recording.entry import Chain, Draft, Kind, WrappedKey
from extproc.store.port import Stored

AT = 1_760_000_000_000_001


class MemoryLedger:
    """Implement what the feed asks of a `Ledger`; entries are put as a shipper would, in any order."""

    def __init__(self) -> None:
        self.stored: dict[str, dict[int, Stored]] = {}
        self.notes: dict[str, list[str]] = {}
        self.down = False
        self.reads = 0

    def put(self, *entries: Stored) -> None:
        for entry in entries:
            self.stored.setdefault(entry.log, {})[entry.index] = entry

    def checkpoint(self, log: str, size: int) -> None:
        self.notes.setdefault(log, []).append(
            f"gateway.example/{log}\n{size}\ncm9vdA==\nat 1\n\n— gateway.example c2ln\n"
        )

    def logs(self) -> list[str]:
        if self.down:
            raise StoreUnavailable("the store is away")
        return sorted({*self.stored, *self.notes})

    def entries(self, log: str, start: int = 0, *, bodies: bool = True) -> Iterator[Stored]:
        assert not bodies
        self.reads += 1
        for index in sorted(self.stored.get(log, {})):
            if index >= start:
                yield self.stored[log][index]

    def find(self, exchange_id: str) -> Stored | None:
        raise NotImplementedError

    def checkpoints(self, log: str, *, newest: int | None = None) -> list[str]:
        notes = self.notes.get(log, [])
        return notes if newest is None else notes[-newest:]

    def blobs(self, session: str, addresses: Collection[str]) -> dict[str, bytes]:
        raise NotImplementedError

    def key(self, session: str, key_id: str) -> WrappedKey | None:
        raise NotImplementedError


def entries_of(log: str, kinds: Sequence[Kind] | int, **facts: Any) -> list[Stored]:
    """Return the entries of a log from its beginning: of these kinds, or so many exchanges."""
    chain, result = Chain(log), []
    for index, kind in enumerate([Kind.EXCHANGE] * kinds if isinstance(kinds, int) else kinds):
        draft = Draft(kind, f"{log}-{index}", "s1", AT + index, facts or {"user": "alice"})
        sealed, chain = chain.seal(draft)
        result.append(Stored(log, index, sealed.head, sealed.hash, None))
    return result


class MemoryTarget:
    """Keep what is sent; `failures` times it is away, and then has only taken the first event."""

    def __init__(self) -> None:
        self.name = "feeds[0]"
        self.failures = 0
        self.fault: Exception | None = None
        self.got: list[Event] = []
        self.sizes: list[int] = []

    async def send(self, events: Sequence[Event]) -> None:
        if self.fault is not None:
            raise self.fault
        if self.failures:
            self.failures -= 1
            self.got += events[:1]
            raise TargetUnavailable("the target is away")
        self.got += events
        self.sizes.append(len(events))

    def places(self, log: str | None = None) -> list[tuple[str, int]]:
        return [(event.log, event.index) for event in self.got if log in {None, event.log}]
