"""Addresses of our own, for what OpenAI's API has no form for."""
