from __future__ import annotations

import math

import pytest

from extproc.console.showing import shapes


def test_what_is_not_what_it_should_be_is_nothing() -> None:
    assert shapes.members([1]) == {}
    assert shapes.elements({"a": 1}) == []
    assert shapes.objects([1, {"a": 2}, None]) == [{"a": 2}]


@pytest.mark.parametrize(
    ("value", "expected"), [("a", "a"), ("", None), (3, "3"), (True, None), (None, None), ([], None)]
)
def test_texts(value: object, expected: str | None) -> None:
    assert shapes.text(value) == expected


@pytest.mark.parametrize("value", [-1, math.nan, math.inf, 1e300, 10**400, True, "1", None])
def test_what_is_no_time_is_none(value: object) -> None:
    assert shapes.number(value) is None


def test_a_number_is_one() -> None:
    assert shapes.number(5) == 5.0


def test_json_that_is_nested_too_deeply_is_still_shown() -> None:
    value: list[object] = []
    for _ in range(900):
        value = [value]
    assert shapes.indented(value) == "[" * 901 + "]" * 901
    assert shapes.indented({"a": [1]}) == '{\n  "a": [\n    1\n  ]\n}'
    for _ in range(100_000):
        value = [value]
    assert shapes.indented(value) == "(nested too deeply to be shown)"
