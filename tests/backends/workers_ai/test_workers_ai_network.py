"""Networks that fail, certificates that lie, and a token that must never show."""

from __future__ import annotations

import asyncio
import errno
import io
import socket
import ssl
import subprocess
import traceback
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import aiohttp
import pytest
from aiohttp.client_reqrep import ConnectionKey
from scripted_cloud import (
    ACCOUNT,
    CLOSE,
    RESET,
    TOKEN,
    Reply,
    Upstream,
    a_step,
    answer,
    chat,
    chunk,
    cloud,
    events,
    head,
    listening,
    make,
    piece,
    plain,
    stream,
)
from yarl import URL

from hybrid_router.backends.http import IDLE_S, UNHEARD_S, Http
from hybrid_router.core.errors import (
    BackendError,
    BackendMisconfigured,
    BackendUnavailable,
    BackendUnreachable,
    ConnectTimeout,
    RouterError,
)
from hybrid_router.core.event import Finish, Text

WHOLE = stream(piece("a"), piece(finish="stop"), b"[DONE]")


async def failure(base_url: str, connect_s: float = 5.0) -> RouterError:
    """How a call to `base_url` ends."""
    backend = make(base_url)
    try:
        with pytest.raises(BackendError) as caught:
            await anext(backend.run(chat(), a_step(connect_s=connect_s)))
    finally:
        await backend.close()
    return caught.value


async def test_a_refused_connection_is_named() -> None:
    """Nobody listens: the next step may try at once."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        error = await failure(f"http://127.0.0.1:{free.getsockname()[1]}")

    assert type(error) is BackendUnreachable
    assert not error.offline, "this machine's network has nothing to do with it"
    assert "cannot be reached" in error.message


async def test_a_name_that_does_not_resolve_is_named() -> None:
    """The top-level domain `invalid` never does (RFC 2606)."""
    error = await failure("http://cloud.invalid")

    assert type(error) is BackendUnreachable
    assert "does not resolve" in error.message


async def test_a_connection_that_never_stands_ends_after_connect_s() -> None:
    """A full backlog drops the handshake: only our own limit ends the wait."""
    with socket.socket() as deaf:
        deaf.bind(("127.0.0.1", 0))
        deaf.listen(0)
        address = deaf.getsockname()
        fillers = [socket.socket() for _ in range(4)]
        for filler in fillers:
            filler.setblocking(False)
            filler.connect_ex(address)
        error = await failure(f"http://127.0.0.1:{address[1]}", connect_s=0.1)
        for filler in fillers:
            filler.close()

    assert type(error) is ConnectTimeout
    assert not error.offline
    assert "connection in time" in error.message


async def test_a_token_that_no_header_may_hold_is_named_and_not_sent() -> None:
    """A stray line break in a file must not become a second header."""
    async with cloud(WHOLE) as (_, upstream):
        backend = make(f"http://127.0.0.1:{upstream.port}", token="one\r\nx-two: 2")
        with pytest.raises(BackendMisconfigured, match="token"):
            await answer(backend, chat())
        await backend.close()

    assert upstream.accepted_count == 0


async def test_an_account_id_cannot_leave_its_place_in_the_path() -> None:
    """Whatever was configured, it stays one segment."""
    async with cloud(WHOLE) as (_, upstream):
        backend = make(f"http://127.0.0.1:{upstream.port}", account="../a?b")
        await answer(backend, chat())
        await backend.close()

    assert upstream.requests[0][0] == "POST /accounts/..%2Fa%3Fb/ai/v1/chat/completions HTTP/1.1"


CA = """
[ca]
default_ca = own
[own]
database = {folder}/index.txt
new_certs_dir = {folder}
rand_serial = yes
default_md = sha256
policy = names
x509_extensions = extensions
[names]
commonName = supplied
[extensions]
subjectAltName = DNS:{name}
"""


def certificate(folder: Path, name: str, *, until: str = "20991231000000Z") -> tuple[Path, Path]:
    """A self-signed certificate for `name` and its key."""
    config, request, cert, key = (folder / part for part in ("ca.cnf", "request.pem", "cert.pem", "key.pem"))
    config.write_text(CA.format(folder=folder, name=name))
    (folder / "index.txt").touch()
    new = ["req", "-new", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes"]
    sign = ["ca", "-batch", "-selfsign", "-notext", "-startdate", "20200101000000Z", "-enddate", until]
    for command in (
        [*new, "-subj", f"/CN={name}", "-keyout", str(key), "-out", str(request)],
        [*sign, "-config", str(config), "-keyfile", str(key), "-in", str(request), "-out", str(cert)],
    ):
        subprocess.run(["openssl", *command], check=True, capture_output=True)
    return cert, key


@asynccontextmanager
async def over_tls(cert: Path, key: Path) -> AsyncIterator[str]:
    """A whole answer behind TLS; the base URL says localhost."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(cert, key)
    async with listening(Upstream([WHOLE]).serve, context) as port:
        yield f"https://localhost:{port}"


async def test_a_trusted_certificate_is_accepted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """SSL_CERT_FILE names whom to trust, also if set after import."""
    cert, key = certificate(tmp_path, "localhost")
    monkeypatch.setenv("SSL_CERT_FILE", str(cert))
    async with over_tls(cert, key) as base_url:
        backend = make(base_url)
        assert await answer(backend, chat()) == [Text("a"), Finish("stop")]
        await backend.close()


@pytest.mark.parametrize(
    ("name", "until", "is_trusted", "why"),
    [
        ("localhost", "20991231000000Z", False, "self-signed"),
        ("elsewhere", "20991231000000Z", True, "mismatch"),
        ("localhost", "20200102000000Z", True, "expired"),
    ],
)
async def test_a_certificate_that_proves_nothing_is_refused(  # noqa: PLR0917 - fixtures
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, until: str, is_trusted: bool, why: str
) -> None:
    """Unknown, for another name, or expired: named, and nothing is sent."""
    cert, key = certificate(tmp_path, name, until=until)
    if is_trusted:
        monkeypatch.setenv("SSL_CERT_FILE", str(cert))
    async with over_tls(cert, key) as base_url:
        error = await failure(base_url)

    assert type(error) is BackendUnavailable
    assert "certificate that is not trusted" in error.message
    assert why in error.message.lower()


@asynccontextmanager
async def after_one_byte(do: str) -> AsyncIterator[str]:
    """A server that waits for the first byte of a handshake; the base URL says https."""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read(1)
        if do == "speak http":
            writer.write(b"HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\n\r\n")
        elif do == "reset":
            writer.transport.abort()
        await reader.read()

    async with listening(serve) as port:
        yield f"https://127.0.0.1:{port}"


@pytest.mark.parametrize(
    ("do", "kind"),
    [("speak http", BackendUnavailable), ("reset", BackendUnreachable), ("stall", ConnectTimeout)],
)
async def test_a_handshake_that_fails_is_named(do: str, kind: type[RouterError]) -> None:
    """No downgrade to plain HTTP; silence is bounded by connect_s, a reset is told at once."""
    async with after_one_byte(do) as base_url:
        assert type(await failure(base_url, connect_s=0.3)) is kind


SILENT: dict[str, Reply] = {
    "answered": WHOLE,
    "refused": plain({"errors": [{"code": 10000, "message": "Authentication error"}]}, "401 Unauthorized"),
    "not-http": [b"HTTP/1.1 200 OK\x00\r\nx\r\n\r\n", CLOSE],
    "page": [head("text/html"), CLOSE],
    "redirect": plain({}, "302 Found", "Location: /elsewhere\r\n"),
    "reset": [RESET],
    "broken": [head(), chunk(events(piece("a"))), CLOSE],
    "malformed": stream(b"{"),
}
ECHOING: dict[str, Reply] = {
    "not-http": [f"HTTP/1.1 200 {TOKEN}\x00 {ACCOUNT}\r\nx\r\n\r\n".encode(), CLOSE],
    "refused": plain(
        {"errors": [{"code": 5006, "message": f"bad {TOKEN} for {ACCOUNT}"}]}, "400 Bad Request"
    ),
    "page": plain(f"<html>{TOKEN} {ACCOUNT}</html>".encode(), "500 Internal Server Error"),
    "type": [head(f"text/{TOKEN}"), CLOSE],
    "redirect": plain({}, "302 Found", f"Location: /{TOKEN}\r\n"),
    "in-band": stream(piece("a"), {"error": {"message": f"{TOKEN} {ACCOUNT}"}}),
    "odd-reason": stream(piece("a", finish=TOKEN)),
}


@pytest.mark.parametrize("name", SILENT)
async def test_the_token_shows_nowhere(name: str, everything_logged: io.StringIO) -> None:
    """Not in messages, details, `repr`s, causes, tracebacks with their locals, nor in anyone's debug log."""
    async with cloud(SILENT[name]) as (backend, upstream):
        told = f"{backend!r} {vars(backend)!r}"
        try:
            await answer(backend, chat())
        except RouterError as error:
            told += f"{error!r} {error.detail} {error.__cause__!r} {error.__context__!r}"
            trace = traceback.TracebackException.from_exception(error, capture_locals=True)
            told += "".join(trace.format())

    assert upstream.requests[0][1]["authorization"].endswith(TOKEN)
    assert TOKEN not in told
    assert TOKEN not in everything_logged.getvalue()


@pytest.mark.parametrize("name", ECHOING)
async def test_a_token_that_upstream_repeats_is_taken_out(name: str, everything_logged: io.StringIO) -> None:
    """Nor does the account's id pass, in what the client reads or the log keeps."""
    async with cloud(ECHOING[name]) as (backend, _):
        with pytest.raises(RouterError) as caught:
            await answer(backend, chat())

    logged = everything_logged.getvalue()
    for text in (repr(caught.value), caught.value.message, caught.value.detail, logged):
        assert TOKEN not in text
        assert ACCOUNT not in text


async def test_an_unreachable_address_is_not_shown() -> None:
    """The client reads what happened, not where."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        error = await failure(f"http://127.0.0.1:{free.getsockname()[1]}/{ACCOUNT}")

    assert ACCOUNT not in error.message + error.detail
    assert "127.0.0.1" not in error.message


async def test_closing_leaves_nothing_open() -> None:
    """Connections that were kept are closed; closing an unused backend is fine."""
    async with cloud(WHOLE) as (backend, upstream):
        await answer(backend, chat())
        await backend.close()
        await upstream.gone.wait()
    await make("http://127.0.0.1:9").close()


@pytest.mark.parametrize(
    ("number", "offline"),
    [
        (errno.ENETUNREACH, True),
        (errno.ENETDOWN, True),
        (errno.EHOSTUNREACH, True),
        (socket.EAI_AGAIN, True),
        (errno.ECONNREFUSED, False),
        (errno.EACCES, False),
        (socket.EAI_NONAME, False),
    ],
)
def test_a_machine_without_a_network_is_told_from_a_cloud_that_is_gone(number: int, offline: bool) -> None:
    """By the system's own word: other clouds need not be tried then."""
    key = ConnectionKey("cloud.test", 443, True, True, None, None, None)
    kind = aiohttp.ClientConnectorDNSError if number < 0 else aiohttp.ClientConnectorError
    error = Http("Workers AI", str, tls=False).named(kind(key, OSError(number, "so")))

    assert type(error) is BackendUnreachable
    assert error.offline == offline


async def test_a_name_that_leads_nowhere_is_looked_up_anew() -> None:
    """A cloud that moves is found by the next call, not when a cache forgets it."""
    http = Http("Workers AI", str, tls=False)
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
        with pytest.raises(BackendUnreachable):
            await http.post(URL(f"http://localhost:{port}/"), b"", dict, 5.0)
    session = http._session
    assert session is not None
    assert isinstance(session.connector, aiohttp.TCPConnector)
    assert ("localhost", port) not in session.connector._cached_hosts
    await http.close()


async def test_a_kept_connection_notices_that_the_network_has_gone() -> None:
    """The system gives up what nobody acknowledges, and asks an idle peer for a sign of life."""
    async with cloud(WHOLE) as (backend, _):
        await answer(backend, chat())
        session = backend._upstream._http._session
        assert session is not None
        assert session.connector is not None
        ((kept, *_), *_) = session.connector._conns.values()
        assert kept[0].transport is not None
        made = kept[0].transport.get_extra_info("socket")

        assert made.getsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT) == 1000 * UNHEARD_S
        assert made.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE) == 1
        assert made.getsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPIDLE) == IDLE_S
