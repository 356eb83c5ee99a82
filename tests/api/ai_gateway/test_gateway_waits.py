"""What a gateway tells of waiting, and of what to write."""

from __future__ import annotations

import msgspec
import pytest
from gateways_played import ACCOUNT, LLAMA, SAID, Aliased, door
from scripted_answers import post

from hybrid_router.core.errors import NoBackend


@pytest.mark.parametrize(
    "path",
    [
        "/v1/chat/completions",
        f"/client/v4/accounts/{ACCOUNT}/ai/run/{LLAMA}",
        f"/v1/{ACCOUNT}/site/openai/chat/completions",
        f"/v1/{ACCOUNT}/site/anthropic/v1/messages",
    ],
)
async def test_every_dialect_says_when_to_ask_again(path: str) -> None:
    """In `retry-after`, whole seconds; also of what nobody serves for a while."""
    answers = Aliased()
    answers.refusal = NoBackend("asked again in 2.5 s", retry_after_s=2.5)
    key = "cf-aig-authorization" if "site" in path else "authorization"
    body = {"model": "fast", "messages": SAID, "max_tokens": 9}
    async with door(answers) as played:
        reply = await post(played.port, path, body, {key: "Bearer hr-alice"})

    assert (reply.status, reply.headers["retry-after"]) == (503, "3")


async def test_a_model_that_nobody_answers_for_says_where_to_write_it() -> None:
    """The gateway's own place in router.yaml."""
    async with door(Aliased()) as played:
        reply = await played.chat(model="nope")

    assert "gateways.site.providers.openai of router.yaml" in reply.json["error"]["message"]


async def test_a_wrong_key_is_told_the_header_that_counts() -> None:
    """A gateway's own, which comes before all others there."""
    async with door(Aliased()) as played:
        reply = await played.chat(cf_aig_authorization="Bearer wrong")

    assert reply.status == 401
    assert "cf-aig-authorization: Bearer KEY" in msgspec.json.decode(reply.body)["message"]
