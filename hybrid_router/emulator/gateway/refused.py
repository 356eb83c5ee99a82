"""Errors of the gateway itself: one body on its own host, the ordinary envelope on the API's."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

from aiohttp import web

from hybrid_router.api.ai_gateway import error

_TABLE: Mapping[int, tuple[int, str]] = MappingProxyType({
    2001: (400, "Please configure AI Gateway in the Cloudflare dashboard"),
    2003: (429, "Rate limited"),
    2005: (502, "Failed to get response from provider"),
    2008: (400, "Invalid provider"),
    2009: (401, "Unauthorized"),
})  # fmt: skip


class GatewayRefusal(Exception):
    """A call that the gateway itself ends."""

    def __init__(self, code: int, message: str | None = None, *, status: int | None = None) -> None:
        usual_status, usual_message = _TABLE[code]
        self.code = code
        self.status = status or usual_status
        self.message = message or usual_message
        super().__init__(self.message)

    def on_the_host(self) -> web.Response:
        """As the gateway host writes it: `error` is a list there."""
        return web.json_response(error.told(self.code, self.status, self.message), status=self.status)

    def in_the_envelope(self) -> web.Response:
        """As the API writes it; its own messages have no prefix."""
        told = {
            "errors": [{"message": self.message, "code": self.code}],
            "success": False,
            "result": {},
            "messages": [],
        }
        return web.json_response(told, status=self.status)
