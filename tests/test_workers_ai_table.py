"""docs/workers-ai.md names, for every task and side, the test that proves it."""

from __future__ import annotations

import ast
import re
from fnmatch import fnmatchcase
from functools import cache
from pathlib import Path

import pytest

from hybrid_router.catalogue.workers_ai import Catalogue, load

TESTS = Path(__file__).parent
PAGE = (TESTS.parent / "docs" / "workers-ai.md").read_text(encoding="utf-8")
SIDES = ["Backend", "Emulator", "Dialect"]
NAMED = re.compile(r"`([\w/]+\.py)::(\w+)`")
Row = dict[str, str]


def cells(line: str) -> list[str]:
    """What stands in one line of a table."""
    return [cell.strip() for cell in line.strip("|").split("|")]


def tables() -> list[list[Row]]:
    """The tables of the page that have a column for each side."""
    found = []
    for block in re.findall(r"(?:^\|.*\|\n)+", PAGE, re.MULTILINE):
        head, _, *lines = [
            [cell.strip() for cell in line.strip("|").split("|")] for line in block.splitlines()
        ]
        if head[-3:] == SIDES:
            found.append([dict(zip(head, line, strict=True)) for line in lines])
    return found


TASKS, AROUND = tables()
CELLS = [
    pytest.param(
        row[side], id=f"{row.get('Task', '')} {row.get('What', row.get('Around the tasks'))}: {side}"
    )
    for row in (*TASKS, *AROUND)
    for side in SIDES
]


@cache
def names_in(path: str) -> frozenset[str]:
    """The names of a file's tests."""
    tree = ast.parse((TESTS / path).read_text(encoding="utf-8"))
    functions = (node for node in tree.body if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef))
    return frozenset(node.name for node in functions if node.name.startswith("test_"))


@pytest.fixture(scope="module")
def catalogue() -> Catalogue:
    """The shipped one."""
    return load()


@pytest.mark.parametrize("cell", CELLS)
def test_each_cell_names_tests_that_there_are(cell: str) -> None:
    """Or it says why there is nothing to prove."""
    named = NAMED.findall(cell)

    assert named or cell.startswith("no: ")
    assert NAMED.sub("", cell).replace("<br>", "").strip() == "" or cell.startswith("no: ")
    assert [f"{path}::{name}" for path, name in named if name not in names_in(path)] == []


def patterns(task: str) -> list[str]:
    """What models the rows of a task are about."""
    return [
        found for row in TASKS if row["Task"] == task for found in re.findall(r"`([^`]+)`", row["Models"])
    ]


def test_every_task_of_the_catalogue_has_its_row(catalogue: Catalogue) -> None:
    """And no other task has."""
    assert {row["Task"] for row in TASKS} == {model.task for model in catalogue.models}


def test_every_model_fits_a_row_of_its_task(catalogue: Catalogue) -> None:
    """So that a model that is new to the catalogue is not forgotten here."""
    lost = [
        model.id
        for model in catalogue.models
        if not any(fnmatchcase(model.id, pattern) for pattern in patterns(model.task))
    ]

    assert lost == []


def test_every_row_is_about_models_that_there_are(catalogue: Catalogue) -> None:
    """A name that fits nothing is a mistake."""
    idle = [
        (row["Task"], pattern)
        for row in TASKS
        for pattern in patterns(row["Task"])
        if not any(fnmatchcase(each.id, pattern) for each in catalogue.models if each.task == row["Task"])
    ]

    assert idle == []
