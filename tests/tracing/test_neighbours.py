from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from extproc.tracing.neighbours import MIN_SIMILARITY, most_similar


@pytest.mark.parametrize(
    ("line", "proposed", "best"),
    [
        ("timeout = 30", ["timeout = 60"], 0),
        ("return a - b", ["return compute(all_values)", "return a + b"], 1),
        ("urn a + b", ["return a + b"], 0),
        ("timeout = 30", ["timeout = 31", "timeout = 32"], 0),
        ("def load(path):", ["@dataclass(frozen=True)", "class Loader:"], None),
        ("x", [], None),
    ],
)
def test_the_most_similar_line_is_chosen_where_one_is_similar_enough(
    line: str, proposed: list[str], best: int | None
) -> None:
    similarity, chosen = most_similar(line, [(text, at) for at, text in enumerate(proposed)])
    assert chosen == best
    assert (similarity >= MIN_SIMILARITY) is (best is not None)


def longest_common(one: str, other: str) -> int:
    """Return the length of the longest common subsequence, the plain way."""
    row = [0] * (len(other) + 1)
    for first in one:
        before = row
        row = [0]
        for at, second in enumerate(other):
            row.append(before[at] + 1 if first == second else max(before[at + 1], row[at]))
    return row[-1]


@given(st.text("abc"), st.text("abc"))
def test_the_similarity_is_that_of_the_longest_common_subsequence(one: str, other: str) -> None:
    similarity = 2 * longest_common(one, other) / max(len(one) + len(other), 1)
    expected = min(similarity, 0.999) if similarity >= MIN_SIMILARITY else 0
    assert most_similar(one, [(other, 0)])[0] == expected


@given(st.text(), st.lists(st.text()))
def test_a_similarity_is_below_one_and_is_never_too_small(line: str, proposed: list[str]) -> None:
    similarity, chosen = most_similar(line, [(text, at) for at, text in enumerate(proposed)])
    assert similarity == 0 if chosen is None else MIN_SIMILARITY <= similarity < 1
