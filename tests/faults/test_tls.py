"""A cloud that is not who it should be, or never finishes saying so: F26.

Nothing that can be read may arrive: neither the token nor the prompt, nor a request at all.
"""

from __future__ import annotations

import asyncio
import shutil
import socket
import ssl
import struct
import subprocess
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from invariants import assert_invariants
from raw_cloud import Place, Speak, clouds_policy, request
from router_process import ACCOUNT, TOKEN, Emulator, Router, stopped_at_end
from wire_client import PROMPT_CANARY, ask, chat_body

pytestmark = [
    pytest.mark.timeout(60),
    pytest.mark.skipif(shutil.which("openssl") is None, reason="certificates are made with openssl"),
]

SAID = f"repeat: {PROMPT_CANARY}"
PAST, FUTURE = "20200102000000Z", "20991231000000Z"
CA = """
[ca]
default_ca = own
[own]
database = {folder}/index.txt
new_certs_dir = {folder}
certificate = {folder}/ca.pem
private_key = {folder}/ca.key
rand_serial = yes
default_md = sha256
unique_subject = no
policy = names
x509_extensions = extensions
[names]
commonName = supplied
[extensions]
subjectAltName = {name}
"""
NEW_KEY = ("-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes")


class Authority:
    """Signs whatever it is asked to; `certificate` is what its friends trust."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self.certificate = folder / "ca.pem"
        (folder / "index.txt").touch()
        _openssl(
            *("req", "-x509", *NEW_KEY, "-days", "36500", "-subj", f"/CN=authority {folder.name}"),
            *("-keyout", str(folder / "ca.key"), "-out", str(self.certificate)),
        )

    def signed(self, name: str, until: str = FUTURE) -> ssl.SSLContext:
        """A server's context with a certificate for `name`, in openssl's words: `IP:127.0.0.1`."""
        stem = self._folder / f"{name.partition(':')[2]}.{until}"
        config, key, wanted, signed = (
            stem.with_name(f"{stem.name}.{end}") for end in ("cnf", "key", "csr", "pem")
        )
        config.write_text(CA.format(folder=self._folder, name=name))
        _openssl(
            *("req", "-new", *NEW_KEY, "-subj", "/CN=cloud", "-keyout", str(key), "-out", str(wanted)),
        )
        _openssl(
            *("ca", "-batch", "-notext", "-config", str(config), "-startdate", "20200101000000Z"),
            *("-enddate", until, "-in", str(wanted), "-out", str(signed)),
        )
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(signed, key)
        return context


def _openssl(*arguments: str) -> None:
    subprocess.run(["openssl", *arguments], check=True, capture_output=True)


@dataclass
class Heard:
    """What arrived at a cloud: raw bytes, and requests that came through TLS."""

    raw: bytearray = field(default_factory=bytearray)
    requests: list[bytes] = field(default_factory=list)
    connections_count: int = 0


@asynccontextmanager
async def behind_tls(place: Place, context: ssl.SSLContext, heard: Heard) -> AsyncIterator[None]:
    """A cloud that speaks TLS by hand, so that what arrives can be looked at, and answers one request."""

    async def speak(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        heard.connections_count += 1
        await writer.start_tls(context)
        heard.requests.append(await request(reader))

    async with place.served(speak):
        yield


def noted(heard: Heard, then: str) -> Speak:
    """Read what comes first, and then go wrong."""

    async def speak(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        heard.connections_count += 1
        heard.raw += await reader.read(65_536)
        if then == "stall":
            while more := await reader.read(65_536):
                heard.raw += more
        elif then == "reset":
            linger = struct.pack("ii", 1, 0)
            writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
            writer.transport.abort()
        elif then == "plain HTTP":
            writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")
            heard.raw += await reader.read(65_536)
        elif then == "noise":
            writer.write(b"\x16\x03\x03\xff\xff" + b"\0" * 64)
            heard.raw += await reader.read(65_536)

    return speak


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    """Trusted by the router."""
    return Authority(tmp_path_factory.mktemp("trusted"))


@pytest.fixture(scope="module")
def place() -> Iterator[Place]:
    """Where the cloud is."""
    made = Place()
    yield made
    made.close()


@contextmanager
def serving(place: Place, authority: Authority, spare_url: str, folder: Path) -> Iterator[Router]:
    """A service whose first cloud must speak TLS, and the second is well."""
    url = place.url.replace("http:", "https:")
    config = clouds_policy(url, spare_url, connect="500ms", first_token="3s")
    environ = {
        "CLOUDFLARE_ACCOUNT_ID": ACCOUNT,
        "CLOUDFLARE_API_TOKEN": TOKEN,
        "SSL_CERT_FILE": str(authority.certificate),
    }
    started = Router(config, folder, environ=environ)
    with stopped_at_end(started):
        yield started


@pytest.fixture(scope="module")
def router(
    place: Place, authority: Authority, emulator: Emulator, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Router]:
    """One for those whom a reload reconciles."""
    with serving(place, authority, emulator.base_url, tmp_path_factory.mktemp("tls")) as started:
        yield started


@pytest.fixture
def fresh(place: Place, authority: Authority, emulator: Emulator, tmp_path: Path) -> Iterator[Router]:
    """One that has lost no cloud yet: what looks like a network that is gone is not forgiven."""
    with serving(place, authority, emulator.base_url, tmp_path / "router") as started:
        yield started


async def assert_refused(router: Router, heard: Heard, code: str, said: str) -> None:
    """Alone it is an error by name; with a next step that one answers; nothing readable has arrived."""
    router.forgive()
    before = await router.quiet(children=0)
    alone = await ask(router, chat_body("cloud-only", SAID))
    with_next = await ask(router, chat_body("cloud-then-spare", SAID, stream=True))
    await assert_invariants(router, before, [alone, with_next])

    assert alone.error is not None
    assert (alone.error["code"], alone.status) == (code, 504 if code == "backend_timeout" else 503)
    assert said in alone.error["message"]
    assert (with_next.text(), with_next.served_by[0]) == (PROMPT_CANARY, "spare")
    assert heard.connections_count
    assert heard.requests == []
    for secret in (TOKEN, ACCOUNT, PROMPT_CANARY, "HTTP/1.1", "authorization"):
        assert secret.encode() not in bytes(heard.raw)


async def test_a_certificate_that_is_right_is_believed(
    router: Router, place: Place, authority: Authority
) -> None:
    """So that the refusals below mean something: the request arrives, with its token."""
    heard = Heard()
    async with behind_tls(place, authority.signed("IP:127.0.0.1"), heard):
        answer = await ask(router, chat_body("cloud-then-spare", SAID))

    assert answer.served_by == ("spare", "2")  # this cloud hangs up instead of answering
    assert len(heard.requests) == 1
    assert TOKEN.encode() in heard.requests[0]


@pytest.mark.parametrize(
    ("name", "until"),
    [
        ("IP:127.0.0.1", PAST),
        ("IP:127.0.0.2", FUTURE),
        ("DNS:localhost", FUTURE),
    ],
    ids=["expired", "another address", "a name for an address"],
)
async def test_a_certificate_that_proves_nothing_is_refused(
    router: Router, place: Place, authority: Authority, name: str, until: str
) -> None:
    """Signed by whom we trust, and still not enough."""
    heard = Heard()
    async with behind_tls(place, authority.signed(name, until), heard):
        await assert_refused(router, heard, "backend_unavailable", "certificate that is not trusted")


async def test_a_stranger_s_signature_is_refused(router: Router, place: Place, tmp_path: Path) -> None:
    """The right name and dates, by nobody we know."""
    heard = Heard()
    async with behind_tls(place, Authority(tmp_path).signed("IP:127.0.0.1"), heard):
        await assert_refused(router, heard, "backend_unavailable", "certificate that is not trusted")


async def test_an_old_protocol_is_refused(fresh: Router, place: Place, authority: Authority) -> None:
    """A server that knows no TLS newer than 1.1 is not met half-way."""
    context = authority.signed("IP:127.0.0.1")
    context.set_ciphers("ALL:@SECLEVEL=0")
    with pytest.warns(DeprecationWarning, match="TLSv1"):
        context.minimum_version, context.maximum_version = ssl.TLSVersion.TLSv1, ssl.TLSVersion.TLSv1_1
    heard = Heard()
    async with behind_tls(place, context, heard):
        await assert_refused(fresh, heard, "backend_unavailable", "Workers AI")


@pytest.mark.parametrize(
    ("then", "code", "said"),
    [
        ("stall", "backend_timeout", "no connection in time"),
        ("reset", "backend_unavailable", "cannot be reached"),
        ("close", "backend_unavailable", "Workers AI"),
        ("plain HTTP", "backend_unavailable", "TLS handshake"),
        ("noise", "backend_unavailable", "TLS handshake"),
    ],
)
async def test_a_handshake_that_fails_sends_nothing(
    fresh: Router, place: Place, then: str, code: str, said: str
) -> None:
    """A stall ends at `connect`; nothing is tried without TLS."""
    heard = Heard()
    async with place.served(noted(heard, then)):
        await assert_refused(fresh, heard, code, said)

    assert bytes(heard.raw).startswith(b"\x16\x03")  # a handshake record
