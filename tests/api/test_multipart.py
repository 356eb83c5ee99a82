"""Reading forms with files: what comes, and every limit.  On real sockets."""

from __future__ import annotations

import asyncio
import errno
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest
from aiohttp import web
from open_uploads import open_uploads
from scripted_answers import Reply, ScriptedAnswers, exchange, request_bytes

from hybrid_router.api import multipart, responses
from hybrid_router.api.body import ignore_expect
from hybrid_router.api.runner import Listener
from hybrid_router.api.server import create_application
from hybrid_router.api.sockets import bound
from hybrid_router.config.schema import Server

SERVER = Server(listen="127.0.0.1:0", upload_limit=64 * 1024, upload_timeout=0.5, uploads_memory=100 * 1024)
TYPE = "multipart/form-data; boundary=x"
BORDER = b"--x\r\n"


def field(name: str, value: bytes) -> bytes:
    return BORDER + b'Content-Disposition: form-data; name="%s"\r\n\r\n%s\r\n' % (name.encode(), value)


def file(name: str, content: bytes, filename: str = "a.mp3") -> bytes:
    head = f'Content-Disposition: form-data; name="{name}"; filename="{filename}"\r\n'
    return BORDER + head.encode() + b"Content-Type: audio/mpeg\r\n\r\n" + content + b"\r\n"


END = b"--x--\r\n"


class Reading:
    """A service with one route, which reads a form and notes what it was."""

    def __init__(self) -> None:
        self.seen: list[tuple[dict[str, list[str]], dict[str, list[tuple[str, str, bytes]]]]] = []
        self.held = asyncio.Event()
        self.hold: asyncio.Event | None = None
        self.port = 0

    async def respond(self, request: web.Request) -> web.StreamResponse:
        async with multipart.form(request) as form:
            files = {
                name: [
                    (one.name, one.media_type, bytes(one.mapped()) if one.size_bytes else b"") for one in ones
                ]
                for name, ones in form.files.items()
            }
            self.seen.append((form.fields, files))
            self.held.set()
            if self.hold is not None:
                await self.hold.wait()
        return responses.document(b"{}")

    async def post(self, body: bytes, content_type: str | None = TYPE) -> Reply:
        return await exchange(self.port, request_bytes("POST", "/form", body, content_type=content_type))


@asynccontextmanager
async def reading(server: Server = SERVER) -> AsyncIterator[Reading]:
    made = Reading()
    application = create_application(ScriptedAnswers(), server, "1")
    application.router.add_resource("/form").add_route("POST", made.respond, expect_handler=ignore_expect)
    async with Listener(application, await bound(server.listen)) as listener:
        made.port = listener.port
        yield made


async def test_fields_and_files_come_as_they_were_sent() -> None:
    """In their order, with the client's names and types; `name[]` is `name`; afterwards nothing is open."""
    async with reading() as made:
        reply = await made.post(
            field("model", b"m")
            + field("timestamp_granularities[]", b"word")
            + field("timestamp_granularities[]", "ä".encode())
            + file("file", b"\x00\xff\r\n--y\r\n")
            + file("image[]", b"one", "../1.png")
            + file("image[]", b"two", "2.png")
            + END
        )
        (fields, files) = made.seen[0]

    assert reply.status == 200
    assert fields == {"model": ["m"], "timestamp_granularities": ["word", "ä"]}
    assert files["file"] == [("a.mp3", "audio/mpeg", b"\x00\xff\r\n--y\r\n")]
    assert [name for name, _, _ in files["image"]] == ["../1.png", "2.png"]
    assert not open_uploads()


@pytest.mark.parametrize(
    "content_type", [None, "application/json", "multipart/mixed; boundary=x", "text/plain"]
)
async def test_what_is_no_form_is_refused(content_type: str | None) -> None:
    """With a sentence that shows how one is sent."""
    async with reading() as made:
        reply = await made.post(b"{}", content_type)

    assert (reply.status, reply.error["code"]) == (415, "unsupported_media_type")
    assert "curl" in reply.error["message"]


@pytest.mark.parametrize(
    "body",
    [
        b"no border",
        BORDER,
        field("model", b"m"),  # no end
        file("file", b"cut")[:-6],
        BORDER + b"no head\r\n\r\nx\r\n" + END,
        BORDER + b"Content-Disposition: form-data\r\n\r\nx\r\n" + END,
        BORDER + b'Content-Disposition: form-data; name="a"\r\n\r\n\xff\xfe\r\n' + END,
        BORDER + b"Content-Type: multipart/mixed; boundary=y\r\n\r\n--y\r\n\r\nx\r\n--y--\r\n" + END,
        BORDER + b"A: " + b"b" * 100_000 + b"\r\n\r\nx\r\n" + END,
        BORDER + b"".join(b"A%d: b\r\n" % i for i in range(10_000)) + b"\r\nx\r\n" + END,
    ],
    ids=["no border", "border alone", "no end", "cut file", "no colon", "no name", "not UTF-8",
         "nested", "long head", "many heads"],
)  # fmt: skip
async def test_malformed_forms_are_refused(body: bytes) -> None:
    """F35: with a 400 or 413, whatever is wrong, and nothing stays open."""
    server = Server(listen="127.0.0.1:0", upload_limit=1 << 20)
    async with reading(server) as made:
        reply = await made.post(body)

    assert reply.status in {400, 413}
    assert reply.error["type"] == "invalid_request_error"
    assert not open_uploads()


@pytest.mark.parametrize(
    "content_type", ["multipart/form-data", "multipart/form-data; boundary=" + "x" * 100]
)
async def test_a_border_must_be_named(content_type: str) -> None:
    """F35: without one, or with one that no form may have, it is no form."""
    async with reading() as made:
        assert (await made.post(field("a", b"b") + END, content_type)).status == 400


async def test_many_parts_are_refused() -> None:
    """F35: ten thousand fields, or files, are no form for a model."""
    async with reading(Server(listen="127.0.0.1:0")) as made:
        fields = await made.post(b"".join(field("a", b"") for _ in range(10_000)) + END)
        files = await made.post(b"".join(file("a", b"1") for _ in range(1_000)) + END)

    assert [fields.status, files.status] == [413, 413]
    assert not open_uploads()


async def test_the_limit_holds_to_the_byte() -> None:
    """Files and fields together, announced or in chunks."""
    async with reading() as made:
        for size, status in ((64 * 1024, 200), (64 * 1024 + 1, 413)):
            body = field("a", b"b" * 100) + file("file", b"c" * (size - 100)) + END
            chunked = b"%x\r\n%s\r\n0\r\n\r\n" % (len(body), body)
            assert (await made.post(body)).status == status
            raw = (
                b"POST /form HTTP/1.1\r\nHost: 127.0.0.1\r\nConnection: close\r\n"
                b"Transfer-Encoding: chunked\r\nContent-Type: multipart/form-data; boundary=x\r\n\r\n"
                + chunked
            )
            assert (await exchange(made.port, raw)).status == status


async def test_a_form_that_does_not_come_is_given_up() -> None:
    """F30: after `upload_timeout`, and nothing of it stays."""
    async with reading() as made:
        body = file("file", b"c" * 1000)
        raw = request_bytes("POST", "/form", body, content_type=TYPE).replace(
            f"{len(body)}".encode(), f"{len(body) + 10}".encode()
        )
        reply = await exchange(made.port, raw)

    assert (reply.status, reply.error["code"]) == (408, "request_timeout")
    assert not open_uploads()


async def test_memory_for_files_is_bounded_over_all_calls() -> None:
    """While others' files fill it, one more is told to come again; afterwards there is room."""
    body = file("file", b"c" * 60 * 1024) + END
    async with reading() as made:
        made.hold = asyncio.Event()
        first = asyncio.create_task(made.post(body))
        await made.held.wait()
        second = await made.post(body)
        made.hold.set()
        assert (await first).status == 200
        third = await made.post(body)

    assert (second.status, second.error["code"]) == (503, "uploads_full")
    assert second.headers["retry-after"] == "2"
    assert third.status == 200


async def test_a_large_form_may_have_a_slow_answer() -> None:
    """What comes of a body before its request is taken up is no head that never ends."""
    server = Server(listen="127.0.0.1:0", header_timeout=0.05)
    async with reading(server) as made:
        made.hold = asyncio.Event()
        calls = [asyncio.create_task(made.post(file("file", b"c" * 2_000_000) + END)) for _ in range(4)]
        await made.held.wait()
        done, _ = await asyncio.wait(calls, timeout=0.3)
        assert done == set()
        made.hold.set()

        assert [(await call).status for call in calls] == [200] * 4


@pytest.mark.filterwarnings("default")
@pytest.mark.parametrize("first", [b"", field("model", b"m")], ids=["first", "later"])
async def test_a_head_that_does_not_parse_is_told_to_nobody(
    first: bytes, capfd: pytest.CaptureFixture[str]
) -> None:
    """A client's file name is neither guessed nor written anywhere: the form is refused."""
    odd = BORDER + b"Content-Disposition: form-data; name=\"file\"; filename*=nope''secret%41\r\n\r\nx\r\n"
    async with reading() as made:
        reply = await made.post(first + odd + END)

    assert (reply.status, reply.error["code"]) == (400, "invalid_request_error")
    assert b"secret" not in reply.body
    assert "secret" not in "".join(capfd.readouterr())
    assert made.seen == []


async def test_a_charset_that_is_none_is_refused() -> None:
    """F35: its length is the client's fault, not ours."""
    async with reading() as made:
        reply = await made.post(field("_charset_", b"c" * 200) + END)

    assert (reply.status, reply.error["code"]) == (400, "invalid_request_error")


@pytest.mark.parametrize("failing", ["memfd_create", "write"])
async def test_a_system_without_room_asks_to_come_again(
    failing: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Out of descriptors or memory: a 503 that says when, and nothing stays open."""

    def full(*_: object) -> int:
        raise OSError(errno.ENFILE, "Too many open files in system")

    monkeypatch.setattr(f"hybrid_router.core.upload.os.{failing}", full)
    async with reading() as made:
        reply = await made.post(file("file", b"content") + END)
        monkeypatch.undo()
        after = await made.post(file("file", b"content") + END)

    assert (reply.status, reply.error["code"]) == (503, "uploads_full")
    assert reply.headers["retry-after"] == "2"
    assert after.status == 200
    assert not open_uploads()
