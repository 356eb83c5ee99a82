"""The examples in the documentation are configurations that work."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import yaml

from hybrid_router.config.backend_schema import Timeouts
from hybrid_router.config.cloud_schema import Neurons
from hybrid_router.config.hints import fields
from hybrid_router.config.load import loads
from hybrid_router.config.schema import Condition, Rule

DOCS = Path(__file__).parents[2] / "docs"
BACKENDS = """\
backends:
  local: {type: local, models: {smollm2: {}}}
  cloudflare: {type: workers_ai, account_id: {env: ACCOUNT}, token: {env: TOKEN}}
"""
PAGES = (
    "backends.md",
    "configuration.md",
    "emulator.md",
    "policy.md",
    "quickstart.md",
    "workers-ai.md",
)
ONE_FILE = ("workers-ai.md",)  # whose examples are parts of one
ALIASES = "aliases: {default: {try: [local/smollm2, cloudflare/@cf/zai-org/glm-4.7-flash]}}\n"


def examples(page: str) -> list[str]:
    """The YAML blocks of a page."""
    return re.findall(r"^```yaml\n(.*?)^```$", (DOCS / page).read_text(), re.MULTILINE | re.DOTALL)


def alias_for(example: str) -> str:
    """`default`, which tries a model of each backend that the example has."""
    own = yaml.safe_load(example).get("backends", {})
    steps = [
        f"{name}/{next(iter(backend.get('models', {})), '@cf/zai-org/glm-4.7-flash')}"
        for name, backend in own.items()
    ]
    return f"aliases: {{default: {{try: {steps}}}}}\n" if steps else ALIASES


def test_no_page_has_examples_that_nobody_loads() -> None:
    """Every page of router.yaml is below; those of editors are other programs' files."""
    pages = {path.name for path in DOCS.glob("*.md") if examples(path.name)}

    assert pages - {"editors.md"} == set(PAGES)


@pytest.mark.parametrize("page", PAGES)
def test_every_example_loads(page: str) -> None:
    """What a page shows can be pasted: beside the page's usual backends and aliases it is valid."""
    found = examples(page)
    for example in ["".join(found)] if page in ONE_FILE else found:
        backends = "" if "backends:\n" in example else BACKENDS
        aliases = "" if "aliases:\n" in example else alias_for(example)
        assert loads(backends + aliases + example, name=page).config.aliases


def test_the_policy_page_names_every_condition_and_action() -> None:
    """Each key of a rule or a condition has its row in docs/policy.md."""
    page = (DOCS / "policy.md").read_text()
    rows = " ".join(line.split("|")[1] for line in page.splitlines() if line.startswith("| `"))
    named = set(re.findall(r"`(\w+)`", rows))

    keys = {field.key for struct in (Condition, Rule, Timeouts, Neurons) for field in fields(struct)}
    assert keys - {"name", "when"} - named == set()
