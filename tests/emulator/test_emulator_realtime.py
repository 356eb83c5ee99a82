"""Realtime models through a WebSocket: what is spoken, what is heard, and what goes wrong on the way."""

from __future__ import annotations

import json
from typing import Any

import aiohttp
import pytest
from emulated import CLASSIC, Cloud, emulated, first_code

from hybrid_router.emulator.server import serve
from hybrid_router.emulator.settings import Settings
from hybrid_router.emulator.stand_ins import recordings, wav

AURA, NOVA = "@cf/deepgram/aura-1", "@cf/deepgram/nova-3"
FLUX, TURN = "@cf/deepgram/flux", "@cf/pipecat-ai/smart-turn-v2"
RATE = 16_000
PCM = {"encoding": "linear16", "sample_rate": str(RATE)}
SPEECH = wav.samples(1.0)[: RATE * 2]
QUIET = bytes(RATE * 2)


def called(cloud: Cloud, model: str, query: dict[str, str] | None = None, fault: str = "") -> Any:
    """A WebSocket to a model, as an async context manager."""
    headers = {"x-emulate": fault} if fault else {}
    return cloud.http.ws_connect(f"{cloud.ai_url}/run/{model}", params=query or {}, headers=headers)


async def rest(socket: aiohttp.ClientWebSocketResponse) -> list[dict[str, Any]]:
    """Every document until the other side hangs up."""
    return [json.loads(message.data) async for message in socket]


async def spoken(socket: aiohttp.ClientWebSocketResponse, *texts: str) -> bytes:
    """The sound of a flush."""
    for text in texts:
        await socket.send_json({"type": "Speak", "text": text})
    await socket.send_json({"type": "Flush"})
    content = b""
    while (message := await socket.receive()).type is aiohttp.WSMsgType.BINARY:
        content += message.data
    assert json.loads(message.data)["type"] == "Flushed"
    return content


async def test_text_is_spoken_once_it_is_flushed() -> None:
    """All that was sent since the last flush, as bare samples or as the file that the address asks for."""
    async with emulated() as cloud:
        async with called(cloud, AURA) as socket:
            bare = await spoken(socket, "one")
            again = await spoken(socket)
        async with called(cloud, AURA, {"container": "wav", "speaker": "luna"}) as socket:
            file = await spoken(socket, "good ", "morning")
        used = await cloud.neurons()

    assert bare == wav.samples(recordings.spoken_s("one"))
    assert again == b""
    assert recordings.heard(file) == ("good morning", recordings.spoken_s("good morning"))
    assert used > 0


async def test_turns_are_told_as_they_begin_change_and_end() -> None:
    """Sound begins a turn and half a second of silence ends it; hanging up ends the running one."""
    async with emulated() as cloud, called(cloud, FLUX, PCM) as socket:
        for frame in (QUIET, SPEECH, SPEECH, QUIET, SPEECH):
            await socket.send_bytes(frame)
        await socket.send_json({"type": "CloseStream"})
        told = await rest(socket)
        used = await cloud.neurons()
        (seen,) = await cloud.settled_calls()

    assert [(row["event"], row["turn_index"]) for row in told] == [
        ("StartOfTurn", 0),
        ("Update", 0),
        ("EndOfTurn", 0),
        ("StartOfTurn", 1),
        ("EndOfTurn", 1),
    ]
    assert [row["sequence_id"] for row in told] == [0, 1, 2, 3, 4]
    assert {row["transcript"] for row in told} == {recordings.SAID}
    assert (told[2]["audio_window_start"], told[2]["audio_window_end"]) == (1.0, 4.0)
    assert [word["word"] for word in told[2]["words"]] == recordings.SAID.split()
    assert used == pytest.approx(700.0 * 5 / 60)
    assert (seen["model"], seen["status"], seen["events_sent"], seen["outcome"]) == (FLUX, 101, 5, "answered")


async def test_the_end_of_a_turn_is_guessed_early_where_that_is_asked_for() -> None:
    """A quarter of a second's silence is told, and that more was said after it."""
    async with emulated() as cloud, called(cloud, FLUX, PCM | {"eager_eot_threshold": "0.5"}) as socket:
        for frame in (SPEECH, QUIET[: RATE // 2], SPEECH):
            await socket.send_bytes(frame)
        await socket.send_json({"type": "CloseStream"})
        told = await rest(socket)

    assert [row["event"] for row in told] == ["StartOfTurn", "EagerEndOfTurn", "TurnResumed", "EndOfTurn"]


async def test_results_are_final_when_the_speaker_pauses() -> None:
    """nova-3 says what it heard so far, then the same for good, and at the end how long it listened."""
    async with emulated() as cloud, called(cloud, NOVA, PCM) as socket:
        for frame in (SPEECH, QUIET):
            await socket.send_bytes(frame)
        await socket.send_json({"type": "CloseStream"})
        first, final, metadata = await rest(socket)

    assert (first["is_final"], final["is_final"]) == (False, True)
    assert final["channel"]["alternatives"][0]["transcript"] == recordings.SAID
    assert (metadata["type"], metadata["duration"]) == ("Metadata", 2.0)


async def test_every_recording_gets_its_verdict() -> None:
    """smart-turn answers each message of bytes with the document that a call gets."""
    async with emulated() as cloud, called(cloud, TURN) as socket:
        verdicts = []
        for content in (b"RIFFab", b"RIFFabc"):
            await socket.send_bytes(content)
            verdicts.append(await socket.receive_json())

    assert [verdict["is_complete"] for verdict in verdicts] == [True, False]
    assert all(0 <= verdict["probability"] <= 1 for verdict in verdicts)


@pytest.mark.parametrize(
    ("model", "query", "status"),
    [
        ("@cf/none/such", {}, 400),
        (CLASSIC, {}, 400),
        (FLUX, {}, 400),
        (FLUX, PCM | {"sample_rate": "1"}, 400),
        (AURA, {"encoding": "opus", "speaker": "nobody"}, 400),
    ],
)
async def test_no_conversation_begins_where_there_is_nobody(
    model: str, query: dict[str, str], status: int
) -> None:
    """Unknown models, such as are not live, and a query that does not fit are refused before the upgrade."""
    async with emulated() as cloud:
        with pytest.raises(aiohttp.WSServerHandshakeError) as refused:
            async with called(cloud, model, query):
                pass
        (seen,) = await cloud.settled_calls()

    assert (refused.value.status, seen["outcome"]) == (status, "refused")


async def test_a_stranger_is_not_connected() -> None:
    """The token is asked for as everywhere, and a GET without an upgrade is 405/7001."""
    async with emulated() as cloud, aiohttp.ClientSession() as stranger:
        with pytest.raises(aiohttp.WSServerHandshakeError) as refused:
            async with stranger.ws_connect(f"{cloud.ai_url}/run/{FLUX}"):
                pass
        status, told = await cloud.get(f"{cloud.ai_url}/run/{FLUX}")

    assert refused.value.status == 401
    assert (status, first_code(told)) == (405, 7001)


async def test_a_message_that_nobody_understands_ends_the_conversation() -> None:
    """A failed envelope says why, and the connection is closed as against the rules."""
    async with emulated() as cloud:
        for message in ("no json", '{"type": "Sing"}'):
            async with called(cloud, AURA) as socket:
                await socket.send_str(message)
                told = await socket.receive_json()
                await socket.receive()
                assert (first_code(told), socket.close_code) == (5006, 1008)


async def test_faults_happen_between_messages() -> None:
    """A refusal comes before the upgrade; a cut, an end or an error after so many messages."""
    outcomes = []
    async with emulated() as cloud:
        with pytest.raises(aiohttp.WSServerHandshakeError) as refused:
            async with called(cloud, FLUX, PCM, fault="code=3040"):
                pass
        for fault in ("cut_after=1", "close_after=1", "error_after=1"):
            async with called(cloud, FLUX, PCM, fault=fault) as socket:
                await socket.send_bytes(SPEECH)
                await socket.receive_json()
                await socket.send_bytes(SPEECH)
                message = await socket.receive()
                outcomes.append((message.type.name, socket.close_code))
        seen = await cloud.settled_calls()

    assert refused.value.status == 429
    assert [row["outcome"] for row in seen] == ["refused", "cut", "answered", "answered"]
    assert outcomes[1:] == [("CLOSE", 1000), ("TEXT", None)]
    assert outcomes[0][0] in ("CLOSED", "ERROR")


async def test_an_open_line_does_not_keep_the_emulator_running() -> None:
    """It stops while somebody is connected, who is hung up on, and the call is noted as stopped."""
    async with aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=15)) as http:
        async with serve(Settings()) as running:
            url = f"{running.base_url}/accounts/{running.account_id}/ai/run/{FLUX}"
            headers = {"authorization": f"Bearer {running.token}"}
            socket = await http.ws_connect(url, params=PCM, headers=headers)
            await socket.send_bytes(SPEECH)
            await socket.receive_json()
        message = await socket.receive()

    assert message.type in (aiohttp.WSMsgType.CLOSE, aiohttp.WSMsgType.CLOSED, aiohttp.WSMsgType.ERROR)
    assert [seen.outcome for seen in running.account.calls.calls] == ["stopped"]
