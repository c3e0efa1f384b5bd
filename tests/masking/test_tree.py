from __future__ import annotations

from typing import Any

import pytest

from extproc.masking.masker import Masker
from extproc.masking.tree import TreeMasker, drop_logprobs
from tests.masking.running import OURS, PASSWORD, TOKEN, masker


def tree_masker(by: Masker | None = None) -> TreeMasker:
    return TreeMasker(by or masker(), frozenset({"id", "signature"}), frozenset({"arguments"}))


@pytest.mark.parametrize(
    ("tree", "after"),
    [
        ({"a": [{"b": f"x {TOKEN}"}]}, {"a": [{"b": "x [MASKED:github-pat]"}]}),
        ([TOKEN, [TOKEN]], ["[MASKED:github-pat]", ["[MASKED:github-pat]"]]),
        ({TOKEN: 1}, {"[MASKED:github-pat]": 1}),
        ({"password": PASSWORD}, {"password": "[MASKED:password]"}),
        ({"id": TOKEN}, {"id": TOKEN}),
        ({"id": f"x{OURS}"}, {"id": "x[MASKED:gateway-credential]"}),
        ({"input": {"id": TOKEN}}, {"input": {"id": "[MASKED:github-pat]"}}),
        ({"arguments": f'{{"a":"\\u0067{TOKEN[1:]}"}}'}, {"arguments": '{"a":"[MASKED:github-pat]"}'}),
    ],
)
def test_strings_and_names_are_masked_in_place_except_what_is_opaque(tree: Any, after: Any) -> None:
    changed = tree != after
    assert tree_masker().mask(tree) is changed
    assert tree == after


def test_what_is_skipped_stays_and_members_are_counted() -> None:
    tree = {"a": TOKEN, "b": {"c": [], "d": {}}}
    walker = tree_masker()
    assert not walker.mask(tree, {(id(tree), "a")})
    assert tree["a"] == TOKEN
    assert walker.members == 4


def test_a_finding_names_its_place() -> None:
    by = masker()
    tree_masker(by).mask({"messages": [{"content": TOKEN}]})
    assert [found.where for found in by.findings] == ["messages[0].content"]


def test_a_tree_deeper_than_the_stack_is_masked() -> None:
    tree: list[Any] = [TOKEN]
    for _ in range(50_000):
        tree = [tree]
    assert tree_masker().mask(tree)
    while isinstance(tree[0], list):
        tree = tree[0]
    assert tree == ["[MASKED:github-pat]"]


def test_logprobs_are_dropped_wherever_they_are() -> None:
    tree = {"choices": [{"logprobs": {"content": [1]}}], "output": [{"logprobs": [1], "x": 1}], "logprobs": True}
    assert drop_logprobs(tree)
    assert tree == {"choices": [{"logprobs": None}], "output": [{"logprobs": [], "x": 1}], "logprobs": True}
    assert not drop_logprobs(tree)
