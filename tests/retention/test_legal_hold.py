from __future__ import annotations

from typing import Any

import pytest

from extproc.errors import ConfigError, ExtprocError
from extproc.recording.entry import Chain, Draft, Head, Kind, read_head
from extproc.retention import legal_hold
from extproc.retention.legal_hold import Hold


def head_of(draft: Draft) -> Head:
    return read_head(Chain("a.0.1").seal(draft)[0].head)


def exchange_head(**facts: Any) -> Head:
    known = {"user": "alice", "principal": "i#1", "groups": ["devs"], "repository": "acme/App", **facts}
    return head_of(Draft(Kind.EXCHANGE, "e", "s1", 0, known))


def placed(hold_id: str = "h1", at: int = 1, selector: dict[str, str] | None = None) -> Draft:
    return legal_hold.on(hold_id, selector or {"user": "alice"}, reason="r", by="carol", at=at)


def hold_of(**selector: str) -> Hold:
    (hold,) = legal_hold.active([head_of(placed(selector=selector))])
    return hold


@pytest.mark.parametrize(
    ("selector", "covers"),
    [
        ({"session": "s1"}, True),
        ({"session": "s2"}, False),
        ({"user": "alice"}, True),
        ({"user": "i#1"}, True),
        ({"user": "i#2"}, False),
        ({"group": "devs"}, True),
        ({"group": "ops"}, False),
        ({"repository": "acme/app"}, True),
        ({"repository": "ACME/*"}, True),
        ({"repository": "*"}, True),
        ({"repository": "acme/ap"}, False),
        ({"session": "s1", "user": "bob"}, False),
    ],
)
def test_a_hold_covers_what_fits_all_of_it(selector: dict[str, str], *, covers: bool) -> None:
    assert hold_of(**selector).covers(exchange_head()) is covers


def test_a_group_that_may_have_been_cut_off_is_covered() -> None:
    assert hold_of(group="ops").covers(exchange_head(groups_more=3))


def test_an_exchange_without_repository_and_user_is_covered_by_neither() -> None:
    nobody = exchange_head(user=None, principal=None, repository=None)
    assert not hold_of(user="alice").covers(nobody)
    assert not hold_of(repository="acme/*").covers(nobody)


def test_a_released_hold_stands_no_more_in_whatever_order_entries_are_read() -> None:
    one, two = head_of(placed("h1", at=2)), head_of(placed("h2", at=1))
    (first, second) = legal_hold.active([one, two])
    assert (first.id, second.id) == ("h2", "h1")
    off = head_of(legal_hold.off("x", second, reason="over", by="carol", at=3))
    assert [hold.id for hold in legal_hold.active([off, one, two])] == ["h2"]
    assert legal_hold.placed([off, one, two]) == {"h1", "h2"}


def test_a_hold_on_nothing_in_particular_is_refused() -> None:
    with pytest.raises(ConfigError, match="expected some of session, user, group, repository"):
        legal_hold.on("h", {}, reason="r", by="b", at=0)


@pytest.mark.parametrize(
    "facts",
    [
        {},
        {"state": "on"},
        {"state": "on", "selector": {}},
        {"state": "on", "selector": {"planet": "x"}},
        {"state": "on", "selector": {"user": 1}},
        {"state": "off"},
        {"state": "maybe", "selector": {"user": "a"}},
    ],
)
def test_an_entry_that_is_no_hold_one_understands_is_an_error(facts: dict[str, Any]) -> None:
    with pytest.raises(ExtprocError, match=r"entry 0 of log a\.0\.1 is a legal hold that cannot be understood"):
        legal_hold.active([head_of(Draft(Kind.LEGAL_HOLD, "h", "s", 0, facts))])
