"""What a step of Workers AI costs, as router.yaml and the catalogue have it."""

from __future__ import annotations

from functools import cache

from hybrid_router.catalogue import workers_ai
from hybrid_router.config.load import loads
from hybrid_router.routing.ledger import Rate
from hybrid_router.routing.rates import rates


@cache
def priced(model: str, written: str = "{}") -> Rate:
    """The price of a model that an alias tries; `written`: its backend's `neurons.rates`."""
    config = loads(f"""\
backends:
  local: {{type: local, models: {{small: {{}}}}}}
  cf: {{type: workers_ai, account_id: {{env: A}}, token: {{env: T}}, neurons: {{rates: {written}}}}}
aliases:
  default: {{try: [local/small, "cf/{model}"]}}
""").config
    found = rates(config, workers_ai.load())
    assert list(found) == [f"cf/{model}"]  # what is on this machine costs nothing
    return found[f"cf/{model}"]
