"""Lines: they find what is behind noise, and follow what changes."""

from __future__ import annotations

import math
import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hybrid_router.routing.fit import HALF_LIFE_S, Line


def dice(seed: int) -> random.Random:
    """The same chances each time."""
    return random.Random(seed)  # noqa: S311 - no secret


def drawn(line: Line, count: int, *, seed: int, intercept: float, slope: float, sigma: float = 0.0) -> Line:
    """`count` more values of a line with lognormal noise, one second apart."""
    chance = dice(seed)
    for _ in range(count):
        x = chance.uniform(10, 2000)
        y = (intercept + slope * x) * math.exp(chance.gauss(0, sigma))
        line = line.learned(x, y, line.at_s + 1)
    return line


def test_nothing_is_known_before_the_first_value() -> None:
    """An empty line expects nothing at all."""
    assert Line().at(100) is None


@pytest.mark.parametrize(("intercept", "slope"), [(0.5, 0.001), (0.0, 0.01), (2.0, 0.0)])
def test_an_exact_line_is_found(intercept: float, slope: float) -> None:
    """Without noise, twenty values give intercept and slope to a few per cent."""
    line = drawn(Line(), 20, seed=1, intercept=intercept, slope=slope)

    for x in (50, 500, 1500):
        assert line.at(x) == pytest.approx(intercept + slope * x, rel=0.1)


def test_a_line_is_found_behind_noise() -> None:
    """With a third of noise either way, two hundred values give the line to a tenth, at both ends."""
    line = drawn(Line(), 200, seed=2, intercept=0.4, slope=0.001, sigma=0.3)

    for x in (50, 500, 1500):
        assert line.at(x) == pytest.approx(0.4 + 0.001 * x, rel=0.15)


def test_slow_outliers_do_not_bend_it() -> None:
    """One value in twenty that is ten times as large moves the line by less than a fifth; a mean, by half."""
    chance, line = dice(3), Line()
    for at_s in range(400):
        x = chance.uniform(10, 2000)
        y = (0.4 + 0.001 * x) * math.exp(chance.gauss(0, 0.2))
        line = line.learned(x, y * (10 if chance.random() < 0.05 else 1), at_s)

    for x in (50, 500, 1500):
        assert line.at(x) == pytest.approx(0.4 + 0.001 * x, rel=0.2)


def test_a_wild_first_value_is_forgotten() -> None:
    """A first value ten times too large is outweighed by the next thirty."""
    line = drawn(Line().learned(100, 5.0, 0), 30, seed=4, intercept=0.5, slope=0.0)

    assert line.at(100) == pytest.approx(0.5, rel=0.2)


@pytest.mark.parametrize("factor", [5.0, 0.2])
def test_a_change_is_followed_within_thirty_values(factor: float) -> None:
    """After 300 values, a world five times as slow or as fast is believed within thirty."""
    line = drawn(Line(), 300, seed=5, intercept=0.5, slope=0.001, sigma=0.2)
    line = drawn(line, 30, seed=6, intercept=0.5 * factor, slope=0.001 * factor, sigma=0.2)

    assert line.at(500) == pytest.approx(1.0 * factor, rel=0.25)


def test_old_values_fade_with_time() -> None:
    """After two days, a handful of new values outweighs hundreds of old ones."""
    old = drawn(Line(), 300, seed=7, intercept=1.0, slope=0.0, sigma=0.3)
    rested = Line(*(getattr(old, name) for name in old.__struct_fields__))
    for again in range(3):
        old = old.learned(100, 1.5, 300 + again)
        rested = rested.learned(100, 1.5, 300 + 8 * HALF_LIFE_S + again)

    assert (old.at(100) or 0) < 1.1
    assert (rested.at(100) or 0) > 1.25


def test_one_size_says_nothing_about_others() -> None:
    """Until sizes differ, a steep line grows from 0 and a flat one does not grow."""
    steep = Line().learned(1000, 2.0, 0, steep=True).learned(1000, 2.0, 1, steep=True)
    flat = Line().learned(1000, 2.0, 0).learned(1000, 2.0, 1)

    assert steep.at(100, steep=True) == pytest.approx(0.2)
    assert flat.at(100) == pytest.approx(2.0)


@given(
    values=st.lists(st.tuples(st.floats(1, 1e6), st.floats(0, 1e5), st.floats(0, 1e6)), max_size=40),
    steep=st.booleans(),
    x=st.floats(0, 1e6),
)
def test_any_values_give_a_positive_rising_line(
    values: list[tuple[float, float, float]], steep: bool, x: float
) -> None:
    """Whatever is measured, also zeros and clocks that jump back: never negative, never falling with size."""
    line = Line()
    for size, y, at_s in values:
        line = line.learned(size, y, at_s, steep=steep)

    here, beyond = line.at(x, steep=steep), line.at(x + 1, steep=steep)
    if not values:
        assert here is beyond is None
        return
    assert here is not None
    assert beyond is not None
    assert 0 < here <= beyond * (1 + 1e-9) < math.inf
