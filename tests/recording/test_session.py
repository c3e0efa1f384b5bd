from __future__ import annotations

import re

from hypothesis import given
from hypothesis import strategies as st

from extproc.recording.session import Sessions

GAP = 1800.0


def sessions(limit: int = 50_000) -> Sessions:
    return Sessions(gap_seconds=GAP, limit=limit)


def test_a_named_session_is_the_same_for_the_same_person_at_any_time_and_in_any_process() -> None:
    assert sessions().name("alice", "s", None, 1.0) == sessions().name("alice", "s", "other client", 10**9)


def test_the_same_name_of_two_people_is_two_sessions() -> None:
    one = sessions()
    assert one.name("alice", "s", None, 1.0) != one.name("bob", "s", None, 1.0)
    assert one.name("alice", "s", None, 1.0) != one.name("alice", "t", None, 1.0)


def test_an_unnamed_session_goes_on_until_the_gap() -> None:
    one = sessions()
    first = one.name("alice", None, "cli", 0.0)
    assert one.name("alice", None, "cli", GAP) == first
    assert one.name("alice", None, "cli", 2 * GAP) == first
    assert one.name("alice", None, "cli", 3 * GAP + 0.1) != first


def test_unnamed_sessions_are_told_apart_by_person_and_client() -> None:
    one = sessions()
    names = {one.name(who, None, client, 0.0) for who in ("alice", "bob") for client in ("cli", "ide", None)}
    assert len(names) == 6


def test_a_restart_begins_new_unnamed_sessions() -> None:
    assert sessions().name("alice", None, "cli", 1.0) != sessions().name("alice", None, "cli", 2.0)


def test_time_that_runs_backwards_does_not_end_a_session() -> None:
    one = sessions()
    first = one.name("alice", None, "cli", 5000.0)
    assert one.name("alice", None, "cli", 1000.0) == first
    assert one.name("alice", None, "cli", 5000.0 + GAP) == first


def test_only_so_many_sessions_are_remembered_and_the_least_recent_goes_first() -> None:
    one = sessions(limit=2)
    alice, bob = one.name("alice", None, None, 0.0), one.name("bob", None, None, 1.0)
    assert one.name("alice", None, None, 2.0) == alice
    one.name("carol", None, None, 3.0)
    assert one.name("alice", None, None, 4.0) == alice
    assert one.name("bob", None, None, 5.0) != bob
    assert len(one._open) == 2


@given(st.text(), st.text(), st.text(), st.text())
def test_no_two_lists_of_parts_make_the_same_session(a: str, b: str, c: str, d: str) -> None:
    one = sessions()
    named, other = one.name(a, b, None, 0.0), one.name(c, d, None, 0.0)
    assert (named == other) is ((a, b) == (c, d))
    assert re.fullmatch(r"[0-9a-f]{16}", named)


def test_a_name_with_bytes_that_are_no_text_is_a_name() -> None:
    assert len(sessions().name("alice", "\udcff", None, 0.0)) == 16
