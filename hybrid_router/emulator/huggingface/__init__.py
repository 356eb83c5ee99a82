"""Hugging Face's router and task API on loopback: for tests, demos and drills."""

from hybrid_router.emulator.huggingface.server import serve

__all__ = ["serve"]
