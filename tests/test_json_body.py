from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from extproc.json_body import decoded, encoded, repeats

NAMES = st.text(alphabet='a"\\:{}é', max_size=6)
TREES = st.recursive(
    st.one_of(st.none(), st.integers(), NAMES),
    lambda inner: st.one_of(st.lists(inner, max_size=3), st.dictionaries(NAMES, inner, max_size=3)),
)


def members(tree: object) -> int:
    if isinstance(tree, dict):
        return len(tree) + sum(map(members, tree.values()))
    return sum(map(members, tree)) if isinstance(tree, list) else 0


@given(TREES, st.booleans())
def test_members_are_told_apart_whatever_their_names_and_strings_are(tree: object, ascii_only: bool) -> None:  # noqa: FBT001
    for text in (
        json.dumps(tree, ensure_ascii=ascii_only),
        json.dumps(tree, ensure_ascii=ascii_only, separators=(",", ":")),
        json.dumps(tree, indent=1, separators=(",", " :\n")),
    ):
        assert not repeats(text.encode(), tree, members(tree))


@pytest.mark.parametrize(
    "text",
    [
        '{"a":1,"a":2}',
        '{"a":1,"a":2,"b\\\\":3}',
        '{"x":[{"a":1,"\\u0061":2}]}',
        '{"a\\"":1,"a\\"":2}',
        '{"a":"\\":","b":1,"b":2}',
    ],
)
def test_a_member_that_comes_twice_is_noticed(text: str) -> None:
    assert repeats(text.encode(), json.loads(text), members(json.loads(text)))


@pytest.mark.parametrize(
    "number", ["18446744073709551616", "-9" * 1 + "9" * 60, "1.0", "0.1", "-0.0", "5e-324", "1e22", "9007199254740993"]
)
def test_a_number_keeps_its_value(number: str) -> None:
    assert json.loads(encoded(decoded(f'{{"n":{number}}}'.encode()))) == {"n": json.loads(number)}


@pytest.mark.parametrize(
    "data",
    [b"", b"{", b"NaN", b"Infinity", b"1e400", b"9" * 5000, b"[" * 100_000, b"\xff\xfe", b"{} {}", b"[1e400]"],
    ids=lambda data: data[:8].hex(),
)
def test_what_cannot_be_read_or_would_come_back_as_something_else_is_no_json(data: bytes) -> None:
    assert decoded(data) is None


@pytest.mark.parametrize("depth", range(900, 1100))
def test_no_depth_at_which_json_is_read_is_too_deep_to_be_compared(depth: int) -> None:
    data = b'{"a":' * depth + b"1" + b"}" * depth
    tree = decoded(data)
    assert tree is None or not repeats(data, tree, depth)


def test_halves_of_characters_come_back() -> None:
    tree = decoded(b'{"a":"\\ud83d"}')
    assert json.loads(encoded(tree)) == {"a": "\ud83d"}


@given(st.binary(max_size=100))
def test_no_bytes_make_it_raise(data: bytes) -> None:
    tree = decoded(data)
    if tree is not None:
        encoded(tree)
    repeats(data, tree, 0)


@pytest.mark.parametrize(
    "text",
    [
        r'{"a\\":1,"b":"x\":"}',
        r'{"a":":","b":" :\\"}',
        r'{"\"":"\\\":","c":{"d":":"}}',
        '{"a":"' + r"\\" * 20 + r'\":"}',
    ],
)
def test_quotes_and_colons_in_strings_are_no_members(text: str) -> None:
    tree = json.loads(text)
    # With a space they are counted, and not compared with what we would write.
    for data in (text.encode(), text.replace("{", "{ ", 1).encode()):
        assert not repeats(data, tree, members(tree))
    assert repeats(data, tree, members(tree) - 1)
