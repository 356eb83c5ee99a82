"""A last message of the assistant, and beginnings of raw prompts, on the wire."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import aiohttp
import pytest
from emulated import CHAT, CLASSIC, documents, emulated, first_code, said
from router_process import TOKEN, Emulator, stopped_at_end

from hybrid_router.emulator.settings import DEFAULT_ACCOUNT_ID

MESSAGES = [*said("count to 5"), {"role": "assistant", "content": "1 2"}]
PREFILLS = frozenset({CLASSIC, CHAT})


@pytest.mark.parametrize("model", [CLASSIC, CHAT])
async def test_a_model_that_is_named_goes_on_from_the_assistants_words(model: str) -> None:
    """Plain and streamed, on both addresses; what is written counts as prompt, as at the real service."""
    async with emulated(prefill_models=PREFILLS) as cloud:
        _, plain = await cloud.chat({"messages": MESSAGES}, model)
        chunks = documents(await cloud.chat_stream({"messages": MESSAGES}, model))
        _, native = await cloud.run(model, {"messages": MESSAGES})
    texts = [choice["delta"].get("content", "") for chunk in chunks for choice in chunk.get("choices", [])]
    result = native["result"]
    natively = result["response"] if model == CLASSIC else result["choices"][0]["message"]["content"]

    assert plain["choices"][0]["message"]["content"] == "".join(texts) == " 3 4 5"
    assert natively == " 3 4 5"
    assert (plain["usage"]["prompt_tokens"], plain["usage"]["completion_tokens"]) == (3 + 3 + 2 + 3, 3)


async def test_a_classic_model_takes_it_for_a_finished_turn() -> None:
    """And answers the user anew."""
    async with emulated() as cloud:
        status, reply = await cloud.run(CLASSIC, {"messages": MESSAGES})

    assert (status, reply["result"]["response"]) == (200, "1 2 3 4 5")


@pytest.mark.parametrize("stream", [False, True])
async def test_the_others_refuse_it(stream: bool) -> None:
    """400 with 8007, before anything is said or charged."""
    async with emulated() as cloud:
        status, reply = await cloud.chat({"messages": MESSAGES, "stream": stream}, CHAT)
        used = await cloud.neurons()

    assert (status, first_code(reply)) == (400, 8007)
    assert "the last message must have the role user" in reply["errors"][0]["message"]
    assert used == 0


async def test_a_raw_prompt_is_gone_on_from() -> None:
    """The rest of what the script says to its first part."""
    body: dict[str, Any] = {"raw": True, "max_tokens": 99}
    async with emulated() as cloud:
        _, whole = await cloud.run(CLASSIC, body | {"prompt": "count to 5"})
        _, rest = await cloud.run(CLASSIC, body | {"prompt": "count to 5\n1 2 3"})

    assert whole["result"]["response"] == "\n1 2 3 4 5"
    assert rest["result"]["response"] == " 4 5"


async def test_the_command_names_such_models(tmp_path: Path) -> None:
    """`--prefill`, once for each."""
    emulator = Emulator(tmp_path, "--prefill", CLASSIC, "--prefill", CHAT)
    headers = {"authorization": f"Bearer {TOKEN}"}
    with stopped_at_end(emulator):
        async with aiohttp.ClientSession(headers=headers) as http:
            for model in PREFILLS:
                url = f"{emulator.base_url}/accounts/{DEFAULT_ACCOUNT_ID}/ai/v1/chat/completions"
                async with http.post(url, json={"model": model, "messages": MESSAGES}) as reply:
                    document = await reply.json()

                assert document["choices"][0]["message"]["content"] == " 3 4 5"
