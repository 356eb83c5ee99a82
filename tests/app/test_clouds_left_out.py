"""What is learned of clouds, whatever kind they are."""

from __future__ import annotations

from hybrid_router.app.memory import Memory
from hybrid_router.catalogue.workers_ai import load
from hybrid_router.config.load import loads
from hybrid_router.core.errors import BackendUnreachable
from hybrid_router.dispatch.knowledge import Knowledge

CONFIG = """
backends:
  here: { type: local, models: { m: {} } }
  cf:
    type: workers_ai
    account_id: "00000000000000000000000000000000"
    token: { env: T }
    base_url: http://127.0.0.1:9/client/v4
  gpt: { type: openai, base_url: http://127.0.0.1:9/v1, models: { m: {} } }
  claude: { type: anthropic, base_url: http://127.0.0.1:9, token: { env: T }, models: { m: {} } }
  hub: { type: huggingface, base_url: http://127.0.0.1:9/v1, token: { env: T }, models: { m: {} } }
  rep: { type: replicate, base_url: http://127.0.0.1:9/v1, token: { env: T }, models: { m: {} } }
aliases: { it: { try: here/m } }
"""


async def test_every_cloud_that_gets_no_connection_is_left_out() -> None:
    """One attempt that finds nobody is enough, whatever the cloud is; a local backend has no network."""
    memory = Memory(Knowledge(), None)
    memory.follow(loads(CONFIG, "router.yaml", environ={"T": "a-token-of-somebody"}), load())
    network = memory.knowledge.network

    for name in ("here", "cf", "gpt", "claude", "hub", "rep"):
        network.note(name, BackendUnreachable(f"{name} cannot be reached"))
    left_out = set(network.why_unreachable)
    await network.close()

    assert left_out == {"cf", "gpt", "claude", "hub", "rep"}
