from __future__ import annotations

import hashlib
import json
from typing import Any

import msgspec
import pytest
import rfc8785
from hypothesis import given
from hypothesis import strategies as st

from extproc.recording.entry import GENESIS, Chain, Draft, Kind, address_of, canonical_bytes, read_head

# What heads may hold: any text that has bytes, integers that a double holds, no floats, names in ASCII.
texts = st.text(st.characters(codec="utf-8"))
names = st.text(st.characters(max_codepoint=0x7F))
integers = st.integers(-(2**53) + 1, 2**53 - 1)
values = st.recursive(
    st.none() | st.booleans() | integers | texts,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(names, inner, max_size=4),
    max_leaves=15,
)
facts = st.dictionaries(names, values, max_size=6)
drafts = st.builds(
    Draft,
    st.sampled_from(Kind),
    texts,
    texts,
    st.integers(0, 2**53 - 1),
    facts,
    st.none() | st.binary(),
    st.lists(texts, max_size=3),
    st.none() | texts,
    st.lists(texts, max_size=3),
)


def oracle(head: Any) -> bytes:
    return rfc8785.dumps(msgspec.to_builtins(head))


@given(facts)
def test_canonical_bytes_are_those_of_rfc_8785(given_facts: dict[str, Any]) -> None:
    assert canonical_bytes(given_facts) == oracle(given_facts)


def test_every_character_is_written_as_rfc_8785_has_it() -> None:
    characters = "".join(chr(code) for code in range(0x11000) if not 0xD800 <= code < 0xE000)
    assert canonical_bytes({"text": characters}) == oracle({"text": characters})
    ends = "\U0001f600\U000e0001\U0010ffff"
    assert canonical_bytes({"text": ends}) == oracle({"text": ends})


def test_every_name_in_ascii_is_sorted_as_rfc_8785_has_it() -> None:
    members = {chr(code) + tail: code for code in reversed(range(0x80)) for tail in ("", "a", "A", "_")}
    assert canonical_bytes(members) == oracle(members)


def test_half_surrogates_have_no_canonical_bytes() -> None:
    with pytest.raises(UnicodeEncodeError):
        canonical_bytes({"text": "\ud800"})


@given(drafts)
def test_a_head_is_sealed_in_canonical_bytes_and_read_back_from_them(draft: Draft) -> None:
    sealed, _ = Chain("log").seal(draft)
    head = read_head(sealed.head)
    assert sealed.head == oracle(head) == canonical_bytes(head) == canonical_bytes(json.loads(sealed.head))
    assert sealed.hash == hashlib.sha256(sealed.head).hexdigest() == address_of(sealed.head)
    assert (head.v, head.log, head.index, head.prev) == (1, "log", 0, GENESIS)
    assert (head.kind, head.id, head.session, head.at) == (draft.kind, draft.id, draft.session, draft.at)
    assert (head.facts, head.blobs, head.key) == (draft.facts, draft.blobs, draft.key)
    assert (sealed.body, sealed.lines) == (draft.body, draft.lines)


@given(st.lists(drafts, max_size=6))
def test_each_entry_names_the_one_before(given_drafts: list[Draft]) -> None:
    chain, prev = Chain("pod-1.0.7"), GENESIS
    for index, draft in enumerate(given_drafts):
        assert chain == Chain("pod-1.0.7", index, prev)
        sealed, chain = chain.seal(draft)
        head = read_head(sealed.head)
        assert (head.log, head.index, head.prev) == ("pod-1.0.7", index, prev)
        prev = sealed.hash
    assert (chain.index, chain.prev) == (len(given_drafts), prev)


def test_a_chain_goes_on_from_where_it_stood() -> None:
    draft = Draft(Kind.EXCHANGE, "id", "session", 1, {})
    first, after = Chain("log").seal(draft)
    assert after.seal(draft) == Chain("log", 1, first.hash).seal(draft)
    assert after.seal(draft)[0].hash != first.hash


@pytest.mark.parametrize(("body", "size"), [(b"", 0), (b"body", 4)])
def test_a_body_is_named_by_its_hash_and_size(body: bytes, size: int) -> None:
    head = read_head(Chain("log").seal(Draft(Kind.EXCHANGE, "id", "session", 1, {}, body))[0].head)
    assert (head.body, head.size) == (hashlib.sha256(body).hexdigest(), size)


def test_an_entry_without_a_body_names_none() -> None:
    head = read_head(Chain("log").seal(Draft(Kind.CLOSED, "id", "", 1, {}))[0].head)
    assert (head.body, head.size, head.blobs, head.key) == (None, 0, [], None)


def test_lines_are_no_part_of_what_is_hashed() -> None:
    with_lines, without = (
        Chain("log").seal(Draft(Kind.EXCHANGE, "id", "session", 1, {}, lines=lines))[0] for lines in (["a"], [])
    )
    assert (with_lines.head, with_lines.hash) == (without.head, without.hash)


@given(st.binary())
def test_what_is_no_head_is_a_value_error(data: bytes) -> None:
    with pytest.raises((msgspec.DecodeError, UnicodeDecodeError)):
        read_head(data)
