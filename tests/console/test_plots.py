from __future__ import annotations

from xml.etree import ElementTree as ET

from hypothesis import given
from hypothesis import strategies as st

from extproc.console.plots import HEIGHT, WIDTH, bars, share, summary
from tests.console.desk import HOSTILE, is_inert

# Those that are no characters are none in XML either.
TEXT = st.text(st.characters(exclude_characters="\ufffe\uffff"), max_size=20)
COUNTS = st.lists(st.tuples(TEXT, st.integers()), max_size=40)


def read(svg: str) -> ET.Element:
    return ET.fromstring(svg)  # noqa: S314 - ours


@given(values=COUNTS, title=TEXT, bad=st.booleans())
def test_any_counts_make_a_well_formed_plot_within_its_bounds(
    values: list[tuple[str, int]], title: str, *, bad: bool
) -> None:
    svg = read(bars("a", title, values, bad=bad))
    rects = svg.findall("rect")
    assert len(rects) == sum(count > 0 for _, count in values)
    for one in rects:
        x, y, width, height = (float(one.attrib[name]) for name in ("x", "y", "width", "height"))
        assert 0 <= x <= x + width <= WIDTH
        assert 0 <= y <= y + height <= HEIGHT
        assert height >= 2
    assert not [one for one in svg.iter() if "style" in one.attrib]


@given(st.integers(), st.integers())
def test_any_share_is_between_nothing_and_all(part: int, whole: int) -> None:
    (bar,) = read(share(part, whole)).findall("rect")
    assert 0 <= int(bar.attrib["width"]) <= 100


def test_bars_are_as_high_as_their_counts_say() -> None:
    rects = read(bars("a", "t", [("12:00", 50), ("12:01", 0), ("12:02", 100)])).findall("rect")
    assert [float(one.attrib["height"]) for one in rects] == [46, 92]
    assert [one.findtext("title") for one in rects] == ["12:00: 50", "12:02: 100"]


def test_a_plot_says_in_words_what_it_shows() -> None:
    values = [("12:00", 50), ("12:01", 0), ("12:02", 1100)]
    svg = read(bars("asked", "Exchanges", values))
    assert svg.attrib["role"] == "img"
    said = [svg.find(f"*[@id='{one}']") for one in svg.attrib["aria-labelledby"].split()]
    assert [one.text for one in said if one is not None] == ["Exchanges", summary(values)]
    assert summary(values) == "1\u202f150 in all, from 12:00 on; most at 12:02: 1\u202f100."
    assert summary([("12:00", 0)]) == summary([]) == "Nothing in this time."


def test_what_bars_are_called_is_no_markup() -> None:
    assert is_inert(bars("a", HOSTILE, [(HOSTILE, 1)]))
