from __future__ import annotations

import tracemalloc

from hypothesis import given
from hypothesis import strategies as st

from extproc.verification.seen import Seen


@given(st.lists(st.text(max_size=2)))
def test_only_what_was_taken_more_than_once_is_suspect(names: list[str]) -> None:
    seen = Seen()
    for name in names:
        seen.add(name)
    assert seen.suspects() == {hash(name) for name in names if names.count(name) > 1}


def test_an_id_costs_about_8_bytes() -> None:
    seen = Seen()
    tracemalloc.start()
    for number in range(100_000):
        seen.add(f"{number:032x}")
    size, _ = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert size < 100_000 * 10
