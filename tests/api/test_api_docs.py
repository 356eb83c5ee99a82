"""docs/api.md names what there is."""

from __future__ import annotations

import inspect
import re
from pathlib import Path

import pytest

from hybrid_router.api.openai import malformed, timings
from hybrid_router.api.openai.chat_request import ChatBody
from hybrid_router.api.openai.completion_request import CompletionBody
from hybrid_router.api.openai.embedding_request import EmbeddingBody
from hybrid_router.api.openai.fields import StructuredOutputs
from hybrid_router.api.openai.image_request import EditBody
from hybrid_router.api.openai.rerank_request import RerankBody
from hybrid_router.api.openai.speech_request import SpeechBody
from hybrid_router.api.routes import ROUTES
from hybrid_router.core import errors
from hybrid_router.core.event import Usage
from hybrid_router.engines.llama import schemas
from hybrid_router.engines.task import TaskRefused
from hybrid_router.gateway import controls

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


@pytest.mark.parametrize("name", [*controls._HEADERS])
def test_every_wish_to_a_gateway_is_documented(name: str) -> None:
    """Its new name and its old one."""
    assert f"`{name}`" in DOCS


def test_every_address_is_documented() -> None:
    """Each route has its row, with its method and whether it needs a key."""
    for route in ROUTES:
        path = re.sub(r":(?:[^{}]|\{[^{}]*\})+\}", "}", route.path)
        (row,) = [line for line in DOCS.splitlines() if line.startswith(f"| {route.method} | `{path}` |")]
        assert ("never" in row) == (route.auth == "public")


@pytest.mark.parametrize(
    "name",
    [
        *sorted(malformed.REFUSED),
        *sorted({*ChatBody.__struct_fields__, *CompletionBody.__struct_fields__} - {"modalities"}),
        *sorted(StructuredOutputs.__struct_fields__),
        *sorted(set(EditBody.__struct_fields__) - {"images"}),
        *sorted({*EmbeddingBody.__struct_fields__, *RerankBody.__struct_fields__}),
        *sorted(SpeechBody.__struct_fields__),
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


def listed(what: str) -> set[str]:
    """The words of one point of docs/api.md's part on JSON Schema."""
    (_, section) = DOCS.split("### JSON Schema", 1)
    (_, after) = section.split(f"**{what}**", 1)
    return set(re.findall(r"`([^`]+)`", after.partition("\n- **")[0].partition(". Any other")[0]))


@pytest.mark.parametrize(
    ("what", "there_are"),
    [
        ("Enforced", {"$ref", *schemas.PLAIN, *schemas.MAPS, *schemas.LISTS, *schemas.ONES}),
        ("Refused", set(schemas.NOT_ENFORCED)),
        ("Formats enforced", set(schemas.FORMATS)),
        ("Formats refused", set(schemas.FORMATS_NOT_ENFORCED)),
    ],
)
def test_what_holds_of_a_schema_is_documented(what: str, there_are: set[str]) -> None:
    """Every keyword and format of engines/llama/schemas.py is in its list, and nothing else is."""
    assert listed(what) == there_are


@pytest.mark.parametrize("name", sorted(listed("Refused")))
def test_a_keyword_that_is_said_to_be_refused_is(name: str) -> None:
    """By its name and place."""
    with pytest.raises(TaskRefused, match=re.escape(f"`{name}` at # is not enforced")):
        schemas.enforceable({"type": "object", name: {"x": ["y"]}, "then": {"type": "object"}})


@pytest.mark.parametrize("name", sorted(malformed.DONE_ANYWAY))
def test_what_is_done_anyway_is_documented(name: str) -> None:
    """A field that is taken without a word in `x-router-ignored`."""
    assert f"`{name}: false`" in DOCS
