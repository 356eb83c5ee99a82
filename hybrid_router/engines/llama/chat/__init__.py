"""Conversations: rendered by the model's template, and what it says read back."""
