from __future__ import annotations

import json
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from hypothesis import given
from hypothesis import strategies as st

from extproc.recording.checkpoint import Checkpoint, Signer
from extproc.recording.entry import Chain, Draft, Kind, Sealed, canonical_bytes, read_head
from extproc.recording.merkle import Frontier, inclusion_proof, leaf_hash
from extproc.recording.receipt import BadReceipt, check, make

SIGNER = Signer("gateway.example", Ed25519PrivateKey.from_private_bytes(b"k" * 32))
OTHER = Signer("other.example", Ed25519PrivateKey.from_private_bytes(b"o" * 32))
KEYS = [SIGNER.public]
LOG = "pod-1.0.7"
SIZE = 11
BODY = b'{"opening":{},"closing":{}}'


def sealed(log: str = LOG) -> list[Sealed]:
    chain, result = Chain(log), []
    for number in range(SIZE):
        kind = Kind.ACCESS if number == 3 else Kind.EXCHANGE
        facts = {"user": "Zoë", "note": '"\\\u2028\x7f', "status": 200}
        entry, chain = chain.seal(Draft(kind, f"id-{number}", "session", 1_760_000_000_000_000, facts, BODY))
        result.append(entry)
    return result


ENTRIES = sealed()


def note(entries: list[Sealed], log: str = LOG, size: int = SIZE, signer: Signer = SIGNER) -> str:
    frontier = Frontier()
    for entry in entries[:size]:
        frontier.append(leaf_hash(entry.head))
    return signer.sign(Checkpoint(f"{signer.name}/{log}", size, frontier.root(), 1_760_000_100))


def receipt(index: int, *, body: bytes | None = None, checkpoint: str | None = None, size: int = SIZE) -> bytes:
    leaves = [leaf_hash(entry.head) for entry in ENTRIES]
    return make(
        head=ENTRIES[index].head,
        size=size,
        proof=inclusion_proof(leaves, index, size),
        checkpoint=checkpoint or note(ENTRIES, size=size),
        body=body,
    )


def changed(document: bytes, **members: Any) -> bytes:
    return json.dumps({**json.loads(document), **members}).encode()


def with_head(document: bytes, **members: Any) -> bytes:
    head = json.loads(json.loads(document)["head"])
    return changed(document, head=canonical_bytes({**head, **members}).decode())


@pytest.mark.parametrize("index", [index for index in range(SIZE) if index != 3])
@pytest.mark.parametrize("body", [None, BODY])
def test_a_receipt_proves_the_head_the_checkpoint_and_the_body(index: int, body: bytes | None) -> None:
    proved = check(receipt(index, body=body), KEYS)
    assert proved.head == read_head(ENTRIES[index].head)
    assert (proved.checkpoint.log, proved.checkpoint.size, proved.checkpoint.at) == (LOG, SIZE, 1_760_000_100)
    assert proved.body == body


def test_the_document_is_json_that_people_can_read() -> None:
    document = json.loads(receipt(5, body=BODY))
    assert list(document) == ["v", "exchange", "head", "index", "size", "proof", "checkpoint", "body"]
    assert (document["v"], document["exchange"], document["index"], document["size"]) == (1, "id-5", 5, SIZE)
    assert document["head"].encode() == ENTRIES[5].head
    assert document["checkpoint"].startswith("gateway.example/pod-1.0.7\n11\n")
    assert "body" not in json.loads(receipt(5))


@pytest.mark.parametrize(
    ("members", "message"),
    [
        ({"v": 2}, "of version 2, and only 1"),
        ({"exchange": "id-6"}, "the head is that of exchange 'id-5' at 5"),
        ({"index": 6}, "the head is that of exchange 'id-5' at 5"),
        ({"size": 10}, "for 10 entries, and the checkpoint for 11"),
        ({"proof": []}, "inclusion proof does not hold: .* too short"),
        ({"proof": ["00" * 32] * 60}, "inclusion proof does not hold: .* too long"),
        ({"proof": ["00" * 32] * 4}, "leads to another root"),
        ({"proof": ["00"] * 4}, "inclusion proof does not hold: .* not 32 bytes"),
        ({"proof": ["zz"]}, "not in hex"),
        ({"proof": [1]}, "no receipt"),
        ({"more": 1}, "no receipt"),
        ({"head": "{}"}, "not that of an entry"),
        ({"head": "[" * 100_000}, "not that of an entry"),
        ({"head": ENTRIES[5].head.decode().replace("200", "[" * 9999 + "]" * 9999)}, "not that of an entry"),
        ({"head": ENTRIES[5].head.decode() + " "}, "not in the canonical form"),
        ({"head": ENTRIES[6].head.decode()}, "the head is that of exchange 'id-6' at 6"),
        ({"checkpoint": "x"}, "checkpoint does not hold: malformed note"),
        ({"checkpoint": note(ENTRIES, signer=OTHER)}, "checkpoint does not hold: unknown signer"),
        ({"checkpoint": note(ENTRIES).replace("\n11\n", "\n12\n")}, "checkpoint does not hold: bad signature"),
        ({"checkpoint": note(ENTRIES, log="pod-1.0.8")}, "of log 'pod-1.0.7', and the checkpoint of 'pod-1.0.8'"),
        ({"checkpoint": note(sealed("pod-1.0.8"))}, "leads to another root"),
        ({"body": "e30="}, "body is not the one"),
        ({"body": "{}"}, "no receipt"),
    ],
)
def test_what_fails_is_named(members: dict[str, Any], message: str) -> None:
    with pytest.raises(BadReceipt, match=message):
        check(changed(receipt(5, body=BODY), **members), KEYS)


@pytest.mark.parametrize(
    ("members", "message"),
    [
        ({"facts": {"user": "mallory"}}, "leads to another root"),
        ({"prev": "0" * 64}, "leads to another root"),
        ({"at": 1}, "leads to another root"),
        ({"log": "pod-1.0.8"}, "is of log 'pod-1.0.8'"),
        ({"kind": "access"}, "the head is that of access"),
        ({"v": 2}, "head is of version 2"),
        ({"more": 1}, "not in the canonical form"),
    ],
)
def test_a_head_that_was_edited_is_found(members: dict[str, Any], message: str) -> None:
    with pytest.raises(BadReceipt, match=message):
        check(with_head(receipt(5), **members), KEYS)


def test_only_exchanges_have_receipts() -> None:
    with pytest.raises(BadReceipt, match="that of access 'id-3'"):
        check(receipt(3), KEYS)


def test_a_body_of_an_entry_without_one_is_refused() -> None:
    entry, _ = Chain(LOG).seal(Draft(Kind.EXCHANGE, "id", "session", 1, {}))
    document = make(head=entry.head, size=1, proof=[], checkpoint=note([entry], size=1), body=b"")
    with pytest.raises(BadReceipt, match="body is not the one"):
        check(document, KEYS)
    assert check(changed(document, body=None), KEYS).body is None


def test_an_entry_after_the_checkpoint_is_not_proved() -> None:
    document = changed(receipt(5, checkpoint=note(ENTRIES, size=5)), size=5)
    with pytest.raises(BadReceipt, match="inclusion proof does not hold: a tree with 5 leaves has none at 5"):
        check(document, KEYS)


@given(st.binary())
def test_any_bytes_are_no_receipt_and_nothing_worse(data: bytes) -> None:
    with pytest.raises(BadReceipt):
        check(data, KEYS)


def test_half_a_receipt_is_none() -> None:
    whole = receipt(5).rstrip()
    for length in range(0, len(whole), 7):
        with pytest.raises(BadReceipt, match="this is no receipt"):
            check(whole[:length], KEYS)


@given(st.sampled_from(["head", "checkpoint"]), st.data())
def test_no_character_of_what_is_proved_can_be_another(member: str, data: st.DataObject) -> None:
    document = receipt(5)
    text = json.loads(document)[member]
    place = data.draw(st.integers(0, len(text) - 1))
    other = data.draw(st.one_of(st.characters(codec="utf-8"), st.sampled_from('0"{}[] \\'), st.just("")))
    edited = text[:place] + other + text[place + 1 :]
    if edited != text:
        with pytest.raises(BadReceipt):
            check(changed(document, **{member: edited}), KEYS)
