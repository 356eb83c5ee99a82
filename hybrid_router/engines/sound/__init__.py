"""Sound files: read from memory, within limits; written in pieces."""
