from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from extproc.recording.entry import Chain, Draft, Kind, read_head
from extproc.recording.merkle import Frontier, leaf_hash
from extproc.recording.prune import Prefix, Prune
from extproc.retention.plan import DAY, MAX_RANGES, Keep, Plan, Removed, Rules, Seen, Sessions, plan_log, rule

SHORT = Keep("short", 5, 10)
LONG = Keep("long", 50, 60)
DEFAULT = Keep("default", 20, 30)


def rules_of(*rules: tuple[Keep, dict[str, list[str]]]) -> Rules:
    return Rules(tuple(rule(keep, wanted) for keep, wanted in rules), DEFAULT, "0" * 64)


def test_the_first_rule_that_matches_counts() -> None:
    rules = rules_of((SHORT, {"groups": ["devs"], "outcomes": ["denied"]}), (LONG, {"repositories": ["Acme/*", "x/y"]}))
    assert rules.keep({"groups": ["ops", "devs"], "outcome": "denied", "repository": "acme/a"}) == SHORT
    assert rules.keep({"groups": ["devs"], "outcome": "completed", "repository": "ACME/a"}) == LONG
    assert rules.keep({"groups": ["devs"], "outcome": "completed", "repository": "acme/a/b"}) == DEFAULT
    assert rules.keep({"groups": [], "outcome": None, "repository": None}) == DEFAULT
    assert rules.keep({}) == DEFAULT


def test_where_groups_were_cut_off_the_longest_of_what_may_be_meant_counts() -> None:
    rules = rules_of((LONG, {"groups": ["secret"]}), (SHORT, {"outcomes": ["denied"]}))
    assert rules.keep({"groups": ["a"], "outcome": "denied"}) == SHORT
    kept = rules.keep({"groups": ["a"], "groups_more": 1, "outcome": "denied"})
    assert (kept.bodies_days, kept.heads_days) == (50, 60)
    assert rules_of((SHORT, {"groups": ["x"]})).keep({"groups": ["a"], "groups_more": 1}).bodies_days == 20


def test_names_of_groups_may_stand_for_others() -> None:
    one = rule(SHORT, {"groups": ["devs"]}, ["7b0c"])
    assert Rules((one,), DEFAULT, "").keep({"groups": ["7b0c"]}) == SHORT


def test_a_malformed_glob_is_refused() -> None:
    with pytest.raises(ValueError, match="expected OWNER/NAME"):
        rule(SHORT, {"repositories": ["acme"]})


def test_what_is_no_exchange_is_kept_as_long_as_any_head() -> None:
    assert rules_of((LONG, {"groups": ["x"]})).longest_heads_days == 60
    assert rules_of().longest_heads_days == 30


RANGES = st.lists(st.tuples(st.integers(0, 30), st.integers(1, 9)).map(lambda one: (one[0], one[0] + one[1])))


@given(RANGES)
def test_what_records_list_is_found_whatever_their_ranges(ranges: list[tuple[int, int]]) -> None:
    removed = Removed([Prune("r", "b", 0, bodies=[("a", *one)]) for one in ranges])
    for index in range(45):
        assert removed.has_body("a", index) is any(first <= index < end for first, end in ranges)
    assert not removed.has_body("b", 0)


def test_of_several_prefixes_of_a_log_the_longest_counts() -> None:
    leaf = leaf_hash(b"x")
    frontier = Frontier()
    prefixes = []
    for below in (1, 2, 3):
        frontier.append(leaf)
        prefixes.append(Prefix("a", below, frontier.dump(), f"{below}"))
    removed = Removed(Prune("r", "b", 0, heads=[prefixes[at]]) for at in (1, 2, 0))
    assert removed.prefixes["a"].below == 3
    assert removed.frontier("a").root() == frontier.root()
    assert removed.frontier("b").size == 0


Entry = tuple[Kind, str, int, bool]
ENTRIES = st.lists(
    st.tuples(
        st.sampled_from([Kind.EXCHANGE] * 4 + [Kind.ACCESS, Kind.PRUNE]),
        st.sampled_from(["s1", "s2", "s3"]),
        st.integers(0, 60),
        st.booleans(),
    ),
    max_size=12,
)


def seen(entries: list[Entry], covered: int) -> list[Seen]:
    chain, found = Chain("a.0.1"), []
    for index, (kind, session, day, has_body) in enumerate(entries):
        sealed, chain = chain.seal(Draft(kind, f"e{index}", session, day * DAY, {}, b"body" if has_body else None))
        found.append(Seen(read_head(sealed.head), sealed.head, sealed.hash, index < covered))
    return found


@given(ENTRIES, st.integers(0, 12), st.integers(0, 100))
def test_a_plan_takes_whole_sessions_and_whole_beginnings_and_nothing_younger(
    entries: list[Entry], covered: int, now: int
) -> None:
    read = seen(entries, covered)
    sessions = Sessions(rules_of(), [], set(), now * DAY)
    sessions.see(read)
    plan = Plan()
    plan_log(plan, read, "a.0.1", sessions, Removed([]))
    gone = {index for _, first, end in plan.ranges for index in range(first, end)}
    exchanges = {at: one for at, one in enumerate(entries) if one[0] is Kind.EXCHANGE}
    for session in ("s1", "s2", "s3"):
        members = {at: one for at, one in exchanges.items() if one[1] == session}
        may_go = all(now >= day + 20 for _, _, day, _ in members.values()) and all(at < covered for at in members)
        assert gone & members.keys() == {at for at, one in members.items() if may_go and one[3]}
    assert gone <= exchanges.keys()
    below = plan.prefixes[0].below if plan.prefixes else 0
    for at, (kind, _, day, has_body) in enumerate(entries[:below]):
        assert kind is not Kind.PRUNE
        assert at < covered
        assert now >= day + 30
        assert at in gone or kind is not Kind.EXCHANGE or not has_body
    if below:
        frontier = Frontier()
        for one in read[:below]:
            frontier.append(leaf_hash(one.canonical))
        assert plan.prefixes[0].frontier == frontier.dump()
        assert plan.prefixes[0].prev == read[below - 1].hash


def test_a_record_holds_a_bounded_number_of_ranges_and_heads_come_last() -> None:
    prefix = Prefix("a", 1, ["00" * 32], "p")
    plan = Plan(ranges=[("a", at, at + 1) for at in range(0, 2 * MAX_RANGES + 2, 2)], prefixes=[prefix])
    prunes = list(plan.prunes(digest="abc", by="dave", at=7))
    assert [len(one.bodies) for one in prunes] == [MAX_RANGES, 1, 0]
    assert [one.heads for one in prunes] == [[], [], [prefix]]
    assert [one for part in prunes for one in part.bodies] == plan.ranges
    assert list(Plan().prunes(digest="abc", by="dave", at=7)) == []
