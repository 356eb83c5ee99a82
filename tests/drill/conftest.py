"""What tests of the drill share."""

from __future__ import annotations

from pathlib import Path

import pytest


@pytest.fixture(scope="session")
def shipped() -> str:
    """The router.yaml that ships."""
    return (Path(__file__).parents[2] / "router.yaml").read_text(encoding="utf-8")
