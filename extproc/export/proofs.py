"""Put into an export what proves it: heads with inclusion proofs, checkpoints, public keys, prune records."""

from __future__ import annotations

from array import array
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Final

from extproc.errors import ExtprocError
from extproc.export.bundle import Bundle, Line, LogFacts, json_line
from extproc.recording.checkpoint import PublicKey, open_note
from extproc.recording.merkle import leaf_hash
from extproc.recording.proofs import Tree
from extproc.retention.plan import Removed
from extproc.store.port import Ledger
from extproc.verification.proven import Book, Record, Signed, Unproved, book, heads, newest

PRUNES: Final = "prunes.jsonl"
KEYS: Final = "keys.txt"


def write(ledger: Ledger, keys: Sequence[PublicKey], bundle: Bundle, lines: Callable[[], Iterable[Line]]) -> None:
    """Add the proofs that a bundle lacks; `lines` are those of all its documents.

    About 150 bytes of memory for each entry of the log that is worked on, 8 for each document. Raises Unproved,
    BadCheckpoint.
    """
    known = book(ledger, keys)
    records = list(_explaining(known, lines()))
    for record in records:
        _prove(record, bundle, ledger, keys)
    bundle.add(PRUNES, (_prune_line(record) for record in records))
    bundle.add(KEYS, (f"{key.vkey}\n".encode() for key in keys))
    wanted: dict[str, array[int]] = {}
    for record in records:
        wanted.setdefault(record.head.log, array("Q")).append(record.head.index)
    for line in lines():
        wanted.setdefault(line.log, array("Q")).append(line.index)
    done = {one.log for one in bundle.manifest.logs}
    for number, log in enumerate(sorted(wanted), start=1):
        if log not in done:
            signed = _signed(ledger, keys, log, bundle.manifest.sizes[log])
            _write_log(bundle, number, _Proofs(ledger, signed, known.removed(), sorted(set(wanted[log]))))


def _write_log(bundle: Bundle, number: int, proofs: _Proofs) -> None:
    checkpoint = proofs.signed.checkpoint
    facts = LogFacts(checkpoint.log, checkpoint.size, f"checkpoints/{number:06}.txt", f"entries/{number:06}.jsonl")
    bundle.add(facts.checkpoint, [proofs.signed.note.encode()])
    bundle.add(facts.entries, proofs.lines())
    bundle.manifest.logs.append(facts)
    bundle.save()


def _explaining(known: Book, lines: Iterable[Line]) -> Iterator[Record]:
    """Yield the prune records that say why content is missing."""
    gone = [line for line in lines if line.content in {"gone", "erased"}]
    for record in known.records if gone else ():
        listed = Removed([record.prune])
        if any(line.session in listed.erased or listed.has_body(line.log, line.index) for line in gone):
            yield record


def _prove(record: Record, bundle: Bundle, ledger: Ledger, keys: Sequence[PublicKey]) -> None:
    """Let the checkpoint that is used for the record's log cover it: it may be newer than the export."""
    sizes, head = bundle.manifest.sizes, record.head
    signed = newest(ledger, head.log, keys)
    if signed is not None and sizes.get(head.log, 0) <= head.index:
        sizes[head.log] = signed.checkpoint.size


def _prune_line(record: Record) -> bytes:
    return json_line({"log": record.head.log, "index": record.head.index, "body": record.body.decode()})


def _signed(ledger: Ledger, keys: Sequence[PublicKey], log: str, size: int) -> Signed:
    """Return the checkpoint of a log for this size."""
    # The size is on the second line; checking the signatures of all of a long log's checkpoints would take seconds.
    for note in ledger.checkpoints(log):
        if note.split("\n", 2)[1:2] == [str(size)]:
            checkpoint = open_note(note, keys)
            if checkpoint.log == log:
                return Signed(note, checkpoint)
    raise Unproved(log, f"its checkpoint for {size} entries is gone")


@dataclass(frozen=True, slots=True)
class _Proofs:
    """The entries of one log that are wanted, with proofs that they are below its checkpoint; `indexes` are sorted."""

    ledger: Ledger
    signed: Signed
    removed: Removed
    indexes: Sequence[int]

    def lines(self) -> Iterator[bytes]:
        """Yield a line for each; reads the log twice, so that heads need not be kept."""
        log = self.signed.checkpoint.log
        frontier = self.removed.frontier(log)
        leaves = [leaf_hash(one.canonical) for one in heads(self.ledger, log, self.signed, self.removed) if one.covered]
        if self.indexes[0] < frontier.size:
            raise ExtprocError(f"entry {self.indexes[0]} of log {log} was removed by rule meanwhile; export again")
        tree, left = Tree(leaves, frontier), iter(self.indexes)
        index = next(left, None)
        for stored in self.ledger.entries(log, self.indexes[0], bodies=False):
            if index is None:
                return
            if stored.index != index:
                continue
            if leaf_hash(stored.head) != leaves[index - frontier.size]:
                raise Unproved(log, f"entry {index} was changed just now")
            proof = [one.hex() for one in tree.proof(index)]
            yield json_line({"index": index, "head": stored.head.decode(), "proof": proof})
            index = next(left, None)
        if index is not None:
            raise Unproved(log, f"entry {index} went just now")
