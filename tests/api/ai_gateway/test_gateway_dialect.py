"""AI Gateway's dialect: providers, steps, what is kept, counted and noted."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import pytest
from gateways_played import ACCOUNT, BAD, CACHING, GOOD, LLAMA, SAID, Aliased, Door, door, step, text
from scripted_answers import Told

from hybrid_router.config.front_schema import FrontGateway, RateLimit
from hybrid_router.core.errors import BackendError, CallRefused, QuotaExhausted
from hybrid_router.core.event import Embedding, Finish, Heard, Picture, Segment, Text
from hybrid_router.gateway import retries

NOT_FULL = {"return_full_text": False}
PNG = b"\x89PNG\r\n\x1a\n rest"


@pytest.mark.parametrize(
    ("path", "body", "found"),
    [
        ("openai/chat/completions", {"model": "fast", "messages": SAID}, "choices.0.message.content"),
        ("openai/v1/chat/completions", {"model": "fast", "messages": SAID}, "choices.0.message.content"),
        ("openai/completions", {"model": "fast", "prompt": "x"}, "choices.0.text"),
        ("compat/chat/completions", {"model": "openai/fast", "messages": SAID}, "choices.0.message.content"),
        ("compat/chat/completions", {"model": "dynamic/fast", "messages": SAID}, "choices.0.message.content"),
        (f"workers-ai/{LLAMA}", {"messages": SAID}, "result.response"),
        (f"workers-ai/run/{LLAMA}", {"prompt": "x"}, "result.response"),
        ("workers-ai/run/" + LLAMA.replace("/", "%2F"), {"prompt": "x"}, "result.response"),
        ("workers-ai/v1/chat/completions", {"model": LLAMA, "messages": SAID}, "choices.0.message.content"),
        ("anthropic/v1/messages", {"model": "fast", "messages": SAID, "max_tokens": 9}, "content.0.text"),
        ("huggingface/v1/chat/completions", {"model": "fast", "messages": SAID}, "choices.0.message.content"),
        ("huggingface/models/org/model", {"inputs": "x", "parameters": NOT_FULL}, "0.generated_text"),
        ("replicate/v1/models/org/model/predictions", {"input": {"prompt": "x"}}, "output.0"),
        ("replicate/v1/predictions", {"version": "fast", "input": {"prompt": "x"}}, "output.0"),
    ],
)  # fmt: skip
async def test_every_provider_is_answered_in_its_own_form(path: str, body: Any, found: str) -> None:
    """The request as the provider's own client sends it, the answer as that client reads it."""
    async with door(Aliased({"fast": [GOOD], "org/model": [GOOD]})) as played:
        reply = await played.post(f"site/{path}", body)

    assert reply.status == (201 if path.startswith("replicate") else 200), reply.body
    told = reply.json
    for name in found.split("."):
        told = told[int(name)] if name.isdecimal() else told[name]
    assert told == "good"
    assert reply.headers["cf-aig-step"] == "0"
    assert ("cf-ai-req-id" in reply.headers) == path.startswith("workers-ai")
    assert len(reply.headers["cf-aig-log-id"]) == 26
    assert reply.headers["cf-aig-event-id"]


async def test_streams_come_in_the_providers_form() -> None:
    """OpenAI's chunks and `[DONE]`; Anthropic's named events, blocks opened and closed in order."""
    async with door(Aliased({"fast": [GOOD]})) as played:
        asked = {"model": "fast", "messages": SAID, "stream": True}
        chunks = await played.post("site/openai/chat/completions", asked, **CACHING)
        events = await played.post("site/anthropic/v1/messages", {**asked, "max_tokens": 9})
        again = await played.post("site/openai/chat/completions", asked, **CACHING)

    assert chunks.events[-1] == "[DONE]"
    assert chunks.headers["cf-aig-step"] == "0"
    kinds = [line.removeprefix("event: ") for line in events.body.decode().splitlines() if "event: " in line]
    assert kinds == [
        "message_start", "content_block_start", "content_block_delta", "content_block_stop", "message_delta",
        "message_stop",
    ]  # fmt: skip
    assert '"output_tokens":3' in events.body.decode()
    assert "cf-aig-cache-status" not in again.headers, "streams are never kept"


@pytest.mark.parametrize("failing", [0, 1, 2, 3])
async def test_the_first_step_that_works_answers(failing: int) -> None:
    """However many fail before it; the header says which it was.  If all fail, the last one's error."""
    models = ["fast", "slow", "org/model"]
    answers = Aliased({name: [BAD if i < failing else GOOD] for i, name in enumerate(models)})
    async with door(answers) as played:
        reply = await played.post("site", [step(model=name) for name in models])
        told = await played.logs("?order_by_direction=asc")

    assert reply.headers["cf-aig-step"] == str(min(failing, 2))
    assert [entry["status_code"] for entry in told["result"]] == [503] * failing + [200] * (failing < 3)
    assert [entry["step"] for entry in told["result"]] == list(range(min(failing + 1, 3)))
    if failing < 3:
        assert text(reply) == "good"
    else:
        assert (reply.status, reply.error["code"]) == (503, "backend_unavailable")


async def test_a_caller_gets_no_endless_silence(monkeypatch: pytest.MonkeyPatch) -> None:
    """However many steps and tries are asked for: once a request is too old no other one begins."""
    monkeypatch.setattr(retries, "LONGEST_S", 0.0)
    answers = Aliased({"fast": [BAD, GOOD], "slow": [GOOD]})
    async with door(answers) as played:
        wishes = {"cf-aig-max-attempts": "5", "cf-aig-retry-delay": "60000"}
        reply = await played.post("site", [step(model="fast"), step(model="slow")], **wishes)
        told = await played.logs()

    assert (reply.status, reply.error["code"]) == (503, "backend_unavailable")
    assert len(told["result"]) == 1


async def test_a_step_of_another_provider_takes_over() -> None:
    """Each step is read and answered in its own provider's form; one that nobody knows just fails."""
    native = {"provider": "workers-ai", "endpoint": LLAMA, "query": {"prompt": "x"}}
    async with door(Aliased({"fast": [GOOD], "slow": [BAD]})) as played:
        reply = await played.post(
            "site", [step(model="slow"), step(provider="nobody"), step(model="none"), native]
        )

    assert (reply.status, reply.headers["cf-aig-step"]) == (200, "3")
    assert reply.json["result"]["response"] == "good"


async def test_a_lone_step_is_a_list_of_one() -> None:
    """As the binding sends it."""
    async with door(Aliased({"fast": [GOOD]})) as played:
        assert text(await played.post("site", step())) == "good"


async def test_tries_are_as_many_as_asked() -> None:
    """A failing backend is asked again; what the call itself got wrong is not, nor a spent allowance."""
    answers = Aliased(
        {"fast": [BAD, BAD, GOOD], "slow": [[CallRefused("odd")]], "org/model": [[QuotaExhausted("x")]]}
    )
    thrice = {"cf_aig_max_attempts": "3", "cf_aig_retry_delay": "0"}
    async with door(answers) as played:
        good = await played.chat(**thrice)
        asked = [len(answers.calls)]
        for model in ("slow", "org/model"):
            await played.chat(model=model, **thrice)
            asked.append(len(answers.calls))

    assert text(good) == "good"
    assert asked == [3, 4, 5]
    assert len({call.id for call in answers.calls}) == 5, "each try is a call of its own"


async def test_a_first_byte_that_is_late_is_a_failure() -> None:
    """The next step answers; the slow backend is let go.  A direct call is told of the timeout."""
    answers = Aliased({"slow": [[asyncio.Event()]], "fast": [GOOD]})
    late = step(model="slow", config={"requestTimeout": 30})
    async with door(answers) as played:
        reply = await played.post("site", [late, step()])
        assert answers.closed.is_set()
        direct = await played.chat(model="slow", cf_aig_request_timeout="30")
        streamed = await played.post("site", [late | {"query": {**late["query"], "stream": True}}, step()])

    assert (text(reply), reply.headers["cf-aig-step"]) == ("good", "1")
    assert (direct.status, direct.error["code"]) == (504, "backend_timeout")
    assert streamed.headers["cf-aig-step"] == "1"


async def test_the_caller_says_nothing_into_the_log_of_a_private_call() -> None:
    """Its entry has times and counts; metadata and event stay out."""
    async with door(Aliased()) as played:
        told = {"cf_aig_metadata": '{"who": "secret"}', "cf_aig_event_id": "secret"}
        await played.chat(model="private", **told)
        await played.chat(model="fast", **told)
        open_one, private = (await played.logs())["result"]

    assert (json.loads(open_one["metadata"]), open_one["event_id"]) == ({"who": "secret"}, "secret")
    assert "secret" not in json.dumps(private)


@pytest.mark.parametrize("model", ["home", "nobody"])
async def test_nor_does_the_caller_of_a_call_that_nobody_could_serve(model: str) -> None:
    """One that had to stay here and found no step, and one of which nothing was decided."""
    async with door(Aliased({"home": [BAD]})) as played:
        await played.chat(model=model, cf_aig_metadata='{"who": "secret"}', cf_aig_event_id="secret")
        (entry,) = (await played.logs())["result"]

    assert entry["status_code"] >= 400
    assert "secret" not in json.dumps(entry)


async def test_rules_see_the_headers_of_a_step() -> None:
    """A step that says it is private is, whatever the request says; its keys are not looked at."""
    answers = Aliased()
    async with door(answers) as played:
        body = [step(headers={"X-Private": "yes", "xi-api-key": "sk-canary", "Authorization": "sk-canary"})]
        assert (await played.post("site", body, x_private="no")).status == 200
    (call,) = answers.calls

    assert call.headers["x-private"] == "no, yes"
    assert "canary" not in repr(call.headers)


async def test_two_gateways_keep_their_own_settings() -> None:
    """One keeps answers and takes two calls a minute, the other neither; what one kept is not the other's."""
    tight = FrontGateway(
        cache_ttl=60.0, rate_limit=RateLimit(calls=2, interval=60.0), max_attempts=2, retry_delay=0
    )
    named = FrontGateway(providers={"openai": {"gpt-*": "slow"}}, collect_logs=False)
    answers = Aliased({"fast": [BAD, GOOD]})
    async with door(answers, {"tight": tight, "named": named}) as played:
        kept = [await played.chat(gateway="tight") for _ in range(3)]
        more = [await played.chat("bob", model="slow", gateway="tight") for _ in range(2)]
        renamed = await played.chat(model="gpt-4o", gateway="named")
        nothing = await played.logs(gateway="named")

    assert [reply.headers["cf-aig-cache-status"] for reply in kept] == ["MISS", "HIT", "HIT"]
    assert [reply.status for reply in more] == [200, 200], "bob's second is a HIT, which is not counted"
    assert renamed.json["model"] == "gpt-4o"
    assert answers.calls[-1].alias == "slow"
    assert "cf-aig-log-id" not in renamed.headers
    assert nothing["result"] == []


@pytest.mark.parametrize("technique", ["fixed", "sliding"])
async def test_one_call_too_many_is_refused(technique: Any) -> None:
    """As many as are allowed pass, at the same moment too; the next gets 429 in the gateway's own words."""
    limit = RateLimit(calls=3, interval=86_400.0, technique=technique)
    async with door(Aliased(), {"site": FrontGateway(rate_limit=limit)}) as played:
        replies = await asyncio.gather(*(played.chat() for _ in range(5)))
        universal = await played.post("site", [step(), step()])

    assert sorted(reply.status for reply in replies) == [200, 200, 200, 429, 429]
    assert (universal.status, universal.json["error"][0]["code"]) == (429, 2003)


async def test_an_unknown_gateway_is_named_before_anything_else() -> None:
    """2001, whatever the body is; the log has no such gateway either."""
    async with door(Aliased()) as played:
        replies = [
            await played.post("other", b"{"),
            await played.post("other/openai/chat/completions", b"{"),
            await played.post(f"other/workers-ai/{LLAMA}", {}),
        ]
        log = await played.logs(gateway="other")

    assert [(reply.status, reply.json["internalCode"]) for reply in replies] == [(400, 2001)] * 3
    assert log["success"] is False


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({}, 401),
        ({"authorization": "Bearer hr-alice"}, 200),
        ({"x-api-key": "hr-alice"}, 200),
        ({"cf-aig-authorization": "Bearer hr-alice", "authorization": "Bearer sk-x"}, 200),
        ({"cf-aig-authorization": "Bearer wrong", "authorization": "Bearer hr-alice"}, 401),
        ({"cf-aig-authorization": "hr-alice"}, 401),
    ],
)
async def test_the_gateways_own_header_comes_first(headers: dict[str, str], status: int) -> None:
    """With it, `Authorization` is the provider's; without it, any header that carries a key will do."""
    from scripted_answers import post  # noqa: PLC0415

    async with door(Aliased()) as played:
        body = {"model": "fast", "messages": SAID}
        reply = await post(played.port, f"/v1/{ACCOUNT}/site/openai/chat/completions", body, headers)
        elsewhere = await post(
            played.port, "/v1/chat/completions", body, {"cf-aig-authorization": "Bearer hr-alice"}
        )

    assert reply.status == status
    if status == 401:
        assert reply.json["internalCode"] == 2009
    assert elsewhere.status == 401, "on other addresses the header is no key"


async def test_a_providers_key_shows_nowhere(caplog: pytest.LogCaptureFixture) -> None:
    """Not in the call that backends get, in what is told of it, in the log, nor in an error."""
    answers, told = Aliased({"fast": [BAD]}), Told()
    async with door(answers, on_call=told) as played:
        body = [
            step(
                headers={
                    "Authorization": "Bearer sk-canary",
                    "x-api-key": "sk-canary",
                    "api_key": "sk-canary",
                }
            )
        ]
        replies = [
            await played.post("site", body, **CACHING),
            await played.post("site", [*body, {"provider": 7, "headers": {"a": "sk-canary"}}]),
            await played.chat(x_api_key="sk-canary", x_goog_api_key="sk-canary"),
        ]
        shown = json.dumps(await played.logs()) + repr(answers.calls) + repr(told.records) + caplog.text
        shown += "".join(repr(reply) for reply in replies)

    assert answers.calls
    assert "canary" not in shown


@pytest.mark.parametrize(
    ("path", "body", "status", "key"),
    [
        ("openai/chat/completions", {"model": "none", "messages": SAID}, 404, "error"),
        ("openai/files", {}, 404, "error"),
        ("compat/files", {}, 404, "error"),
        (f"workers-ai/{LLAMA}", {"messages": "x"}, 400, "errors"),
        ("workers-ai/@cf/openai/whisper", {}, 400, "errors"),
        (f"workers-ai/{LLAMA}?queueRequest=true", {"messages": SAID}, 400, "errors"),
        (f"workers-ai/{LLAMA}", {"messages": SAID, "options": {"background": True}}, 400, "errors"),
        ("anthropic/v1/messages", {"model": "fast", "messages": SAID}, 400, "type"),
        ("huggingface/models/none", {"inputs": "x"}, 404, "error"),
        ("replicate/v1/predictions", {"input": {"prompt": "x"}}, 404, "detail"),
        ("nobody/x", {}, 404, "internalCode"),
    ],
)
async def test_errors_come_in_the_providers_words(path: str, body: Any, status: int, key: str) -> None:
    """Its client reads them as it reads the provider's own."""
    async with door(Aliased()) as played:
        reply = await played.post(f"site/{path}", body)

    assert reply.status == status, reply.body
    assert key in reply.json


async def test_a_wish_that_is_none_is_refused() -> None:
    """By its header's name, in the gateway's words, and nobody is asked."""
    answers = Aliased()
    async with door(answers) as played:
        reply = await played.chat(cf_aig_max_attempts="99")

    assert (reply.status, "cf-aig-max-attempts" in reply.json["message"]) == (400, True)
    assert not answers.calls


async def test_what_is_asked_is_what_the_alias_can_do() -> None:
    """The task API and predictions do not say it: a picture's alias paints, a vector's embeds."""

    class Able(Aliased):
        """One operation an alias."""

        def explain(self, call: Any) -> Any:
            """Only what the alias is for has a step."""
            fits = call.operation == {"fast": "image", "slow": "embed"}[call.alias]
            plan = super().decide(call).plan
            self.calls.pop()
            return plan if fits else type(plan)(total_s=1.0)

    vector = Embedding(b"\x00\x00\x80\x3f\x00\x00\x00\x00")
    answers = Able({"fast": [[[Picture(PNG), Finish("stop")]]], "slow": [[[vector, Finish("stop")]]]})
    async with door(answers) as played:
        picture = await played.post("site/huggingface/fast", {"inputs": "a cat"})
        embedded = await played.post("site/huggingface/slow/pipeline/feature-extraction", {"inputs": "a cat"})
        both = await played.post("site/huggingface/slow", {"inputs": ["a cat"]})
        predicted = await played.post(
            "site/replicate/v1/predictions", {"version": "fast", "input": {"prompt": "x"}}
        )

    assert (picture.body, picture.headers["content-type"]) == (PNG, "image/png")
    assert (embedded.json, both.json) == ([1.0, 0.0], [[1.0, 0.0]])
    assert predicted.json["output"][0].startswith("data:image/png;base64,")


async def test_the_log_belongs_to_its_principal() -> None:
    """Lists, entries and feedback are the caller's own; another's entry is not there."""
    async with door(Aliased()) as played:
        mine = (await played.chat("alice")).headers["cf-aig-log-id"]
        await played.chat("bob")
        listed = await played.logs(who="alice")
        theirs = await played.logs(f"/{mine}", who="bob")
        path = f"/client/v4/accounts/any/ai-gateway/gateways/site/logs/{mine}"
        patched = await played.send("PATCH", path, b'{"feedback": 1, "score": 80, "metadata": {"a": 1}}')
        refused = await played.send("PATCH", path, b'{"feedback": 1}', who="bob")
        odd = await played.send("PATCH", path, b'{"feedback": 7}')
        shown = await played.logs(f"/{mine}")

    assert [entry["id"] for entry in listed["result"]] == [mine]
    assert listed["result_info"]["total_count"] == 1
    assert theirs["success"] is False
    assert [reply.status for reply in (patched, refused, odd)] == [200, 404, 400]
    entry = shown["result"]
    assert (entry["feedback"], entry["score"], json.loads(entry["metadata"])) == (1, 80, {"a": 1})
    assert (entry["tokens_in"], entry["tokens_out"], entry["model"]) == (7, 3, "fast")
    assert "hi" not in [entry["request_head"], entry["response_head"]]


async def test_the_log_can_be_cleared_by_filter() -> None:
    """Only what is meant goes."""
    base = "/client/v4/accounts/any/ai-gateway/gateways/site/logs"
    async with door(Aliased()) as played:
        for model in ("fast", "slow"):
            await played.chat(model=model)
        query = "?filters.key=model&filters.operator=eq&filters.value=slow"
        assert (await played.send("DELETE", base + query, b"")).status == 200
        left = await played.logs()

    assert [entry["model"] for entry in left["result"]] == ["fast"]


async def test_costs_are_as_the_caller_says() -> None:
    """`cf-aig-custom-cost` is by the token, or in all."""
    async with door(Aliased()) as played:
        await played.chat(cf_aig_custom_cost='{"per_token_in": 1, "per_token_out": 2}')
        entry = (await played.logs())["result"][0]

    assert (entry["cost"], entry["custom_cost"]) == (13.0, True)


async def test_a_broken_stream_is_no_success() -> None:
    """The client is told in-band; the log says that it failed, whatever the status was."""
    answers = Aliased({"fast": [[[Text("a")], BackendError("gone")]]})
    async with door(answers) as played:
        asked = {"model": "fast", "messages": SAID, "stream": True}
        reply = await played.post("site/openai/chat/completions", asked)
        (entry,) = (await played.logs())["result"]

    assert reply.status == 200
    assert "error" in reply.events[-1]
    assert (entry["success"], entry["status_code"]) == (False, 200)


async def test_recordings_come_as_bytes_and_as_forms() -> None:
    """Workers AI's way and OpenAI's: the file is the call's, the text comes back in the form of each."""
    heard: list[Any] = [[Heard("en", 1.0), Segment(" good", 0.0, 1.0)], [Finish("stop")]]
    answers = Aliased({"fast": [heard]})
    fronts = {"site": FrontGateway(providers={"workers-ai": {"@cf/openai/*": "fast"}})}
    form = (
        b'--x\r\nContent-Disposition: form-data; name="model"\r\n\r\nfast\r\n'
        b'--x\r\nContent-Disposition: form-data; name="file"; filename="a.wav"\r\n\r\nRIFF\r\n--x--\r\n'
    )
    async with door(answers, fronts) as played:
        path = f"/v1/{ACCOUNT}/site/"
        raw = await played.send(
            "POST", path + "workers-ai/@cf/openai/whisper", b"RIFF", content_type="audio/wav"
        )
        written = await played.send(
            "POST", path + "openai/audio/transcriptions", form, content_type="multipart/form-data; boundary=x"
        )

    assert raw.json["result"]["text"] == "good"
    assert written.json["text"].strip() == "good"
    assert [call.uploads[0].size_bytes for call in answers.calls] == [4, 4]


async def test_a_gateways_pattern_for_chats_passes_a_guard_over() -> None:
    """A chat's words are no verdict: the guard is answered where it is named, and by nobody else."""
    guard = "workers-ai/@cf/meta/llama-guard-3-8b"
    fronts = {"site": FrontGateway(providers={"workers-ai": {"@cf/meta/*": "fast"}})}
    async with door(Aliased({"fast": [GOOD]}), fronts) as played:
        chat = await played.post(f"site/workers-ai/{LLAMA}", {"messages": SAID})
        verdict = await played.post(f"site/{guard}", {"messages": SAID})

    assert (chat.status, verdict.status) == (200, 404)
    assert "gateways.site.providers.workers-ai" in str(verdict.json["errors"])


async def test_the_compat_list_names_what_may_be_asked(door_of_all: Door) -> None:
    """Every alias, in the shape of the gateway's own list."""
    told = (await door_of_all.send("GET", f"/v1/{ACCOUNT}/site/compat/models", b"")).json

    assert {row["id"] for row in told["data"]} == set(Aliased.aliases)


@pytest.fixture
async def door_of_all() -> Any:
    """A router with one gateway."""
    async with door(Aliased()) as played:
        yield played


@pytest.mark.parametrize("depth", [500, 990, 100_000])
async def test_a_body_that_is_a_tower_is_refused(depth: int) -> None:
    """However deep: the caller's fault, named, whether it is a step's, a provider's or a header's."""
    tower = b"[" * depth + b"]" * depth
    low = b"[" * min(depth, 3000)
    async with door(Aliased()) as played:
        replies = [
            await played.post("site", b'[{"provider": "openai", "query": ' + tower + b"}]", **CACHING),
            await played.post("site/openai/chat/completions", b'{"messages": ' + tower + b"}", **CACHING),
            await played.post(f"site/workers-ai/{LLAMA}", b'{"messages": ' + tower + b"}"),
            await played.chat(cf_aig_metadata=low.decode()),
        ]

    assert {400} <= {reply.status for reply in replies} <= {400, 404}, [reply.body for reply in replies]
