"""Make the receipt of an exchange from a ledger: its head, a proof that it is included, and the checkpoint. Pure."""

from __future__ import annotations

from collections.abc import Sequence

from extproc.errors import ExtprocError
from extproc.recording import receipt as receipts
from extproc.recording.checkpoint import BadCheckpoint, Checkpoint, PublicKey, open_note
from extproc.recording.merkle import Frontier, inclusion_proof, leaf_hash
from extproc.store.port import Ledger, Stored
from extproc.verification import proven


def receipt_of(ledger: Ledger, keys: Sequence[PublicKey], exchange: str, *, with_body: bool = False) -> bytes:
    """Return the receipt of an exchange, checked with `keys`; raises ExtprocError, which says why there is none.

    It reads the heads of all entries of the exchange's log below the checkpoint.
    """
    stored = ledger.find(exchange)
    if stored is None:
        raise ExtprocError(f"no exchange has the id {exchange!r}, or it was removed by rule")
    if with_body and stored.body is None:
        raise ExtprocError(f"the body of exchange {exchange!r} was removed")
    note, size = _covering(ledger, keys, stored)
    leaves, prefix = _leaves(ledger, keys, stored, size)
    try:
        proof = inclusion_proof(leaves, stored.index, size, prefix)
    except ValueError as error:
        raise ExtprocError(f"log {stored.log} is not complete: {error}; `extproc verify` says more") from error
    body = stored.body if with_body else None
    made = receipts.make(head=stored.head, size=size, proof=proof, checkpoint=note, body=body)
    try:
        receipts.check(made, keys)
    except receipts.BadReceipt as error:
        raise ExtprocError(f"log {stored.log} is not what was signed: {error}; `extproc verify` says more") from error
    return made


def newest_checkpoint(ledger: Ledger, keys: Sequence[PublicKey], log: str) -> Checkpoint | None:
    """Return the largest valid checkpoint that the store has of a log."""
    # A log that is signed every ten seconds has hundreds of thousands; nearly always the last one is valid.
    for newest in (1, None):
        for note in reversed(ledger.checkpoints(log, newest=newest)):
            if (checkpoint := _opened(note, keys, log)) is not None:
                return checkpoint
    return None


def _covering(ledger: Ledger, keys: Sequence[PublicKey], stored: Stored) -> tuple[str, int]:
    """Return the smallest checkpoint that an entry is below, and its size."""
    for note in ledger.checkpoints(stored.log):
        checkpoint = _opened(note, keys, stored.log)
        if checkpoint is not None and checkpoint.size > stored.index:
            return note, checkpoint.size
    raise ExtprocError(
        f"no valid checkpoint covers entry {stored.index} of log {stored.log}; that takes seconds after an exchange"
    )


def _opened(note: str, keys: Sequence[PublicKey], log: str) -> Checkpoint | None:
    try:
        checkpoint = open_note(note, keys)
    except BadCheckpoint:
        return None
    return checkpoint if checkpoint.log == log else None


def _leaves(ledger: Ledger, keys: Sequence[PublicKey], stored: Stored, size: int) -> tuple[list[bytes], Frontier]:
    """Return the leaves of the first `size` entries, without those that the frontier says went by rule."""
    prefix: Frontier | None = None
    leaves: list[bytes] = []
    for one in ledger.entries(stored.log, bodies=False):
        if prefix is None:
            is_whole = one.index == 0
            prefix = Frontier() if is_whole else proven.book(ledger, keys).removed().frontier(stored.log)
        if one.index >= size:
            break
        # A removal that was not finished leaves entries that the frontier covers.
        if one.index >= prefix.size:
            leaves.append(leaf_hash(one.head))
    return leaves, prefix or Frontier()
