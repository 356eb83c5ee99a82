"""A line through what was measured: it forgets, and a few wild values do not bend it.  Pure.

y = intercept + slope x, from five weighted sums.  Weights are those of relative errors: a tenth of a second
more counts much beside a short prompt and little beside a long one.  A single value beyond what is usual is
pulled in before it counts; when values keep lying on one side, the world has changed, and what was learned
before fades quickly.
"""

from __future__ import annotations

import math

from msgspec import Struct

HALF_LIFE_COUNT = 60.0
HALF_LIFE_S = 6 * 3600.0
_SPREAD_AT_FIRST = 0.5  # of the logarithm of actual / expected
_SPREAD_AT_LEAST = 0.02
_SPREAD_SHARE = 1 / 20
_USUAL_SPREADS = 1.5  # farther off than this is wild
_LEAN_SHARE = 0.15
_LEAN_OF_CHANGE = 0.7  # eight values in a row on one side, or nearly
_LEAST = 1e-6
_REFERENCE_X = 256.0
_LEAST_SHAPE = 1e-3
_RIDGE = 0.02  # how firmly the slope is held to its prior before sizes have been seen that differ


class Line(Struct, frozen=True, array_like=True, gc=False):
    """What was learned.  `Line()` knows nothing yet.

    Attributes:
        at_s: the last value's time.
        weight, x, y, xx, xy: sums of w, w x, w y, w x² and w x y.
        spread: how far the logarithm of actual / expected usually is from 0.
        lean: from -1 to 1, on which side of the line the last values lay.
        count: values, as far as they are not forgotten.
    """

    at_s: float = 0.0
    weight: float = 0.0
    x: float = 0.0
    y: float = 0.0
    xx: float = 0.0
    xy: float = 0.0
    spread: float = _SPREAD_AT_FIRST
    lean: float = 0.0
    count: float = 0.0

    def at(self, x: float, *, steep: bool = False) -> float | None:
        """The value expected at `x`; None if nothing is known.

        Args:
            steep: before sizes have differed, values count as growing with x from 0, not as all the same.
        """
        if self.weight <= 0:
            return None
        mean_x, mean_y = self.x / self.weight, self.y / self.weight
        if mean_x <= 0:
            return mean_y
        steepest = mean_y / mean_x  # a steeper line would begin below 0
        spread = max(0.0, self.xx / self.weight - mean_x * mean_x)
        common = self.xy / self.weight - mean_x * mean_y
        ridge = _RIDGE * mean_x * mean_x
        slope = (common + (ridge * steepest if steep else 0.0)) / (spread + ridge)
        return max(_LEAST, mean_y + min(max(0.0, slope), steepest) * (x - mean_x))

    def learned(self, x: float, y: float, at_s: float, *, steep: bool = False, share: float = 1.0) -> Line:
        """With one more value; `share`: how much it counts beside others."""
        y = max(_LEAST, y)
        expected = self.at(x, steep=steep)
        if expected is None:
            weight = share / (x / _REFERENCE_X if steep else 1.0) ** 2
            return Line(at_s, weight, weight * x, weight * y, weight * x * x, weight * x * y, count=1.0)
        off = math.log(y / expected)
        lean = self.lean + _LEAN_SHARE * (_within(off / (2 * self.spread), 1.0) - self.lean)
        changing = abs(lean) > _LEAN_OF_CHANGE
        usual = _within(off, _USUAL_SPREADS * self.spread)
        if not changing:
            y = expected * math.exp(usual)
        # A young line forgets as if it were old: its first values had nothing to be compared with.
        half_life_count = 1.0 if changing else min(2 + self.count, HALF_LIFE_COUNT)
        left = 0.5 ** (1 / half_life_count + age(self.at_s, at_s))
        # By the line's shape, not its height, or what was fast once would outweigh all that is slow now.
        weight = share / max(expected / (self.at(_REFERENCE_X, steep=steep) or expected), _LEAST_SHAPE) ** 2
        return Line(
            at_s=at_s,
            weight=self.weight * left + weight,
            x=self.x * left + weight * x,
            y=self.y * left + weight * y,
            xx=self.xx * left + weight * x * x,
            xy=self.xy * left + weight * x * y,
            spread=max(_SPREAD_AT_LEAST, self.spread + _SPREAD_SHARE * (abs(usual) - self.spread)),
            lean=lean,
            count=self.count * left + 1,
        )


def age(then_s: float, now_s: float) -> float:
    """Half-lives between two times."""
    return max(0.0, now_s - then_s) / HALF_LIFE_S


def _within(value: float, limit: float) -> float:
    return min(max(value, -limit), limit)
