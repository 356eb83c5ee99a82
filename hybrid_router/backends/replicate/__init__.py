"""Calls to Replicate."""

from hybrid_router.backends.replicate.backend import Replicate

__all__ = ["Replicate"]
