"""Check that the parts of entries are in the store: bodies, blobs and data keys. Pure."""

from __future__ import annotations

from dataclasses import dataclass, field
from hashlib import sha256
from typing import Final

from extproc.recording.entry import Head, Kind, read_head
from extproc.store.port import Ledger
from extproc.verification.fault import MAX_FAULTS, Fault, FaultKind, Faults
from extproc.verification.ranges import Ranges

BATCH_HEADS: Final = 4000
"""Entries with blobs whose blobs are asked for together: the store is asked once per session in it."""

BATCH_BLOBS: Final = 128
"""Blobs that are in memory together."""

_KNOWN_KEYS: Final = 10_000
"""Data keys of which it is remembered that they are there."""


def fault_at(kind: FaultKind, log: str, index: int, head: Head, what: str) -> Fault:
    """Return a fault of the entry that is kept at this place with this head."""
    is_exchange = head.kind is Kind.EXCHANGE
    return Fault(
        kind=kind,
        log=log,
        what=what,
        first=index,
        last=index,
        exchange=head.id if is_exchange else None,
        session=head.session if is_exchange else None,
        at=head.at,
    )


@dataclass(slots=True)
class PartsCheck:
    """Check the parts of the entries of one log, given in order.

    `bodiless` are the indexes of entries whose body is missing, `keyless` one entry for each data key that is missing;
    what was removed by rule is among them. All else that is wrong is in `faults`.
    """

    log: str
    ledger: Ledger
    faults: Faults = field(default_factory=Faults)
    bodiless: Ranges = field(default_factory=Ranges)
    keyless: dict[tuple[str, str], Fault] = field(default_factory=dict)
    _keys: set[tuple[str, str]] = field(default_factory=set)
    _heads: dict[int, bytes] = field(default_factory=dict)
    _waiting: dict[str, dict[str, int]] = field(default_factory=dict)
    _foreign: list[tuple[int, Head, str]] = field(default_factory=list)
    _wanted: dict[str, int] = field(default_factory=dict)

    def check(self, index: int, head: Head, canonical: bytes, body: bytes | None) -> bool:
        """Check one entry; return whether its body is there and is the one that was recorded."""
        if head.key is not None:
            self._check_key(index, head, head.key)
        if body is None:
            if head.body is not None:
                # Its blobs may have gone with it.
                self.bodiless.add(index, index + 1)
                return False
        elif (digest := sha256(body).hexdigest()) != head.body or len(body) != head.size:
            self._wrong_body(index, head, digest)
            return False
        if head.blobs:
            # Bytes, not the head: thousands of objects that wait would slow down Python's garbage collection.
            self._heads[index] = canonical
            addresses = self._waiting.setdefault(head.session, {})
            for address in head.blobs:
                addresses[address] = index
            if len(self._heads) >= BATCH_HEADS:
                self._check_blobs()
        return True

    def end(self) -> None:
        """Check what is left."""
        self._check_blobs()
        for index, head, digest in self._foreign:
            where = self._wanted.get(digest)
            if head.body is None:
                kind, what = FaultKind.INSERTED, "it has a body, and was recorded without one"
            elif where is not None:
                kind, what = FaultKind.REORDERED, f"its body is that of entry {where}"
            else:
                kind, what = FaultKind.EDITED, f"its body was changed: it was recorded with the hash {head.body}"
            self.faults.add(fault_at(kind, self.log, index, head, what))

    # Bodies that were swapped are told from those that were edited when all are seen.
    def _wrong_body(self, index: int, head: Head, digest: str) -> None:
        if len(self._foreign) == MAX_FAULTS:
            self.faults.more += 1
            return
        self._foreign.append((index, head, digest))
        if head.body is not None:
            self._wanted[head.body] = index

    def _check_key(self, index: int, head: Head, key: str) -> None:
        name = (head.session, key)
        if name in self._keys or name in self.keyless:
            return
        if self.ledger.key(head.session, key) is None:
            what = f"the data key {key} of its session is missing, and no prune record says why"
            self.keyless[name] = fault_at(FaultKind.REMOVED, self.log, index, head, what)
            return
        if len(self._keys) >= _KNOWN_KEYS:
            self._keys.clear()
        self._keys.add(name)

    def _check_blobs(self) -> None:
        for session, wanted in self._waiting.items():
            addresses = list(wanted)
            for start in range(0, len(addresses), BATCH_BLOBS):
                self._compare(session, addresses[start : start + BATCH_BLOBS], wanted)
        self._waiting.clear()
        self._heads.clear()

    def _compare(self, session: str, addresses: list[str], wanted: dict[str, int]) -> None:
        found = self.ledger.blobs(session, addresses)
        for address in addresses:
            data = found.get(address)
            if data is None:
                kind, what = FaultKind.REMOVED, f"the part {address} of its body is missing"
            elif sha256(data).hexdigest() != address:
                kind, what = FaultKind.EDITED, f"the part {address} of its body was changed"
            else:
                continue
            index = wanted[address]
            self.faults.add(fault_at(kind, self.log, index, read_head(self._heads[index]), what))
