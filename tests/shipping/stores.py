"""A store in memory that is strict about what the port promises, and that can be away, flap and lie."""

from __future__ import annotations

import asyncio
from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from extproc.errors import StoreUnavailable
from extproc.recording.checkpoint import Checkpoint, Signer, open_note
from extproc.recording.entry import Blob, Kind, Sealed, WrappedKey, address_of, read_head
from extproc.recording.merkle import Frontier, leaf_hash
from extproc.shipping.outlets import Cadence, Outlets
from extproc.store.port import Conflict
from extproc.witness.witnesses import Witnesses
from tests.recording_of import NOW

USUAL = Cadence()
SIGNER = Signer("gateway.example", Ed25519PrivateKey.from_private_bytes(bytes(32)))


class StrictStore:
    """Create only; an entry that is new must be the next of its log, and have its parts.

    `fails` is asked before each call, `fails_after` after what it put is there; one that returns True fails the call.
    """

    def __init__(self) -> None:
        self.logs: dict[str, list[Sealed]] = defaultdict(list)
        self.blobs: dict[tuple[str, str], bytes] = {}
        self.keys: dict[tuple[str, str], bytes] = {}
        self.notes: dict[str, dict[int, str]] = defaultdict(dict)
        self.calls = 0
        self.repeated = 0
        """How many entries came that were there already."""
        self.fails: Callable[[], bool] = bool
        self.fails_after: Callable[[], bool] = bool

    async def put(self, entries: Sequence[Sealed], blobs: Sequence[Blob] = (), keys: Sequence[WrappedKey] = ()) -> None:
        self._call()
        for key in keys:
            self.keys.setdefault((key.session, key.id), key.wrapped)
        for blob in blobs:
            assert address_of(blob.data) == blob.address
            self.blobs[blob.session, blob.address] = blob.data
        different = [name for one in entries if (name := self._put(one))]
        if different:
            raise Conflict(different[0])
        self._called()

    def _put(self, sealed: Sealed) -> str | None:
        head = read_head(sealed.head)
        assert address_of(sealed.head) == sealed.hash
        assert head.body == (None if sealed.body is None else address_of(sealed.body))
        log = self.logs[head.log]
        if head.index < len(log):
            self.repeated += 1
            return None if log[head.index] == sealed else f"entry {head.index} of log {head.log}"
        assert head.index == len(log), f"entry {head.index} came where {len(log)} belongs"
        assert not log or head.prev == log[-1].hash
        assert not log or read_head(log[-1].head).kind is not Kind.CLOSED
        for address in head.blobs:
            assert (head.session, address) in self.blobs
        assert head.key is None or (head.session, head.key) in self.keys
        log.append(sealed)
        return None

    async def put_checkpoint(self, log: str, size: int, note: str) -> None:
        self._call()
        assert size <= len(self.logs[log])
        if self.notes[log].setdefault(size, note) != note:
            raise Conflict(f"checkpoint {size} of log {log}")
        self._called()

    async def aclose(self) -> None:
        pass

    def _call(self) -> None:
        self.calls += 1
        if self.fails():
            raise StoreUnavailable("the store is away")

    def _called(self) -> None:
        if self.fails_after():
            raise StoreUnavailable("the store does not answer")

    # --- what tests look at ---------------------------------------------------------------------------------------

    def ids(self, log: str) -> list[str]:
        return [read_head(one.head).id for one in self.logs[log]]

    def exchanges(self) -> list[str]:
        """Return the ids of all exchanges, as often as they are there."""
        heads = [read_head(one.head) for log in self.logs.values() for one in log]
        return [head.id for head in heads if head.kind is Kind.EXCHANGE]

    def checkpoints(self, log: str) -> list[Checkpoint]:
        """Return the checkpoints of a log; each is signed, and is what the entries say."""
        opened = [open_note(note, [SIGNER.public]) for _, note in sorted(self.notes[log].items())]
        for one in opened:
            frontier = Frontier()
            for entry in self.logs[log][: one.size]:
                frontier.append(leaf_hash(entry.head))
            assert (one.origin, one.root) == (f"gateway.example/{log}", frontier.root())
        return opened


class Clock:
    def __init__(self) -> None:
        self.time = NOW

    def __call__(self) -> float:
        return self.time


class Pauses:
    """Pauses that take no time, and are written down."""

    def __init__(self) -> None:
        self.seconds: list[float] = []
        self.then: Callable[[], None] = lambda: None

    async def __call__(self, seconds: float) -> None:
        self.seconds.append(seconds)
        self.then()
        # Others get their turn, as in a real pause.

        await asyncio.sleep(0)


class WitnessInMemory:
    name = "memory"

    def __init__(self) -> None:
        self.notes: list[tuple[str, int, str]] = []

    async def publish(self, log: str, size: int, note: str) -> None:
        self.notes.append((log, size, note))


def outlets_to(
    store: StrictStore,
    clock: Clock,
    *,
    pauses: Pauses | None = None,
    cadence: Cadence = USUAL,
    witnesses: Iterable[WitnessInMemory] = (),
) -> Outlets:
    return Outlets(
        store,
        SIGNER,
        Witnesses(list(witnesses), now=clock),
        cadence,
        now=clock,
        jitter=lambda: 0.5,
        sleep=pauses or Pauses(),
    )
