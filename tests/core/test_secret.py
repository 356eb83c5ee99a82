"""A secret never shows itself."""

from __future__ import annotations

import pickle

import pytest

from hybrid_router.core.secret import Secret

CANARY = "canary-4711"


def test_no_way_of_printing_shows_it() -> None:
    """str, repr, format, inside containers and errors."""
    secret = Secret(CANARY)

    shown = [
        str(secret),
        repr(secret),
        f"{secret:>40}",
        f"{secret!r}",
        str([secret]),
        str(ValueError(secret)),
    ]

    assert all(CANARY not in text for text in shown)
    assert secret.reveal() == CANARY


def test_it_is_not_pickled() -> None:
    """Nothing that stores or sends objects takes it along."""
    with pytest.raises(TypeError, match="not pickled"):
        pickle.dumps(Secret(CANARY))


def test_equal_values_are_equal_secrets() -> None:
    """So that configurations with secrets compare."""
    assert Secret("a") == Secret("a")
    assert len({Secret("a"), Secret("a"), Secret("b")}) == 2
    assert Secret("a") != "a"
