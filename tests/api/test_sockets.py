"""Addresses that are taken before anybody is answered."""

from __future__ import annotations

import asyncio
import errno
import socket

import pytest
from scripted_answers import ScriptedAnswers, connected, listening, request_bytes

from hybrid_router.api.runner import Listener
from hybrid_router.api.server import create_application
from hybrid_router.api.sockets import bound, release
from hybrid_router.config.schema import Server


async def test_who_comes_early_waits() -> None:
    """From the moment the address is taken nobody is turned away: the answer comes with the listener."""
    sockets = await bound("127.0.0.1:0")
    port = sockets[0].getsockname()[1]
    async with connected(port) as (reader, writer):
        writer.write(request_bytes("GET", "/health"))
        await writer.drain()
        application = create_application(ScriptedAnswers(), Server(listen=f"127.0.0.1:{port}"), "1")
        async with Listener(application, sockets) as listener:
            assert listener.port == port
            assert b'{"status":"ok"}' in await reader.read()
    with pytest.raises(ConnectionRefusedError):
        await asyncio.open_connection("127.0.0.1", port)


async def test_an_address_is_taken_once() -> None:
    """The second to take it is told, even before the first answers; the first may let go of it."""
    sockets = await bound("127.0.0.1:0")
    listen = f"127.0.0.1:{sockets[0].getsockname()[1]}"
    with pytest.raises(OSError, match="in use") as refused:
        await bound(listen)
    assert refused.value.errno == errno.EADDRINUSE
    release(sockets)
    release(await bound(listen))


async def test_an_address_of_another_machine_is_not_ours() -> None:
    """192.0.2.1 is nobody's (RFC 5737)."""
    with pytest.raises(OSError, match="assign") as refused:
        await bound("192.0.2.1:0")
    assert refused.value.errno == errno.EADDRNOTAVAIL


async def test_a_name_takes_every_address_it_has_here() -> None:
    """`localhost` may be 127.0.0.1, ::1 or both, whatever this machine has of them."""
    sockets = await bound("localhost:0")
    try:
        assert {one.getsockname()[0] for one in sockets} <= {"127.0.0.1", "::1"}
        assert sockets
    finally:
        release(sockets)


async def test_small_pieces_are_sent_at_once() -> None:
    """A stream's events do not wait for the acknowledgement of the one before (TCP_NODELAY)."""
    async with listening(ScriptedAnswers()) as listener, connected(listener.port) as (reader, writer):
        writer.write(b"GET /health HTTP/1.1\r\nHost: localhost\r\n\r\n")
        await reader.readuntil(b'{"status":"ok"}')
        (connection,) = listener.connections
        assert connection.transport is not None
        accepted = connection.transport.get_extra_info("socket")
        assert accepted.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)
