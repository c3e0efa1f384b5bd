from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from extproc.echo import without_secrets
from extproc.release import released_headers
from extproc.secret import Secret

TOKEN = "tid=a1b2c3/d4e5;exp=17:/mac"
GITHUB = "ghu_0123456789abcdef"
MASK = "[MASKED:gateway-credential]"


def test_every_occurrence_of_every_secret_is_masked_and_the_rest_stays() -> None:
    value = f"Bearer {GITHUB}, {TOKEN};{GITHUB} é"
    assert without_secrets(value, [Secret(TOKEN), Secret(GITHUB)]) == f"Bearer {MASK}, {MASK};{MASK} é"


@pytest.mark.parametrize("value", ["", "text/event-stream; ghu_0123", "tid=a1b2c3"])
def test_a_value_without_a_whole_secret_stays_as_it_is(value: str) -> None:
    assert without_secrets(value, [Secret(TOKEN), Secret(GITHUB)]) == value


def test_without_secrets_nothing_is_changed() -> None:
    assert without_secrets(f"Bearer {GITHUB}", []) == f"Bearer {GITHUB}"


@pytest.mark.parametrize("order", [(0, 1), (1, 0)])
def test_of_secrets_within_each_other_no_part_of_the_longer_one_is_left(order: tuple[int, int]) -> None:
    secrets = (Secret("ghu_short"), Secret("ghu_short-and-more"))
    assert without_secrets("x ghu_short-and-more", [secrets[at] for at in order]) == f"x {MASK}"


# Few letters make overlaps and repetitions likely.
@given(st.lists(st.text(alphabet="ab", min_size=8, max_size=12), max_size=3), st.text(alphabet="ab ", max_size=60))
def test_no_secret_is_left_whatever_the_value(secrets: list[str], value: str) -> None:
    masked = without_secrets(value, map(Secret, secrets))
    assert not any(secret in masked for secret in secrets)


def test_headers_lose_the_secrets_they_repeat_and_nothing_else_is_set() -> None:
    headers = [(":status", "200"), ("x-a", f"t {GITHUB}"), ("x-b", "plain"), ("x-c", TOKEN), ("x-request-id", "1")]
    passed = released_headers(headers, (Secret(TOKEN), Secret(GITHUB)), "d1", ("content-length", "3"))
    ids = [("x-gateway-decision-id", "d1"), ("x-github-request-id", "d1")]
    assert passed.set_headers == [*ids, ("x-a", f"t {MASK}"), ("x-c", MASK), ("content-length", "3")]
    assert passed.remove_headers == []
