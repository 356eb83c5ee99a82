"""A cloud that sends what no cloud should, byte by byte as written here: F21, and splits of every stream."""

from __future__ import annotations

import asyncio
import gzip
import itertools
import json
import zlib
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from invariants import assert_invariants
from raw_cloud import Place, Speak, clouds_policy, reply, request
from router_process import Emulator, Router, stopped_at_end
from wire_client import PROMPT_CANARY, Answer, ask, chat_body

pytestmark = pytest.mark.timeout(60)

SAID = f"repeat: {PROMPT_CANARY}"
TEXT = "Grüße, 世界 🌍!"
BROKEN = {"backend_error", "backend_unavailable", "backend_timeout", "stream_broken"}
MEMORY_BYTES = 64 * 2**20  # more than any one answer may cost


def chunk(text: str | None = None, finish: str | None = None) -> bytes:
    """One chunk of an answer, its characters as they are."""
    delta = {} if text is None else {"content": text}
    document = {"choices": [{"index": 0, "delta": delta, "finish_reason": finish}]}
    return json.dumps(document, ensure_ascii=False).encode()


FIRST, REST, END = chunk(TEXT[:4]), chunk(TEXT[4:]), chunk(finish="stop")
WHOLE = [FIRST, REST, END, b"[DONE]"]


def events(*payloads: bytes, prefix: bytes = b"data: ", line: bytes = b"\n") -> bytes:
    """Payloads as events."""
    return b"".join(prefix + payload + 2 * line for payload in payloads)


def over_lines(payload: bytes) -> bytes:
    """One event, its JSON over as many data lines as it has commas outside of text."""
    return (
        b"".join(b"data: " + line + b"\n" for line in payload.replace(b', "', b',\n"').split(b"\n")) + b"\n"
    )


def pieces(stream: bytes, size: int) -> list[bytes]:
    """A stream in writes of one size."""
    return [stream[at : at + size] for at in range(0, len(stream), size)]


PLAIN = events(*WHOLE)
# All of these are the same answer.
HARMLESS: dict[str, Speak] = {
    "characters split between writes": reply(*pieces(PLAIN, 1)),
    "writes of seven bytes": reply(*pieces(PLAIN, 7)),
    "all lines end with CR": reply(events(*WHOLE, line=b"\r")),
    "all lines end with CRLF": reply(events(*WHOLE, line=b"\r\n")),
    "CRLF split between writes": reply(*pieces(events(*WHOLE, line=b"\r\n"), 1)),
    "line ends mixed": reply(
        events(FIRST, line=b"\r"), events(REST, line=b"\r\n"), events(END), events(b"[DONE]", line=b"\r")
    ),
    "a byte order mark": reply(b"\xef\xbb\xbf" + PLAIN),
    "a byte order mark, split": reply(b"\xef", b"\xbb", b"\xbf" + PLAIN),
    "no space behind data:": reply(events(*WHOLE, prefix=b"data:")),
    "data over several lines": reply(*map(over_lines, (FIRST, REST, END)), events(b"[DONE]")),
    "comments, names, ids and times between": reply(
        b": hello\n\n", b"event: message\nid: 7\nretry: 1\n" + events(FIRST), b":\n", events(*WHOLE[1:])
    ),
    "NUL in a comment": reply(b": \0\0\n\n" + PLAIN),
    "lines of fields that nobody knows": reply(b"\0\n\0: x\nnonsense\n\n" + PLAIN),
    "data without a value": reply(b"data\n\ndata:\n\n" + PLAIN),
    "no blank line at the end": reply(PLAIN.rstrip(b"\n")),
    "a charset": reply(PLAIN, kind="text/event-stream; charset=utf-8"),
    "more after the end": reply(PLAIN, b"data: {not json\n\n" * 3),
}
LONG = b"x" * (2**20 + 1)
# Before any text: the next step answers.
BEFORE: dict[str, Speak] = {
    "NUL in the JSON": reply(b"data: {\0}\n\n"),
    "NUL alone": reply(b"\0" * 4096),
    "a line over the limit": reply(b"data: " + LONG + b"\n\n" + PLAIN),
    "a comment over the limit": reply(b": " + LONG + b"\n\n" + PLAIN),
    "an event over the limit, in short lines": reply(b"data: xxxxxxxxx\n" * 120_000 + b"\n" + PLAIN),
    "JSON that is cut": reply(events(FIRST[:-9])),
    "two documents in one event": reply(b"data: " + FIRST + REST + b"\n\n"),
    "two documents in one event's lines": reply(b"data: " + FIRST + b"\ndata: " + REST + b"\n\n"),
    "deep JSON": reply(b"data: " + b"[" * 100_000 + b"\n\n"),
    "an endless number": reply(b'data: {"usage": {"prompt_tokens": ' + b"9" * 50_000 + b"}}\n\n"),
    "a lone surrogate's bytes": reply(b'data: {"response": "\xed\xa0\x80"}\n\n'),
    "text of another encoding": reply('data: {"response": "Grüße"}\n\n'.encode("latin-1")),
    "half a character": reply(b'data: {"response": "\xf0\x9f"}\n\n'),
    "JSON of another kind": reply(b"data: 7\n\n", b'data: "yes"\n\n', b"data: []\n\n"),
    "fields of another type": reply(b'data: {"choices": {"0": "yes"}}\n\n'),
    "a page": reply(b"<!DOCTYPE html><h1>502</h1>", kind="text/html"),
    "a page that says it is a stream": reply(b"<!DOCTYPE html><h1>502</h1>\n"),
    "a page that says it is JSON": reply(b"<!DOCTYPE html><h1>502</h1>", kind="application/json"),
    "nothing": reply(),
    "nothing but the end": reply(b"data: [DONE]\n\n"),
    "no type": reply(PLAIN, kind="x"),
    "gzip, truly, as a page": reply(
        gzip.compress(PLAIN), kind="text/html", more="Content-Encoding: gzip\r\n"
    ),
    "gzip, falsely": reply(PLAIN, more="Content-Encoding: gzip\r\n"),
    "an encoding that is none": reply(b"\x00\x01\x02" * 99, more="Content-Encoding: br\r\n"),
    "a status of 700": reply(PLAIN, status="700 Odd"),
    "a status that is no number": reply(PLAIN, status="OK"),
    "a header of 100 KB": reply(PLAIN, more=f"X-Long: {'x' * 100_000}\r\n"),
    "two lengths": reply(PLAIN, more="Content-Length: 3\r\nContent-Length: 4\r\n"),
}
# After some text: the stream ends with an error in its place, a plain call goes to the next step.
AFTER: dict[str, Speak] = {
    name: reply(events(FIRST), *written)
    for name, written in {
        "a line over the limit": [b"data: " + LONG + b"\n\n", events(*WHOLE[1:])],
        "an unfinished line over the limit": [b"data: " + LONG],
        "JSON that is cut": [events(REST[:-9]), events(*WHOLE[2:])],
        "two documents in one event": [b"data: " + REST + END + b"\n\n", events(b"[DONE]")],
        "NUL in the JSON": [b"data: {\0}\n\n", events(*WHOLE[1:])],
        "half a character": [events(REST.replace("世".encode(), "世".encode()[:2])), events(*WHOLE[2:])],
        "a page": [b"<!DOCTYPE html><h1>502</h1>\n\n"],
        "a finish nobody knows": [events(chunk(finish="tired"), b"[DONE]")],
        "the end without a finish": [events(b"[DONE]")],
    }.items()
}


@pytest.fixture(scope="module")
def place() -> Iterator[Place]:
    """Where the odd cloud is."""
    made = Place()
    yield made
    made.close()


@pytest.fixture(scope="module")
def router(place: Place, emulator: Emulator, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Router]:
    """A service whose first cloud is odd, and the second one well."""
    emulator.calm()
    config = clouds_policy(place.url, emulator.base_url, first_token="2s", between_tokens="2s")
    with ExitStack() as stack:
        started = Router(config, tmp_path_factory.mktemp("odd"))
        stack.enter_context(stopped_at_end(started))
        yield started


def resident_bytes(router: Router, name: str = "VmHWM") -> int:
    """The most memory that it has ever had."""
    for line in Path(f"/proc/{router.pid}/status").read_text().splitlines():
        if line.startswith(name):
            return int(line.split()[1]) * 1024
    raise AssertionError(name)


async def asked(router: Router, place: Place, speak: Speak, *, stream: bool) -> Answer:
    """One call that meets an odd cloud, held against the invariants."""
    router.forgive()
    before = await router.quiet(children=0)
    async with place.served(speak):
        answer = await ask(router, chat_body("cloud-then-spare", SAID, stream=stream))
    await assert_invariants(router, before, [answer])
    said = [line for line in router.log(before) if "exc_info" in line or "exception" in line]
    assert said == [], "a foreign exception came through"
    return answer


@pytest.mark.parametrize("stream", [True, False], ids=["streamed", "plain"])
@pytest.mark.parametrize("name", HARMLESS)
async def test_what_the_standard_allows_is_the_same_answer(
    router: Router, place: Place, name: str, stream: bool
) -> None:
    """However odd it looks."""
    answer = await asked(router, place, HARMLESS[name], stream=stream)

    assert (answer.error, answer.text()) == (None, TEXT)
    assert answer.served_by == ("cloudflare", "1")


@pytest.mark.parametrize("stream", [True, False], ids=["streamed", "plain"])
@pytest.mark.parametrize("name", BEFORE)
async def test_what_says_nothing_is_answered_by_the_next_step(
    router: Router, place: Place, name: str, stream: bool
) -> None:
    """Never a 500, never a word of it in the answer."""
    answer = await asked(router, place, BEFORE[name], stream=stream)

    assert (answer.status, answer.error, answer.text()) == (200, None, PROMPT_CANARY)
    assert answer.served_by == ("spare", "2")


@pytest.mark.parametrize("name", AFTER)
async def test_what_breaks_a_stream_ends_it_by_name(router: Router, place: Place, name: str) -> None:
    """The text up to there is exact, and the error has a name; a plain call is answered by the next step."""
    streamed = await asked(router, place, AFTER[name], stream=True)
    plain = await asked(router, place, AFTER[name], stream=False)

    assert streamed.error is not None
    assert streamed.error["code"] in BROKEN
    assert streamed.text() == TEXT[:4]
    assert (plain.text(), plain.served_by) == (PROMPT_CANARY, ("spare", "2"))


async def test_gzip_that_nobody_asked_for_is_read(router: Router, place: Place) -> None:
    """`identity` was asked for; a stream that comes compressed all the same is the same answer."""
    packed = reply(gzip.compress(PLAIN), more="Content-Encoding: gzip\r\n")
    answer = await asked(router, place, packed, stream=True)

    assert (answer.text(), answer.served_by) == (TEXT, ("cloudflare", "1"))


@pytest.mark.parametrize("packed", [False, True], ids=["as it is", "as gzip"])
@pytest.mark.parametrize("unit", [b"x" * 65_536, b"data: x\n" * 8192], ids=["one line", "one event"])
async def test_an_endless_event_costs_little_memory(
    router: Router, place: Place, unit: bytes, packed: bool
) -> None:
    """It is given up at its limit, and whoever sends it is hung up on."""
    sent_bytes = 0

    async def endless(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal sent_bytes
        await request(reader)
        more = b"Content-Encoding: gzip\r\n" if packed else b""
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n" + more + b"\r\n")
        packer = zlib.compressobj(wbits=31)
        block = b"data: "
        while sent_bytes < 2**28:
            writer.write(packer.compress(block) + packer.flush(zlib.Z_SYNC_FLUSH) if packed else block)
            await writer.drain()
            sent_bytes += len(block)
            block = unit * 16

    before_bytes = resident_bytes(router)
    answer = await asked(router, place, endless, stream=True)

    assert (answer.text(), answer.served_by) == (PROMPT_CANARY, ("spare", "2"))
    assert resident_bytes(router) < before_bytes + MEMORY_BYTES
    assert sent_bytes < (2**28 if packed else 2**26)  # what is packed waits in buffers, tiny


@pytest.mark.parametrize("line", [b"\n", b"\r", b"\r\n"], ids=["LF", "CR", "CRLF"])
def test_wherever_a_stream_is_split_it_is_the_same_answer(router: Router, place: Place, line: bytes) -> None:
    """Any cuts, through the whole service: the client's text is the same."""
    stream = b"\xef\xbb\xbf" + events(*WHOLE, line=line)

    async def told(cuts: list[int]) -> Answer:
        places = sorted({0, len(stream), *cuts})
        written = [stream[a:b] for a, b in itertools.pairwise(places)]
        async with place.served(reply(*written)):
            return await ask(router, chat_body("cloud-then-spare", SAID, stream=True))

    @settings(max_examples=20, deadline=None, suppress_health_check=list(HealthCheck))
    @given(st.lists(st.integers(min_value=1, max_value=len(stream) - 1), max_size=12))
    def same(cuts: list[int]) -> None:
        answer = asyncio.run(told(cuts))
        assert (answer.error, answer.text(), answer.served_by) == (None, TEXT, ("cloudflare", "1"))

    router.forgive()
    same()
