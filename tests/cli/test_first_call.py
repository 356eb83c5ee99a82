"""The line that a started router gives to try."""

from __future__ import annotations

import json
import shlex

import pytest

from hybrid_router.api.routes import ROUTES
from hybrid_router.cli.first_call import curl
from hybrid_router.core.call import Operation

URL = "http://127.0.0.1:8080"
ENDPOINTS = {
    Operation.CHAT: "chat",
    Operation.COMPLETE: "complete",
    Operation.EMBED: "embed",
    Operation.RERANK: "rerank",
    Operation.TRANSCRIBE: "transcribe",
    Operation.SPEAK: "speak",
    Operation.IMAGE: "generate",
    Operation.CLASSIFY: "classify",
    Operation.TRANSLATE: "translate",
    Operation.MODERATE: "moderate",
}


@pytest.mark.parametrize("keyed", [False, True])
@pytest.mark.parametrize("operation", list(Operation))
def test_the_line_asks_what_the_models_are_for(operation: Operation, keyed: bool) -> None:
    """It goes to the operation's own endpoint, with a body of the kind that this one reads, to the alias."""
    words = shlex.split(curl(URL, "mine", operation, keyed=keyed))

    (route,) = [one for one in ROUTES if f"{URL}{one.path}" == words[1]]
    assert route.respond.__name__ == ENDPOINTS[operation]
    if route.body == "json":
        assert json.loads(words[words.index("-d") + 1])["model"] == "mine"
    else:
        assert words.count("-F") == 2
        assert "model=mine" in words
    assert ("Authorization: Bearer YOUR-KEY" in words) == keyed
