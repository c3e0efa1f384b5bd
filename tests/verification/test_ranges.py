from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from extproc.verification.ranges import Ranges

PAIRS = st.lists(st.tuples(st.integers(0, 30), st.integers(0, 30)))


def indexes(pairs: list[tuple[int, int]]) -> set[int]:
    return {index for first, after in pairs for index in range(first, after)}


@given(PAIRS)
def test_ranges_have_what_their_pairs_have_and_do_not_touch(pairs: list[tuple[int, int]]) -> None:
    ranges = Ranges.of(pairs)
    assert indexes(ranges.pairs) == indexes(pairs) == {index for index in range(40) if ranges.has(index)}
    assert ranges.total == len(indexes(pairs))
    assert all(one[1] < two[0] for one, two in zip(ranges.pairs, ranges.pairs[1:], strict=False))


@given(PAIRS, PAIRS)
def test_minus_leaves_what_the_other_has_not(pairs: list[tuple[int, int]], others: list[tuple[int, int]]) -> None:
    left = Ranges.of(pairs).minus(Ranges.of(others))
    assert indexes(left.pairs) == indexes(pairs) - indexes(others)
    assert all(first < after for first, after in left.pairs)


@given(PAIRS, st.integers(0, 30), st.integers(1, 30))
def test_ranges_are_disjoint_from_what_they_do_not_have(pairs: list[tuple[int, int]], first: int, size: int) -> None:
    some = set(range(first, first + size))
    assert Ranges.of(pairs).is_disjoint(first, first + size) is indexes(pairs).isdisjoint(some)
