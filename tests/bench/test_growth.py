from __future__ import annotations

from pathlib import Path

import pytest
from PIL import Image

from bench import plot
from bench.growth_fit import Curve, exponent

SIZES = (1, 4, 16, 64, 256, 1024, 4096)


def curve(cost: object, promise: float = 1.0) -> Curve:
    assert callable(cost)
    return Curve([(size, cost(size), cost(size), 10 * cost(size)) for size in SIZES], promise)


@pytest.mark.parametrize("power", [0, 0.5, 1, 2, 3])
def test_the_exponent_of_a_power_is_that_power(power: float) -> None:
    assert exponent([(size, 7 * size**power) for size in SIZES]) == pytest.approx(power)


def test_what_is_always_the_same_does_not_hide_what_grows() -> None:
    assert not curve(lambda size: 1000 + size**2).is_kept


def test_a_quadratic_part_that_is_half_of_the_cost_in_the_end_is_seen() -> None:
    assert not curve(lambda size: size + size**2 / SIZES[-1]).is_kept


def test_linear_and_what_is_a_logarithm_above_it_count_as_linear() -> None:
    assert curve(lambda size: 500 + size).is_kept
    assert curve(lambda size: size * (size * 1024).bit_length()).is_kept


def test_the_cost_of_one_of_many_must_not_grow_with_their_number() -> None:
    assert curve(lambda _: 5.0, promise=0).is_kept
    assert not curve(lambda size: size**0.3, promise=0).is_kept


def test_the_least_costs_count_since_disturbances_only_add() -> None:
    noisy = [(size, float(size**2), float(size), float(size**2)) for size in SIZES]
    assert Curve(noisy).exponent == pytest.approx(1)


@pytest.mark.parametrize("log", [False, True])
def test_lines_are_written_as_a_png_with_something_drawn(tmp_path: Path, *, log: bool) -> None:
    path = tmp_path / "folder" / "lines.png"
    points = [(1.0, 2.0, 1.5, 2.5), (10.0, 20.0, 15.0, 30.0)]
    plot.lines(path, "Title", "x", "y", {"one": points, "two": points[::-1]}, log=log, note="a note")
    assert is_drawn(path)


def test_bars_are_written_as_a_png_even_where_a_group_lacks_a_name(tmp_path: Path) -> None:
    path = tmp_path / "bars.png"
    plot.bars(
        path, "Title", "y", {"first": {"a": (2, 1, 3), "b": (4, 4, 4)}, "second": {"a": (1, 1, 1)}}, note="a note"
    )
    assert is_drawn(path)


def is_drawn(path: Path) -> bool:
    with Image.open(path) as image:
        image.load()
        colours = image.convert("RGB").getcolors(1 << 20)
        assert image.format == "PNG"
        assert colours is not None
        return image.width > 600 and len(colours) > 10
