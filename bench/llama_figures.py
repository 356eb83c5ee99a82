"""Figures side by side: a row a measure, a column a subject, ratios taken inside each round."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Iterable, Iterator

from msgspec import Struct, field

from bench.routing_report import Block

ROUTER, SERVER, BARE, ENGINE = "router", "llama-server", "Llama", "engine alone"
_NOTHING = "–"


class Goal(Struct, kw_only=True, frozen=True):
    """What a row is held to: the ratio to llama-server, or the router's own value."""

    at_least: float | None = None
    at_most: float | None = None
    of_ratio: bool = True

    @property
    def text(self) -> str:
        """As the table shows it."""
        bound = f"≥ {self.at_least:g}" if self.at_least is not None else f"≤ {self.at_most:g}"
        return f"{bound} ×" if self.of_ratio else bound

    def met(self, figure: float) -> bool:
        """Whether the figure is within the bounds."""
        low = self.at_least is None or figure >= self.at_least
        return low and (self.at_most is None or figure <= self.at_most)


class Row(Struct, kw_only=True):
    """One measure: medians over the rounds by subject.

    `ratio` is the router's to its peer's in the same round.  `met` is None without a goal or a figure.
    """

    measure: str
    values: dict[str, float]
    ratio: float | None = None
    goal: str = ""
    met: bool | None = None


class Section(Struct, kw_only=True):
    """What one part of the command found."""

    name: str
    title: str
    rows: list[Row] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)


class Samples:
    """Collects a section's figures, one of each subject a round."""

    def __init__(self) -> None:
        self._found: dict[str, dict[str, list[float]]] = {}

    def add(self, measure: str, subject: str, value: float) -> None:
        """Take the figure of the round that is on; each subject has one a round."""
        self._found.setdefault(measure, {}).setdefault(subject, []).append(value)

    def worst(self, measure: str, subject: str) -> float:
        """The greatest so far."""
        return max(self._found[measure][subject])

    def rows(self, goals: dict[str, Goal]) -> list[Row]:
        """All measures in the order in which they first came."""
        return [_row(measure, found, goals.get(measure)) for measure, found in self._found.items()]


def _row(measure: str, found: dict[str, list[float]], goal: Goal | None) -> Row:
    values = {subject: statistics.median(taken) for subject, taken in found.items()}
    row = Row(measure=measure, values=values, ratio=_ratio(found))
    if goal is not None:
        row.goal = goal.text
        figure = row.ratio if goal.of_ratio else values.get(ROUTER)
        row.met = None if figure is None else goal.met(figure)
    return row


def _ratio(found: dict[str, list[float]]) -> float | None:
    """The router's to llama-server's, or to `Llama`'s where there is no llama-server."""
    ours, theirs = found.get(ROUTER, []), found.get(SERVER) or found.get(BARE) or []
    if not ours or not theirs or min(theirs) <= 0:
        return None
    return statistics.median(one / other for one, other in zip(ours, theirs, strict=False))


def in_turn(subjects: Iterable[str], round_number: int) -> Iterator[str]:
    """The subjects, another one first each round."""
    names = list(subjects)
    at = round_number % len(names) if names else 0
    yield from (*names[at:], *names[:at])


def block(section: Section) -> Block:
    """A section as a table with its notes."""
    if not section.rows:
        return Block(section.title, section.notes, [])
    subjects = list(dict.fromkeys(name for row in section.rows for name in row.values))
    head = ["measure", *subjects, "ratio", "goal", "met"]
    return Block(section.title, section.notes, [head, *(_cells(row, subjects) for row in section.rows)])


def _cells(row: Row, subjects: list[str]) -> list[str]:
    met = {None: "", True: "yes", False: "no"}[row.met]
    values = [_shown(row.values.get(name)) for name in subjects]
    return [row.measure, *values, _shown(row.ratio), row.goal, met]


def _shown(value: float | None) -> str:
    """Three digits, and no more after the point than mean something."""
    if value is None:
        return _NOTHING
    form = next(form for least, form in _FORMS if abs(value) >= least or not least)
    return form(value)


_FORMS: tuple[tuple[float, Callable[[float], str]], ...] = (
    (100, "{:,.0f}".format),
    (10, "{:.1f}".format),
    (0.1, "{:.2f}".format),
    (0, "{:.3g}".format),
)
