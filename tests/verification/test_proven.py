from __future__ import annotations

from pathlib import Path

import pytest

from extproc.recording.checkpoint import BadCheckpoint, Signer
from extproc.recording.entry import Draft, Kind
from extproc.recording.prune import Prefix, Prune, encode
from extproc.retention.plan import Removed
from extproc.verification.proven import Unproved, book, heads, newest
from tests.evidence import SIGNER, Evidence
from tests.recording_of import NOW, exchange


@pytest.fixture
def store(tmp_path: Path) -> Evidence:
    known = Evidence(tmp_path / "record.db")
    known.log("a.0.1", [exchange(f"e{turn}", at=NOW + turn) for turn in range(5)])
    return known


def prune_draft(entry_id: str, one: Prune, at: int = 0) -> Draft:
    return Draft(Kind.PRUNE, entry_id, "retention", at, {}, encode(one))


def test_heads_are_told_apart_by_whether_a_checkpoint_covers_them(store: Evidence) -> None:
    store.log("a.0.1", [exchange("late")], signed=False)
    read = list(heads(store.ledger, "a.0.1", newest(store.ledger, "a.0.1", store.keys), Removed([])))
    assert [one.covered for one in read] == [True] * 5 + [False]
    assert [one.head.id for one in read] == ["e0", "e1", "e2", "e3", "e4", "late"]
    assert [one.covered for one in heads(store.ledger, "a.0.1", None, Removed([]))] == [False] * 6


def test_a_checkpoint_of_another_log_or_another_signer_is_none(store: Evidence) -> None:
    note = store.ledger.checkpoints("a.0.1")[-1]

    class Swapped:
        def checkpoints(self, log: str, *, newest: int | None = None) -> list[str]:
            return [note]

    with pytest.raises(Unproved, match=r"the checkpoint that is stored for it is of log a\.0\.1"):
        newest(Swapped(), "b.0.1", store.keys)  # type: ignore[arg-type]
    with pytest.raises(BadCheckpoint):
        newest(store.ledger, "a.0.1", [Signer("other", SIGNER.key).public])
    assert newest(store.ledger, "nothing", store.keys) is None


def test_the_book_has_proved_records_in_their_order(store: Evidence) -> None:
    store.record([prune_draft("second", Prune("r", "b", 2, bodies=[("a.0.1", 1, 2)]), at=2)])
    store.record([prune_draft("first", Prune("r", "b", 1, bodies=[("a.0.1", 0, 1)]), at=1)])
    store.record([prune_draft("forged", Prune("r", "b", 3, bodies=[("a.0.1", 2, 3)]), at=3)], signed=False)
    known = book(store.ledger, store.keys)
    assert [one.head.id for one in known.records] == ["first", "second"]
    assert [known.removed().has_body("a.0.1", index) for index in range(4)] == [True, True, False, False]


def test_a_record_without_the_body_that_its_head_names_is_an_alarm(store: Evidence) -> None:
    store.record([prune_draft("p", Prune("r", "b", 1))])
    store.eraser.remove_bodies([("command.0.0", 0)])
    with pytest.raises(Unproved, match="is a prune record, and its body is gone or another one"):
        book(store.ledger, store.keys)


def test_a_record_that_is_none_is_an_alarm(store: Evidence) -> None:
    store.record([Draft(Kind.PRUNE, "p", "retention", 0, {}, b"{}")])
    with pytest.raises(Unproved, match="is a prune record that cannot be understood"):
        book(store.ledger, store.keys)


def test_a_forged_record_cannot_hide_the_others(store: Evidence) -> None:
    store.record([prune_draft("p", Prune("r", "b", 1, bodies=[("a.0.1", 0, 1)]))])
    (entry,) = store.ledger.entries("command.0.0")
    root = newest(store.ledger, "command.0.0", store.keys)
    assert root is not None
    hiding = Prefix("command.0.0", 1, [root.checkpoint.root.hex()], entry.hash)
    store.record([prune_draft("forged", Prune("r", "m", 2, heads=[hiding]))], signed=False)
    with pytest.raises(Unproved, match="is a prune record, and another record says that it went"):
        book(store.ledger, store.keys)


def test_a_prefix_that_is_not_what_went_is_noticed(store: Evidence) -> None:
    wrong = Removed([Prune("r", "m", 2, heads=[Prefix("a.0.1", 2, ["00" * 32], "0" * 64)])])
    signed = newest(store.ledger, "a.0.1", store.keys)
    with pytest.raises(Unproved, match="entry 2 is not what it was, or does not follow the one before"):
        list(heads(store.ledger, "a.0.1", signed, wrong))
    beyond = Removed([Prune("r", "m", 2, heads=[Prefix("a.0.1", 8, ["00" * 32], "0" * 64)])])
    with pytest.raises(Unproved, match="8 entries were removed, but the newest checkpoint has only 5"):
        list(heads(store.ledger, "a.0.1", signed, beyond))
