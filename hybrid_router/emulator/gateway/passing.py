"""A request on its way through an emulated gateway: real requests to real addresses, in the steps' order."""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

import aiohttp
import msgspec
from aiohttp import web
from msgspec import Struct
from msgspec.structs import replace

from hybrid_router.core import ids
from hybrid_router.emulator.gateway.gateways import PlayedGateway
from hybrid_router.emulator.gateway.providers import Providers, Target
from hybrid_router.emulator.gateway.refused import GatewayRefusal
from hybrid_router.emulator.settings import Account
from hybrid_router.gateway import cache, retries
from hybrid_router.gateway.cache import MOST_ANSWER_BYTES, Kept
from hybrid_router.gateway.controls import Controls, first_of
from hybrid_router.gateway.logbook import ENTROPY_BYTES, Entry, ulid
from hybrid_router.gateway.steps import GatewayStep

_EVENTS = "text/event-stream"
_ERRORS = 400
# Between two hosts alone, or made anew for each.
_HOP = frozenset(
    {"connection", "content-length", "host", "keep-alive", "transfer-encoding", "accept-encoding", "date",
     "server", "content-encoding", "cf-aig-authorization", "cf-aig-gateway-id"}
)  # fmt: skip
_OURS = ("cf-aig-", "cf-cache-", "cf-skip-")


class Sent(Struct, frozen=True, kw_only=True, eq=False):
    """What a step sends.

    Attributes:
        content: the body where it is no JSON, or as it came.
        headers: for the provider.
        parameters: of the address, for the provider too.
    """

    content: bytes | None = None
    headers: Mapping[str, str] = {}
    parameters: Sequence[tuple[str, str]] = ()


class Reply(Struct, kw_only=True, eq=False):
    """A provider's reply whose first byte is there."""

    response: aiohttp.ClientResponse
    first: bytes
    target: Target

    @property
    def streams(self) -> bool:
        """Whether it is to be passed on as it comes."""
        return self.response.content_type == _EVENTS


class Passing:
    """One request through one gateway: which, where to, and by what."""

    def __init__(
        self, account: Account, gateway: PlayedGateway, providers: Providers, http: aiohttp.ClientSession
    ) -> None:
        self._account = account
        self.gateway = gateway
        self.providers = providers
        self.http = http
        self._counted = False

    async def run(
        self, request: web.Request, steps: Sequence[GatewayStep], wishes: Controls, sent: Sent | None = None
    ) -> web.StreamResponse:
        """The reply of the first step that works, or of the last.

        Args:
            sent: what a direct request brought; None: each step has its own headers and query.

        Raises:
            GatewayRefusal: there is no reply of a provider to pass on.
        """
        wishes = replace(wishes, event_id=wishes.event_id or ids.new(""))
        for number, step in enumerate(steps):
            last = number == len(steps) - 1
            controls = first_of(step.controls, wishes, self.gateway.controls)
            try:
                one = _Step(self, number, step, controls, sent or Sent(headers=step.headers))
                return await one.answer(request, last=last)
            except _NextStep:
                continue
            except GatewayRefusal as refused:
                if last or refused.code == 2003:  # noqa: PLR2004 - too many calls are too many for every step
                    raise
        raise GatewayRefusal(2005)  # pragma: no cover - the last step answers or raises

    @property
    def now(self) -> datetime:
        """The emulator's time."""
        return self._account.settings.now()

    @property
    def now_s(self) -> float:
        """The same, since the epoch."""
        return self.now.timestamp()

    def count(self) -> None:
        """Count the request, once.  Raises GatewayRefusal: 2003."""
        if not self._counted:
            self._counted = True
            if not self.gateway.admits(self.now_s):
                raise GatewayRefusal(2003)


class _NextStep(Exception):
    """A step failed, and another comes after it."""


class _Step:
    """One step: what was kept, or as many tries as it may have."""

    def __init__(
        self, passing: Passing, number: int, step: GatewayStep, controls: Controls, sent: Sent
    ) -> None:
        self._passing = passing
        self._number = number
        self._step = step
        self._controls = controls
        self._event_id = controls.event_id or ids.new("")
        self._sent = sent
        self._log_id = ""
        self._began_s = 0.0
        self._key: bytes | None = None
        if controls.ttl_s and step.query is not None:
            asked = [step.query, sorted(sent.parameters)]
            self._key = cache.key("", step.provider, step.endpoint, asked, controls.cache_key)

    async def answer(self, request: web.Request, *, last: bool) -> web.StreamResponse:
        """Raises _NextStep or GatewayRefusal."""
        self._begin()
        target = self._passing.providers.target(self._step)
        if self._key is not None and not self._controls.skip_cache:
            kept = self._passing.gateway.cache.find(self._key, self._passing.now_s)
            if kept is not None:
                self._note(target, 200, kept.content, cached=True)
                return web.Response(
                    body=kept.content, headers={**self._headers("HIT"), "content-type": kept.media_type}
                )
        self._passing.count()
        for count in range(1, self._controls.tries + 1):
            if count > 1:
                await asyncio.sleep(retries.wait_s(self._controls, count - 1))
                self._begin()
            final = last and count == self._controls.tries
            response = await self._try(
                request, target, retries.within_s(self._controls, count, last_step=last), final=final
            )
            if response is not None:
                return response
        raise _NextStep

    async def _try(
        self, request: web.Request, target: Target, within_s: float | None, *, final: bool
    ) -> web.StreamResponse | None:
        """A reply that is passed on; None: it failed, and something else is left to try."""
        response: aiohttp.ClientResponse | None = None
        try:
            async with asyncio.timeout(within_s):
                response = await self._post(target)
                first = await response.content.readany()
            reply = Reply(response=response, first=first, target=target)
            if response.status >= _ERRORS and not final:
                self._note(target, response.status, first)
                return None
            return await self._passed_on(request, reply)
        except (TimeoutError, aiohttp.ClientError) as error:
            late = isinstance(error, TimeoutError)
            self._note(target, 504 if late else 502, b"")
            if not final:
                return None
            raise GatewayRefusal(2005, status=504 if late else 502) from None
        finally:
            if response is not None:
                response.close()

    async def _post(self, target: Target) -> aiohttp.ClientResponse:
        headers = {
            name: value
            for name, value in self._sent.headers.items()
            if name.lower() not in _HOP and not name.lower().startswith(_OURS)
        }
        content = self._sent.content
        if self._step.query is not None:
            content = target.body
            headers = {name: value for name, value in headers.items() if name.lower() != "content-type"}
            headers["content-type"] = "application/json"
        headers["accept-encoding"] = "identity"
        return await self._passing.http.post(
            target.url, params=self._sent.parameters, data=content, headers=headers, allow_redirects=False
        )

    async def _passed_on(self, request: web.Request, reply: Reply) -> web.StreamResponse:
        told = {name: value for name, value in reply.response.headers.items() if name.lower() not in _HOP}
        told |= self._headers("MISS" if self._key is not None and not reply.streams else None)
        if reply.streams:
            return await self._relayed(request, reply, told)
        content = reply.first + await reply.response.content.read()
        status = reply.response.status
        self._note(reply.target, status, content, reply.response.content_type)
        if self._key is not None and status < 300 and len(content) <= MOST_ANSWER_BYTES:  # noqa: PLR2004
            kept = Kept(
                principal="",
                content=content,
                media_type=reply.response.headers.get("content-type", "application/octet-stream"),
                until_s=self._passing.now_s + self._controls.ttl_s,
            )
            self._passing.gateway.cache.put(self._key, kept)
        return web.Response(body=content, status=status, headers=told)

    async def _relayed(self, request: web.Request, reply: Reply, told: dict[str, str]) -> web.StreamResponse:
        """A stream as it comes; one that breaks is cut."""
        response = web.StreamResponse(status=reply.response.status, headers=told)
        await response.prepare(request)
        content = bytearray()
        try:
            chunk = reply.first
            while chunk:
                content += chunk[: max(0, MOST_ANSWER_BYTES - len(content))]
                await response.write(chunk)
                chunk = await reply.response.content.readany()
        except aiohttp.ClientError:
            if request.transport is not None:
                request.transport.abort()
        finally:
            self._note(reply.target, reply.response.status, bytes(content), _EVENTS)
        return response

    def _begin(self) -> None:
        self._began_s = asyncio.get_running_loop().time()
        self._log_id = ulid(self._passing.now_s, secrets.token_bytes(ENTROPY_BYTES))

    def _headers(self, cache_status: str | None) -> dict[str, str]:
        told = {"cf-aig-step": str(self._number), "cf-aig-event-id": self._event_id}
        if self._controls.collect_log:
            told |= {"cf-aig-log-id": self._log_id, "cf-aig-request-id": self._log_id}
        if cache_status is not None:
            told["cf-aig-cache-status"] = cache_status
        return told

    def _note(
        self, target: Target, status: int, content: bytes, media_type: str = "", *, cached: bool = False
    ) -> None:
        if not self._controls.collect_log:
            return
        tokens_in, tokens_out = _usage(content)
        cost = self._controls.cost
        elapsed_s = asyncio.get_running_loop().time() - self._began_s
        entry = Entry(
            id=self._log_id,
            principal="",
            created_at=self._passing.now.isoformat(timespec="milliseconds"),
            provider=target.provider,
            path=self._step.endpoint,
            model=target.model,
            response_content_type=media_type,
            status_code=status,
            success=status < _ERRORS,
            cached=cached,
            duration=round(elapsed_s * 1000),
            tokens_in=tokens_in,
            tokens_out=tokens_out,
            cost=0.0 if cost is None or cached else cost.usd(tokens_in, tokens_out),
            custom_cost=cost is not None,
            step=self._number,
            metadata=self._controls.metadata or {},
            event_id=self._event_id,
        )
        gateway = self._passing.gateway
        gateway.log.add(entry)
        if self._controls.collect_payload is not False:
            gateway.keep(entry.id, target.body, content)


def _usage(content: bytes) -> tuple[int, int]:
    """What a reply says that it counted; a stream's last word on it."""
    for line in reversed(content.removeprefix(b"data: ").split(b"\ndata: ")):
        found = _counted(line.strip())
        if found is not None:
            return found
    return (0, 0)


def _counted(document: bytes) -> tuple[int, int] | None:
    try:
        told: Any = msgspec.json.decode(document)
    except (msgspec.DecodeError, UnicodeDecodeError):
        return None
    for holder in (told, told.get("result") if isinstance(told, dict) else None):
        usage = holder.get("usage") if isinstance(holder, dict) else None
        if isinstance(usage, dict):
            read = usage.get("prompt_tokens", usage.get("input_tokens", 0))
            written = usage.get("completion_tokens", usage.get("output_tokens", 0))
            return int(read or 0), int(written or 0)
    return None
