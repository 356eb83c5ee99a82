"""Log probabilities and timings, held against OpenAI's schemas and its own client's types."""

from __future__ import annotations

import itertools
import json
import math
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from openai.types import Completion, CreateEmbeddingResponse
from openai.types.chat import ChatCompletion, ChatCompletionChunk
from openai_contract import check, events

from hybrid_router.api.openai import embedding_request, reply, vectors
from hybrid_router.api.openai.chunks import ChatChunks, CompletionChunks
from hybrid_router.core.call import Call, Operation
from hybrid_router.core.event import (
    Batch,
    Embedding,
    Event,
    Finish,
    PromptScores,
    Reasoning,
    Text,
    TokenScore,
    Usage,
)

CREATED_S = 1_700_000_000
EURO = "€".encode()
MEASURED = Usage(10, 4, cached_tokens=6, prefill_s=0.5, decode_s=2.0)


def chat_call(top_logprobs: int | None = 1) -> Call:
    """A chat call of one choice, scored unless told otherwise."""
    return Call(id="chatcmpl-1", operation=Operation.CHAT, alias="fast", top_logprobs=top_logprobs)


def completion_call(*prompts: str | tuple[int, ...], n: int = 1) -> Call:
    """A scored completion."""
    return Call(id="cmpl-1", operation=Operation.COMPLETE, alias="fast", prompts=prompts, n=n, top_logprobs=1)


def score(token: str | bytes, logprob: float | None = -0.5, *top: tuple[str, float]) -> TokenScore:
    """A token's score, and others beside it."""
    raw = token.encode() if isinstance(token, str) else token
    return TokenScore(raw, logprob, tuple(TokenScore(other.encode(), value) for other, value in top))


def streamed(chunks: ChatChunks | CompletionChunks, *batches: Batch) -> list[Any]:
    """The documents of a stream, without `[DONE]`."""
    *sent, done = events(b"".join(map(chunks.encode, batches)) + chunks.end())
    assert done == "[DONE]"
    return sent


def test_a_chats_scores_are_told_token_by_token() -> None:
    """Text, probability, bytes, and the same of the likeliest others."""
    said: Batch = [Text("Hi", scores=(score("Hi", -0.25, ("Hi", -0.25), ("Yo", -1.5)),)), Finish("stop")]
    document = json.loads(reply.chat(chat_call(), CREATED_S, said))

    check("CreateChatCompletionResponse", document)
    assert document["choices"][0]["logprobs"] == {
        "content": [
            {
                "token": "Hi",
                "logprob": -0.25,
                "bytes": [72, 105],
                "top_logprobs": [
                    {"token": "Hi", "logprob": -0.25, "bytes": [72, 105]},
                    {"token": "Yo", "logprob": -1.5, "bytes": [89, 111]},
                ],
            }
        ],
        "refusal": None,
    }


def test_half_a_character_is_told_by_its_bytes() -> None:
    """Its token is written with escapes; all bytes together are the text."""
    said: Batch = [Text("€", scores=(score(EURO[:2]), score(EURO[2:]))), Finish("stop")]
    document = json.loads(reply.chat(chat_call(), CREATED_S, said))
    content = document["choices"][0]["logprobs"]["content"]

    assert [one["token"] for one in content] == [r"\xe2\x82", r"\xac"]
    assert bytes(itertools.chain(*(one["bytes"] for one in content))).decode() == "€"


def test_what_cannot_come_is_a_number() -> None:
    """JSON has no infinity: -9999, as OpenAI writes it."""
    said: Batch = [Text("a", scores=(score("a", -math.inf, ("b", -math.inf)),)), Finish("stop")]
    (one,) = json.loads(reply.chat(chat_call(), CREATED_S, said))["choices"][0]["logprobs"]["content"]

    assert (one["logprob"], one["top_logprobs"][0]["logprob"]) == (-9999.0, -9999.0)


def test_scores_are_streamed_with_their_text() -> None:
    """In the chunk of the text; a chunk may have scores and no text yet; others have null."""
    chunks = ChatChunks(chat_call(), CREATED_S, include_usage=False)
    sent = streamed(
        chunks,
        [Text("", scores=(score(EURO[:2]),)), Text("€", scores=(score(EURO[2:]),))],
        [Text("!"), Finish("stop")],
    )

    for chunk in sent:
        check("CreateChatCompletionStreamResponse", chunk)
        ChatCompletionChunk.model_validate(chunk)
    told = [chunk["choices"][0] for chunk in sent]
    assert [one["delta"].get("content") for one in told] == ["", "", "€", "!", None]
    counts = [None if one["logprobs"] is None else len(one["logprobs"]["content"]) for one in told]
    assert counts == [None, 1, 1, None, None]


def test_nobody_gets_scores_unasked() -> None:
    """A backend may give them; the reply says null."""
    said: Batch = [Text("a", scores=(score("a"),)), Finish("stop")]
    call = chat_call(top_logprobs=None)
    sent = streamed(ChatChunks(call, CREATED_S, include_usage=False), said)

    assert json.loads(reply.chat(call, CREATED_S, said))["choices"][0]["logprobs"] is None
    assert all(chunk["choices"][0]["logprobs"] is None for chunk in sent)


def test_a_completions_scores_are_lists_beside_each_other() -> None:
    """With the chosen token among the likeliest, and where in the text each begins."""
    said: Batch = [
        Text("Hé", scores=(score("H", -0.5, ("J", -0.1)), score("é", -1.0))),
        Text("y", scores=(score("y"),)),
        Finish("stop"),
    ]
    document = json.loads(reply.completion(completion_call("Once"), CREATED_S, said, echo=False))

    check("CreateCompletionResponse", document)
    assert document["choices"][0]["logprobs"] == {
        "tokens": ["H", "é", "y"],
        "token_logprobs": [-0.5, -1.0, -0.5],
        "top_logprobs": [{"J": -0.1, "H": -0.5}, {"é": -1.0}, {"y": -0.5}],
        "text_offset": [0, 1, 2],
    }


def test_an_echoed_prompt_is_scored() -> None:
    """Its tokens come first, the first one without a probability; one before the text is at its start."""
    of_prompt = PromptScores((score("<s>", None), score("On"), score("ce", -2.0, ("ly", -0.1))))
    said: Batch = [of_prompt, Text(" a", scores=(score(" a"),)), Finish("length")]
    document = json.loads(reply.completion(completion_call("Once"), CREATED_S, said, echo=True))

    check("CreateCompletionResponse", document)
    Completion.model_validate(document | {"choices": []})
    choice = document["choices"][0]
    assert choice["text"] == "Once a"
    assert choice["logprobs"]["tokens"] == ["<s>", "On", "ce", " a"]
    assert choice["logprobs"]["token_logprobs"] == [None, -0.5, -2.0, -0.5]
    assert choice["logprobs"]["top_logprobs"][0] is None
    assert choice["logprobs"]["text_offset"] == [0, 0, 2, 4]


def test_token_ids_are_echoed_as_the_text_they_are() -> None:
    """Nobody but the model knows what they say: its scores tell."""
    said: Batch = [PromptScores((score(EURO[:2], None), score(EURO[2:]))), Text("5"), Finish("stop")]
    call = completion_call((1, 2))
    document = json.loads(reply.completion(call, CREATED_S, said, echo=True))
    sent = streamed(CompletionChunks(call, CREATED_S, include_usage=False, echo=True), said)

    assert document["choices"][0]["text"] == "€5"
    assert document["choices"][0]["logprobs"]["tokens"] == [r"bytes:\xe2\x82", r"bytes:\xac"]
    assert "".join(chunk["choices"][0]["text"] for chunk in sent) == "€5"


words = st.lists(st.sampled_from(["a", "bc", "é", "€", "😀 "]), max_size=6)


@given(words, words, st.booleans(), st.booleans())
def test_streamed_scores_add_up(prompt: list[str], answer: list[str], echo: bool, scored: bool) -> None:
    """For any tokens: the lists of a stream's chunks, joined, are those of the plain reply, and in place."""
    said: list[Event] = []
    if echo and scored:
        said.append(PromptScores(tuple(score(word) for word in prompt)))
    said += [Text(word, scores=(score(word),)) for word in answer]
    said.append(Finish("stop"))
    call = completion_call("".join(prompt))
    plain = json.loads(reply.completion(call, CREATED_S, said, echo=echo))["choices"][0]
    chunks = CompletionChunks(call, CREATED_S, include_usage=False, echo=echo)
    sent = [chunk["choices"][0] for chunk in streamed(chunks, said)]

    for name, values in plain["logprobs"].items():
        assert [value for one in sent if one["logprobs"] for value in one["logprobs"][name]] == values
    assert "".join(one["text"] for one in sent) == plain["text"]
    places = zip(plain["logprobs"]["tokens"], plain["logprobs"]["text_offset"], strict=True)
    assert all(plain["text"][at:].startswith(token) for token, at in places)


def test_times_are_told_as_llama_server_tells_them() -> None:
    """What was computed of the prompt, and what was written, in milliseconds and rates."""
    document = json.loads(reply.chat(chat_call(None), CREATED_S, [Text("a"), Finish("stop"), MEASURED]))

    ChatCompletion.model_validate(document)
    assert document["timings"] == {
        "cached_n": 6,
        "cache_n": 6,
        "prompt_n": 4,
        "prompt_ms": 500.0,
        "prompt_per_token_ms": 125.0,
        "prompt_per_second": 8.0,
        "predicted_n": 4,
        "predicted_ms": 2000.0,
        "predicted_per_token_ms": 500.0,
        "predicted_per_second": 2.0,
    }
    assert document["usage"]["prompt_tokens_details"] == {"cached_tokens": 6}


def test_times_that_nobody_measured_are_not_told() -> None:
    """A cloud's usage has none; a rate of nothing is null; drafted tokens are counted if there are any."""
    plain = json.loads(reply.chat(chat_call(None), CREATED_S, [Finish("stop"), Usage(1, 1)]))
    nothing = Usage(5, 0, cached_tokens=5, prefill_s=0.0, drafted_tokens=8, accepted_tokens=3)
    cached = json.loads(reply.chat(chat_call(None), CREATED_S, [Finish("stop"), nothing]))["timings"]

    assert "timings" not in plain
    assert (cached["prompt_n"], cached["prompt_per_second"], cached["predicted_ms"]) == (0, None, None)
    assert (cached["draft_n"], cached["draft_n_accepted"]) == (8, 3)


@pytest.mark.parametrize("include_usage", [True, False])
def test_times_come_with_the_last_chunk(include_usage: bool) -> None:
    """The usage chunk, if one is wanted, else the finish; no chunk is made for them."""
    said: Batch = [Text("a"), Finish("stop"), MEASURED]
    chat = streamed(ChatChunks(chat_call(None), CREATED_S, include_usage=include_usage), said)
    completion = CompletionChunks(completion_call("Once"), CREATED_S, include_usage=include_usage, echo=False)

    for sent in (chat, streamed(completion, said)):
        assert ["timings" in chunk for chunk in sent] == [False] * (len(sent) - 1) + [True]
        assert (sent[-1]["choices"] == []) == include_usage
        assert sent[-1]["timings"]["predicted_n"] == 4


def test_an_earlier_choices_finish_is_not_the_last_chunk() -> None:
    """With several choices the times come once, at the end of all."""
    call = Call(id="chatcmpl-1", operation=Operation.CHAT, alias="fast", n=2)
    sent = streamed(
        ChatChunks(call, CREATED_S, include_usage=False), [Finish("stop", 1), Finish("stop", 0), MEASURED]
    )

    assert ["timings" in chunk for chunk in sent] == [False, False, False, True]


def test_reasoning_has_its_own_field() -> None:
    """`reasoning_content`, in message and delta; its tokens' scores are told like the others."""
    said: Batch = [
        Reasoning("hm"),
        Text("", scores=(score("hm"),)),
        Text("yes", scores=(score("yes"),)),
        Finish("stop"),
    ]
    document = json.loads(reply.chat(chat_call(), CREATED_S, said))
    choice = document["choices"][0]

    assert (choice["message"]["reasoning_content"], choice["message"]["content"]) == ("hm", "yes")
    assert [one["token"] for one in choice["logprobs"]["content"]] == ["hm", "yes"]


@pytest.mark.parametrize("form", ["float", "base64"])
def test_embeddings_keep_the_contract(form: str) -> None:
    """A request by the book, and the reply to it; the schema knows floats alone."""
    body = {"model": "fast", "input": ["a"], "encoding_format": form, "dimensions": 1, "user": "u"}
    check("CreateEmbeddingRequest", body)
    asked = embedding_request.decode(
        json.dumps(body).encode(), call_id="embd-1", principal="local", headers={}
    )
    said: Batch = [Embedding(b"\x00\x00\x80\x3f\x00\x00\x00\x00"), Finish("stop"), Usage(2, 0)]
    document = json.loads(vectors.embeddings(asked, said))

    if form == "float":
        check("CreateEmbeddingResponse", document)
        assert CreateEmbeddingResponse.model_validate(document).data[0].embedding == [1.0]
    assert set(document) == {"object", "data", "model", "usage"}
