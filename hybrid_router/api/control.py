"""The control socket's two addresses: take up router.yaml anew, and how things are.

Who may ask is decided by the socket: the kernel says which user is at its other end.
"""

from __future__ import annotations

import os
import socket
import struct
from pathlib import Path
from typing import Protocol

import msgspec
from aiohttp import web
from msgspec import Struct, field

from hybrid_router.api.guard import Respond

_CREDENTIALS = struct.Struct("3i")  # pid, uid, gid: `struct ucred` of unix(7)
_LIMIT_BYTES = 65_536


class Outcome(Struct, frozen=True, kw_only=True):
    """What became of a reload.

    Attributes:
        ok: the file was taken up.
        generation: the number of the configuration that serves now, from 1.
        at_s: when it ended, seconds since 1970.
        seconds: how long it took.
        errors: why the file was not taken up, and what to do.
        notes: what a person should know of one that was.
    """

    ok: bool
    generation: int
    at_s: float
    seconds: float
    errors: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)


class Status(Struct, frozen=True, kw_only=True):
    """How a router is.

    Attributes:
        config: the router.yaml that it serves, absolute.
        generation: how many configurations it has served.
        since_s: when the present one was taken up, seconds since 1970.
        off: backend → why it is off.
        workers: `backend/model` → its state.
        retiring_count: calls in flight that end under a configuration of before.
    """

    config: str
    generation: int
    since_s: float
    last_reload: Outcome | None
    off: dict[str, str]
    workers: dict[str, str]
    in_flight_count: int
    retiring_count: int


class Asked(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The body of POST /reload: which router.yaml the asker means."""

    config: str


class Control(Protocol):
    """Who does what is asked for."""

    async def reload(self) -> Outcome:
        """Take up router.yaml anew."""
        ...

    def status(self) -> Status:
        """How things are."""
        ...


CONTROL = web.AppKey("control", Control)


async def reload(request: web.Request) -> web.Response:
    """POST /reload.  409 if the asker means another router.yaml, 422 if it was not taken up."""
    control = request.app[CONTROL]
    try:
        asked = msgspec.json.decode(await request.read(), type=Asked)
    except msgspec.DecodeError as error:
        return _document({"error": f"the body is not what it should be: {error}"}, 400)
    serving = control.status().config
    if not _is_same_file(asked.config, serving):
        return _document({"error": "another configuration is served here", "config": serving}, 409)
    outcome = await control.reload()
    return _document(outcome, 200 if outcome.ok else 422)


async def status(request: web.Request) -> web.Response:
    """GET /status."""
    return _document(request.app[CONTROL].status(), 200)


def create_control(control: Control) -> web.Application:
    """What answers on the control socket.  Every address is for those alone whom `_only_us` lets in."""
    application = web.Application(middlewares=[_only_us], client_max_size=_LIMIT_BYTES)
    application[CONTROL] = control
    application.router.add_post("/reload", reload)
    application.router.add_get("/status", status)
    return application


@web.middleware
async def _only_us(request: web.Request, handler: Respond) -> web.StreamResponse:
    """Let root and our own user in, by what the kernel says of the other end."""
    connection = request.get_extra_info("socket")
    if connection is None or _user_id(connection) not in {0, os.geteuid()}:
        return _document({"error": "only root and the router's own user may ask"}, 403)
    return await handler(request)


def _user_id(connection: socket.socket) -> int:
    """Who connected, at the time when they did (SO_PEERCRED of unix(7))."""
    told = connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _CREDENTIALS.size)
    return int(_CREDENTIALS.unpack(told)[1])


def _is_same_file(one: str, other: str) -> bool:
    """Whether two paths lead to one file; a file that is not there is told by its path."""
    try:
        return Path(one).samefile(other)
    except OSError:
        return Path(one) == Path(other)


def _document(document: object, status: int) -> web.Response:
    return web.Response(
        body=msgspec.json.encode(document), status=status, headers={"content-type": "application/json"}
    )
