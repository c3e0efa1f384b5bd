from __future__ import annotations

import contextlib
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from extproc.approval.graphql import Unreadable, mutated

DOCUMENTS = {
    "plain": ("mutation { m(input: {a: 1}) { x } }", [("m", {"input": {"a": "1"}}), ("x", {})]),
    "named, with variables": (
        'mutation M($v: I! = {a: "d"}) @d(x: 1) { m(input: $v) }',
        [("m", {"input": {"a": "d"}})],
    ),
    "alias": ("mutation { a: m }", [("m", {})]),
    "fragment": ("fragment F on Mutation { m(b: [1 2]) } mutation { ...F }", [("m", {"b": ["1", "2"]})]),
    "fragment with a variable": (
        'fragment F on Mutation { m(p: $p) } mutation($p: S = "d") { ...F x }',
        [("x", {}), ("m", {"p": "d"})],
    ),
    "inline fragment": ("mutation { ... on Mutation @a { m } ... { n } }", [("m", {}), ("n", {})]),
    "spread before a field": ("mutation { ...F m }", [("m", {})]),
    "several operations": ("query A { q } mutation B { m }", [("q", {}), ("m", {})]),
    "comments": ("#{\nmutation #}\n{ #x\rm, }", [("m", {})]),
    "strings": (
        'mutation { m(a: "}\\u0061\\n\\u{62}", b: """x "y" \\""" } """) }',
        [("m", {"a": "}a\nb", "b": 'x "y" """ } '})],
    ),
    "enum, boolean, null": (
        "mutation { m(a: [true, RED, null, -1.5e3]) }",
        [("m", {"a": ["true", "RED", "null", "-1.5e3"]})],
    ),
    "query": ("query { m }", []),
    "short query": ("{ mutation { m } }", []),
    "subscription": ("subscription { m }", []),
    "a word in a string": ('{ m(a: "mutation { x }") }', []),
}


@pytest.mark.parametrize(("document", "expected"), DOCUMENTS.values(), ids=DOCUMENTS.keys())
def test_the_fields_of_mutations_are_found(document: str, expected: list[Any]) -> None:
    assert mutated(document, {}) == expected


def test_a_variable_goes_before_its_default() -> None:
    assert mutated("mutation($v: S = 1) { m(a: $v, b: $w) }", {"v": {"x": 2}}) == [("m", {"a": {"x": 2}, "b": None})]


BAD = [
    "mutation {",
    "mutation m }",
    "mutation { m(a: }",
    "mutation { m(a: 'x') }",
    'mutation { m(a: "x) }',
    "mutation ~ {m}",
]
BAD += [
    "mutation { m " + "{ m " * 100,
    "mutation { m(a: " + "[" * 100,
    'mutation { m(a: "\\u{110000}") }',
    "# " + "x" * 10**6,
]
BAD += ["query A($p: S = 1) { x } mutation B($p: S = 2) { m(a: $p) }"]


@pytest.mark.parametrize("document", BAD)
def test_what_is_no_graphql_is_refused(document: str) -> None:
    with pytest.raises(Unreadable):
        mutated(document, {})


TOKENS = st.sampled_from(
    ["mutation", "query", "fragment", "on", "...", "{", "}", "(", ")", ":", "$", "a", "=", "@", '"x"', "[", "]"]
)


@given(st.text() | st.lists(TOKENS, max_size=40).map(" ".join))
def test_no_document_raises_anything_else(document: str) -> None:
    with contextlib.suppress(Unreadable):
        mutated(document, {})
