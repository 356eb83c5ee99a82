"""The user's own policy against servers that fail: what a client would see, and what must never happen."""
