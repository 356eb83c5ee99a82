"""Requests to one server, one after the other, and whose token it is told."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import aclosing
from functools import partial

import pytest
from asking import MODEL, a_step, chat
from asking import last_answer as answer
from openai_cloud import server

from hybrid_router.backends.anthropic import Anthropic
from hybrid_router.backends.declared import Declared
from hybrid_router.backends.errand import Errand
from hybrid_router.backends.huggingface import HuggingFace
from hybrid_router.backends.openai import OpenAI
from hybrid_router.backends.openai.upstream import Upstream
from hybrid_router.backends.readers import Whole
from hybrid_router.backends.replicate import Replicate
from hybrid_router.config.backend_schema import SecretSource
from hybrid_router.config.cloud_schema import (
    AnthropicBackend,
    CloudModel,
    HuggingFaceBackend,
    OpenAIBackend,
    ReplicateBackend,
    ReplicateModel,
)
from hybrid_router.core.errors import BackendMisconfigured
from hybrid_router.core.event import Batch, Event, Finish, Usage
from hybrid_router.core.secret import Secret

MODELS = {MODEL: CloudModel()}
SOURCE = SecretSource()


def _told(batch: Batch, body: bytes) -> Batch:
    return batch


async def brought(*replies: Batch) -> list[Event]:
    """What a call of so many requests brings."""
    async with server({}) as cloud:
        upstream = Upstream("box", cloud.root, None)
        asked = [(Errand(path="x"), Whole(partial(_told, told))) for told in replies]
        try:
            async with aclosing(upstream.run(asked, chat(), a_step())) as batches:
                return [event async for batch in batches for event in batch]
        finally:
            await upstream.close()


async def test_what_all_requests_cost_comes_last() -> None:
    """Once; and not at all where one of them did not tell its own."""
    first, second = Finish("stop", 0), Finish("stop", 1)

    assert await brought([first, Usage(1, 2)], [second, Usage(3, 4)]) == [first, second, Usage(4, 6)]
    assert await brought([first, Usage(1, 2)], [second]) == [first, second]


@pytest.mark.parametrize(
    "make",
    [
        lambda root, token: OpenAI("box", OpenAIBackend(models=MODELS, base_url=root), token),
        lambda root, token: Anthropic(
            "box", AnthropicBackend(models=MODELS, base_url=root, token=SOURCE), token
        ),
        lambda root, token: HuggingFace(
            "box", HuggingFaceBackend(models=MODELS, base_url=root, token=SOURCE), token
        ),
        lambda root, token: Replicate(
            "box",
            ReplicateBackend(models={MODEL: ReplicateModel()}, base_url=root, token=SOURCE),
            token,
        ),
    ],
    ids=["openai", "anthropic", "huggingface", "replicate"],
)
@pytest.mark.parametrize("token", ["canary-tök", "canary\nx: y"])
async def test_a_token_that_no_header_holds_is_not_sent(
    make: Callable[[str, Secret], Declared], token: str
) -> None:
    """And shows nowhere: its source is what has to be looked at."""
    async with server({}) as cloud:
        backend = make(cloud.root, Secret(token))
        with pytest.raises(BackendMisconfigured, match="characters") as refused:
            await answer(backend, chat())
        assert cloud.heard == []
    assert "canary" not in f"{refused.value.message} {refused.value.detail}"
