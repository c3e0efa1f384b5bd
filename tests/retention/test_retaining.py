from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import pytest

from extproc.errors import ExtprocError
from extproc.recording.entry import Draft, Kind
from extproc.recording.facts import microseconds
from extproc.recording.prune import Prune, encode
from extproc.retention import legal_hold
from extproc.retention.plan import Keep, Plan, Rules, rule
from extproc.retention.retaining import Done, Retention
from extproc.store.sqlite_eraser import SqliteEraser
from extproc.verification.proven import Unproved, book
from tests.evidence import DAY, Altered, Evidence
from tests.recording_of import NOW, exchange

RULES = Rules(
    (rule(Keep("secret", 10, 40), {"repositories": ["acme/secret*"]}),), Keep("default", 30, 60), digest="d" * 64
)
LONG = "a question that is long enough to be a part of its own " * 40


@pytest.fixture
def store(tmp_path: Path) -> Evidence:
    return Evidence(tmp_path / "record.db")


def retention(store: Evidence, days: float) -> Retention:
    ids = itertools.count()
    now = microseconds(NOW + days * DAY)
    return Retention(store.ledger, store.keys, now, lambda: f"{now}-{next(ids)}")


def run(store: Evidence, days: float, *, eraser: SqliteEraser | None = None) -> Done:
    """Plan and apply as of so many days after NOW."""
    work = retention(store, days)
    return work.apply(work.plan(RULES), RULES, eraser or store.eraser, store.record, "issuer#dave")


def asking(content: str = LONG) -> list[dict[str, str]]:
    return [{"role": "user", "content": content}]


def test_bodies_go_when_their_rule_says_and_heads_stay(store: Evidence) -> None:
    store.log("a.0.1", [exchange("e1"), exchange("e2", session="s2", repository="acme/Secret-1")])
    assert run(store, 9.9) == Done()
    assert run(store, 10).bodies == 1
    assert store.bodies()[0] == ("a.0.1", 0)
    assert run(store, 30).bodies == 1
    assert [place for place in store.bodies() if place[0] == "a.0.1"] == []
    assert [place for place in store.heads() if place[0] == "a.0.1"] == [("a.0.1", 0), ("a.0.1", 1)]


def test_the_bodies_of_a_session_stay_until_the_last_of_them_may_go_and_then_their_blobs_go_too(
    store: Evidence,
) -> None:
    store.log(
        "a.0.1", [exchange("e1", messages=asking()), exchange("e2", at=NOW + 5 * DAY, messages=asking(LONG + "!"))]
    )
    assert retention(store, 34).plan(RULES).is_empty
    done = run(store, 35)
    assert (done.bodies, done.blobs) == (2, 2)


def test_one_session_over_several_logs_is_one(store: Evidence) -> None:
    store.log("a.0.1", [exchange("e1")])
    store.log("b.0.1", [exchange("e2", at=NOW + DAY)])
    assert retention(store, 30).plan(RULES).is_empty
    assert retention(store, 31).plan(RULES).bodies["default"].number == 2


def test_what_no_checkpoint_covers_stays_and_keeps_its_session(store: Evidence) -> None:
    store.log("a.0.1", [exchange("e1")])
    store.log("a.0.1", [exchange("e2"), exchange("e3", session="s3")], signed=False)
    assert retention(store, 1000).plan(RULES).is_empty


def test_heads_go_as_the_beginning_of_a_log_and_what_remains_still_verifies(store: Evidence) -> None:
    store.log(
        "a.0.1",
        [exchange(f"e{day}", session=f"s{day}", at=NOW + day * DAY) for day in range(7)],
    )
    assert run(store, 62).entries == 3
    assert [place for place in store.heads() if place[0] == "a.0.1"] == [("a.0.1", index) for index in range(3, 7)]
    # The next plan proves the rest against the same checkpoint, by the frontier in the record.
    assert run(store, 64).entries == 2
    assert run(store, 70).entries == 2
    assert [place for place in store.heads() if place[0] == "a.0.1"] == []
    assert run(store, 71) == Done()


def test_heads_behind_one_that_stays_stay(store: Evidence) -> None:
    store.log("a.0.1", [exchange("e1"), exchange("e2", session="s2", repository="acme/secret")])
    plan = retention(store, 45).plan(RULES)
    assert plan.heads == {}
    assert plan.prefixes == []


def test_every_removal_is_recorded_below_a_checkpoint_before_it_happens(store: Evidence) -> None:
    store.log("a.0.1", [exchange("e1")])
    seen: list[int] = []

    class Watching(SqliteEraser):
        def remove_bodies(self, entries: Sequence[tuple[str, int]]) -> int:
            (record,) = book(store.ledger, store.keys).records
            assert record.prune.bodies == [("a.0.1", 0, 1)]
            assert record.prune.by == "issuer#dave"
            assert record.prune.rule == f"default of retention rules {'d' * 16}"
            seen.append(len(entries))
            return super().remove_bodies(entries)

    run(store, 30, eraser=Watching(store.path))
    assert seen == [1]


@pytest.mark.parametrize("dies_in", ["remove_bodies", "remove_blobs", "remove_entries"])
def test_a_run_that_dies_is_finished_by_the_next_one(store: Evidence, dies_in: str) -> None:
    store.log("a.0.1", [exchange("e1", messages=asking())])

    class Dying(SqliteEraser):
        def __getattribute__(self, name: str) -> object:
            if name == dies_in:
                raise KeyboardInterrupt
            return super().__getattribute__(name)

    with pytest.raises(KeyboardInterrupt):
        run(store, 60, eraser=Dying(store.path))
    assert ("a.0.1", 0) in store.heads()
    run(store, 60)
    assert [place for place in store.heads() if place[0] == "a.0.1"] == []
    assert store.ledger.blobs("s1", blobs_of(store)) == {}
    records = len(store.heads())
    assert run(store, 60) == Done()
    assert len(store.heads()) == records


def blobs_of(store: Evidence) -> list[str]:
    log, _ = store._logs["a.0.1"]
    assert log.blobs
    return [one.address for one in log.blobs]


def test_a_session_that_goes_on_after_its_bodies_went_keeps_what_is_new(store: Evidence) -> None:
    store.log("a.0.1", [exchange("e1", messages=asking())])

    class Late(SqliteEraser):
        """Remove bodies a moment after another process stored the same blob as part of a new exchange."""

        def remove_bodies(self, entries: Sequence[tuple[str, int]]) -> int:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run(store, 30, eraser=Late(store.path))
    store.log("b.0.1", [exchange("e2", at=NOW + 30 * DAY, messages=asking())])
    assert run(store, 30.5).bodies == 1
    late = store.archive.exchange("e2")
    assert late is not None
    assert late["request"]["messages"] == asking()


# --- holds -----------------------------------------------------------------------------------------------------------


def hold(store: Evidence, hold_id: str = "h1", **selector: str) -> None:
    store.record([legal_hold.on(hold_id, selector, reason="case 7", by="issuer#carol", at=microseconds(NOW))])


def release(store: Evidence, hold_id: str = "h1", *, signed: bool = True) -> None:
    (placed,) = [one for one in retention(store, 0).holds() if one.id == hold_id]
    draft = legal_hold.off("off", placed, reason="over", by="issuer#carol", at=microseconds(NOW))
    store.record([draft], signed=signed)


@pytest.mark.parametrize(
    "selector",
    [
        {"session": "s1"},
        {"user": "alice"},
        {"user": "issuer#alice"},
        {"group": "developers"},
        {"repository": "ACME/*"},
        {"user": "alice", "repository": "acme/app"},
    ],
)
def test_what_a_hold_covers_stays_whole_sessions_of_it_until_it_is_released(
    store: Evidence, selector: dict[str, str]
) -> None:
    store.log("a.0.1", [exchange("e1"), exchange("e2", user="bob", groups=["x"], repository="other/r")])
    hold(store, **selector)
    plan = retention(store, 5000).plan(RULES)
    assert plan.bodies == {}
    assert plan.held.number == 2
    assert [prefix for prefix in plan.prefixes if prefix.log == "a.0.1"] == []
    release(store)
    assert run(store, 5000).bodies == 2


def test_a_hold_that_does_not_fit_keeps_nothing(store: Evidence) -> None:
    store.log("a.0.1", [exchange("e1")])
    hold(store, user="alice", repository="acme/other")
    assert run(store, 30).bodies == 1


def test_a_hold_that_stands_is_never_removed_and_a_released_one_is(store: Evidence) -> None:
    store.log("a.0.1", [exchange("e1")])
    hold(store, user="nobody")
    assert run(store, 5000).entries == 1
    assert [one.id for one in retention(store, 5000).holds()] == ["h1"]
    release(store)
    # What released it goes last: were it gone first, the hold would stand again.
    assert run(store, 5000).entries == 1
    assert retention(store, 5000).holds() == []
    assert run(store, 5000).entries == 1
    assert retention(store, 5000).holds() == []


def test_a_hold_that_comes_while_removal_was_interrupted_is_kept_and_told(store: Evidence) -> None:
    store.log("a.0.1", [exchange("e1"), exchange("e2", session="s2", user="bob")])
    work = retention(store, 60)
    plan = work.plan(RULES)
    hold(store, user="alice")
    done = work.apply(plan, RULES, store.eraser, store.record, "dave")
    assert (done.bodies, done.entries, done.held) == (1, 0, {"s1"})
    assert store.bodies()[0] == ("a.0.1", 0)
    release(store)
    assert run(store, 60).entries >= 2
    assert ("a.0.1", 0) not in store.heads()


def test_a_release_that_nobody_signed_releases_nothing(store: Evidence) -> None:
    store.log("a.0.1", [exchange("e1")])
    hold(store, user="alice")
    release(store, signed=False)
    assert retention(store, 30).plan(RULES).is_empty


def test_a_hold_that_cannot_be_understood_stops_everything(store: Evidence) -> None:
    store.log("a.0.1", [exchange("e1")])
    store.record([Draft(Kind.LEGAL_HOLD, "h", "s", 0, {"state": "on", "selector": {"planet": "earth"}})])
    with pytest.raises(ExtprocError, match="a legal hold that cannot be understood"):
        retention(store, 30).plan(RULES)


# --- a store that lies -----------------------------------------------------------------------------------------------


def test_a_prune_record_that_nobody_signed_removes_nothing(store: Evidence) -> None:
    store.log("a.0.1", [exchange("e1")])
    forged = Prune("default", "mallory", 0, bodies=[("a.0.1", 0, 1)], erased=["s1"])
    store.record([Draft(Kind.PRUNE, "forged", "retention", 0, {}, encode(forged))], signed=False)
    assert run(store, 1) == Done()
    assert ("a.0.1", 0) in store.bodies()


def altered(store: Evidence, index: int, change: Callable[[bytes], bytes] | None) -> Retention:
    one = next(store.ledger.entries("a.0.1", index))
    with_change = {("a.0.1", index): None if change is None else replace(one, head=change(one.head))}
    return replace(retention(store, 60), ledger=Altered(store.ledger, with_change))


def test_nothing_is_planned_on_heads_that_are_not_what_was_signed(store: Evidence) -> None:
    store.log("a.0.1", [exchange("e1"), exchange("e2")])
    with pytest.raises(Unproved, match=r"log a\.0\.1: entry 0 is not what it was"):
        altered(store, 0, lambda head: head.replace(b"alice", b"alicf")).plan(RULES)
    with pytest.raises(Unproved, match=r"expected entry 0, and found entry 1 of a\.0\.1 at 1"):
        altered(store, 0, None).plan(RULES)
    with pytest.raises(Unproved, match="it ends at 1 entries, and its checkpoint says 2"):
        altered(store, 1, None).plan(RULES)


def test_a_log_written_anew_is_noticed_by_its_root(store: Evidence, tmp_path: Path) -> None:
    store.log("a.0.1", [exchange("e1")])
    other = Evidence(tmp_path / "other.db")
    (forged,) = other.log("a.0.1", [exchange("e1", user="bob")])
    one = next(store.ledger.entries("a.0.1"))
    change = replace(one, head=forged.head, hash=forged.hash)
    work = replace(retention(store, 60), ledger=Altered(store.ledger, {("a.0.1", 0): change}))
    with pytest.raises(Unproved, match="its first 1 entries have another root than their checkpoint"):
        work.plan(RULES)


# --- erase -----------------------------------------------------------------------------------------------------------


def test_erasing_a_session_removes_the_bodies_that_have_no_key_and_keeps_heads(store: Evidence) -> None:
    store.log("a.0.1", [exchange("e1", messages=asking()), exchange("e2", session="s2")])
    done = retention(store, 1).erase("s1", store.eraser, store.record, by="dave", reason="asked for it")
    assert (done.bodies, done.blobs, done.keys) == (1, 1, 0)
    (record,) = [one for one in book(store.ledger, store.keys).records if one.prune.bodies]
    assert record.prune.rule == "erase: asked for it"
    assert len([place for place in store.heads() if place[0] == "a.0.1"]) == 2
    gone = store.archive.exchange("e1")
    assert gone is not None
    assert "removed" in gone


def test_erasing_a_held_an_unknown_or_a_running_session_is_refused(store: Evidence) -> None:
    store.log("a.0.1", [exchange("e1")])
    store.log("a.0.1", [exchange("e2", session="s2")], signed=False)
    hold(store, user="alice", session="s1")
    work = retention(store, 1)
    for session, why in [("s1", "under legal hold"), ("s2", "goes on"), ("s3", "no session has the id 's3'")]:
        with pytest.raises(ExtprocError, match=why):
            work.erase(session, store.eraser, store.record, by="dave", reason="r")
    assert book(store.ledger, store.keys).records == []


@pytest.mark.parametrize(("hours", "is_refused"), [(0, True), (1.9, True), (2.1, False)])
def test_a_session_that_gateways_may_go_on_with_is_erased_only_if_that_is_meant(
    store: Evidence,
    hours: float,
    is_refused: bool,  # noqa: FBT001
) -> None:
    # What it says next refers to the parts that it stored, so it could not be read.
    store.log("a.0.1", [exchange("e1", messages=asking())])
    work = retention(store, hours / 24)
    if is_refused:
        with pytest.raises(ExtprocError, match="used less than 2 hours ago"):
            work.erase("s1", store.eraser, store.record, by="dave", reason="r")
        assert work.erase("s1", store.eraser, store.record, by="dave", reason="r", in_use=True).bodies == 1
    else:
        assert work.erase("s1", store.eraser, store.record, by="dave", reason="r").bodies == 1


def test_a_plan_counts_by_rule(store: Evidence) -> None:
    store.log("a.0.1", [exchange("e1"), exchange("e2", session="s2", at=NOW + 1, repository="acme/secret")])
    plan: Plan = retention(store, 61).plan(RULES)
    assert set(plan.bodies) == set(plan.heads) == {"default", "secret"}
    secret = plan.bodies["secret"]
    assert (secret.number, secret.oldest, secret.newest) == (1, microseconds(NOW + 1), microseconds(NOW + 1))
    assert secret.size > 100
