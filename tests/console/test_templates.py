from __future__ import annotations

import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st
from markupsafe import Markup

from extproc.console.templates import duration, environment, moment, number, visible

ANY_TEXT = st.text(st.characters(codec=None, exclude_categories=()))


def rendered(source: str, **values: object) -> str:
    return environment().from_string(source).render(**values)


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("plain, \u00e4\u00f6\u4e2d\U0001f600\n\t", "plain, \u00e4\u00f6\u4e2d\U0001f600\n\t"),
        ("a\u202eb\u2066c", "a\u27e8U+202E\u27e9b\u27e8U+2066\u27e9c"),
        ("x\u200by\ufeff\u00ad", "x\u27e8U+200B\u27e9y\u27e8U+FEFF\u27e9\u27e8U+00AD\u27e9"),
        ("\U000e0041", "\u27e8U+E0041\u27e9"),
        ("\x00\x1b[2J\x7f", "\u2400\u241b[2J\u2421"),
        ("one\r\ntwo\rthree", "one\ntwo\u240dthree"),
        ("\ud800", "\u27e8U+D800\u27e9"),
        # What joins people into a family stays; between letters it hides.
        ("\U0001f468\u200d\U0001f469", "\U0001f468\u200d\U0001f469"),
        ("a\u200db", "a\u27e8U+200D\u27e9b"),
    ],
)
def test_what_cannot_be_seen_is_shown(text: str, shown: str) -> None:
    assert visible(text) == shown


@given(ANY_TEXT)
def test_nothing_that_is_shown_turns_text_around_or_controls_anything(text: str) -> None:
    left = {one for one in visible(text) if unicodedata.category(one) in {"Cc", "Cs"}}
    assert left <= {"\n", "\t"}
    turning = {"RLO", "LRO", "RLE", "LRE", "PDF", "RLI", "LRI", "FSI", "PDI"}
    assert not any(unicodedata.bidirectional(one) in turning for one in visible(text))


@given(ANY_TEXT)
def test_what_was_made_visible_stays_as_it_is(text: str) -> None:
    assert visible(visible(text)) == visible(text)


def test_every_value_of_a_template_is_escaped_and_visible() -> None:
    hostile = "<script>\u202e\"'&"
    assert rendered("{{ x }}", x=hostile) == "&lt;script&gt;\u27e8U+202E\u27e9&#34;&#39;&amp;"
    assert rendered("{{ x }}", x=Markup("<b>made here</b>")) == "<b>made here</b>"
    assert rendered("[{{ x }}]", x=None) == "[]"


@pytest.mark.parametrize(
    ("seconds", "shown"),
    [(None, "-"), (0.0042, "4 ms"), (1.25, "1.2 s"), (61, "1 min 1 s"), (3720, "1 h 2 min"), (90_000, "1 d 1 h")],
)
def test_durations_are_in_the_units_that_matter(seconds: float | None, shown: str) -> None:
    assert duration(seconds) == shown


def test_times_and_numbers_are_for_people_to_read() -> None:
    assert (moment(1_760_000_000), moment(None)) == ("2025-10-09 08:53:20", "-")
    assert (number(1_234_567), number(None)) == ("1\u202f234\u202f567", "-")
