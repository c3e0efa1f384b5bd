from __future__ import annotations

import random
from collections.abc import Callable, Collection, Sequence
from itertools import pairwise
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from extproc.recording import packing
from extproc.recording.entry import address_of
from extproc.recording.packing import Corrupt, Packed, body_of, encoded, pack, parts_of
from extproc.recording.unpacking import unpack


class Shelf:
    """The blobs of one session, as a store keeps them, and the bytes that were stored."""

    def __init__(self) -> None:
        self.blobs: dict[str, bytes] = {}
        self.bytes = 0

    def pack(self, opening: dict[str, Any], protect: Callable[[bytes], bytes] = packing.identity) -> Packed:
        packed = pack(opening, protect=protect, is_known=self.blobs.__contains__)
        for address, data in packed.blobs:
            assert address not in self.blobs
            assert address == address_of(data)
            self.blobs[address] = data
        self.bytes += len(packed.data) + sum(len(data) for _, data in packed.blobs)
        return packed

    def get(self, addresses: Collection[str]) -> dict[str, bytes]:
        return {one: self.blobs[one] for one in addresses if one in self.blobs}

    def unpack(self, packed: Packed) -> dict[str, Any]:
        return unpack(packed.data, self.get)


def opening(messages: Any, tools: Any = None) -> dict[str, Any]:
    return {"v": 1, "id": "x", "request": {"model": "m", "messages": messages, "tools": tools, "stream": True}, "z": 0}


def message(seed: int, size: int) -> dict[str, Any]:
    letters = random.Random(seed).choices('abcdefgh \n"é', k=size)  # noqa: S311 - not a secret
    return {"role": "user", "content": f"{seed} " + "".join(letters)}


def conversation(
    turns: int, size: Callable[[int], int] = lambda number: [60, 300, 900, 1500, 5000][number % 5]
) -> list[Any]:
    return [message(number, size(number)) for number in range(2 * turns)]


TOOLS = [{"type": "function", "function": {"name": f"tool{n}", "description": message(n, 800)}} for n in range(40)]


# --- exactness ---

HEX = "0123456789abcdef" * 4
references = st.one_of(
    st.builds(
        lambda kind, address: {kind: address}, st.sampled_from(["$blob", "$list"]), st.sampled_from([HEX, "", 1])
    ),
    st.builds(lambda kind: {kind: HEX, "more": 1}, st.sampled_from(["$blob", "$list"])),
)
leaves = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(),
    st.floats(allow_nan=False, allow_infinity=False),
    st.text(),
    references,
    st.integers(1, 2000).map(lambda size: "ä" * size),
)
trees = st.recursive(
    leaves, lambda inner: st.lists(inner) | st.dictionaries(st.text() | st.just("$blob"), inner), max_leaves=20
)
lists = st.lists(trees, max_size=6) | st.builds(
    lambda some, times: some * times, st.lists(trees, max_size=4), st.integers(1, 80)
)


@given(messages=lists | trees, tools=lists | trees, more=trees)
def test_any_opening_comes_back_exactly(messages: Any, tools: Any, more: Any) -> None:
    before = {**opening(messages, tools), "more": more}
    shelf = Shelf()
    first = shelf.pack(before)
    after = shelf.unpack(first)
    assert after == before
    assert encoded(after) == encoded(before)
    second = shelf.pack(before)
    assert (second.data, second.used, second.blobs) == (first.data, first.used, [])
    assert set(first.used) == set(shelf.blobs)


@given(request=trees)
def test_a_request_of_any_shape_comes_back_exactly(request: Any) -> None:
    shelf = Shelf()
    assert shelf.unpack(shelf.pack({"request": request})) == {"request": request}
    assert shelf.unpack(shelf.pack({"other": request})) == {"other": request}


@pytest.mark.parametrize("kind", ["$blob", "$list"])
@pytest.mark.parametrize("name", ["messages", "tools"])
def test_what_a_client_sends_in_the_shape_of_a_reference_is_not_followed(name: str, kind: str) -> None:
    shelf = Shelf()
    secret = shelf.pack(opening([message(1, 2000)])).used[0]
    for value in (
        [{kind: secret}],
        {kind: secret},
        [[{kind: secret}]],
        [{kind: None}],
        [{"role": "user"}, {kind: secret}],
    ):
        before = {"request": {name: value}}
        assert shelf.unpack(shelf.pack(before)) == before


def test_a_small_opening_is_stored_as_it_is() -> None:
    before = opening([message(1, 200), message(2, 300)], [])
    packed = Shelf().pack(before)
    assert packed == Packed(msgspec.json.encode(before), [], [])


def test_the_given_opening_is_not_changed() -> None:
    before = opening(conversation(40), TOOLS)
    copy = msgspec.json.decode(msgspec.json.encode(before))
    Shelf().pack(before)
    assert before == copy


def test_halves_of_characters_are_joined_or_replaced_and_the_rest_is_stored_as_always() -> None:
    shelf = Shelf()
    plain = conversation(30)
    known = set(shelf.pack(opening(plain)).used)
    odd = [*plain, {"role": "user", "content": "a\ud83d\ude00b\ud800c", "big": 10**30}]
    packed = shelf.pack(opening(odd, [{"\udc00": 1}]))
    after = shelf.unpack(packed)
    assert after["request"]["messages"] == [*plain, {"role": "user", "content": "a\U0001f600b�c", "big": 10**30}]
    assert after["request"]["tools"] == [{"�": 1}]
    assert known & set(packed.used)
    assert encoded({"a": "\ud800", "b": float("nan")}) == '{"a":"�","b":null}'.encode()


# --- cost ---


def stored(turns: Sequence[list[Any]], tools: Any = None) -> int:
    """Return the bytes that a session of these conversations costs, each of which comes back."""
    shelf = Shelf()
    for number, messages in enumerate(turns):
        before = opening(messages, tools)
        packed = shelf.pack(before)
        if number % 16 == 0:
            assert shelf.unpack(packed) == before
    return shelf.bytes


def growing(turns: int, messages: list[Any]) -> list[list[Any]]:
    return [messages[: 2 * number + 2] for number in range(turns)]


@pytest.mark.parametrize("size", [60, 500, 1000, 1100, 4000])
def test_a_session_of_n_turns_costs_o_of_n_bytes(size: int) -> None:
    messages = conversation(200, lambda number: size)
    costs = [stored(growing(turns, messages), TOOLS) for turns in (50, 100, 200)]
    for half, whole in pairwise(costs):
        assert whole < 2.5 * half
    # Beside its own messages, a turn costs what surrounds them and the ends of lists.
    assert costs[-1] - len(encoded(messages)) < 200 * 5000


def test_a_session_of_mixed_messages_costs_at_most_three_times_its_last_turn() -> None:
    messages = conversation(100)
    once = len(encoded(opening(messages, TOOLS)))
    assert stored(growing(100, messages), TOOLS) < 3 * once
    naive = sum(len(encoded(opening(one, TOOLS))) for one in growing(100, messages))
    assert naive > 40 * once


def test_a_first_message_that_changes_each_turn_costs_that_message_and_little_more() -> None:
    messages = conversation(200)
    fixed = stored(growing(200, messages))
    changing = stored([[message(1000 + number, 3000), *one[1:]] for number, one in enumerate(growing(200, messages))])
    assert changing - fixed < 200 * 6000


def test_a_message_that_changes_in_a_long_list_costs_a_few_blobs() -> None:
    shelf = Shelf()
    messages = conversation(1000)
    shelf.pack(opening(messages))
    for place in (0, 1, 777, 1500, 1999):
        packed = shelf.pack(opening([*messages[:place], message(5000 + place, 2000), *messages[place + 1 :]]))
        assert len(packed.blobs) <= 8
        assert len(packed.data) + sum(len(data) for _, data in packed.blobs) < 16_000


def test_a_compaction_in_the_middle_of_a_session_costs_what_it_changes() -> None:
    messages = conversation(120)
    before = growing(60, messages)
    compacted = [messages[0], message(9000, 4000), *messages[100:120]]
    after = [[*compacted, *messages[120 : 120 + 2 * number]] for number in range(60)]
    assert stored([*before, *after]) < 1.2 * (stored(before) + stored(after))


def test_tools_that_stay_cost_a_few_references_and_one_that_changes_costs_its_row() -> None:
    shelf = Shelf()
    tools = [{"type": "function", "function": message(number, 1000)} for number in range(200)]
    shelf.pack(opening([], tools))
    again = shelf.pack(opening([], tools))
    assert len(again.data) < 1200
    changed = shelf.pack(opening([], [*tools[:100], message(1, 500), *tools[101:]]))
    assert sum(len(data) for _, data in changed.blobs) < len(encoded(tools)) / 4


def test_a_single_tool_that_stays_is_stored_once() -> None:
    shelf = Shelf()
    shelf.pack(opening([], [message(1, 8000)]))
    assert len(shelf.pack(opening([], [message(1, 8000)])).data) < 300


def test_elements_chosen_so_that_no_row_ends_are_cut_all_the_same() -> None:
    same = [message(1, 2000)] * 20_000
    shelf = Shelf()
    packed = shelf.pack(opening(same))
    assert shelf.unpack(packed) == opening(same)
    assert len(packed.data) + sum(len(data) for _, data in packed.blobs) < 20_000


# --- protection ---


def flipped(data: bytes) -> bytes:
    return bytes(one ^ 0xFF for one in data)


def test_addresses_are_of_what_is_stored_and_references_are_inside_what_is_protected() -> None:
    shelf = Shelf()
    before = opening(conversation(100), TOOLS)
    packed = shelf.pack(before, flipped)
    assert not any(data.startswith((b"{", b"[")) for data in shelf.blobs.values())
    assert unpack(packed.data, shelf.get, flipped) == before
    with pytest.raises(Corrupt, match="is no JSON"):
        unpack(packed.data, shelf.get)


def test_each_blob_comes_after_those_it_refers_to() -> None:
    packed = Shelf().pack(opening(conversation(300), TOOLS))
    seen: set[bytes] = set()
    later = {address.encode() for address, _ in packed.blobs}
    for address, data in packed.blobs:
        assert not [one for one in later - seen if one in data]
        seen.add(address.encode())


# --- bodies ---


@given(trees, st.dictionaries(st.text(), trees))
def test_a_body_has_the_opening_byte_for_byte_and_the_closing(tree: Any, closing: dict[str, Any]) -> None:
    packed = pack({"request": tree}, is_known=lambda _: False).data
    body = body_of(packed, closing)
    assert parts_of(body) == (packed, closing)
    assert msgspec.json.decode(body) == {"opening": msgspec.json.decode(packed), "closing": closing}


@pytest.mark.parametrize(
    "body", [b"", b"[]", b"{}", b'{"opening":{}}', b'{"opening":{},"closing":[]}', b'{"a":"\xff"}']
)
def test_a_body_that_cannot_be_one_is_refused(body: bytes) -> None:
    with pytest.raises(Corrupt, match="no JSON object with an opening and a closing"):
        parts_of(body)
