"""The emulator, and a router in front of it: two services that Cloudflare's packages take for Cloudflare."""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from router_process import ACCOUNT, TOKEN, Router

from hybrid_router.emulator.fault import Fault
from hybrid_router.emulator.server import Running, serve
from hybrid_router.emulator.settings import Settings

CHAT = "@cf/meta/llama-3.2-1b-instruct"
BUSY = "@cf/meta/llama-3.2-3b-instruct"
THINKER = "@cf/qwen/qwen3.8-27b"
VECTORS = "@cf/baai/bge-small-en-v1.5"
TRANSLATOR = "@cf/meta/m2m100-1.2b"
LABELS = "@cf/microsoft/resnet-50"
EARS = "@cf/openai/whisper"
VOICE = "@cf/myshell-ai/melotts"
PAINTER = "@cf/stabilityai/stable-diffusion-xl-base-1.0"
FILLER = "@cf/runwayml/stable-diffusion-v1-5-inpainting"
ADAPTED = "@cf/mistral/mistral-7b-instruct-v0.2-lora"
KEY = "alice-key-0123456789"
GATEWAY = "site"
CLOUD = """{
    type: workers_ai, base_url: URL,
    account_id: { env: CLOUDFLARE_ACCOUNT_ID }, token: { env: CLOUDFLARE_API_TOKEN },
  }"""
POLICY = f"""
server:
  listen: 127.0.0.1:0
  drain: 5s
  keys: [{{ name: alice, sha256: {hashlib.sha256(KEY.encode()).hexdigest()} }}]
backends:
  cloudflare: {CLOUD}
  busy: {CLOUD}
aliases:
  chat: {{ try: cloudflare/{CHAT} }}
  busy: {{ try: busy/{BUSY}, retries: 0 }}
  thinker: {{ try: cloudflare/{THINKER} }}
  vectors: {{ try: cloudflare/{VECTORS} }}
  translator: {{ try: cloudflare/{TRANSLATOR} }}
  labels: {{ try: cloudflare/{LABELS} }}
  ears: {{ try: cloudflare/{EARS} }}
  voice: {{ try: cloudflare/{VOICE} }}
  painter: {{ try: cloudflare/{PAINTER} }}
dialects:
  workers_ai:
    models: {{ "{BUSY}": busy, "@cf/qwen/*": thinker }}
    tasks:
      Text Generation: chat
      Text Embeddings: vectors
      Translation: translator
      Image Classification: labels
      Automatic Speech Recognition: ears
      Text-to-Speech: voice
      Text-to-Image: painter
gateways:
  {GATEWAY}: {{}}
"""


@dataclass(frozen=True)
class Side:
    """One of the two, and what opens it."""

    base_url: str
    account_id: str
    token: str

    @property
    def gateway_url(self) -> str:
        """Where the gateway's host has this account."""
        return self.base_url.removesuffix("/client/v4") + f"/v1/{self.account_id}/{GATEWAY}"


@dataclass(frozen=True)
class Sides:
    """Both."""

    emulator: Side
    router: Side
    running: Running

    @property
    def last_asked(self) -> Any:
        """The body of the newest call that came to the emulator."""
        return self.running.account.calls.calls[-1].body

    def be_busy(self) -> None:
        """Have the next call refused for want of capacity."""
        self.running.account.faults.add(Fault(code=3040))


@asynccontextmanager
async def both_sides(folder: Path) -> AsyncGenerator[Sides]:
    """An emulator, and the real router in front of it, whose aliases answer for every task."""
    async with serve(Settings(account_id=ACCOUNT, token=TOKEN, paid=True)) as running:
        policy = POLICY.replace("URL", running.base_url)
        router = await asyncio.to_thread(Router, policy, folder)
        try:
            yield Sides(
                emulator=Side(running.base_url, ACCOUNT, TOKEN),
                router=Side(router.url + "/client/v4", "a" * 32, KEY),
                running=running,
            )
        finally:
            await asyncio.to_thread(router.stop)
