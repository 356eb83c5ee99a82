"""Models of other clouds at OpenAI's addresses, through the real router."""

from __future__ import annotations

import base64
import io
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from pathlib import Path

import pytest
from openai import AsyncOpenAI
from PIL import Image
from router_process import Router, stopped_at_end

from hybrid_router.emulator import anthropic, replicate
from hybrid_router.emulator.fault import Fault
from hybrid_router.emulator.settings import Settings
from hybrid_router.emulator.stage import RunningCloud

TOKEN = "canary-token-of-other-clouds"
CONFIG = """
server: {{ listen: 127.0.0.1:0 }}
backends:
  claude:
    type: anthropic
    base_url: {claude}
    token: {{ env: CLOUD_TOKEN }}
    models: {{ claude-test: {{}} }}
  rep:
    type: replicate
    base_url: {rep}/v1
    token: {{ env: CLOUD_TOKEN }}
    models:
      owner/talker: {{}}
      owner/flux: {{ does: [image] }}
aliases:
  first: {{ try: [claude/claude-test, rep/owner/talker] }}
  second: {{ try: rep/owner/talker }}
  draw: {{ try: rep/owner/flux }}
"""


@pytest.fixture
async def stage(tmp_path: Path) -> AsyncIterator[tuple[Router, RunningCloud, RunningCloud]]:
    """A router with nothing but two clouds."""
    async with AsyncExitStack() as stack:
        claude = await stack.enter_async_context(anthropic.serve(Settings(token=TOKEN)))
        rep = await stack.enter_async_context(replicate.serve(Settings(token=TOKEN)))
        config = CONFIG.format(claude=claude.root, rep=rep.root)
        started = Router(config, tmp_path, environ={"CLOUD_TOKEN": TOKEN})
        stack.enter_context(stopped_at_end(started))
        yield started, claude, rep


async def test_other_clouds_answer_at_openai_s_addresses(
    stage: tuple[Router, RunningCloud, RunningCloud],
) -> None:
    """Streamed or not, text or picture; one stands in for another; no token is in the log."""
    router, claude, rep = stage
    async with AsyncOpenAI(base_url=f"{router.url}/v1", api_key="none", max_retries=0) as client:
        said = await client.chat.completions.create(
            model="first", messages=[{"role": "user", "content": "count to 3"}]
        )
        assert said.choices[0].message.content == "1 2 3"
        assert said.usage is not None
        assert said.usage.completion_tokens == 3
        assert (len(claude.account.calls.calls), rep.account.calls.calls) == (1, [])

        stream = await client.chat.completions.create(
            model="second", messages=[{"role": "user", "content": "count to 3"}], stream=True
        )
        pieces = [chunk.choices[0].delta.content async for chunk in stream if chunk.choices]
        assert "".join(piece for piece in pieces if piece) == "1 2 3"

        drawn = await client.images.generate(model="draw", prompt="a cat", size="256x256")
        assert drawn.data is not None
        content = base64.b64decode(drawn.data[0].b64_json or "")
        assert Image.open(io.BytesIO(content)).size == (256, 256)

        claude.account.faults.add(Fault(status=529), count=9)
        told = await client.chat.completions.create(
            model="first", messages=[{"role": "user", "content": "count to 3"}]
        )
        assert told.choices[0].message.content == "1 2 3"
        assert rep.account.calls.calls[-1].path.startswith("/v1/predictions/")
    assert TOKEN not in router.log_text
