"""Why a call went where it went, and where one would go: over real sockets."""

from __future__ import annotations

import hashlib

import pytest
from scripted_answers import CHAT, TIMEOUTS, ScriptedAnswers, get, listening, post

from hybrid_router.config.schema import Key, Server
from hybrid_router.core.call import Feature, Operation
from hybrid_router.core.step import LeftOut, Plan, Prediction, Step

CANARY = "canary words of the prompt"
PICTURE = "data:image/png;base64,AAAA"
SECRET = {"model": "fast", "messages": [{"role": "user", "content": CANARY}]}
KEYS = {name: f"hr-{name}" for name in ("ann", "bob")}
KEYED = Server(
    listen="127.0.0.1:0",
    keys=tuple(Key(name=name, sha256=hashlib.sha256(key.encode()).hexdigest()) for name, key in KEYS.items()),
)
PLAN = Plan(
    steps=(
        Step(
            backend="local",
            model="a",
            timeouts=TIMEOUTS,
            because="try order of alias fast",
            predicted=Prediction(first_token_s=0.5, neurons=0.0),
            context=4096,
        ),
    ),
    left_out=(LeftOut(step="cloud/b", because="rule keep_home keeps the call on this machine"),),
    rules=("keep_home",),
    total_s=60.0,
    local_only=True,
    prompt_tokens=12,
)


def bearer(name: str) -> dict[str, str]:
    """Somebody's key."""
    return {"Authorization": f"Bearer {KEYS[name]}"}


async def test_a_decision_is_shown_as_it_is_kept() -> None:
    """The document is sent as it is, for HEAD without it."""
    answers = ScriptedAnswers()
    answers.decisions["dec_1", "local"] = b'{"id":"dec_1"}'
    async with listening(answers) as listener:
        reply = await get(listener.port, "/router/decisions/dec_1")
        head = await get(listener.port, "/router/decisions/dec_1", method="HEAD")

    assert (reply.status, reply.json) == (200, {"id": "dec_1"})
    assert reply.headers["content-type"] == "application/json"
    assert (head.status, head.body) == (200, b"")


async def test_only_its_own_caller_sees_a_decision() -> None:
    """Somebody else's decision and one that never was look the same, byte for byte."""
    answers = ScriptedAnswers()
    answers.decisions["dec_1", "ann"] = b"{}"
    async with listening(answers, KEYED) as listener:
        hers = await get(listener.port, "/router/decisions/dec_1", bearer("ann"))
        not_his = await get(listener.port, "/router/decisions/dec_1", bearer("bob"))
        absent = await get(listener.port, "/router/decisions/dec_2", bearer("bob"))
        nobody = await get(listener.port, "/router/decisions/dec_1")

    assert (hers.status, not_his.status, absent.status, nobody.status) == (200, 404, 404, 401)
    assert not_his.body == absent.body
    assert not_his.error["code"] == "not_found"
    assert not_his.headers.keys() == absent.headers.keys()


@pytest.mark.parametrize("path", ["dec%ff1", "dec_1%00", "..%2f..%2fv1", "%27%20or%201=1--", "x" * 65])
async def test_what_is_no_id_is_not_found(path: str) -> None:
    """Whatever stands in an id's place, the answer is the same 404, and the store is not asked."""
    answers = ScriptedAnswers()
    async with listening(answers) as listener:
        reply = await get(listener.port, f"/router/decisions/{path}")

    assert (reply.status, reply.error["code"]) == (404, "not_found")


async def test_a_plan_is_explained_without_being_run() -> None:
    """The plan with its reasons and predictions; no call is decided or run, and no text comes back."""
    answers = ScriptedAnswers()
    answers.plan = PLAN
    async with listening(answers) as listener:
        reply = await post(listener.port, "/router/explain", SECRET, {"x-private": CANARY})

    assert reply.status == 200
    assert reply.json["steps"] == [
        {
            "step": "local/a",
            "because": "try order of alias fast",
            "predicted": {
                "first_token_s": 0.5,
                "first_token_p90_s": None,
                "total_s": None,
                "neurons": 0.0,
                "usd": 0.0,
            },
            "context": 4096,
        }
    ]
    assert reply.json["left_out"] == [
        {"step": "cloud/b", "because": "rule keep_home keeps the call on this machine"}
    ]
    assert (reply.json["alias"], reply.json["rules"], reply.json["local_only"]) == (
        "fast",
        ["keep_home"],
        True,
    )
    assert (reply.json["refused"], reply.json["total_s"], reply.json["prompt_tokens"]) == (None, 60.0, 12)
    assert reply.json["treatment"]["on_break"] == "continue"
    assert CANARY.encode() not in reply.body
    assert (answers.calls, answers.steps_done) == ([], 0)
    assert "x-router-decision" not in reply.headers


async def test_an_edit_is_explained_for_a_model_that_can_edit() -> None:
    """Its pictures are not opened, but a plan without what they need would be another."""
    answers = ScriptedAnswers()
    asked = {"model": "fast", "prompt": "hi", "images": [{"image_url": PICTURE}]}
    async with listening(answers) as listener:
        await post(listener.port, "/router/explain?path=/v1/images/edits", asked)

    (call,) = answers.explained
    assert call.features == {Feature.IMAGE_INPUT}


async def test_a_refused_call_is_explained_too() -> None:
    """A rule's refusal is part of the plan, not an error of the question."""
    answers = ScriptedAnswers()
    answers.plan = Plan(refused="Not at night.", rules=("night",))
    async with listening(answers) as listener:
        reply = await post(listener.port, "/router/explain", CHAT)

    assert (reply.status, reply.json["refused"], reply.json["steps"]) == (200, "Not at night.", [])


@pytest.mark.parametrize(
    ("query", "body", "operation", "path"),
    [
        ("", CHAT, Operation.CHAT, "/v1/chat/completions"),
        ("", {"model": "fast", "prompt": "hi"}, Operation.COMPLETE, "/v1/completions"),
        ("?path=/v1/completions", {"model": "fast", "prompt": "hi"}, Operation.COMPLETE, "/v1/completions"),
        ("", {"model": "fast", "input": "hi"}, Operation.EMBED, "/v1/embeddings"),
        ("", {"model": "fast", "input": "hi", "voice": "amy"}, Operation.SPEAK, "/v1/audio/speech"),
        ("", {"model": "fast", "input": "hi", "target": "de"}, Operation.TRANSLATE, "/v1/translate"),
        ("", {"model": "fast", "image": PICTURE}, Operation.CLASSIFY, "/v1/classify"),
        ("?path=/v1/moderations", {"model": "fast", "input": "hi"}, Operation.MODERATE, "/v1/moderations"),
        (
            "?path=/v1/images/edits",
            {"model": "fast", "prompt": "hi", "images": [{"image_url": PICTURE}]},
            Operation.IMAGE,
            "/v1/images/edits",
        ),
        ("?path=/v1/chat/completions", CHAT, Operation.CHAT, "/v1/chat/completions"),
    ],
)
async def test_a_body_is_read_as_its_address_would(
    query: str, body: dict[str, object], operation: Operation, path: str
) -> None:
    """By what it holds, or as `path` says: rules on operation and path see what they would see."""
    answers = ScriptedAnswers()
    async with listening(answers, KEYED) as listener:
        reply = await post(
            listener.port,
            f"/router/explain{query}",
            body,
            {**bearer("ann"), "x-private": "yes"},
        )

    (call,) = answers.explained
    assert reply.status == 200
    assert (call.operation, call.path, call.principal) == (operation, path, "ann")
    assert call.headers["x-private"] == "yes"
    assert "authorization" not in call.headers


@pytest.mark.parametrize(
    ("query", "body", "status", "code"),
    [
        ("", b"", 400, "invalid_request_error"),
        ("", b"{", 400, "invalid_request_error"),
        ("", b"[1]", 400, "invalid_request_error"),
        ("", b"\xff", 400, "invalid_request_error"),
        ("", {"model": "fast"}, 400, "invalid_request_error"),
        ("", {**CHAT, "chat_template": "x"}, 400, "unsupported_parameter"),
        ("", {**CHAT, "model": "other"}, 404, "model_not_found"),
        ("?path=/v1/completions", CHAT, 400, "invalid_request_error"),
        ("?path=/v1/models", CHAT, 400, "invalid_request_error"),
    ],
)
async def test_mistakes_are_told_as_elsewhere(query: str, body: object, status: int, code: str) -> None:
    """The same errors as the calls themselves would get."""
    async with listening(ScriptedAnswers()) as listener:
        headers = {"Content-Type": "application/json"} if body == b"" else {}
        reply = await post(listener.port, f"/router/explain{query}", body, headers)

    assert (reply.status, reply.error["code"]) == (status, code)
