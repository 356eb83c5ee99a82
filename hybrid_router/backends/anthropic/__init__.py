"""Calls to Anthropic's Messages API."""

from hybrid_router.backends.anthropic.backend import Anthropic

__all__ = ["Anthropic"]
