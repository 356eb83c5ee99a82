"""The real service on the real model, held against OpenAI's schemas and the model's own tokenizer."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable, Iterator
from contextlib import closing
from http.client import HTTPConnection
from pathlib import Path

import llama_cpp
import pytest
from invariants import assert_invariants
from openai_contract import check
from router_policy import CLOUD_MODEL
from router_process import Emulator, Router
from wire_client import COMPLETIONS, PROMPT_CANARY, ask, chat_body, completion_body

pytestmark = [pytest.mark.model, pytest.mark.timeout(60)]

COUNTED = "1, 2, 3, 4, 5, 6, 7,"
SYSTEM = "You are a helpful AI assistant named SmolLM, trained by Hugging Face"
Count = Callable[[str], int]


@pytest.fixture(scope="module")
def count_tokens(model_path: Path) -> Iterator[Count]:
    """The model's own tokenizer, opened without the weights."""
    with closing(llama_cpp.Llama(str(model_path), vocab_only=True, verbose=False)) as vocabulary:
        yield lambda text: len(vocabulary.tokenize(text.encode(), add_bos=False, special=True))


async def test_usage_is_the_tokenizers_count(router: Router, count_tokens: Count) -> None:
    """Prompt, template included, and answer are counted by the model itself; a stream says the same."""
    said = f"{PROMPT_CANARY}: where is Paris?"
    await ask(router, chat_body("local-only", said, max_tokens=1))  # both find the prompt computed
    before = await router.quiet()
    plain = await ask(router, chat_body("local-only", said, max_tokens=24))
    streamed = await ask(router, chat_body("local-only", said, max_tokens=24, stream=True))

    asked = (
        f"<|im_start|>system\n{SYSTEM}<|im_end|>\n<|im_start|>user\n{said}<|im_end|>\n<|im_start|>assistant\n"
    )
    assert plain.usage is not None
    assert plain.usage["prompt_tokens"] == count_tokens(asked)
    assert plain.usage["completion_tokens"] == count_tokens(plain.text())
    assert streamed.text() == plain.text()
    assert streamed.counted == plain.counted
    await assert_invariants(router, before, [plain, streamed])


async def test_a_completion_is_counted_too(router: Router, count_tokens: Count) -> None:
    """A prompt of several texts and choices counts each prompt once and every choice's answer."""
    answer = await ask(
        router,
        completion_body("local-only", COUNTED, max_tokens=9) | {"prompt": [COUNTED, "A B C D"]},
        COMPLETIONS,
    )

    assert answer.usage is not None
    assert answer.usage["prompt_tokens"] == count_tokens(COUNTED) + count_tokens("A B C D")
    assert answer.usage["completion_tokens"] == 18
    assert answer.finish_reasons == ["length", "length"]


@pytest.mark.parametrize("stop", [", 1", "0, 11", ["99", " 10, 11, 12"], "8"])
async def test_a_stop_string_may_cross_token_borders(router: Router, stop: str | list[str]) -> None:
    """The answer ends right before the first stop string; nothing of it is ever streamed."""
    whole = await ask(router, completion_body("local-only", COUNTED, max_tokens=30), COMPLETIONS)
    plain = await ask(router, completion_body("local-only", COUNTED, max_tokens=30, stop=stop), COMPLETIONS)
    streamed = await ask(
        router, completion_body("local-only", COUNTED, max_tokens=30, stop=stop, stream=True), COMPLETIONS
    )

    stops = [stop] if isinstance(stop, str) else stop
    places = [whole.text().find(one) for one in stops if one in whole.text()]
    assert places, f"the model was expected to say one of {stops}: {whole.text()!r}"
    assert plain.text() == whole.text()[: min(places)]
    assert plain.finish_reasons == ["stop"]
    assert streamed.text() == plain.text()
    assert streamed.finish_reasons == ["stop"]


async def test_a_character_is_never_split(router: Router) -> None:
    """Emoji are several tokens each; every delta holds whole ones."""
    asked = chat_body("local-only", "Answer with emoji only: 🌟🎉🚀", max_tokens=24, stream=True)
    await ask(router, asked)  # both find the prompt computed
    answer = await ask(router, asked)

    assert not answer.text().isascii(), f"the model was expected to answer with emoji: {answer.text()!r}"
    assert "�" not in answer.text()
    plain = await ask(router, chat_body("local-only", "Answer with emoji only: 🌟🎉🚀", max_tokens=24))
    assert plain.text() == answer.text()


async def test_two_choices_are_two_answers(router: Router) -> None:
    """`n: 2` with a seed gives two answers, which a stream tells apart by index, the same each time."""
    await ask(router, chat_body("local-only", "Tell a story.", max_tokens=1))  # both find it computed
    before = await router.quiet()
    # What else is in the cache changes a probability's last digits.  Of two tokens, A and B, whose order that
    # cannot turn, the same ones are drawn all the same.
    few = {"temperature": 2.0, "top_k": 2, "logit_bias": {"49": 100, "50": 99}}
    asked = {"n": 2, "seed": 1, "max_tokens": 4, **few}
    plain = await ask(router, chat_body("local-only", "Tell a story.") | asked)
    streamed = await ask(router, chat_body("local-only", "Tell a story.", stream=True) | asked)

    assert plain.text(0) != plain.text(1)
    assert [streamed.text(0), streamed.text(1)] == [plain.text(0), plain.text(1)]
    assert streamed.counted == plain.counted
    await assert_invariants(router, before, [plain, streamed])


async def test_four_streams_at_once_are_all_exact(router: Router) -> None:
    """Two decode together, two wait their turn; each has the text it has alone."""
    prompts = [COUNTED, "2, 4, 6, 8, 10, 12,", "10, 20, 30, 40, 50,", "5, 10, 15, 20, 25,"]
    bodies = [completion_body("local-only", prompt, max_tokens=16, stream=True) for prompt in prompts]
    alone = [(await ask(router, body, COMPLETIONS)).text() for body in bodies]

    before = await router.quiet()
    together = await asyncio.gather(*(ask(router, body, COMPLETIONS) for body in bodies))

    assert [answer.text() for answer in together] == alone
    await assert_invariants(router, before, together)


@pytest.mark.parametrize("backend", ["cloudflare", "native"])
@pytest.mark.parametrize("stream", [False, True])
async def test_the_cloud_answers_through_the_same_contract(
    router: Router, backend: str, stream: bool
) -> None:
    """Both forms of Workers AI: the text is the script's, the usage is what the cloud counted."""
    before = await router.quiet()
    alias = "cloud-first" if backend == "cloudflare" else "native-first"
    answer = await ask(router, chat_body(alias, f"{PROMPT_CANARY} count to 12", stream=stream))

    assert answer.text() == " ".join(str(number) for number in range(1, 13))
    assert answer.finish_reasons == ["stop"]
    assert answer.usage is not None
    assert answer.usage["completion_tokens"] == 12
    assert answer.served_by == (backend, "1")
    assert answer.headers["x-router-model"] == CLOUD_MODEL
    await assert_invariants(router, before, [answer])


@pytest.mark.parametrize("stream", [False, True])
async def test_the_cloud_refuses_and_the_model_answers(
    router: Router, emulator: Emulator, stream: bool
) -> None:
    """Cloud to local: the answer is the model's, whole, and the headers say so."""
    own = await ask(router, chat_body("local-only", "count to 5", max_tokens=12))
    before = await router.quiet()
    emulator.fault(code=3040)
    answer = await ask(router, chat_body("cloud-first", "count to 5", max_tokens=12, stream=stream))

    assert answer.text() == own.text()
    assert answer.served_by == ("local", "2")
    first, second = await assert_invariants(router, before, [answer])
    assert (first["outcome"], first["error"]) == ("failed", "rate_limit_exceeded")
    assert second["outcome"] == "answered"


async def test_a_stream_that_breaks_tells_the_package(router: Router, emulator: Emulator) -> None:
    """After the first token the error is told in-band, in the shape that OpenAI's package raises."""
    before = await router.quiet()
    emulator.fault(cut_after=4)
    answer = await ask(router, chat_body("cloud-only", "count to 12", stream=True))

    assert answer.status == 200
    assert answer.text() == "1 2 3"
    assert answer.error is not None
    await assert_invariants(router, before, [answer])


def get(router: Router, path: str, method: str = "GET") -> tuple[int, bytes]:
    """Status and body of an address."""
    with closing(HTTPConnection("127.0.0.1", router.port, timeout=10)) as connection:
        connection.request(method, path)
        reply = connection.getresponse()
        return reply.status, reply.read()


def test_the_probes_answer(router: Router) -> None:
    """/health says that the process is there, /ready names every alias, / is a signpost."""
    assert get(router, "/health") == (200, b'{"status":"ok"}')
    status, body = get(router, "/ready")
    assert status == 200
    assert json.loads(body)["models"]["local-only"] == {"state": "ready"}
    assert get(router, "/", "HEAD") == (200, b"")
    assert json.loads(get(router, "/")[1])["name"] == "hybrid-router"


def test_the_lists_of_models_keep_the_contract(router: Router) -> None:
    """The list and each of its models validate."""
    _, body = get(router, "/v1/models")
    listed = json.loads(body)
    check("ListModelsResponse", listed)
    for model in listed["data"]:
        _, one = get(router, f"/v1/models/{model['id']}")
        check("Model", json.loads(one))


def test_an_address_that_does_not_exist_is_an_openai_error(router: Router) -> None:
    """404 with an error object."""
    status, body = get(router, "/v1/nothing")
    assert status == 404
    check("ErrorResponse", json.loads(body))
