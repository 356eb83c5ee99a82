"""Anthropic's Messages API on loopback: for tests, demos and drills."""

from hybrid_router.emulator.anthropic.server import serve

__all__ = ["serve"]
