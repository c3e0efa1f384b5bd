"""The signed checkpoints of each log that verification knows, from the store and from witnesses. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from hashlib import sha256
from typing import Final

from extproc.recording.checkpoint import BadCheckpoint, Checkpoint, PublicKey, open_note
from extproc.verification.fault import Fault, FaultKind, moment

STORE: Final = "the store"
WITNESS: Final = "a witness"


@dataclass(frozen=True, slots=True)
class Signed:
    """What a valid checkpoint says of a log, and where it is from."""

    size: int
    root: bytes
    at: int
    source: str

    def __str__(self) -> str:
        return f"the checkpoint of {self.size} entries that {self.source} has, signed {moment(self.at)}"


@dataclass(slots=True)
class Signatures:
    """The valid checkpoints of one log: of each size and root the first one.

    `last_at` is the time of the latest. `any_bad` says whether the store has others, which are faults of their own.
    """

    by_size: dict[int, list[Signed]] = field(default_factory=dict)
    last_at: int | None = None
    any_bad: bool = False

    def add(self, checkpoint: Checkpoint, source: str) -> None:
        """Take a checkpoint whose signature was checked."""
        self.last_at = checkpoint.at if self.last_at is None else max(self.last_at, checkpoint.at)
        same_size = self.by_size.setdefault(checkpoint.size, [])
        if all(one.root != checkpoint.root for one in same_size):
            same_size.append(Signed(checkpoint.size, checkpoint.root, checkpoint.at, source))

    @property
    def largest(self) -> Signed | None:
        """The one with most entries."""
        return self.by_size[max(self.by_size)][0] if self.by_size else None


class KnownCheckpoints:
    """Check notes, and keep what they say by log: as much as there are checkpoints, not entries."""

    def __init__(self, keys: Sequence[PublicKey], witnessed: Iterable[str]) -> None:
        self._keys = keys
        self._logs: dict[str, Signatures] = {}
        # Most notes of a witness are in the store too; a signature takes as long to check as some entries.
        self._opened: dict[bytes, Checkpoint] = {}
        self.faults: list[Fault] = []
        self.foreign = 0
        self.witnessed = 0
        for note in witnessed:
            self._take_witnessed(note)

    @property
    def logs(self) -> set[str]:
        """Every log that a witness knows."""
        return set(self._logs)

    def of(self, log: str, stored: Iterable[str]) -> Signatures:
        """Return what is known of a log, with the notes that the store keeps for it; once for each log."""
        signatures = self._logs.pop(log, None) or Signatures()
        for note in stored:
            try:
                checkpoint = self._open(note)
            except BadCheckpoint as error:
                self.faults.append(Fault(FaultKind.UNSIGNED, log, f"a checkpoint in the store does not hold: {error}"))
                signatures.any_bad = True
                continue
            if checkpoint.log == log:
                signatures.add(checkpoint, STORE)
            else:
                what = f"a checkpoint of log {checkpoint.log} is kept with this log"
                self.faults.append(Fault(FaultKind.REORDERED, log, what))
        return signatures

    def _take_witnessed(self, note: str) -> None:
        try:
            checkpoint = self._open(note)
        except BadCheckpoint as error:
            # A witness may serve others too, and a power cut leaves half a line; a forged signature is neither.
            if any(f"\n— {key.name} " in note for key in self._keys):
                self.faults.append(Fault(FaultKind.UNSIGNED, "", f"a checkpoint of a witness does not hold: {error}"))
            else:
                self.foreign += 1
            return
        self.witnessed += 1
        self._logs.setdefault(checkpoint.log, Signatures()).add(checkpoint, WITNESS)

    def _open(self, note: str) -> Checkpoint:
        name = sha256(note.encode("utf-8", "surrogatepass")).digest()
        if (known := self._opened.get(name)) is None:
            known = self._opened[name] = open_note(note, self._keys)
        return known
