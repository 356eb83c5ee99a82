"""Where a problem is said to be."""

from __future__ import annotations

import pytest

from hybrid_router.config.problems import ConfigErrors, Problem, Problems, did_you_mean, spelled


def test_what_was_not_written_is_placed_at_what_holds_it() -> None:
    """A problem with a default is shown at the nearest thing above it that the file has."""
    problems = Problems()
    problems.place(("server",), (3, 9), (3, 1))

    problems.add(("server", "listen"), "no")
    problems.add(("log", "level"), "no", at_key=True)

    assert problems.found == [Problem(3, 9, "server.listen", "no"), Problem(1, 1, "log.level", "no")]


def test_problems_come_in_the_order_of_the_file_and_once() -> None:
    """Sorted by line and column, doubles dropped, those without a key path without its colon."""
    late, early = Problem(10, 1, "b", "two"), Problem(9, 5, "", "one")

    assert str(ConfigErrors("x.yaml", [late, early, late])) == "x.yaml:9:5: one\nx.yaml:10:1: b: two"


@pytest.mark.parametrize(
    ("path", "text"),
    [
        ((), ""),
        (("aliases", "default", "try", 1, "step"), "aliases.default.try[1].step"),
        (("aliases", "gpt-4.1", "try"), 'aliases."gpt-4.1".try'),
        (("aliases", "@cf/a:b"), "aliases.@cf/a:b"),
        (("a", "x\n\x1b[2J"), 'a."x\\n\\u001b[2J"'),
        (("rules", 0), "rules[0]"),
    ],
)
def test_a_key_path_is_spelled_without_doubt(path: tuple[str | int, ...], text: str) -> None:
    """Keys with dots or control characters stand in quotes: a terminal is never written to by a file."""
    assert spelled(path) == text


def test_a_message_never_writes_to_a_terminal() -> None:
    """Escape sequences that come from the file are spelled out."""
    assert str(ConfigErrors("x", [Problem(1, 1, "a", "é \x1b[2J\n")])) == "x:1:1: a: é \\u001b[2J\\u000a"


def test_a_near_miss_is_offered_or_all_there_is() -> None:
    """The close one if there is one, else the list, else that there is nothing."""
    assert did_you_mean("defalt", ["default", "fast"]) == "; did you mean default?"
    assert did_you_mean("zzz", ["default", "fast"]) == "; there is default, fast"
    assert did_you_mean("zzz", []) == "; there is none"
