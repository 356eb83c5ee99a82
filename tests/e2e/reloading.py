"""Changing a running service's router.yaml, and asking it what came of it."""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import aiohttp
from prometheus_client.parser import text_string_to_metric_families
from router_process import WITHIN_S, Router

from hybrid_router.config.state import CONTROL_SOCKET, below, opened


def folder_of(router: Router) -> Path:
    """Where a router was started: its router.yaml is there, and its state below."""
    return Path(f"/proc/{router.pid}/cwd").readlink()


def config_of(router: Router) -> Path:
    """Its router.yaml."""
    return folder_of(router) / "router.yaml"


def rewrite(router: Router, *changes: tuple[str, str]) -> None:
    """Change its router.yaml as editors do: a new file in the place of the old."""
    path = config_of(router)
    text = path.read_text()
    for old, new in changes:
        assert text.count(old) == 1, f"{old!r} stands there {text.count(old)} times"
        text = text.replace(old, new)
    replace(path, text)


def replace(path: Path, text: str) -> None:
    """Put a new file in the place of the old."""
    fresh = path.with_suffix(".fresh")
    fresh.write_text(text)
    fresh.replace(path)


def command(router: Router, *arguments: str) -> subprocess.CompletedProcess[str]:
    """`hybrid-router reload ARGUMENTS`, where the router was started."""
    return subprocess.run(
        [sys.executable, "-m", "hybrid_router", "reload", *arguments],
        cwd=folder_of(router),
        env={name: value for name, value in os.environ.items() if not name.startswith("CLOUDFLARE_")},
        capture_output=True,
        text=True,
        check=False,
        timeout=3 * WITHIN_S,
    )


async def control(router: Router, method: str, path: str, body: Any = None) -> dict[str, Any]:
    """What the control socket answers."""
    with opened(folder_of(router) / "state") as folder:
        connector = aiohttp.UnixConnector(below(folder, CONTROL_SOCKET), force_close=True)
        async with (
            aiohttp.ClientSession("http://router", connector=connector) as http,
            http.request(method, path, json=body) as reply,
        ):
            told: dict[str, Any] = json.loads(await reply.read())
            return told


async def reload(router: Router) -> dict[str, Any]:
    """Have it take up its router.yaml; what came of it."""
    path = await asyncio.to_thread(config_of, router)
    return await control(router, "POST", "/reload", {"config": str(path)})


async def status(router: Router) -> dict[str, Any]:
    """How it is."""
    return await control(router, "GET", "/status")


async def metric(router: Router, name: str, **labels: str) -> float | None:
    """One of its numbers; None if it is not told."""
    async with aiohttp.ClientSession() as http, http.get(f"{router.url}/metrics") as reply:
        text = await reply.text()
    found = [
        sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
        if sample.name == name and labels.items() <= sample.labels.items()
    ]
    assert len(found) <= 1, found
    return float(found[0]) if found else None
