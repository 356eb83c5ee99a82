"""The shape of the code: printed by `pytest -s tests/test_shape.py`, and held within its limits."""

from __future__ import annotations

import ast
import statistics
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
MODULE_LINES = 600
FUNCTION_LINES = 80
MODULE_MEDIAN = 200
FUNCTION_MEDIAN = 10
FUNCTION_P90 = 35


@dataclass(frozen=True)
class Measured:
    """A piece of code and how many lines it has."""

    name: str
    lines_count: int


def sources() -> list[Path]:
    """Every module of the package and of the scripts."""
    return sorted([*(ROOT / "hybrid_router").rglob("*.py"), *(ROOT / "scripts").rglob("*.py")])


def modules() -> list[Measured]:
    """Every module with its length."""
    return [
        Measured(str(path.relative_to(ROOT)), len(path.read_text(encoding="utf-8").splitlines()))
        for path in sources()
    ]


def functions() -> Iterator[Measured]:
    """Every function with its length: signature to last line, docstring left out."""
    for path in sources():
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
                yield Measured(f"{path.relative_to(ROOT)}:{node.lineno} {node.name}", length(node))


def length(node: ast.FunctionDef | ast.AsyncFunctionDef) -> int:
    """A function's lines without its docstring."""
    whole = (node.end_lineno or node.lineno) - node.lineno + 1
    first = node.body[0]
    if ast.get_docstring(node) is None:
        return whole
    return whole - ((first.end_lineno or first.lineno) - first.lineno + 1)


def report(kind: str, measured: list[Measured]) -> tuple[float, float]:
    """Print median, 90th percentile and the longest; give the first two."""
    counts = [piece.lines_count for piece in measured]
    median, p90 = statistics.median(counts), statistics.quantiles(counts, n=10)[-1]
    longest = max(measured, key=lambda piece: piece.lines_count)
    figures = f"median {median:g}, p90 {p90:g}, longest {longest.lines_count} ({longest.name})"
    print(f"\n{len(measured)} {kind}: {figures}")  # noqa: T201  # the figures are wanted in the output
    return median, p90


def test_no_module_is_longer_than_the_limit() -> None:
    """A module holds one idea: 600 lines at most, half of them 200 or fewer."""
    measured = modules()
    median, _ = report("modules", measured)

    assert [piece for piece in measured if piece.lines_count > MODULE_LINES] == []
    assert median <= MODULE_MEDIAN


def test_no_function_is_longer_than_the_limit() -> None:
    """A function fits on a screen: 80 lines at most, half of them 10 or fewer, nine in ten 35."""
    measured = list(functions())
    median, p90 = report("functions", measured)

    assert [piece for piece in measured if piece.lines_count > FUNCTION_LINES] == []
    assert median <= FUNCTION_MEDIAN
    assert p90 <= FUNCTION_P90


@pytest.mark.parametrize("word", ["manager", "helper", "helpers", "utils", "util", "common", "misc"])
def test_no_module_is_named_for_nothing(word: str) -> None:
    """A module is named for what it holds."""
    assert [path for path in sources() if word in path.stem.split("_")] == []


def test_the_package_catches_no_unknown_exception() -> None:
    """`except Exception` and wider stand in the composition root, and where any library is driven."""
    found = [
        f"{path.relative_to(ROOT)}:{node.lineno}"
        for path in (ROOT / "hybrid_router").rglob("*.py")
        if path.parent.name != "app" and path.name != "turns.py"
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, ast.ExceptHandler) and catches_all(node)
    ]

    assert found == []


def catches_all(handler: ast.ExceptHandler) -> bool:
    """Whether a handler catches what nobody expected and does not pass it on."""
    caught = "" if handler.type is None else ast.unparse(handler.type)
    passed_on = any(isinstance(node, ast.Raise) for node in ast.walk(handler))
    return caught in {"", "Exception", "BaseException"} and not passed_on
