from __future__ import annotations

import json
from typing import Any

import pytest

from extproc.approval.approval import Approval, Scope, State, decide
from extproc.approval.event import Event, Kind, View, decided, requested
from extproc.errors import StoreUnavailable
from extproc.store.cosmos_approval_items import MAX_ITEM_BYTES, event_of, item_of, slot_of
from extproc.store.cosmos_layout import APPROVALS
from tests.approving import APPROVERS, NOW, request, verdict

REQUEST = request(name="Zoë \u202e")
VIEW = View("issuer#carol", "carol", NOW + 1, "192.0.2.3")


def approved() -> Event:
    result = decide(Approval(REQUEST, State.PENDING), verdict(), APPROVERS, NOW + 1)
    assert isinstance(result, Approval)
    return decided(result, 1)


EVENTS = {
    "requested": requested(REQUEST),
    "verdict": approved(),
    "ended": Event("a1", 2, Kind.ENDED, State.EXPIRED, NOW + 900),
    "viewed": Event("a1", 3, Kind.VIEWED, State.PENDING, VIEW.at, VIEW.who, VIEW.name, VIEW.address),
}


def through_json(event: Event, **facts: Any) -> dict[str, Any]:
    made: dict[str, Any] = json.loads(json.dumps(item_of(event, REQUEST, "n", **facts)))
    return made


@pytest.mark.parametrize("name", EVENTS)
def test_an_event_comes_back_as_it_was_whatever_the_service_adds(name: str) -> None:
    item = through_json(EVENTS[name]) | {"_ts": 1, "_etag": "x", "_rid": "r"}
    assert event_of(item) == EVENTS[name]
    assert item["id"] == f"00000000000{EVENTS[name].sequence}"


def test_what_is_searched_for_is_with_the_request_and_with_the_end_and_indexed() -> None:
    first = through_json(EVENTS["requested"], instance="gateway-0.1.e1")
    end = through_json(EVENTS["verdict"], scope=Scope.WINDOW)
    view = through_json(EVENTS["viewed"])
    assert (first["slot"], first["instance"]) == ("gateway-0.1", "gateway-0.1.e1")
    assert (end["ended"], end["scope"], end["requester"], end["user"]) == (
        "approved",
        "window",
        "issuer#alice",
        "Zoë \u202e",
    )
    assert not {"requester", "ended", "scope", "slot"} & set(view)
    assert "ended" not in first
    indexed = {path["path"].split("/")[1] for path in APPROVALS.indexing_policy["includedPaths"]}
    # Of what an item has, only the event itself, and what narrows no search, is not.
    kept = {"id", "state", "nonce", "who", "name", "address", "document", "instance"}
    assert (set(first) | set(end)) - indexed == kept


def test_a_verdict_that_is_not_the_last_one_ends_nothing() -> None:
    half = Event("a1", 1, Kind.VERDICT, State.PENDING, NOW, document=verdict())
    assert "ended" not in through_json(half)


def test_what_is_too_long_and_what_json_cannot_hold_are_refused() -> None:
    with pytest.raises(StoreUnavailable, match="too large"):
        item_of(requested(request(proposal="x" * MAX_ITEM_BYTES)), REQUEST, "n")
    with pytest.raises(ValueError, match="surrogates"):
        item_of(requested(request(name="\ud800")), REQUEST, "n")


@pytest.mark.parametrize(
    "change", [{"kind": "other"}, {"id": "x"}, {"document": "{}"}, {"document": None}, {"at": "1"}]
)
def test_what_is_no_event_is_not_taken_for_one(change: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=r".+"):
        event_of(through_json(EVENTS["requested"]) | change)


def test_the_slot_is_the_same_after_a_restart() -> None:
    assert slot_of("gateway-0.1.e1") == slot_of("gateway-0.1.e2") == "gateway-0.1"
