"""Sampling, scores, limits and timings as a client program relies on them, on the real service and model."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import closing
from typing import Any

import llama_cpp
import openai
import pytest
from router_process import Router

pytestmark = [pytest.mark.model, pytest.mark.timeout(60)]

MODEL = "local-only"
SAID: Any = [{"role": "user", "content": "Tell me of the sea."}]
COUNTED = "1, 2, 3, 4, 5, 6, 7,"
LENGTH = 12
NEAR = 0.5  # of two log probabilities that another batch may swap
Document = dict[str, Any]
Ids = Callable[[str], list[int]]


@pytest.fixture
async def client(router: Router) -> AsyncIterator[openai.AsyncOpenAI]:
    """It never tries twice by itself."""
    async with openai.AsyncOpenAI(
        base_url=router.url + "/v1", api_key="any", max_retries=0, timeout=50
    ) as made:
        yield made


@pytest.fixture(scope="module")
def ids(model_path: Any) -> Iterator[Ids]:
    """The model's own tokenizer, opened without the weights."""
    with closing(llama_cpp.Llama(str(model_path), vocab_only=True, verbose=False)) as vocabulary:
        yield lambda text: vocabulary.tokenize(text.encode(), add_bos=False)


async def chat(client: openai.AsyncOpenAI, **fields: Any) -> Any:
    """A short greedy reply."""
    asked: Document = {"messages": SAID, "temperature": 0, "max_tokens": LENGTH, **fields}
    return await client.chat.completions.create(model=MODEL, **asked)


async def said(client: openai.AsyncOpenAI, **fields: Any) -> str:
    """Its text."""
    reply = await chat(client, **fields)
    return reply.choices[0].message.content or ""


async def spoken(client: openai.AsyncOpenAI, **fields: Any) -> str:
    """The text of a stream's chunks, joined."""
    return "".join([part async for part in parts(client, **fields)])


async def parts(client: openai.AsyncOpenAI, **fields: Any) -> AsyncIterator[str]:
    """What each chunk of a stream says."""
    async for chunk in await chat(client, stream=True, **fields):
        for choice in chunk.choices:
            yield choice.delta.content or ""


async def warm(client: openai.AsyncOpenAI) -> None:
    """Have the prompt computed, so that whoever asks next finds it."""
    await chat(client, max_tokens=1)


async def test_a_seed_repeats_a_text(client: openai.AsyncOpenAI) -> None:
    """With nothing decoded beside it a seed gives the same text again, streamed too; another seed another."""
    await warm(client)
    # What is in the cache changes a probability's last digits: of A and B, whose order that cannot turn, the
    # same are drawn all the same.
    drawn: Document = {
        "temperature": 2,
        "max_tokens": 8,
        "logit_bias": {"49": 100, "50": 99},
        "extra_body": {"top_k": 2},
    }
    first = await said(client, seed=11, **drawn)

    assert set(first) == {"A", "B"}
    assert await said(client, seed=11, **drawn) == first
    assert await spoken(client, seed=11, **drawn) == first
    assert await said(client, seed=12, **drawn) != first


async def test_company_changes_near_ties_alone(client: openai.AsyncOpenAI) -> None:
    """Beside other calls a text stays what it was alone, but where two tokens were about as likely."""
    await warm(client)
    alone = (await chat(client, logprobs=True, top_logprobs=2)).choices[0].logprobs.content
    others = [asyncio.create_task(said(client, seed=seed, temperature=1.5)) for seed in range(3)]
    beside = (await chat(client, logprobs=True, top_logprobs=2)).choices[0].logprobs.content
    await asyncio.gather(*others)

    parted = next((a for a, b in zip(alone, beside, strict=False) if a.token != b.token), None)
    if parted is None:
        assert len(alone) == len(beside)
    else:
        assert parted.top_logprobs[0].logprob - parted.top_logprobs[1].logprob < NEAR


async def test_choices_differ(client: openai.AsyncOpenAI) -> None:
    """Three choices of one call say three things; their prompt is counted once."""
    reply = await chat(client, n=3, temperature=1.3, seed=3, max_tokens=10)

    assert [choice.index for choice in reply.choices] == [0, 1, 2]
    assert len({choice.message.content for choice in reply.choices}) == 3
    alone = await chat(client, max_tokens=1)
    assert reply.usage.prompt_tokens == alone.usage.prompt_tokens
    assert reply.usage.completion_tokens <= 30


FORMS: dict[str, Document] = {"free": {}, "half characters": {"grammar": 'root ::= "naïve 🦑!"'}}


@pytest.mark.parametrize("form", FORMS)
async def test_scores_join_to_the_text(client: openai.AsyncOpenAI, form: str) -> None:
    """The bytes of the scored tokens are the text, each token among the likeliest where it was free; a
    stream has the same scores."""
    await warm(client)
    asked: Document = {"logprobs": True, "top_logprobs": 3, "extra_body": FORMS[form]}
    choice = (await chat(client, **asked)).choices[0]
    streamed: list[Any] = []
    async for chunk in await chat(client, stream=True, **asked):
        for one in chunk.choices:
            streamed += one.logprobs.content if one.logprobs else []

    scores = choice.logprobs.content
    assert b"".join(bytes(score.bytes) for score in scores).decode() == choice.message.content
    assert [score.token for score in streamed] == [score.token for score in scores]
    for score in scores:
        likeliest = [one.logprob for one in score.top_logprobs]
        assert len(likeliest) == 3
        assert likeliest == sorted(likeliest, reverse=True)
        assert score.logprob <= 0
        if form == "free":
            assert score.token == score.top_logprobs[0].token


async def test_a_completion_scores_its_prompt(client: openai.AsyncOpenAI) -> None:
    """With `echo` the lists begin with the prompt's tokens; each offset is where its token stands."""
    reply = await client.completions.create(
        model=MODEL, prompt=COUNTED, max_tokens=6, temperature=0, logprobs=2, echo=True
    )
    choice = reply.choices[0]
    told: Any = choice.logprobs

    assert choice.text.startswith(COUNTED)
    assert "".join(told.tokens) == choice.text
    for token, offset in zip(told.tokens, told.text_offset, strict=True):
        assert choice.text[offset:].startswith(token)
    assert told.token_logprobs[0] is None
    assert told.top_logprobs[0] is None
    assert all(one <= 0 for one in told.token_logprobs[1:])
    for token, score, top in list(zip(told.tokens, told.token_logprobs, told.top_logprobs, strict=True))[1:]:
        assert top[token] == score
        assert len(top) in (2, 3)  # the token itself, if it is none of the likeliest
    assert reply.usage is not None
    assert len(told.tokens) == reply.usage.total_tokens


async def test_a_bias_bans_and_forces(client: openai.AsyncOpenAI, ids: Ids) -> None:
    """-100 bans a token, 100 leaves nothing else, as OpenAI promises."""
    [eight], [nine] = ids("8"), ids("9")
    free = await client.completions.create(model=MODEL, prompt=COUNTED, max_tokens=8, temperature=0)
    banned = await client.completions.create(
        model=MODEL, prompt=COUNTED, max_tokens=8, temperature=0, logit_bias={str(eight): -100}
    )
    forced = await client.completions.create(
        model=MODEL, prompt=COUNTED, max_tokens=4, temperature=1, logit_bias={str(nine): 100}
    )

    assert "8" in free.choices[0].text
    assert "8" not in banned.choices[0].text
    assert forced.choices[0].text == "9999"


@pytest.mark.parametrize("start", [3, 14])
async def test_a_stop_string_is_never_seen(client: openai.AsyncOpenAI, start: int) -> None:
    """Seven characters of the text, wherever tokens end: it ends right before them, streamed or not, and no
    chunk holds a part of them."""
    await warm(client)
    whole = await said(client)
    stop = whole[start : start + 7]
    before = whole[: whole.index(stop)]
    plain = (await chat(client, stop=[stop, "never said"])).choices[0]
    streamed = [part async for part in parts(client, stop=stop)]

    assert plain.message.content == before
    assert plain.finish_reason == "stop"
    assert "".join(streamed) == before


@pytest.mark.parametrize(
    "fields", [{"top_k": 1}, {"min_p": 1.0}, {"top_p": 0.0}, {"mirostat": 2, "mirostat_tau": 0}]
)
async def test_a_narrow_sampler_is_greedy(client: openai.AsyncOpenAI, fields: Document) -> None:
    """However hot, one token is left: fields of local servers count."""
    await warm(client)

    assert await said(client, temperature=2, extra_body=fields) == await said(client)


@pytest.mark.parametrize(
    "fields",
    [
        {"xtc_probability": 1, "xtc_threshold": 0.001, "top_k": 2},
        {"dry_multiplier": 5, "dry_allowed_length": 0, "dry_base": 4},
        {"repeat_penalty": 3, "repeat_last_n": -1},
    ],
)
async def test_a_sampler_that_avoids_the_likeliest_does(client: openai.AsyncOpenAI, fields: Document) -> None:
    """What repeats, or is always first, is not said."""
    looped: Document = {"prompt": "go on and " * 6, "max_tokens": 8}
    greedy = await client.completions.create(model=MODEL, temperature=0, **looped)
    other = await client.completions.create(model=MODEL, temperature=0.2, seed=1, extra_body=fields, **looped)

    assert other.choices[0].text != greedy.choices[0].text


async def test_no_field_is_ignored(client: openai.AsyncOpenAI) -> None:
    """All of them at once are taken, and none is named as unknown."""
    fields: Document = {
        "min_p": 0.02, "top_k": 30, "typical_p": 0.9, "mirostat": 0, "mirostat_tau": 4, "mirostat_eta": 0.2,
        "dry_multiplier": 0.8, "dry_base": 1.75, "dry_allowed_length": 2, "dry_penalty_last_n": -1,
        "dry_sequence_breakers": ["\n"], "xtc_probability": 0.1, "xtc_threshold": 0.2, "repeat_penalty": 1.1,
        "repeat_last_n": 64, "ignore_eos": True,
    }  # fmt: skip
    raw = await client.chat.completions.with_raw_response.create(
        model=MODEL, messages=SAID, max_tokens=4, extra_body=fields
    )

    assert "x-router-ignored" not in raw.headers
    assert raw.parse().choices[0].finish_reason == "length"


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("min_p", 1.5),
        ("top_k", "many"),
        ("typical_p", -1),
        ("mirostat", 3),
        ("mirostat_tau", -1),
        ("dry_multiplier", -1),
        ("dry_base", 0.5),
        ("dry_sequence_breakers", [""]),
        ("xtc_probability", 2),
        ("xtc_threshold", "high"),
        ("repeat_penalty", 0),
        ("logit_bias", {"the": 1}),
        ("seed", 1.5),
        ("truncate", "newest"),
    ],
)
async def test_a_wrong_value_is_refused_by_name(client: openai.AsyncOpenAI, name: str, value: Any) -> None:
    """The package raises its BadRequestError, which names the field."""
    with pytest.raises(openai.BadRequestError) as refused:
        await chat(client, extra_body={name: value})
    assert (refused.value.param or "").partition("[")[0] == name


def turns(count: int) -> Any:
    """A conversation of so many turns, and a last question."""
    turn = [{"role": "user", "content": "word " * 30}, {"role": "assistant", "content": "word " * 30}]
    return [*turn * count, *SAID]


async def test_too_long_a_conversation_is_told_or_cut(client: openai.AsyncOpenAI) -> None:
    """It is refused with the code that clients look for; with `truncate` it is answered, within bounds."""
    with pytest.raises(openai.BadRequestError) as refused:
        await chat(client, messages=turns(15))
    room: Document = {"max_tokens": 900, "stop": [" ", ".", ","]}
    cut = await chat(client, messages=turns(15), extra_body={"truncate": "oldest"}, **room)

    assert refused.value.code == "context_length_exceeded"
    assert refused.value.type == "invalid_request_error"
    assert "1024" in refused.value.message
    assert cut.choices[0].finish_reason == "stop"
    assert 0 < cut.usage.prompt_tokens <= 512


async def test_a_message_that_the_client_began_goes_on(client: openai.AsyncOpenAI) -> None:
    """The answer is what follows it, streamed too; a model that would answer anew is refused by name."""
    messages: Any = [
        {"role": "user", "content": "Count to twelve in digits, with commas."},
        {"role": "assistant", "content": "1, 2, 3,"},
    ]
    asked: Document = {"messages": messages, "extra_body": {"continue_final_message": True}, "max_tokens": 6}
    plain = await said(client, **asked)

    assert plain.startswith(" 4, 5")
    assert await spoken(client, **asked) == plain
    with pytest.raises(openai.BadRequestError, match="go on with an answer"):
        await client.chat.completions.create(model="cloud-only", **asked)


@pytest.mark.parametrize("include_usage", [True, False])
async def test_an_answer_says_how_long_it_took(client: openai.AsyncOpenAI, include_usage: bool) -> None:
    """`timings` are in the reply and in a stream's last chunk, and agree with the usage."""
    await warm(client)
    reply = await chat(client)
    options: Document = {"stream_options": {"include_usage": True}} if include_usage else {}
    chunks = [chunk async for chunk in await chat(client, stream=True, **options)]

    timings = reply.model_extra["timings"]
    assert timings["prompt_n"] + timings["cached_n"] == reply.usage.prompt_tokens
    assert timings["cached_n"] == reply.usage.prompt_tokens_details.cached_tokens > 0
    assert timings["predicted_n"] == reply.usage.completion_tokens
    assert timings["predicted_per_second"] == pytest.approx(1000 * LENGTH / timings["predicted_ms"])
    assert [chunk for chunk in chunks if "timings" in (chunk.model_extra or {})] == chunks[-1:]
    assert set(chunks[-1].model_extra["timings"]) == set(timings)
    assert (chunks[-1].usage is not None) == include_usage


async def test_a_second_turn_finds_the_first(client: openai.AsyncOpenAI) -> None:
    """A conversation that goes on computes what is new; `cached_tokens` counts the rest."""
    asked: Any = [{"role": "user", "content": "Name a colour that nobody asked for yet."}]
    first = await chat(client, messages=asked)
    asked += [first.choices[0].message, {"role": "user", "content": "Another."}]
    second = await chat(client, messages=asked)

    found = second.usage.prompt_tokens_details.cached_tokens
    assert first.usage.prompt_tokens <= found < second.usage.prompt_tokens
