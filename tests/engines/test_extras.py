"""Which extra an engine needs, and the command that brings it."""

from __future__ import annotations

import sys

import pytest

from hybrid_router.engines.extras import BY_ENGINE, command

EDITABLE = '{"dir_info": {"editable": true}, "url": "file:///home/me/hybrid-router"}'


@pytest.mark.parametrize(
    ("direct_url", "said"),
    [
        (EDITABLE, ".venv/bin/pip install -e '.[audio]'"),
        (None, "pip install 'hybrid-router[audio]'"),
        ('{"dir_info": {}, "url": "file:///tmp/hybrid-router"}', "pip install 'hybrid-router[audio]'"),
        ('{"archive_info": {}, "url": "https://a.example/b.whl"}', "pip install 'hybrid-router[audio]'"),
        ("{", "pip install 'hybrid-router[audio]'"),
        ("[]", "pip install 'hybrid-router[audio]'"),
    ],
)
def test_the_command_is_that_of_the_installation(direct_url: str | None, said: str) -> None:
    """A checkout installs an extra from its own sources, everybody else from the index."""
    assert command("audio", direct_url) == said


def test_what_is_missing_is_named_with_the_command(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each module that is not there, the extra, and what to type where these tests run."""
    monkeypatch.setitem(sys.modules, "av", None)
    monkeypatch.setitem(sys.modules, "hibari", None)

    assert BY_ENGINE["speech"].missing in {
        f"av, hibari are not installed: install hybrid-router's `speech` extra ({typed})"
        for typed in (command("speech", EDITABLE), command("speech", None))
    }


def test_nothing_is_missing_where_all_is_there() -> None:
    """Every engine's modules are installed where the tests run."""
    assert {extra.missing for extra in BY_ENGINE.values()} == {None}
