"""docs/api.md names what there is."""

from __future__ import annotations

import inspect
from pathlib import Path

import pytest

from hybrid_router.api.openai import malformed, timings
from hybrid_router.api.openai.chat_request import ChatBody
from hybrid_router.api.openai.completion_request import CompletionBody
from hybrid_router.api.openai.embedding_request import EmbeddingBody
from hybrid_router.api.openai.rerank_request import RerankBody
from hybrid_router.api.routes import ROUTES
from hybrid_router.core import errors
from hybrid_router.core.event import Usage

DOCS = (Path(__file__).parents[2] / "docs" / "api.md").read_text()
ERRORS = [
    kind
    for _, kind in inspect.getmembers(errors, inspect.isclass)
    if issubclass(kind, errors.RouterError) and kind.__module__ == errors.__name__
]


@pytest.mark.parametrize("kind", ERRORS, ids=lambda kind: kind.__name__)
def test_every_error_code_is_documented_with_its_status(kind: type[errors.RouterError]) -> None:
    """Each code of core/errors.py has its row, with the right status."""
    (row,) = [line for line in DOCS.splitlines() if line.startswith(f"| `{kind.code}` |")]

    assert str(kind.status) in row.split("|")[2]


def test_every_address_is_documented() -> None:
    """Each route has its row, with its method and whether it needs a key."""
    for route in ROUTES:
        path = route.path.replace("{name:.+}", "{name}")
        (row,) = [line for line in DOCS.splitlines() if line.startswith(f"| {route.method} | `{path}` |")]
        assert ("never" in row) == (route.auth == "public")


@pytest.mark.parametrize(
    "name",
    [
        *sorted(malformed.REFUSED),
        *sorted({*ChatBody.__struct_fields__, *CompletionBody.__struct_fields__} - {"modalities"}),
        *sorted({*EmbeddingBody.__struct_fields__, *RerankBody.__struct_fields__}),
        *sorted(set(timings.fields(Usage(1, 1, prefill_s=1.0, drafted_tokens=1)) or ())),
        *("x-request-id", "openai-processing-ms", "x-router-backend", "x-router-model", "x-router-attempts"),
        *(
            "x-router-decision",
            "x-router-ignored",
            "retry-after",
            "retry-after-ms",
            "x-should-retry",
            "allow",
        ),
    ],
)
def test_every_field_and_header_is_documented(name: str) -> None:
    """What a client may send and will receive is named."""
    assert f"`{name}`" in DOCS or f"`{name}." in DOCS
