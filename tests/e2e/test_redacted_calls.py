"""Redaction by the real service: what the cloud has seen, and what the client was told."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from private_calls import OPERATIONS
from router_policy import CLOUD_MODEL, policy
from router_process import Emulator, Router, stopped_at_end
from wire_client import CHAT, COMPLETIONS, Answer, ask, chat_body, completion_body

pytestmark = [pytest.mark.model, pytest.mark.timeout(90)]

PLANTED = {
    "EMAIL": "jane.roe@example.com",
    "PHONE": "+49 30 12345678",
    "CARD": "4111 1111 1111 1111",
    "IBAN": "DE89 3704 0044 0532 0130 00",
    "API_KEY": "AKIA2E0A8F3B244C9986",
}
JANE = PLANTED["EMAIL"]
SAID = ", ".join(f"{name.lower()}: {value}" for name, value in PLANTED.items())
SHORT = f"Ask {JANE} or {PLANTED['PHONE']} now."
ABLE = "@cf/meta/llama-4-scout-17b-16e-instruct"
ALIASES = f"""aliases:
  veiled: {{ try: cloudflare/{CLOUD_MODEL}, redact: [pii, secrets] }}
  veiled-native: {{ try: native/{CLOUD_MODEL}, redact: [pii, secrets] }}
  veiled-both: {{ try: [cloudflare/{CLOUD_MODEL}, native/{CLOUD_MODEL}], redact: [pii, secrets] }}
  veiled-able: {{ try: [cloudflare/{ABLE}, native/{ABLE}], redact: [pii, secrets] }}
  veiled-then-local: {{ try: [cloudflare/{CLOUD_MODEL}, local/smollm2], redact: [pii, secrets] }}
"""


@pytest.fixture(scope="module")
def veiled(manifest: Path, emulator: Emulator, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Router]:
    """A service that lets nothing planted leave."""
    config = policy(manifest, emulator.base_url, treatment="on_break: continue, retries: 0")
    router = Router(config.replace("aliases:\n", ALIASES, 1), tmp_path_factory.mktemp("veiled"))
    with stopped_at_end(router):
        yield router


@pytest.fixture
def cloud(emulator: Emulator) -> Emulator:
    """The cloud, with nothing planned and nothing seen."""
    emulator.fault()
    emulator.calm()
    return emulator


def asking(alias: str, path: str, said: str, **fields: Any) -> dict[str, Any]:
    """A call that the cloud answers with `said`."""
    body = chat_body if path == CHAT else completion_body
    return body(alias, f"repeat: {said}", max_tokens=200, **fields)


def assert_veiled(cloud: Emulator, call_count: int = 1, marks: tuple[str, ...] = tuple(PLANTED)) -> None:
    """The cloud has seen placeholders, and no value."""
    seen = cloud.calls()
    assert len(seen) == call_count
    for call in seen:
        told = json.dumps([call["body"], call["headers"], call["path"]])
        assert [value for value in PLANTED.values() if value in told] == []
        assert [mark for mark in marks if f"<{mark}_1>" not in told] == []


@pytest.mark.parametrize("fault", [{}, {"bytewise": True}], ids=["at once", "a byte a write"])
@pytest.mark.parametrize("alias", ["veiled", "veiled-native"])
async def test_the_client_has_the_values_and_the_cloud_their_places(
    veiled: Router, cloud: Emulator, alias: str, fault: dict[str, Any]
) -> None:
    """Chats and completions, plain and streamed, however their bytes arrive."""
    cloud.fault(len(OPERATIONS), **fault)
    for path, stream in OPERATIONS:
        answer = await ask(veiled, asking(alias, path, SAID, stream=stream), path)
        assert answer.error is None
        assert answer.text().lstrip("\n") == SAID
    assert_veiled(cloud, len(OPERATIONS))


async def test_no_corner_of_a_call_is_left_out(veiled: Router, cloud: Emulator) -> None:
    """Other messages, tools' results, arguments and definitions, names of people, and fields passed on."""
    card, iban = PLANTED["CARD"], PLANTED["IBAN"]
    arguments = json.dumps({"account": iban, "note": f"for {JANE}"})
    called = {"id": "call_1", "type": "function", "function": {"name": "pay", "arguments": arguments}}
    told = {"type": "object", "properties": {"to": {"type": "string", "description": PLANTED["API_KEY"]}}}
    body = chat_body("veiled-able", "pay it") | {
        "messages": [
            {"role": "system", "content": f"You help {JANE}."},
            {"role": "user", "content": [{"type": "text", "text": f"My card is {card}."}]},
            {"role": "assistant", "content": None, "tool_calls": [called]},
            {"role": "tool", "tool_call_id": "call_1", "content": f"{PLANTED['PHONE']} says: paid"},
        ],
        "tools": [{"type": "function", "function": {"name": "pay", "parameters": told}}],
        "user": JANE,
        "metadata": {"who": JANE},
    }
    answer = await ask(veiled, body)

    assert answer.error is None
    assert answer.text() == f"The tool said: {PLANTED['PHONE']} says: paid"
    assert_veiled(cloud)


@pytest.mark.parametrize("fault", [{}, {"bytewise": True}], ids=["at once", "a byte a write"])
@pytest.mark.parametrize("stream", [False, True])
async def test_a_tool_is_called_with_the_values(
    veiled: Router, cloud: Emulator, stream: bool, fault: dict[str, Any]
) -> None:
    """The arguments that the cloud made of placeholders are JSON with the originals."""
    cloud.fault(**fault)
    chosen = {
        "to": {"type": "string", "enum": [JANE]},
        "key": {"type": "string", "const": PLANTED["API_KEY"]},
    }
    tool = {"name": "send", "parameters": {"type": "object", "properties": chosen}}
    body = chat_body("veiled-able", "send it", stream=stream, tools=[{"type": "function", "function": tool}])
    answer = await ask(veiled, body)

    assert answer.finish_reasons == ["tool_calls"]
    assert json.loads(arguments_of(answer)) == {"to": JANE, "key": PLANTED["API_KEY"]}
    assert_veiled(cloud, marks=("EMAIL", "API_KEY"))


def arguments_of(answer: Answer) -> str:
    """The arguments of an answer's tool call, joined."""
    messages = [choice.get("delta") or choice.get("message") or {} for choice in answer.choices]
    calls = [call for message in messages for call in message.get("tool_calls") or []]
    return "".join(call["function"].get("arguments") or "" for call in calls)


@pytest.mark.parametrize("path", [CHAT, COMPLETIONS])
async def test_an_answer_that_breaks_in_a_placeholder_goes_on(
    veiled: Router, cloud: Emulator, path: str
) -> None:
    """Wherever the first cloud's stream is cut, the other form of it goes on, and no byte is missing."""
    continued_count = 0
    for place in range(12):
        cloud.calm()
        cloud.fault(cut_after=place)
        answer = await ask(veiled, asking("veiled-both", path, SHORT, stream=True), path)
        assert answer.error is None
        assert answer.text().lstrip("\n") == SHORT
        assert_veiled(cloud, 2, ("EMAIL", "PHONE"))
        continued_count += answer.served_by == ("cloudflare", "1")
        veiled.forgive()
    assert continued_count > 6


PICTURE = {"type": "image_url", "image_url": {"url": "data:image/png;base64,iVBORw0KGgo="}}
TEXT = {"type": "text", "text": f"Is this {JANE}?"}
CROWD = " ".join(f"person{number}@example.com" for number in range(1_100))
UNSEARCHABLE: dict[str, dict[str, Any]] = {
    "a picture": {"messages": [{"role": "user", "content": [TEXT, PICTURE]}]},
    "a function's name": {
        "tools": [{"type": "function", "function": {"name": PLANTED["API_KEY"], "parameters": {}}}]
    },
    "a crowd": {"messages": [{"role": "user", "content": CROWD}]},
}


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("what", UNSEARCHABLE)
async def test_what_cannot_be_redacted_does_not_leave(
    veiled: Router, cloud: Emulator, what: str, stream: bool
) -> None:
    """No cloud is asked, and the client is told why."""
    answer = await ask(veiled, chat_body("veiled-able", "hello", stream=stream) | UNSEARCHABLE[what])

    assert answer.error is not None
    assert (answer.status, answer.error["code"]) == (503, "redaction_impossible")
    assert JANE not in answer.error["message"]
    assert cloud.calls() == []


async def test_what_cannot_be_redacted_is_answered_at_home(veiled: Router, cloud: Emulator) -> None:
    """Where a local step follows: that one gets the call as it is."""
    body = completion_body("veiled-then-local", "", max_tokens=4) | {"prompt": [504, 338, 260]}
    answer = await ask(veiled, body, COMPLETIONS)

    assert answer.error is None
    assert answer.served_by == ("local", "2")
    assert cloud.calls() == []
