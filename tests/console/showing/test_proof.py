from __future__ import annotations

from extproc.console.showing.proof import Proof, proof_of
from extproc.recording.checkpoint import Checkpoint, origin_of
from extproc.recording.receipt import make
from tests.evidence import SIGNER
from tests.recording_of import Log, exchange


def test_a_receipt_is_told() -> None:
    log = Log("log.1")
    log.exchange(*exchange("x0"))
    sealed = log.exchange(*exchange("x1"))
    note = SIGNER.sign(Checkpoint(origin_of(SIGNER.name, "log.1"), 2, bytes(32), 1_760_000_000))
    made = make(head=sealed.head, size=2, proof=[bytes(32)], checkpoint=note)
    root = "AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA="
    assert proof_of(made) == Proof("log.1", 1, 1, SIGNER.name, 1_760_000_000.0, 2, root)
