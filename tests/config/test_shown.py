"""What is shown of a configuration: every key, every wait, no secret; and the documentation keeps up."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from hybrid_router.config.effective import effective
from hybrid_router.config.keys import listing
from hybrid_router.config.load import load, loads
from hybrid_router.config.schema import DEFAULT_TIMEOUTS
from hybrid_router.config.spelling import size_text
from hybrid_router.core.units import size_bytes

ROOT = Path(__file__).parents[2]


def test_every_key_has_a_meaning() -> None:
    """No key goes without a sentence, and none is listed twice."""
    keys = listing()

    assert all(key.meaning.endswith(".") for key in keys)
    assert len({key.path for key in keys}) == len(keys)


def test_the_listing_knows_types_and_defaults() -> None:
    """Each kind of key is described in the words of whoever writes the file."""
    keys = {key.path: (key.type, key.default) for key in listing()}

    assert keys["server.listen"] == ("text", "127.0.0.1:8080")
    assert keys["server.body_limit"] == ("size", "8MiB")
    assert keys["server.allowed_origins"] == ("list of text", "none")
    assert keys["timeouts.total"] == ("duration", "600s")
    assert keys["aliases.<name>.timeouts.total"] == ("duration", "none")
    assert keys["aliases.<name>.try[].step"] == ("text", "required")
    assert keys["backends.<local>.type"] == ("local", "required")
    local = "backends.<local>.models.<llama>"
    assert keys[f"{local}.parallel"] == ("auto or whole number, at least 1, at most 64", "auto")
    assert keys[f"{local}.prefix_cache.ram"] == ("off or size", "512MiB")
    assert keys[f"{local}.adapters"] == ("mapping of names to mapping", "none")
    assert keys["backends.<local>.models.<llama>.preload"] == ("true or false", "true")
    assert keys["backends.<workers_ai>.account_id"] == ("mapping or text", "required")
    assert keys["rules[].when.header"] == ("mapping of names to pattern", "none")
    assert "rules[].when.any[].any" not in keys


def test_every_key_is_documented_word_for_word() -> None:
    """docs/configuration.md has a row for each key: path, type, default and meaning as in the schema."""
    rows = (ROOT / "docs" / "configuration.md").read_text().splitlines()
    missing = [
        row
        for key in listing()
        if (row := f"| `{key.path}` | {key.type} | {key.default} | {key.meaning} |") not in rows
    ]

    assert missing == []


def test_the_documentation_names_no_key_that_does_not_exist() -> None:
    """A row of docs/configuration.md that the schema no longer has is a mistake of the documentation."""
    known = {key.path for key in listing()}
    lines = (ROOT / "docs" / "configuration.md").read_text().splitlines()
    documented = {line.split("`")[1] for line in lines if line.startswith("| `")}

    assert documented == known


def test_what_is_shown_can_be_loaded_again() -> None:
    """But for the secrets, the effective configuration is a configuration, and comes to the same."""
    loaded = load(ROOT / "router.yaml", {"CLOUDFLARE_API_TOKEN": "canary-token"})
    shown = effective(loaded)

    assert shown["backends"]["cloudflare"]["token"] == "***"
    assert shown["backends"]["cloudflare"]["account_id"] == "absent"
    shown["backends"]["cloudflare"] |= {"token": {"env": "T"}, "account_id": {"env": "A"}}
    again = effective(loads(yaml.safe_dump(shown, sort_keys=False)))
    again["backends"]["cloudflare"] |= {"token": {"env": "T"}, "account_id": {"env": "A"}}
    assert again == shown


def test_waits_are_merged_key_by_key() -> None:
    """Step before alias before backend before the global ones before the defaults."""
    text = """\
timeouts: {connect: 1s, first_token: 50s}
backends:
  local: {type: local, models: {a: {}}, timeouts: {connect: 2s, load: 20s, between_tokens: 2s}}
aliases:
  x:
    timeouts: {load: 30s, total: 100s}
    try: [{step: local/a, timeouts: {load: 40s}}]
"""
    step = effective(loads(text))["aliases"]["x"]

    assert step["try"][0]["timeouts"] == {
        "connect": "2s",
        "load": "40s",
        "first_token": "50s",
        "between_tokens": "2s",
    }
    assert step["timeouts"] == {"total": "100s"}


def test_the_defaults_are_possible() -> None:
    """What holds when nothing is written has every wait."""
    assert None not in [getattr(DEFAULT_TIMEOUTS, key) for key in DEFAULT_TIMEOUTS.__struct_fields__]


def test_keys_are_named_and_their_hashes_hidden() -> None:
    """A hash is no secret, and still nobody's business."""
    text = """\
backends: {local: {type: local, models: {a: {}}}}
aliases: {x: {try: local/a}}
server: {keys: [{name: ann, sha256: %s}]}
"""
    shown = effective(loads(text % ("1" * 64)))

    assert shown["server"]["keys"] == [{"name": "ann", "sha256": "***"}]


@given(st.integers(min_value=1, max_value=2**40))
def test_a_size_is_spelled_so_that_it_reads_back(count: int) -> None:
    """Sizes are shown exactly, in the largest unit that allows it."""
    assert size_bytes(size_text(count)) == count


@pytest.mark.parametrize(("count", "text"), [(1, "1B"), (1024, "1KiB"), (8 * 2**20, "8MiB"), (1025, "1025B")])
def test_a_size_is_spelled_as_people_do(count: int, text: str) -> None:
    """The largest unit that is exact is taken."""
    assert size_text(count) == text
