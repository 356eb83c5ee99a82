"""Streams from the router over HTTP.  `python -m bench.llama_client PORT ALIAS`."""

from __future__ import annotations

import asyncio
import sys
import time

import aiohttp
import msgspec

from bench.llama_asks import Ask, Told, serve


def main(port: int, alias: str) -> None:
    """Answer asks by way of the router."""
    serve(lambda ask: asyncio.run(_all(f"http://127.0.0.1:{port}/v1/chat/completions", alias, ask)))


async def _all(url: str, alias: str, ask: Ask) -> Told:
    """Every prompt at once."""
    async with aiohttp.ClientSession() as session:
        started_s = time.perf_counter()
        calls = [_one(session, url, alias, prompt, ask.tokens_count) for prompt in ask.prompts]
        ends = await asyncio.gather(*calls)
        seconds = time.perf_counter() - started_s
    firsts, counts = zip(*ends, strict=True)
    return Told(
        seconds=seconds, tokens_count=sum(counts), ttfts_s=[first_s - started_s for first_s in firsts]
    )


async def _one(
    session: aiohttp.ClientSession, url: str, alias: str, prompt: str, tokens_count: int
) -> tuple[float, int]:
    """When the first text came, and how many tokens the router counted."""
    call = {
        "model": alias,
        "messages": [{"role": "user", "content": prompt}],
        "max_tokens": tokens_count,
        "temperature": 0,
        "stream": True,
        "stream_options": {"include_usage": True},
    }
    first_s, read = 0.0, b""
    async with session.post(url, json=call) as reply:
        reply.raise_for_status()
        async for piece in reply.content.iter_any():
            read += piece
            if not first_s and b'"content":"' in read.replace(b'"content":""', b""):
                first_s = time.perf_counter()
    usage = next(line for line in reversed(read.split(b"\n")) if b'"usage":{' in line)
    return first_s, int(msgspec.json.decode(usage.removeprefix(b"data: "))["usage"]["completion_tokens"])


if __name__ == "__main__":
    main(int(sys.argv[1]), sys.argv[2])
