"""The yardstick: the shortest honest streaming proxy that aiohttp can be.

It looks at nothing, changes nothing and logs nothing.  `python -m bench.bare_proxy PORT UPSTREAM_PORT`.
"""

from __future__ import annotations

import asyncio
import sys

import aiohttp
from aiohttp import web

_PASSED_ON = ("Content-Type", "Content-Length")


async def main(port: int, upstream: str) -> None:
    """Serve until killed."""
    async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=512)) as session:

        async def relay(request: web.Request) -> web.StreamResponse:
            url, sent = upstream + request.path, {"Content-Type": request.content_type}
            async with session.post(url, data=await request.read(), headers=sent) as reply:
                kept = {name: reply.headers[name] for name in _PASSED_ON if name in reply.headers}
                response = web.StreamResponse(status=reply.status, headers=kept)
                await response.prepare(request)
                async for piece in reply.content.iter_any():
                    await response.write(piece)
                await response.write_eof()
                return response

        application = web.Application()
        application.router.add_post("/{path:.*}", relay)
        runner = web.AppRunner(application, handler_cancellation=True, access_log=None)
        await runner.setup()
        await web.TCPSite(runner, "127.0.0.1", port, backlog=1024).start()
        await asyncio.Event().wait()


if __name__ == "__main__":
    asyncio.run(main(int(sys.argv[1]), f"http://127.0.0.1:{sys.argv[2]}"))
