"""Small files that really decode, and answers of every other kind: what the emulator says without a model."""
