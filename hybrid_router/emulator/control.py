"""The emulator's own addresses, below `/emulator`: faults to come, calls seen, neurons used."""

from __future__ import annotations

import msgspec
from aiohttp import web

from hybrid_router.emulator.fault import FaultInvalid, from_json
from hybrid_router.emulator.settings import Account

_LONGEST_WAIT_S = 60.0
_ARRIVAL_S = 10.0


def routes(account: Account) -> list[web.RouteDef]:
    """What there is to see and to set.  No credentials: whoever reaches loopback may."""
    control = _Control(account)
    return [
        web.get("/emulator/faults", control.show_faults),
        web.post("/emulator/faults", control.add_fault),
        web.delete("/emulator/faults", control.clear_faults),
        web.get("/emulator/calls", control.show_calls),
        web.delete("/emulator/calls", control.clear_calls),
        web.get("/emulator/neurons", control.show_neurons),
    ]


class _Control:
    def __init__(self, account: Account) -> None:
        self._account = account

    async def show_faults(self, request: web.Request) -> web.Response:
        """The faults that are still to come."""
        return _json({"faults": [msgspec.to_builtins(plan) for plan in self._account.faults.planned]})

    async def add_fault(self, request: web.Request) -> web.Response:
        """Let the next `count` calls go wrong."""
        try:
            planned = from_json(await request.read())
        except FaultInvalid as error:
            return _json({"error": str(error)}, status=400)
        self._account.faults.add(planned.fault, planned.count)
        return await self.show_faults(request)

    async def clear_faults(self, request: web.Request) -> web.Response:
        """Let calls go well again."""
        self._account.faults.clear()
        return await self.show_faults(request)

    async def show_calls(self, request: web.Request) -> web.Response:
        """The calls seen.

        With `arrived=N`, once N calls were seen in all; with `settle=SECONDS`, once none is running.
        `ready` says whether that came true in time.
        """
        log = self._account.calls
        ready = True
        try:
            if "arrived" in request.query:
                ready = await log.arrived(int(request.query["arrived"]), _ARRIVAL_S)
            if "settle" in request.query:
                ready = await log.settled(min(float(request.query["settle"]), _LONGEST_WAIT_S)) and ready
        except ValueError as error:
            return _json({"error": f"arrived and settle are numbers: {error}"}, status=400)
        return _json({"ready": ready, "calls": [msgspec.to_builtins(seen) for seen in log.calls]})

    async def clear_calls(self, request: web.Request) -> web.Response:
        """Forget the calls that have ended."""
        self._account.calls.clear()
        return _json({"ready": True, "calls": []})

    async def show_neurons(self, request: web.Request) -> web.Response:
        """Today's use; `limit` is null on the paid plan."""
        ledger = self._account.ledger
        return _json({"day": ledger.day, "used": ledger.used, "limit": ledger.daily_neurons})


def _json(document: object, status: int = 200) -> web.Response:
    return web.Response(body=msgspec.json.encode(document), status=status, content_type="application/json")
