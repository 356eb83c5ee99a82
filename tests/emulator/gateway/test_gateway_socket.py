"""The emulated gateway's universal WebSocket."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

import aiohttp
import pytest

from hybrid_router.emulator.server import Running, serve
from hybrid_router.emulator.settings import DEFAULT_GATEWAY_TOKEN, Settings

LLAMA = "@cf/meta/llama-3.2-1b-instruct"
OPENS = {"cf-aig-authorization": f"Bearer {DEFAULT_GATEWAY_TOKEN}"}


@dataclass(frozen=True)
class Gate:
    """A running emulator's gateway."""

    running: Running
    http: aiohttp.ClientSession
    url: str

    def created(self, query: Any, name: str = "mine", **headers: str) -> dict[str, Any]:
        """One message."""
        told = {"Authorization": f"Bearer {self.running.token}", **headers}
        asked = {"eventId": name, "provider": "workers-ai", "endpoint": LLAMA}
        return {"type": "universal.create", "request": {**asked, "headers": told, "query": query}}


@asynccontextmanager
async def gated() -> AsyncGenerator[Gate]:
    """An emulator on a free port."""
    timeout = aiohttp.ClientTimeout(total=15)
    async with serve(Settings()) as running, aiohttp.ClientSession(timeout=timeout) as http:
        origin = running.base_url.removesuffix("/client/v4")
        yield Gate(running, http, f"{origin}/v1/{running.account_id}/default/")


async def test_a_message_is_answered_by_one_with_its_event_and_log() -> None:
    """The provider's own document with its place in the log; the second comes from the cache."""
    kept = {"cf-aig-cache-ttl": "60"}
    async with gated() as gate, gate.http.ws_connect(gate.url, headers=OPENS) as socket:
        answers = []
        for name in ("first", "second"):
            await socket.send_json(gate.created({"prompt": "repeat: hi"}, name, **kept))
            answers.append(await socket.receive_json())

    assert [answer["type"] for answer in answers] == ["universal.created"] * 2
    assert [answer["metadata"]["cacheStatus"] for answer in answers] == ["MISS", "HIT"]
    assert [answer["metadata"]["eventId"] for answer in answers] == ["first", "second"]
    assert answers[0]["metadata"]["step"] == "0"
    assert len(answers[0]["metadata"]["logId"]) == 26
    assert answers[0]["metadata"]["contentType"].startswith("application/json")
    assert answers[0]["response"]["result"]["response"].strip() == "hi"


async def test_a_stream_is_told_piece_by_piece() -> None:
    """Created without a response, a message for each event, then done with all that is known."""
    async with gated() as gate, gate.http.ws_connect(gate.url, headers=OPENS) as socket:
        await socket.send_json(gate.created({"prompt": "count to 3", "stream": True}))
        told = [await socket.receive_json()]
        while told[-1]["type"] != "universal.done":
            told.append(await socket.receive_json())

    first, *pieces, last = told
    assert (first["type"], "response" in first) == ("universal.created", False)
    assert {piece["type"] for piece in pieces} == {"universal.stream"}
    assert {tuple(piece["metadata"].items()) for piece in pieces} == {(("eventId", "mine"),)}
    assert "".join(str(piece["response"].get("response", "")) for piece in pieces).strip() == "1 2 3"
    assert last["metadata"] == first["metadata"]


async def test_failures_leave_the_line_open() -> None:
    """A provider's error is its document, the gateway's own and a message that is none are told as such."""
    async with gated() as gate, gate.http.ws_connect(gate.url, headers=OPENS) as socket:
        message = gate.created({"prompt": "hi"}, Authorization="Bearer wrong")
        unknown = gate.created({"prompt": "hi"})
        unknown["request"]["provider"] = "nobody"
        answers = []
        for each in (message, unknown, {"type": "other"}, gate.created({"prompt": "hi"})):
            await socket.send_json(each)
            answers.append(await socket.receive_json())

    created, error = "universal.created", "universal.error"
    assert [answer["type"] for answer in answers] == [created, error, error, created]
    assert answers[0]["response"]["errors"][0]["code"] == 10000
    assert answers[1]["error"][0]["code"] == 2008
    assert answers[3]["response"]["success"] is True


async def test_several_messages_are_answered_on_one_line() -> None:
    """Each answer has the event of its own message."""
    async with gated() as gate, gate.http.ws_connect(gate.url, headers=OPENS) as socket:
        names = [f"n{number}" for number in range(20)]
        for name in names:
            await socket.send_json(gate.created({"prompt": f"repeat: {name}"}, name))
        answers = [await socket.receive_json() for _ in names]

    said = {row["metadata"]["eventId"]: row["response"]["result"]["response"].strip() for row in answers}
    assert said == {name: name for name in names}


async def test_the_gateways_token_opens_the_line_as_header_or_protocol() -> None:
    """Without it there is no upgrade; without an upgrade a GET is not for this address."""
    protocol = f"cf-aig-authorization.{DEFAULT_GATEWAY_TOKEN}"
    async with gated() as gate:
        for protocols in ((), ("cf-aig-authorization.wrong",)):
            with pytest.raises(aiohttp.WSServerHandshakeError) as refused:
                async with gate.http.ws_connect(gate.url, protocols=protocols):
                    pass
            assert refused.value.status == 401
        async with gate.http.ws_connect(gate.url, protocols=(protocol,)) as socket:
            await socket.send_json(gate.created({"prompt": "hi"}))
            answer = await socket.receive_json()
            assert (socket.protocol, answer["type"]) == (protocol, "universal.created")
        async with gate.http.get(gate.url, headers=OPENS) as response:
            assert response.status == 405
