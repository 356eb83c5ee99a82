"""Embeddings and relevance, by sentence-transformers."""
