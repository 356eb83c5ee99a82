"""HTTP to a cloud, with aiohttp's defaults put right.

Foreign exceptions are named here and nowhere else.  They are raised anew after the `except` block, so
that neither cause nor context carries aiohttp's request, whose headers hold the token.
"""

from __future__ import annotations

import asyncio
import email.utils
import errno
import os
import re
import socket
import ssl
from collections.abc import AsyncIterator, Callable, Mapping
from datetime import UTC, datetime

import aiohttp
from yarl import URL

from hybrid_router import __version__
from hybrid_router.backends.resolver import Resolver
from hybrid_router.core.errors import (
    BackendError,
    BackendMisconfigured,
    BackendUnavailable,
    BackendUnreachable,
    ConnectTimeout,
)
from hybrid_router.core.secret import Secret

USER_AGENT = f"hybrid-router/{__version__}"
CONNECTIONS_COUNT = 512
KEEPALIVE_S = 60.0
SETTLE_S = 0.05
UNHEARD_S = 20  # what was sent and not acknowledged for so long was sent into the void
IDLE_S = 15  # a connection that is kept is asked for a sign of life after so long
DETAIL_CHARS = 1000
LONGEST_RETRY_AFTER_S = 86_400.0
_SECONDS = re.compile(r"\d{1,9}(\.\d{1,9})?\Z", re.ASCII)
_ADDRESS = re.compile(r"https?://\S+|/client/v4/\S+", re.IGNORECASE)
# What a machine without a network says when it looks for a route or a name.
_OFFLINE = frozenset({errno.ENETUNREACH, errno.ENETDOWN, errno.EHOSTUNREACH, socket.EAI_AGAIN})

Redact = Callable[[str], str]


class Http:
    """Connections to one cloud.  The session is made inside the loop that first uses it.

    Args:
        label: the cloud's name in messages.
        redact: takes everything secret out of a text for the log.
        tls: whether it is spoken to through TLS.
    """

    def __init__(self, label: str, redact: Redact, *, tls: bool) -> None:
        self._label = label
        self._redact = redact
        # Made here, since reading the certificates would hold up the loop; aiohttp's own is made at import,
        # before SSL_CERT_FILE may be set.
        self._trust: ssl.SSLContext | bool = ssl.create_default_context() if tls else True
        self._session: aiohttp.ClientSession | None = None

    async def post(
        self, url: URL, body: bytes, headers: Callable[[], Mapping[str, str]], connect_s: float
    ) -> aiohttp.ClientResponse:
        """Send `body` by POST; see `send`."""
        return await self.send("POST", url, body, headers, connect_s)

    async def send(
        self,
        method: str,
        url: URL,
        body: bytes | AsyncIterator[bytes],
        headers: Callable[[], Mapping[str, str]],
        connect_s: float,
    ) -> aiohttp.ClientResponse:
        """Send `body` and wait for the reply's head.  The caller closes the reply.

        `headers` is a function so that no frame of a traceback holds them.  Redirects come back as they
        are: following one would carry the token elsewhere.

        Raises:
            ConnectTimeout: no connection within `connect_s`.
            BackendUnreachable: no connection at all.
            BackendUnavailable: nobody answered, or not in HTTP.
        """
        timeout = aiohttp.ClientTimeout(total=None, connect=connect_s, sock_connect=connect_s)
        try:
            return await self._open().request(
                method, url, data=body or None, headers=headers(), timeout=timeout, allow_redirects=False
            )
        except (aiohttp.ClientError, OSError, ValueError) as error:
            failure = self.named(error)
        if isinstance(failure, BackendUnreachable):
            self._forget_names()
        raise failure

    async def read(self, reply: aiohttp.ClientResponse) -> bytes:
        """What has arrived of the body, at least one byte; nothing at its end.

        Raises:
            BackendUnavailable: the connection broke, and what came before that was read.
        """
        try:
            return await reply.content.readany()
        except (aiohttp.ClientError, OSError, ValueError) as error:
            if left := _unread(reply.content):
                return left
            failure = self.named(error)
        raise failure

    async def read_whole(self, reply: aiohttp.ClientResponse, limit_bytes: int) -> bytes:
        """The rest of the body.

        Raises:
            BackendError: it is longer than `limit_bytes`, or the connection broke.
        """
        body = bytearray()
        while chunk := await self.read(reply):
            body += chunk
            if len(body) > limit_bytes:
                raise BackendError(f"{self._label} sent more than {limit_bytes} bytes")
        return bytes(body)

    async def settle(self, reply: aiohttp.ClientResponse) -> None:
        """Give an answer that is over a moment to end its transfer, so that the connection is kept."""
        if reply.content.at_eof():
            return
        try:
            async with asyncio.timeout(SETTLE_S):
                await reply.content.readany()
        except (aiohttp.ClientError, OSError, ValueError):
            pass  # the answer is whole; the connection is closed instead

    async def close(self) -> None:
        """Close every connection."""
        if self._session is not None:
            await self._session.close()
            self._session = None

    def failed(self, message: str, detail: str) -> BackendError:
        """An answer that is none, in words that may repeat what the cloud wrote: what is secret goes out."""
        return BackendError(self._redact(message), detail=self._redact(detail)[:DETAIL_CHARS])

    def named(self, error: Exception) -> BackendError:
        """Say what a foreign exception means."""
        kind, what = _meaning(error)
        text = f"{type(error).__name__}: {error}"
        failure = kind(f"{self._label} {what}", detail=self._redact(text)[:DETAIL_CHARS])
        if isinstance(failure, BackendUnreachable):
            failure.offline = getattr(error, "errno", None) in _OFFLINE
        return failure

    def _forget_names(self) -> None:
        """Nobody is where the name led: the next call looks it up anew, since it may lead elsewhere."""
        connector = None if self._session is None else self._session.connector
        if isinstance(connector, aiohttp.TCPConnector):
            connector.clear_dns_cache()

    def _open(self) -> aiohttp.ClientSession:
        if self._session is None:
            self._session = aiohttp.ClientSession(
                connector=aiohttp.TCPConnector(
                    ssl=self._trust,
                    resolver=Resolver(),
                    socket_factory=_socket,
                    limit=CONNECTIONS_COUNT,
                    keepalive_timeout=KEEPALIVE_S,
                ),
                cookie_jar=aiohttp.DummyCookieJar(),
                headers={"User-Agent": USER_AGENT},
                trust_env=False,
                raise_for_status=False,
            )
        return self._session


def _socket(address: aiohttp.AddrInfoType) -> socket.socket:
    """A socket that notices when the network under it has gone, as when a laptop moves.

    By itself it would hold on to a kept connection for a quarter of an hour, and every call that is given
    one would wait for its first token in vain.
    """
    family, kind, protocol, *_ = address
    made = socket.socket(family, kind, protocol)
    made.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, UNHEARD_S * 1000)
    made.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    made.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPIDLE, IDLE_S)
    made.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPINTVL, IDLE_S // 3)
    return made


def _unread(content: aiohttp.StreamReader) -> bytes:
    """What arrived before the connection broke.  aiohttp keeps it but will not give it any more."""
    left = b"".join(content._buffer)  # noqa: SLF001 - the end of an answer may be in it
    content._buffer.clear()  # noqa: SLF001
    return left


def _meaning(error: Exception) -> tuple[type[BackendError], str]:
    """The error's type for us, and what the cloud did, for the client."""
    for foreign, kind, what in _MEANINGS:
        if isinstance(error, foreign):
            return kind, what.format(why=_why(error))
    return BackendUnavailable, "broke the connection"


def _why(error: Exception) -> str:
    """The system's or OpenSSL's own word; asyncio's would hold the address."""
    if isinstance(error, aiohttp.ClientConnectorCertificateError):
        return getattr(error.certificate_error, "verify_message", "") or "it does not match"
    errno = getattr(error, "errno", None)
    return os.strerror(errno) if errno else "no connection"


# From the special to the general: the first that fits counts.
_MEANINGS: tuple[tuple[type[Exception] | tuple[type[Exception], ...], type[BackendError], str], ...] = (
    (
        aiohttp.ClientConnectorCertificateError,
        BackendUnavailable,
        "shows a certificate that is not trusted: {why}",
    ),
    ((aiohttp.ClientSSLError, ssl.SSLError), BackendUnavailable, "failed in the TLS handshake"),
    (aiohttp.ClientConnectorDNSError, BackendUnreachable, "cannot be found: its name does not resolve"),
    ((aiohttp.ServerTimeoutError, TimeoutError), ConnectTimeout, "gave no connection in time"),
    (aiohttp.ClientConnectorError, BackendUnreachable, "cannot be reached: {why}"),
    (aiohttp.ClientResponseError, BackendError, "did not answer in valid HTTP"),
    (ValueError, BackendError, "cannot be asked: the request is not valid HTTP"),
)


def redactor(*secrets: str) -> Redact:
    """A function that takes `secrets` and addresses out of a text and puts it on one line."""
    hidden = [secret for secret in secrets if secret]

    def redact(text: str) -> str:
        for secret in hidden:
            text = text.replace(secret, "***")
        text = _ADDRESS.sub("***", text)
        return "".join(char if char.isprintable() else " " for char in text)

    return redact


def revealed(token: Secret, label: str) -> str:
    """A token as a header takes it; `label` is the cloud's name.

    Raises:
        BackendMisconfigured: it holds what no header may.
    """
    if not (token.reveal().isascii() and token.reveal().isprintable()):
        raise BackendMisconfigured(
            f"the token of {label} holds characters that no header may: check its source"
        )
    return token.reveal()


def retry_after_s(value: str | None, now: datetime) -> float | None:
    """Read a Retry-After header: seconds or an HTTP date.

    Missing, negative, unreadable or over a day: None, since no such wait is worth obeying.
    Source: RFC 9110, section 10.2.3.
    """
    if value is None:
        return None
    text = value.strip()
    wait_s = float(text) if _SECONDS.match(text) else _until(text, now)
    return wait_s if wait_s is not None and wait_s <= LONGEST_RETRY_AFTER_S else None


def _until(date: str, now: datetime) -> float | None:
    """Seconds from `now` to an HTTP date; 0 if it has passed, None if it is none."""
    try:
        then = email.utils.parsedate_to_datetime(date)
    except (ValueError, OverflowError):
        return None
    aware = then if then.tzinfo else then.replace(tzinfo=UTC)
    return max(0.0, (aware - now).total_seconds())
