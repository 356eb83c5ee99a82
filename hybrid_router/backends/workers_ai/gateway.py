"""The way through an AI Gateway: its addresses, its headers, and what it says of a reply.

Source: AI Gateway's documentation of its host, request headers, caching and authentication.
"""

from __future__ import annotations

import json
from collections.abc import AsyncGenerator, Mapping
from contextlib import aclosing
from types import MappingProxyType
from urllib.parse import quote

from msgspec.structs import replace

from hybrid_router.backends.errand import Errand, Reader
from hybrid_router.backends.http import revealed
from hybrid_router.backends.workers_ai.tasks.task import Send
from hybrid_router.config.cloud_schema import Gateway, WorkersAIBackend
from hybrid_router.core.event import CACHE_STATUS, HIT, Batch, Remark
from hybrid_router.core.secret import Secret

MISS = "MISS"
LOG_ID = "cf-aig-log-id"
# What a gateway answers anew each time: a second choice from its cache would be the first one again.
NOT_KEPT: Mapping[str, str] = MappingProxyType({"cf-aig-cache-ttl": "0", "cf-aig-skip-cache": "true"})
_ID = "cf-aig-gateway-id"
_TOKEN = "cf-aig-authorization"  # noqa: S105 - the header's name
_TOLD = ("cf-aig-step", LOG_ID, "cf-aig-model", "cf-aig-provider", "cf-aig-dlp")
_MOST_CHARS = 500


def root(config: WorkersAIBackend, account_id: str) -> str:
    """Below which address models run: `run/…` and `v1/…` follow."""
    account = quote(account_id, safe="")
    gateway = config.gateway
    if gateway is not None and gateway.through == "host":
        return f"{gateway.base_url.rstrip('/')}/{account}/{quote(gateway.id, safe='')}/workers-ai/"
    return f"{config.base_url.rstrip('/')}/accounts/{account}/ai/"


def policy(gateway: Gateway | None) -> dict[str, str]:
    """What is asked of the gateway with every call.  What router.yaml leaves out is not sent."""
    if gateway is None:
        return {}
    found: dict[str, str | None] = {
        _ID: gateway.id if gateway.through == "api" else None,
        "cf-aig-cache-ttl": _cache_ttl(gateway),
        "cf-aig-skip-cache": "true" if gateway.skip_cache else None,
        "cf-aig-request-timeout": _milliseconds(gateway.request_timeout),
        "cf-aig-max-attempts": None if gateway.max_attempts is None else str(gateway.max_attempts),
        "cf-aig-retry-delay": _milliseconds(gateway.retry_delay),
        "cf-aig-backoff": gateway.backoff,
        "cf-aig-collect-log": None if gateway.collect_log is None else _word(gateway.collect_log),
        "cf-aig-collect-log-payload": _word(gateway.collect_log_payload),
        "cf-aig-metadata": _in_ascii(gateway.metadata) if gateway.metadata else None,
    }
    return {name: value for name, value in found.items() if value is not None}


def credentials(gateway_token: Secret | None) -> dict[str, str]:
    """The gateway's own token, if it wants one; Workers AI's goes beside it."""
    return {} if gateway_token is None else {_TOKEN: f"Bearer {revealed(gateway_token, 'the AI Gateway')}"}


def keeps(gateway: Gateway | None) -> bool:
    """Whether whole answers are to be kept there.  Streams never are."""
    return gateway is not None and isinstance(gateway.cache_ttl, float | int)


class Passage:
    """One call's way through the gateway, whose answer may take several requests.

    Args:
        through: whether there is a gateway.
        choices_count: more than one: each is to be an answer of its own.
    """

    def __init__(self, *, through: bool, choices_count: int = 1) -> None:
        self._through = through
        self._choices_count = choices_count
        self._sent_count = 0
        self._hits_count = 0

    def headers(self) -> Mapping[str, str]:
        """Of the next request, besides the policy's."""
        self._sent_count += 1
        again = self._through and self._choices_count > 1 and self._sent_count > 1
        return NOT_KEPT if again else {}

    def remarks(self, headers: Mapping[str, str]) -> Batch:
        """What the gateway says of a reply.

        The cache has the answer only if it had every part of it: then it costs nothing.
        """
        if not self._through:
            return []
        status = headers.get(CACHE_STATUS, "").upper()
        self._hits_count += status == HIT
        told: Batch = [Remark(name, _shown(headers[name])) for name in _TOLD if name in headers]
        if status or self._hits_count:
            whole = self._hits_count == self._sent_count
            told.append(Remark(CACHE_STATUS, HIT if whole else MISS))
        return told

    def sending(self, send: Send) -> Send:
        """`send`, with what the gateway says of each reply before the reply's own events."""
        if not self._through:
            return send

        async def through(errand: Errand, reader: Reader) -> AsyncGenerator[Batch]:
            own = replace(errand, headers={**errand.headers, **self.headers()})
            async with aclosing(send(own, Remarked(reader, self))) as batches:
                async for batch in batches:
                    yield batch

        return through


class Remarked:
    """A reader that also reads the gateway's headers.  See `backends.errand.Reader`.

    They come with the first batch and never alone: a head is no sign of life of the model behind it.
    """

    def __init__(self, reader: Reader, passage: Passage) -> None:
        self._reader = reader
        self._passage = passage
        self._held: Batch = []

    @property
    def done(self) -> bool:
        return self._reader.done

    def head(self, media_type: str, headers: Mapping[str, str]) -> Batch:
        self._held = self._passage.remarks(headers)
        return self._with_held(self._reader.head(media_type, headers))

    def feed(self, chunk: bytes) -> Batch:
        return self._with_held(self._reader.feed(chunk))

    def end(self) -> Batch:
        batch = [*self._held, *self._reader.end()]
        self._held = []
        return batch

    def _with_held(self, batch: Batch) -> Batch:
        if not batch or not self._held:
            return batch
        held, self._held = self._held, []
        return [*held, *batch]


def _cache_ttl(gateway: Gateway) -> str | None:
    match gateway.cache_ttl:
        case None:
            return None
        case "off":
            return "0"
        case seconds:
            return str(round(float(seconds)))


def _milliseconds(seconds: float | None) -> str | None:
    return None if seconds is None else str(round(seconds * 1000))


def _word(value: bool) -> str:
    return "true" if value else "false"


def _in_ascii(fields: Mapping[str, object]) -> str:
    """As JSON whose other characters are escaped: a header's value is ASCII."""
    return json.dumps(fields, separators=(",", ":"))


def _shown(text: str) -> str:
    return "".join(char for char in text[:_MOST_CHARS] if char.isprintable())
