"""Faults on request: each kind, on the wire, and the calls that are remembered of it."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import aiohttp
import pytest
from emulated import CHAT, CLASSIC, Cloud, data_lines, documents, emulated, first_code, said

from hybrid_router.emulator.fault import Fault, FaultInvalid, FaultQueue, from_header, from_json

RUN = f"/run/{CLASSIC}"
COUNT = {"prompt": "count to 4"}
STREAM = COUNT | {"stream": True}
QUICK = aiohttp.ClientTimeout(total=0.3)


async def read_until_broken(cloud: Cloud, fault: str, body: dict[str, Any] | None = None) -> str:
    """What arrives of a reply that ends in a broken connection."""
    got = b""
    async with cloud.post(RUN, body or STREAM, fault=fault) as response:
        try:
            while chunk := await response.content.readany():
                got += chunk
        except aiohttp.ClientPayloadError:
            return got.decode()
    raise AssertionError("the reply ended well")


@pytest.mark.parametrize(
    ("fault", "status", "code"),
    [("status=503", 503, 8005), ("code=3040", 429, 3040), ("status=418, code=99999", 418, 99999)],
)
async def test_a_status_and_a_code_refuse(fault: str, status: int, code: int) -> None:
    """Any status with any code; each alone brings a fitting other one."""
    async with emulated() as cloud:
        got, document = await cloud.run(CLASSIC, STREAM, fault=fault)

    assert (got, first_code(document)) == (status, code)


async def test_retry_after_and_message_are_sent_as_given() -> None:
    """The header and the text of the error can be chosen, the text in the header's JSON form too."""
    fault = json.dumps({"code": 3021, "retry_after": "7", "message": "slow, please"})
    async with emulated() as cloud, cloud.post(RUN, STREAM, fault=fault) as response:
        document = await response.json()

    assert response.headers["retry-after"] == "7"
    assert "slow, please" in document["errors"][0]["message"]


async def test_a_redirect_names_its_location() -> None:
    """302 to wherever the fault says."""
    async with (
        emulated() as cloud,
        cloud.post(RUN, STREAM, fault="redirect=http://127.0.0.1:9/x") as response,
    ):
        assert (response.status, response.headers["location"]) == (302, "http://127.0.0.1:9/x")


@pytest.mark.parametrize(("fault", "status"), [("html", 200), ("html,status=502", 502)])
async def test_a_page_can_come_instead(fault: str, status: int) -> None:
    """HTML, with status 200 or another."""
    async with emulated() as cloud, cloud.post(RUN, STREAM, fault=fault) as response:
        assert (response.status, response.content_type) == (status, "text/html")


async def test_delays_come_before_headers_and_before_the_first_byte() -> None:
    """After both delays the answer is whole."""
    async with emulated() as cloud:
        text = await cloud.stream(RUN, COUNT, fault="delay_headers_s=0.01, delay-first-s=0.01")

    assert len(documents(text)) == 5


@pytest.mark.parametrize("body", [STREAM, COUNT])
async def test_hanging_before_headers_sends_nothing(body: dict[str, Any]) -> None:
    """No status line arrives; when the client leaves, its connection is free at once."""
    async with emulated() as cloud:
        with pytest.raises(TimeoutError):
            async with cloud.http.post(
                cloud.ai_url + RUN, json=body, headers={"x-emulate": "hang=before_headers"}, timeout=QUICK
            ):
                pass
        [seen] = await cloud.settled_calls()

    assert (seen["outcome"], seen["status"]) == ("client_left", None)


@pytest.mark.parametrize("body", [STREAM, COUNT])
@pytest.mark.parametrize("fault", ["hang=after_headers", "stall_after=0"])
async def test_hanging_after_headers_sends_no_event(fault: str, body: dict[str, Any]) -> None:
    """The status is there, no event follows, and the client's leaving is noticed."""
    async with emulated() as cloud:
        async with cloud.post(RUN, body, fault=fault) as response:
            assert response.status == 200
        [seen] = await cloud.settled_calls()

    assert (seen["outcome"], seen["events_sent"]) == ("client_left", 0)


async def test_a_stall_follows_the_asked_number_of_events() -> None:
    """Two events arrive, then silence until the client goes."""
    async with emulated() as cloud:
        async with cloud.post(RUN, STREAM, fault="stall_after=2") as response:
            got = [await response.content.readuntil(b"\n\n") for _ in range(2)]
            with pytest.raises(TimeoutError):
                async with asyncio.timeout(0.1):
                    await response.content.readany()
        [seen] = await cloud.settled_calls()

    assert [json.loads(line)["response"] for line in data_lines(b"".join(got).decode())] == ["1", " 2"]
    assert (seen["outcome"], seen["events_sent"]) == ("client_left", 2)


@pytest.mark.parametrize("after", [0, 1, 3])
async def test_a_cut_resets_the_connection(after: int) -> None:
    """The events before it arrive whole, then the connection is broken, not ended."""
    async with emulated() as cloud:
        got = await read_until_broken(cloud, f"cut_after={after}")
        [seen] = await cloud.settled_calls()

    assert len(data_lines(got)) == after
    assert (seen["outcome"], seen["events_sent"]) == ("cut", after)


async def test_a_cut_of_a_plain_reply_comes_in_its_middle() -> None:
    """Half of the promised body arrives."""
    async with emulated() as cloud:
        got = await read_until_broken(cloud, "cut_after=0", COUNT)

    assert got.startswith('{"result":')
    with pytest.raises(ValueError, match=r"Unterminated|Expecting"):
        json.loads(got)


async def test_a_clean_close_ends_http_but_not_the_stream() -> None:
    """The reply is complete for HTTP; `[DONE]` and the rest are missing."""
    async with emulated() as cloud:
        lines = data_lines(await cloud.stream(RUN, COUNT, fault="close_after=2"))

    assert [json.loads(line)["response"] for line in lines] == ["1", " 2"]


@pytest.mark.parametrize("fault", ["close_after=0", "malformed_after=0"])
async def test_a_plain_reply_can_end_too_early(fault: str) -> None:
    """Complete for HTTP, half a JSON document inside."""
    async with emulated() as cloud, cloud.post(RUN, COUNT, fault=fault) as response:
        text = await response.text()

    assert response.status == 200
    with pytest.raises(ValueError, match=r"Unterminated|Expecting"):
        json.loads(text)


async def test_a_malformed_line_is_followed_by_the_rest() -> None:
    """One line is no JSON; those around it are whole."""
    async with emulated() as cloud:
        lines = data_lines(await cloud.stream(RUN, COUNT, fault="malformed_after=1"))
    bad = lines.pop(1)

    with pytest.raises(ValueError, match=r"Unterminated|Invalid"):
        json.loads(bad)
    assert [json.loads(line)["response"] for line in lines[:4]] == ["1", " 2", " 3", " 4"]


@pytest.mark.parametrize("body", [STREAM, COUNT])
async def test_an_error_can_come_inside_a_200(body: dict[str, Any]) -> None:
    """A failed envelope: as the last event of a stream, or as the whole plain reply."""
    async with emulated() as cloud, cloud.post(RUN, body, fault="error_after=2,code=3040") as response:
        text = await response.text()

    lines = data_lines(text) if body is STREAM else [text]
    assert response.status == 200
    assert len(lines) == (3 if body is STREAM else 1)
    assert first_code(json.loads(lines[-1])) == 3040


async def test_pings_bring_no_event() -> None:
    """Comments keep the connection busy, nothing is said."""
    async with emulated(ping_s=0.001) as cloud:
        async with cloud.post(RUN, STREAM, fault="pings") as response:
            got = b"".join([await response.content.readuntil(b"\n\n") for _ in range(5)])
        [seen] = await cloud.settled_calls()

    assert got == b": ping\n\n" * 5
    assert (seen["outcome"], seen["events_sent"]) == ("client_left", 0)


@pytest.mark.parametrize("model", [CLASSIC, CHAT])
async def test_a_stream_can_be_answered_in_plain_json(model: str) -> None:
    """Some models do: asked for a stream they send the whole envelope."""
    async with emulated() as cloud:
        body = {"messages": said("count to 4"), "stream": True}
        status, document = await cloud.run(model, body, fault="plain")

    assert status == 200
    assert "1 2 3 4" in json.dumps(document["result"])


async def test_numeric_text_can_come_as_a_number() -> None:
    """`response` and `content` that read as a number are one, plain and streamed."""
    async with emulated() as cloud:
        lines = documents(await cloud.stream(RUN, COUNT, fault="numeric"))
        _, plain = await cloud.run(CLASSIC, {"prompt": "repeat: 42"}, fault="numeric")
        chunks = documents(
            await cloud.stream(f"/run/{CHAT}", {"messages": said("count to 2")}, fault="numeric")
        )

    assert [line["response"] for line in lines[:4]] == [1, 2, 3, 4]
    assert plain["result"]["response"] == 42
    assert [chunk["choices"][0]["delta"].get("content") for chunk in chunks[1:3]] == [1, 2]


async def test_done_can_be_said_twice() -> None:
    """The last two events are `[DONE]`."""
    async with emulated() as cloud:
        lines = data_lines(await cloud.stream(RUN, COUNT, fault="doubled_done"))

    assert lines[-2:] == ["[DONE]", "[DONE]"]
    assert "[DONE]" not in lines[:-2]


async def test_bytes_can_come_one_by_one() -> None:
    """HTTP chunks of one byte add up to the same stream, characters of several bytes included."""
    body = {"prompt": "repeat: 你好 ü"}
    async with emulated() as cloud:
        sizes: list[int] = []
        async with cloud.post(RUN, body | {"stream": True}, fault="bytewise") as response:
            whole = b""
            async for chunk, _ in response.content.iter_chunks():
                whole += chunk
                sizes.append(len(chunk))
        usual = await cloud.stream(RUN, body)

    assert whole.decode() == usual
    assert max(sizes) == 1


async def test_bytes_can_drip() -> None:
    """After each byte there is the asked pause."""
    async with emulated() as cloud:
        text = await cloud.stream(RUN, COUNT, fault="bytewise,drip_s=0.001")
        [seen] = await cloud.settled_calls()

    assert len(documents(text)) == 5
    assert seen["closed_s"] - seen["opened_s"] >= 0.001 * len(text)


async def test_planned_faults_meet_the_next_calls() -> None:
    """`count` calls go wrong in the order planned, then all is well; DELETE ends it sooner."""
    async with emulated() as cloud:
        faults = cloud.running.control_url + "/faults"
        async with cloud.http.post(faults, json={"count": 2, "code": 3040}) as response:
            assert (await response.json())["faults"][0]["count"] == 2
        await cloud.http.post(faults, json={"status": 500})
        statuses = [(await cloud.run(CLASSIC, COUNT))[0] for _ in range(4)]
        await cloud.http.post(faults, json={"status": 500, "count": 9})
        async with cloud.http.delete(faults) as response:
            assert await response.json() == {"faults": []}
        cleared, _ = await cloud.run(CLASSIC, COUNT)

    assert statuses == [429, 429, 500, 200]
    assert cleared == 200


async def test_a_call_without_the_token_uses_up_no_fault() -> None:
    """Only a call that is let in meets the planned fault."""
    async with emulated() as cloud, aiohttp.ClientSession() as stranger:
        cloud.running.account.faults.add(Fault(status=500))
        async with stranger.post(cloud.ai_url + RUN, json=COUNT) as response:
            assert response.status == 401
        status, _ = await cloud.run(CLASSIC, COUNT)

    assert status == 500


@pytest.mark.parametrize(
    ("spec", "told"),
    [
        ("bogus", "bogus"),
        ("status=abc", "status"),
        ("cut_after=-1", "cut_after"),
        ("cut_after=1, stall_after=2", "choose one of stall_after and cut_after"),
        ("html, redirect=x", "choose one of redirect and html"),
        ("code=77", "77"),
        ("hang=somewhere", "hang"),
        ("retry_after=3", "retry_after"),
        ("message=hello", "message"),
        ("drip_s=1", "bytewise"),
        ("{", "JSON object"),
        ('{"status": "500"}', "status"),
    ],
)
async def test_a_fault_that_makes_no_sense_is_explained(spec: str, told: str) -> None:
    """The text names the key at fault, and the call is refused with it."""
    with pytest.raises(FaultInvalid, match=told):
        from_header(spec)
    async with emulated() as cloud:
        status, document = await cloud.run(CLASSIC, COUNT, fault=spec)
    assert status == 400
    assert told in document["errors"][0]["message"]


@pytest.mark.parametrize(
    "body", [b"", b"[]", b'{"count": 0, "status": 500}', b'{"count": "x"}', b'{"bogus": 1}']
)
async def test_the_control_address_refuses_nonsense(body: bytes) -> None:
    """400 with a reason; nothing is planned."""
    with pytest.raises(FaultInvalid):
        from_json(body)
    async with emulated() as cloud:
        url = cloud.running.control_url + "/faults"
        async with cloud.http.post(url, data=body) as response:
            assert response.status == 400
            assert (await response.json())["error"]
        assert await cloud.get(url) == (200, {"faults": []})


def test_a_header_is_read_in_all_its_spellings() -> None:
    """Commas or semicolons, dashes or underscores, flags with or without a value, or JSON."""
    assert from_header("retry-after=3; code=3040") == Fault(code=3040, retry_after="3")
    assert from_header("doubled_done,bytewise=true") == Fault(doubled_done=True, bytewise=True)
    assert from_header('{"pings": true}') == Fault(pings=True)


def test_an_empty_queue_means_no_fault() -> None:
    """Without a plan nothing goes wrong."""
    assert FaultQueue().take() == Fault()


async def test_calls_are_remembered_without_secrets() -> None:
    """Path, model, body, whether the token was right; the token itself and telling fields are hidden."""
    body = {"prompt": "hi", "api_key": "canary-1", "deep": [{"Token": "canary-2"}]}
    async with emulated(token="canary-3") as cloud, aiohttp.ClientSession() as stranger:
        await cloud.run(CLASSIC, body)
        await stranger.post(cloud.ai_url + RUN, json=body, headers={"authorization": "Bearer canary-4"})
        first, second = await cloud.settled_calls()

    assert (first["model"], first["auth_ok"], first["status"], first["outcome"]) == (
        CLASSIC,
        True,
        200,
        "answered",
    )
    assert first["body"]["prompt"] == "hi"
    assert first["closed_s"] >= first["opened_s"]
    assert (second["auth_ok"], second["outcome"]) == (False, "refused")
    assert "canary" not in json.dumps([first, second])


async def test_calls_can_be_forgotten() -> None:
    """DELETE empties the list."""
    async with emulated() as cloud:
        await cloud.run(CLASSIC, COUNT)
        await cloud.http.delete(cloud.running.control_url + "/calls")
        assert await cloud.settled_calls() == []


async def test_a_running_call_is_not_settled() -> None:
    """`settle` says so when a call is still running, and nonsense is refused."""
    async with emulated() as cloud, cloud.post(RUN, STREAM, fault="stall_after=1") as response:
        await response.content.readuntil(b"\n\n")
        _, told = await cloud.get(cloud.running.control_url + "/calls?settle=0.01")
        bad, _ = await cloud.get(cloud.running.control_url + "/calls?settle=soon")

    assert (told["ready"], told["calls"][0]["outcome"]) == (False, "running")
    assert bad == 400


async def test_a_client_that_leaves_a_stream_is_charged_for_what_was_said() -> None:
    """Prompt and the tokens made so far cost neurons, the rest does not."""
    async with emulated() as cloud:
        async with cloud.post(RUN, STREAM, fault="stall_after=2") as response:
            await response.content.readuntil(b"\n\n")
        await cloud.settled_calls()
        used = await cloud.neurons()

    assert (6 * 2457 + 2 * 18252) / 1e6 <= used <= (6 * 2457 + 3 * 18252) / 1e6


async def test_a_hang_ends_at_its_limit() -> None:
    """A fault never hangs for ever: at the limit the connection is cut."""
    async with emulated(hang_limit_s=0.05) as cloud:
        with pytest.raises(aiohttp.ClientConnectionError):
            async with cloud.post(RUN, COUNT, fault="hang=before_headers"):
                pass
        got = await read_until_broken(cloud, "stall_after=1", COUNT)
        calls = await cloud.settled_calls()

    assert got
    assert [seen["outcome"] for seen in calls] == ["cut", "cut"]
