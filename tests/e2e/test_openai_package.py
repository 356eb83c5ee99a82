"""OpenAI's own Python package against the real service: the real model and the emulated cloud."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator

import openai
import pytest
from openai.types.chat import ChatCompletionChunk, ChatCompletionMessageParam
from router_process import Emulator, Router

pytestmark = [pytest.mark.model, pytest.mark.timeout(60)]

SAID: list[ChatCompletionMessageParam] = [{"role": "user", "content": "count to 9"}]
ALIASES = ["local-only", "cloud-only", "native-only"]
COUNTED = "1, 2, 3, 4, 5, 6, 7,"


@pytest.fixture
def client(router: Router) -> Iterator[openai.OpenAI]:
    """The blocking client; it never tries twice by itself."""
    with openai.OpenAI(base_url=router.url + "/v1", api_key="any", max_retries=0, timeout=30) as made:
        yield made


@pytest.fixture
async def waiting_client(router: Router) -> AsyncIterator[openai.AsyncOpenAI]:
    """The asynchronous client."""
    async with openai.AsyncOpenAI(
        base_url=router.url + "/v1", api_key="any", max_retries=0, timeout=30
    ) as made:
        yield made


def warm(client: openai.OpenAI, alias: str) -> None:
    """Have the prompt computed, so that whoever asks next finds it: a near-tie may fall otherwise in
    another batch."""
    client.chat.completions.create(model=alias, messages=SAID, max_tokens=1, temperature=0)


@pytest.mark.parametrize("alias", ALIASES)
def test_the_package_gets_a_reply(client: openai.OpenAI, alias: str) -> None:
    """A plain chat has text, a finish reason, counted usage and the alias as its model."""
    reply = client.chat.completions.create(model=alias, messages=SAID, max_tokens=20, temperature=0)

    assert reply.model == alias
    assert reply.choices[0].message.content
    assert reply.choices[0].finish_reason in ("stop", "length")
    assert reply.usage is not None
    assert min(reply.usage.prompt_tokens, reply.usage.completion_tokens) > 0
    assert reply.usage.total_tokens == reply.usage.prompt_tokens + reply.usage.completion_tokens


@pytest.mark.parametrize("alias", ALIASES)
def test_the_package_streams_what_it_gets_plain(client: openai.OpenAI, alias: str) -> None:
    """A greedy stream has the text, finish reason and usage of the plain reply."""
    warm(client, alias)
    reply = client.chat.completions.create(model=alias, messages=SAID, max_tokens=20, temperature=0)
    with client.chat.completions.create(
        model=alias,
        messages=SAID,
        max_tokens=20,
        temperature=0,
        stream=True,
        stream_options={"include_usage": True},
    ) as stream:
        *chunks, last = list(stream)

    said = "".join(chunk.choices[0].delta.content or "" for chunk in chunks)
    assert said == reply.choices[0].message.content
    assert chunks[-1].choices[0].finish_reason == reply.choices[0].finish_reason
    assert last.choices == []
    assert last.usage is not None
    assert reply.usage is not None
    assert last.usage.prompt_tokens == reply.usage.prompt_tokens
    assert last.usage.completion_tokens == reply.usage.completion_tokens
    assert len({chunk.id for chunk in [*chunks, last]}) == 1


async def test_the_asynchronous_package_does_the_same(waiting_client: openai.AsyncOpenAI) -> None:
    """Plain and streamed, from the model and from the cloud."""
    for alias in ALIASES:
        # Both find the prompt computed: a near-tie may fall otherwise in another batch.
        for _ in range(2):
            reply = await waiting_client.chat.completions.create(
                model=alias, messages=SAID, max_completion_tokens=12, temperature=0
            )
        stream = await waiting_client.chat.completions.create(
            model=alias, messages=SAID, max_completion_tokens=12, temperature=0, stream=True
        )
        said = [chunk.choices[0].delta.content or "" async for chunk in stream if chunk.choices]

        assert "".join(said) == reply.choices[0].message.content


@pytest.mark.parametrize(
    ("alias", "backend", "attempts"),
    [
        ("local-only", "local", "1"),
        ("cloud-first", "cloudflare", "1"),
        ("native-first", "native", "1"),
        ("closed-then-local", "local", "1 or 2"),  # the first failure leaves the closed one out of plans
        ("closed-then-cloud", "cloudflare", "1 or 2"),
    ],
)
@pytest.mark.parametrize("stream", [False, True])
def test_the_headers_say_who_answered(
    client: openai.OpenAI, alias: str, backend: str, attempts: str, stream: bool
) -> None:
    """Backend, model, attempts, decision and request id, raw beside the parsed answer."""
    raw = client.chat.completions.with_raw_response.create(
        model=alias, messages=SAID, max_tokens=4, temperature=0, stream=stream
    )

    assert raw.headers["x-router-backend"] == backend
    assert raw.headers["x-router-attempts"] in attempts.split(" or ")
    expected = "smollm2" if backend == "local" else "@cf/meta/llama-3.2-1b-instruct"
    assert raw.headers["x-router-model"] == expected
    assert raw.headers["x-router-decision"].startswith("dec_")
    assert raw.headers["x-request-id"].startswith("req_")
    parsed = raw.parse()
    if isinstance(parsed, openai.Stream):
        assert any(chunk.choices[0].delta.content for chunk in parsed if chunk.choices)
    else:
        assert parsed.choices[0].message.content


@pytest.mark.parametrize(("alias", "begins"), [("local-only", " 8, 9, 10,"), ("cloud-only", " 8, 9, 10,")])
def test_the_package_completes_a_prompt(client: openai.OpenAI, alias: str, begins: str) -> None:
    """The older address goes on where the prompt ends; a stream says the same."""
    reply = client.completions.create(model=alias, prompt=COUNTED, max_tokens=12, temperature=0)
    stream = client.completions.create(model=alias, prompt=COUNTED, max_tokens=12, temperature=0, stream=True)

    assert reply.choices[0].text.startswith(begins)
    assert reply.choices[0].finish_reason == "length"
    assert "".join(chunk.choices[0].text for chunk in stream) == reply.choices[0].text


def test_a_break_in_the_middle_is_an_api_error(client: openai.OpenAI, emulator: Emulator) -> None:
    """The package raises its APIError after the text that came; nothing pretends to be an end."""
    emulator.fault(cut_after=4)
    stream = client.chat.completions.create(model="cloud-only", messages=SAID, stream=True)
    chunks: list[ChatCompletionChunk] = []
    with pytest.raises(openai.APIError) as broken:
        chunks.extend(stream)

    assert "".join(chunk.choices[0].delta.content or "" for chunk in chunks) == "1 2 3"
    assert [chunk.choices[0].finish_reason for chunk in chunks] == [None] * len(chunks)
    assert broken.value.code == "stream_broken"


def test_the_package_lists_models(client: openai.OpenAI) -> None:
    """The models are the aliases of router.yaml, each of which can be looked up."""
    listed = [model.id for model in client.models.list()]

    assert {"local-only", "cloud-first"} <= set(listed)
    assert [client.models.retrieve(name).id for name in listed] == listed


def test_an_unknown_model_is_not_found(client: openai.OpenAI) -> None:
    """The package raises its NotFoundError, with our code."""
    with pytest.raises(openai.NotFoundError) as missed:
        client.chat.completions.create(model="nobody", messages=SAID)
    assert missed.value.code == "model_not_found"
    assert missed.value.request_id is not None
    with pytest.raises(openai.NotFoundError):
        client.models.retrieve("nobody")


def test_a_wrong_field_is_a_bad_request(client: openai.OpenAI) -> None:
    """The package raises its BadRequestError, which names the field."""
    with pytest.raises(openai.BadRequestError) as refused:
        client.chat.completions.create(model="local-only", messages=SAID, temperature=77)
    assert refused.value.param == "temperature"


def test_a_prompt_that_does_not_fit_is_a_bad_request(client: openai.OpenAI) -> None:
    """The model's own tokenizer decides, and the code is the one clients look for."""
    with pytest.raises(openai.BadRequestError) as refused:
        client.completions.create(model="local-only", prompt="word " * 2000)
    assert refused.value.code == "context_length_exceeded"


def test_nobody_there_is_a_server_error(client: openai.OpenAI) -> None:
    """When every step refuses the connection, or is left out for it, the package raises a 503."""
    with pytest.raises(openai.InternalServerError) as failed:
        client.chat.completions.create(model="all-closed", messages=SAID)
    assert failed.value.status_code == 503
    assert failed.value.code in {"backend_unavailable", "no_backend_available"}
