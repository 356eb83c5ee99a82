"""Calls to whatever speaks OpenAI's API."""

from hybrid_router.backends.openai.backend import OpenAI

__all__ = ["OpenAI"]
