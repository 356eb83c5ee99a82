"""Routers behind routers: what passes through a chain of them, and that none can go round in one."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack

import pytest
from router_process import TOKEN, Process, Router, free_port, stopped_at_end
from wire_client import ask, chat_body

pytestmark = pytest.mark.timeout(60)

CONFIG = """\
server: {{ listen: 127.0.0.1:{port} }}
backends:
  other: {{ type: openai, base_url: "http://127.0.0.1:{other}/v1",
    models: {{ chain: {{}}, loop: {{}}, round: {{}} }} }}
  afar: {{ type: openai, base_url: "{cloud}", token: {{ env: OPENAI_API_KEY }}, models: {{ m: {{}} }} }}
aliases:
  chain: {{ retries: 0, try: {chain} }}
  loop: {{ retries: 0, try: [other/loop, afar/m] }}
  round: {{ retries: 0, try: other/round }}
"""


@pytest.fixture(scope="module")
def routers(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Router, Router]]:
    """Two that name each other; the second one also knows a cloud, and the first one too."""
    folder = tmp_path_factory.mktemp("chain")
    ports = (free_port(), free_port())
    with ExitStack() as stack:
        port = free_port()
        options = ["emulate", "openai", "--port", str(port), "--token", TOKEN]
        cloud = Process(options, folder / "cloud", r"base_url: (?P<url>\S+)", {})
        stack.enter_context(stopped_at_end(cloud))
        made = []
        for place, chain in enumerate(("other/chain", "afar/m")):
            config = CONFIG.format(
                port=ports[place], other=ports[1 - place], cloud=f"http://127.0.0.1:{port}/v1", chain=chain
            )
            environ = {"OPENAI_API_KEY": TOKEN}
            made.append(Router(config, folder / f"router{place}", environ=environ, wait=False))
            stack.enter_context(stopped_at_end(made[-1]))
        for router in made:  # all three start at once
            router.url = router.ready()["url"]
        cloud.ready()
        first, second = made
        yield first, second


@pytest.mark.parametrize("stream", [True, False], ids=["streamed", "plain"])
async def test_a_call_passes_through_a_chain(routers: tuple[Router, Router], stream: bool) -> None:
    """The answer and its usage come back whole; the cloud's token shows in nobody's log."""
    answer = await ask(routers[0], chat_body("chain", "count to 3", stream=stream))

    assert (answer.status, answer.text(), answer.error) == (200, "1 2 3", None)
    assert answer.usage is not None
    assert answer.usage["completion_tokens"] == 3
    assert TOKEN not in routers[0].log_text + routers[1].log_text


@pytest.mark.parametrize("stream", [True, False], ids=["streamed", "plain"])
async def test_a_call_that_comes_round_takes_another_way(
    routers: tuple[Router, Router], stream: bool
) -> None:
    """The first router knows its own mark and asks its next step, so somebody answers."""
    answer = await ask(routers[0], chat_body("loop", "count to 3", stream=stream))

    assert (answer.status, answer.text()) == (200, "1 2 3")


async def test_a_call_that_can_only_go_round_is_refused_by_name(routers: tuple[Router, Router]) -> None:
    """At once, and nobody is held to have failed."""
    answer = await ask(routers[0], chat_body("round", "count to 3"))

    assert answer.error is not None
    assert answer.error["code"] == "router_loop"
    assert (await ask(routers[0], chat_body("chain", "count to 1"))).text() == "1"
