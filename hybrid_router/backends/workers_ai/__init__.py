"""Cloudflare Workers AI over REST."""

from __future__ import annotations

from hybrid_router.backends.workers_ai.backend import WorkersAI

__all__ = ["WorkersAI"]
