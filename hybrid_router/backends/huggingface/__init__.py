"""Calls to Hugging Face."""

from hybrid_router.backends.huggingface.backend import HuggingFace

__all__ = ["HuggingFace"]
