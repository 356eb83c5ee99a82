"""Time for those who count by days: two clocks, and what to make of it when they disagree.  Pure."""

from __future__ import annotations

from collections import deque
from datetime import UTC, date, datetime

from msgspec import Struct

DAY_S = 86_400.0
STEP_S = 60.0  # clocks are corrected by less than this without anybody's doing
_DOUBT_S = 2 * DAY_S
_GRAIN_S = 600.0


class Moment(Struct, frozen=True, kw_only=True):
    """Now, by two clocks.

    Attributes:
        wall: aware; whoever runs the machine may set it.
        elapsed_s: since the machine's start, its sleep included; nobody can set it.
        boot: names that start.
    """

    wall: datetime
    elapsed_s: float
    boot: str = ""

    @property
    def day(self) -> date:
        """The UTC day."""
        return self.wall.astimezone(UTC).date()

    @property
    def start_s(self) -> float:
        """When the machine was started, as the wall has it now: Unix time."""
        return self.wall.timestamp() - self.elapsed_s


class Watch:
    """Notices when the clock on the wall was set, and doubts it for two days after."""

    def __init__(self, now: Moment) -> None:
        self._start_s = now.start_s
        self._until_s = now.elapsed_s  # of the doubt

    def look(self, now: Moment) -> None:
        """Compare the clocks.  Small steps are followed: nobody's clocks agree for ever."""
        if abs(now.start_s - self._start_s) > STEP_S:
            self.doubt(now)
        self._start_s = now.start_s

    def doubt(self, now: Moment) -> None:
        """The wall's clock may be wrong, for whatever reason."""
        self._until_s = now.elapsed_s + _DOUBT_S

    def doubtful(self, now: Moment) -> bool:
        """Whether the wall's clock may be wrong."""
        return now.elapsed_s < self._until_s


class Recent:
    """The sum of what came in the last 24 hours of elapsed time; a little longer, never shorter."""

    def __init__(self) -> None:
        self._grains: deque[list[float]] = deque()  # of begin, end, sum

    def add(self, amount: float, at_s: float) -> None:
        """Note what came at `at_s`, which never goes back."""
        if self._grains and at_s - self._grains[-1][0] < _GRAIN_S:
            self._grains[-1][1] = at_s
            self._grains[-1][2] += amount
        else:
            self._grains.append([at_s, at_s, amount])

    def sum(self, at_s: float) -> float:
        """What came in the 24 hours before `at_s`."""
        while self._grains and at_s - self._grains[0][1] >= DAY_S:
            self._grains.popleft()
        return sum(grain[2] for grain in self._grains)
