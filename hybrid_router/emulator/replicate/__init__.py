"""Replicate's API on loopback: for tests, demos and drills."""

from hybrid_router.emulator.replicate.server import serve

__all__ = ["serve"]
