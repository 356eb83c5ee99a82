"""Its life: other answer sources, shutting down, and the command."""

from __future__ import annotations

import asyncio
import re
import signal
import socket
import sys
from collections.abc import AsyncGenerator, Sequence

import aiohttp
import pytest
from click.testing import CliRunner
from emulated import CHAT, CLASSIC, documents, emulated, first_code, said, token_neurons

from hybrid_router.catalogue.workers_ai import load
from hybrid_router.cli.emulate import command, ready_line
from hybrid_router.core.call import Call, Feature, Operation
from hybrid_router.core.errors import (
    BackendBusy,
    BackendError,
    BackendTimeout,
    ContextOverflow,
    RouterError,
    StreamBroken,
)
from hybrid_router.core.event import Batch, Finish, Text, Usage
from hybrid_router.core.step import Step
from hybrid_router.emulator.server import serve
from hybrid_router.emulator.settings import Settings

ANSWER: Batch = [Text("one"), Text(" two"), Finish("stop"), Usage(100, 20, 40)]


class Fixed:
    """A backend that says fixed batches, then maybe fails or never ends."""

    local = True
    extra_fields: frozenset[str] = frozenset()

    def __init__(
        self, batches: Sequence[Batch], failure: RouterError | None = None, *, hangs: bool = False
    ) -> None:
        self._batches = batches
        self._failure = failure
        self._hangs = hangs
        self.asked: list[tuple[Call, Step]] = []
        self.closed = asyncio.Event()

    def features(self, model: str) -> frozenset[Feature]:
        """None."""
        return frozenset()

    def down(self, model: str) -> str | None:
        """Never."""
        return None

    async def run(self, call: Call, step: Step) -> AsyncGenerator[Batch]:
        """Say it."""
        self.asked.append((call, step))
        try:
            for batch in self._batches:
                yield batch
            if self._failure is not None:
                raise self._failure
            if self._hangs:
                await asyncio.Event().wait()
        finally:
            self.closed.set()

    async def close(self) -> None:
        """Nothing to close."""


async def test_any_backend_can_answer() -> None:
    """Its text, its finish and its token counts are what the emulator tells and charges, cached ones too."""
    source = Fixed([ANSWER])
    async with emulated(source=source, source_model="tiny") as cloud:
        _, plain = await cloud.chat({"messages": said("hi"), "temperature": 0.5, "max_tokens": 9}, CHAT)
        *_, trailing = documents(await cloud.chat_stream({"messages": said("hi")}, CHAT))
        used = await cloud.neurons()

    cost = token_neurons(load().by_id()[CHAT], 100, 20, 40)
    assert plain["choices"][0]["message"]["content"] == "one two"
    assert plain["usage"]["prompt_tokens_details"] == {"cached_tokens": 40}
    assert plain["usage"]["neurons"] == trailing["usage"]["neurons"] == cost
    assert used == 2 * cost
    call, step = source.asked[0]
    assert (call.operation, call.messages[0].text, step.model) == (Operation.CHAT, "hi", "tiny")
    assert (call.sampling.temperature, call.sampling.max_tokens) == (0.5, 9)


async def test_a_raw_prompt_reaches_the_backend_as_a_prompt() -> None:
    """With `raw` no template is wanted; without it a prompt is one user message."""
    source = Fixed([ANSWER])
    async with emulated(source=source) as cloud:
        await cloud.run(CLASSIC, {"prompt": "hi", "raw": True})
        await cloud.run(CLASSIC, {"prompt": "hi"})

    (raw, _), (templated, _) = source.asked
    assert (raw.operation, raw.prompts) == (Operation.COMPLETE, ("hi",))
    assert (templated.operation, templated.messages[0].text) == (Operation.CHAT, "hi")


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize(
    ("failure", "status", "code"),
    [
        (BackendBusy("full"), 429, 3040),
        (BackendTimeout("slow"), 408, 3046),
        (ContextOverflow("too long"), 400, 8007),
        (BackendError("dead"), 500, 8005),
    ],
)
async def test_a_source_that_fails_before_its_first_event_is_a_refusal(
    failure: RouterError, status: int, code: int, stream: bool
) -> None:
    """Nothing was sent yet, so the failure has a status and a code, for streams as well."""
    async with emulated(source=Fixed([], failure)) as cloud:
        got, document = await cloud.run(CLASSIC, {"prompt": "hi", "stream": stream})

    assert (got, first_code(document)) == (status, code)


async def test_a_source_that_breaks_later_cuts_the_stream() -> None:
    """The format has no error event: what was said arrives, then the connection breaks."""
    async with emulated(source=Fixed([[Text("one")]], StreamBroken("gone"))) as cloud:
        async with cloud.post(f"/run/{CLASSIC}", {"prompt": "hi", "stream": True}) as response:
            assert b'"one"' in await response.content.readuntil(b"\n\n")
            with pytest.raises(aiohttp.ClientPayloadError):
                await response.content.readany()
        [seen] = await cloud.settled_calls()

    assert seen["outcome"] == "cut"


async def test_a_plain_answer_that_takes_too_long_is_408() -> None:
    """3046, as the service does after two minutes; the source is let go."""
    source = Fixed([[Text("one")]], hangs=True)
    async with emulated(source=source, plain_limit_s=0.05) as cloud:
        status, document = await cloud.run(CLASSIC, {"prompt": "hi"})

    assert (status, first_code(document)) == (408, 3046)
    assert source.closed.is_set()


async def test_a_client_that_leaves_stops_the_source() -> None:
    """The backend's generator is closed when nobody listens any more."""
    source = Fixed([[Text("one")]], hangs=True)
    async with emulated(source=source) as cloud:
        async with cloud.post(f"/run/{CLASSIC}", {"prompt": "hi", "stream": True}) as response:
            await response.content.readuntil(b"\n\n")
        async with asyncio.timeout(5):
            await source.closed.wait()


@pytest.mark.parametrize("fault", ["hang=before_headers", "hang=after_headers", "stall_after=1", "pings"])
async def test_shutting_down_does_not_wait_for_hanging_calls(fault: str) -> None:
    """A call that would hang for minutes is stopped with the emulator."""
    async with aiohttp.ClientSession(
        headers={"authorization": "Bearer emulator", "x-emulate": fault}
    ) as http:
        async with serve(Settings()) as running:
            url = f"{running.base_url}/accounts/{running.account_id}/ai/run/{CLASSIC}"
            pending = asyncio.ensure_future(http.post(url, json={"prompt": "hi", "stream": True}))
            assert await running.account.calls.arrived(1, within_s=5)
        [seen] = running.account.calls.calls
        assert seen.outcome == "stopped"
        [outcome] = await asyncio.gather(pending, return_exceptions=True)
        assert isinstance(outcome, aiohttp.ClientResponse | aiohttp.ClientError)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
async def test_the_command_says_where_it_is_and_stops_when_told(number: signal.Signals) -> None:
    """One ready line with the real port; a signal ends it cleanly, even with a call in flight."""
    program = (sys.executable, "-m", "hybrid_router", "emulate", "cloudflare", "--port", "0")
    process = await asyncio.create_subprocess_exec(
        *program, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE
    )
    assert process.stdout is not None
    try:
        line = (await process.stdout.readline()).decode()
        found = re.search(
            r"base_url: (http://127\.0\.0\.1:\d+/client/v4)  account_id: (e{32})  token: emulator", line
        )
        if not found:
            _, complaints = await asyncio.wait_for(process.communicate(), 10)
            pytest.fail(f"no ready line but {line!r} and {complaints.decode()}")
        headers = {"authorization": "Bearer emulator", "x-emulate": "hang=before_headers"}
        async with aiohttp.ClientSession(headers=headers) as http:
            url = f"{found[1]}/accounts/{found[2]}/ai/models/search?search=zzz"
            async with http.get(url) as response:
                assert response.status == 200
            url = f"{found[1]}/accounts/{found[2]}/ai/run/{CLASSIC}"
            pending = asyncio.ensure_future(http.post(url, json={"prompt": "hi"}))
            calls = found[1].removesuffix("/client/v4") + "/emulator/calls"
            async with http.get(calls + "?arrived=1") as response:
                assert (await response.json())["ready"]
            process.send_signal(number)
            rest, complaints = await asyncio.wait_for(process.communicate(), 10)
            await asyncio.gather(pending, return_exceptions=True)
    finally:
        if process.returncode is None:
            process.kill()
    assert (process.returncode, rest, complaints) == (0, b"", b"")


async def test_retired_models_answer_anybody_if_the_options_say_so() -> None:
    """`--keep-retired` lets a model past its date answer, an empty `--token` those who show none."""
    program = (sys.executable, "-m", "hybrid_router", "emulate", "cloudflare", "--port", "0")
    process = await asyncio.create_subprocess_exec(
        *program, "--keep-retired", "--token", "", stdout=asyncio.subprocess.PIPE
    )
    assert process.stdout is not None
    try:
        line = (await process.stdout.readline()).decode()
        found = re.search(r"base_url: (\S+)  account_id: (e{32})  token: \(any or none\)", line)
        assert found, line
        url = f"{found[1]}/accounts/{found[2]}/ai/run/@cf/facebook/bart-large-cnn"
        body = {"input_text": "one two three"}
        async with aiohttp.ClientSession() as http, http.post(url, json=body) as response:
            document = await response.json()
    finally:
        process.kill()
        await process.wait()
    assert document["result"] == {"summary": "one two three"}


@pytest.mark.parametrize(
    ("options", "told"),
    [
        (["--account", "mine"], "32 hexadecimal digits"),
        (["--quota-code", "1"], "3036"),
        (["--daily-neurons", "-5"], "range"),
        (["--port", "-1"], "range"),
        (["--prefill", "@cf/nobody/knows"], "Workers AI has no model '@cf/nobody/knows'"),
        (["--prefill", CLASSIC, "--model", __file__], "leave out --model"),
        (["--prefill", CLASSIC, "--use-local", __file__], "leave out --model and --use-local"),
        (["--use-local", __file__, "--model", __file__], "leave one out"),
    ],
)
def test_bad_options_are_explained(options: list[str], told: str) -> None:
    """Exit 2 and what is expected."""
    result = CliRunner().invoke(command, ["cloudflare", *options])

    assert result.exit_code == 2
    assert told in result.output


def test_a_taken_port_is_said() -> None:
    """Exit 1 with the address, why, and the option that names another; no traceback."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        result = CliRunner().invoke(command, ["cloudflare", "--port", str(port)])

    assert result.exit_code == 1
    assert result.output == (
        f"Error: cannot listen on 127.0.0.1:{port}: Address already in use; "
        "name another with --port (0: any free one) or --host\n"
    )


async def test_a_token_of_ones_own_is_not_printed() -> None:
    """The ready line shows the default token alone."""
    async with serve(Settings(token="canary")) as running:
        assert "canary" not in ready_line(running)
