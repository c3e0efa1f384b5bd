from __future__ import annotations

import json
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from extproc.console.showing.rhythm import MIN_STEP_MS, Scene, data, scenes
from extproc.console.templates import visible
from extproc.replay import MAX_WAIT_SECONDS, frames
from tests.console.rendered import Read, document

LONG = MAX_WAIT_SECONDS * 1000


def streamed(text: str, pieces: list[Any], closed: float, **changes: Any) -> dict[str, Any]:
    return document(response={"text": text}, timing={"pieces": pieces, "closed": closed}, **changes)


def test_an_answer_grows_when_its_pieces_came() -> None:
    pieces = [[500.0, "0.text", 5], [600.0, "0.reasoning", 9], [1500, "0.text", 7]]
    assert scenes([streamed("Hello, world", pieces, 2000.0)]) == [
        Scene(0.0, 2000.0, [(500.0, "Hello"), (1500.0, ", world")]),
    ]


def test_pauses_in_an_answer_and_between_exchanges_are_as_short_as_in_the_terminal() -> None:
    one = streamed(
        "ab", [[100.0, "0.text", 1], [3_600_000.0, "0.text", 1]], 3_600_100.0, opened_at=0.0, closed_at=3600.0
    )
    two = streamed("", [], 500.0, opened_at=3602.0, closed_at=3603.0)
    three = streamed("", [], 500.0, opened_at=90_000.0, closed_at=90_001.0)
    made = scenes([one, two, three])
    assert made[0].steps == [(100.0, "a"), (100.0 + LONG, "b")]
    assert made[0].end == 200.0 + LONG
    assert made[1].start == made[0].end + 2000
    assert (made[2].start, made[2].end) == (made[1].end + LONG, made[1].end + LONG + 500)


def test_exchanges_at_the_same_time_are_played_one_after_the_other() -> None:
    both = [
        streamed("", [], 500.0, opened_at=10.0, closed_at=20.0),
        streamed("", [], 500.0, opened_at=11.0, closed_at=12.0),
    ]
    assert [(one.start, one.end) for one in scenes(both)] == [(0.0, 500.0), (500.0, 1000.0)]


def test_what_grows_fast_is_shown_in_few_steps() -> None:
    (scene,) = scenes([streamed("x" * 1000, [[at, "0.text", 1] for at in range(1000)], 1000.0)])
    assert len(scene.steps) <= 1000 / MIN_STEP_MS + 2
    assert "".join(text for _, text in scene.steps) == "x" * 1000


@given(st.lists(st.tuples(st.floats(0, 100_000), st.text(min_size=1)), min_size=1))
def test_the_terminal_and_the_page_play_the_same_text(pieces: list[tuple[float, str]]) -> None:
    text = "".join(one for _, one in pieces)
    one = streamed(text, [[at, "0.text", len(part)] for at, part in pieces], 100_000.0)
    (scene,) = scenes([one])
    assert list(frames(one))[-1][1] == text
    if "\r" not in text and "\u200d" not in text:
        assert "".join(part for _, part in scene.steps) == visible(text)
    times = [at for at, _ in scene.steps]
    assert times == sorted(times)
    assert all(scene.start <= at <= scene.end for at in times)


json_ish = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
)


@given(json_ish, json_ish, json_ish, json_ish)
def test_no_timing_breaks_it(pieces: Any, closed: Any, opened: Any, text: Any) -> None:
    timing = {"pieces": pieces, "closed": closed}
    two = [{"opened_at": opened, "closed_at": closed, "response": {"text": text}, "timing": timing}] * 2
    for scene in scenes(two):
        assert 0 <= scene.start <= scene.end


def test_data_ends_no_script() -> None:
    text = "</script><script>alert(1)</script><!-- & \u2028 \ud800"
    html = f'<script type="application/json">{data([Scene(0, 1, [(0, text)])])}</script>'
    read = Read(html.encode("utf-8", "surrogatepass").decode("utf-8", "surrogatepass"))
    assert len(read.scripts) == 1
    assert json.loads(read.scripts[0]) == [[0, 1, [[0, text]]]]
