"""Somebody else's protocol: each backend turns a call into their words and their answer into events."""
