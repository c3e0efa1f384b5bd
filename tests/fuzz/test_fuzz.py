from __future__ import annotations

import pytest

from tests.fuzz.runner import TARGETS, run

SEED = 1
SECONDS = 1.5


@pytest.mark.parametrize("target", TARGETS)
def test_no_input_of_the_fixed_seed_breaks_a_promise(target: str) -> None:
    _, failure = run(target, SEED, seconds=SECONDS)
    assert failure is None, failure.report
