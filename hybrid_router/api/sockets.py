"""Taking an address before anything else is started, so that a taken one is known at once."""

from __future__ import annotations

import asyncio
import errno
import os
import socket

from hybrid_router.config.listen import parse_listen

BACKLOG = 1024
# A name may stand for several addresses, of which this machine has only some.
_NOT_OURS = frozenset({errno.EADDRNOTAVAIL, errno.EAFNOSUPPORT})


async def bound(listen: str) -> list[socket.socket]:
    """Sockets that listen on every address of `listen`; whoever connects waits until a `Listener` accepts.

    Raises:
        OSError: the address is taken, or not ours; `strerror` says it in the system's words.
    """
    host, port = parse_listen(listen)
    loop = asyncio.get_running_loop()
    found = await loop.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
    sockets: list[socket.socket] = []
    refused = OSError(errno.EADDRNOTAVAIL, os.strerror(errno.EADDRNOTAVAIL))
    try:
        for family, _, protocol, _, address in dict.fromkeys(found):
            try:
                sockets.append(_one(family, protocol, address))
            except OSError as error:
                refused = error
                if error.errno not in _NOT_OURS:
                    raise
        if not sockets:
            raise refused
    except OSError:
        release(sockets)
        raise
    return sockets


def release(sockets: list[socket.socket]) -> None:
    """Close what nobody took over; those that are closed already stay so."""
    for one in sockets:
        one.close()


def _one(family: int, protocol: int, address: tuple[object, ...]) -> socket.socket:
    """A listening socket.  Its protocol number stays: unless it says TCP, asyncio delays small writes."""
    made = socket.socket(family, socket.SOCK_STREAM, protocol)
    try:
        made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if family == socket.AF_INET6:
            made.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)  # [::] leaves 0.0.0.0 to others
        made.bind(address)
        made.listen(BACKLOG)
    except OSError:
        made.close()
        raise
    return made
