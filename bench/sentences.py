"""What is read aloud and heard again, here and in tests: small voices say it well, small models hear it."""

from __future__ import annotations

PLAIN = (
    "The quick brown fox jumps over the lazy dog.",
    "She sells fresh bread at the market every morning.",
    "The train to the city leaves at half past nine.",
    "Please close the window before it starts to rain.",
    "My brother plays the piano in a small band.",
    "We walked along the river until the sun went down.",
    "The doctor asked me to come back next Friday.",
    "There are seven apples in the wooden bowl.",
    "He forgot his umbrella on the bus again.",
    "The children are playing football in the garden.",
)
TEN = (
    "The quick brown fox jumps over the lazy dog. She sells fresh bread at the market every morning. "
    "The train to the city leaves in the afternoon. Please close the window before it starts to rain. "
    "My brother bought a new bicycle last summer. We walked along the river until the sun went down. "
    "Can you tell me where the library is? The children are playing in the garden behind the house. "
    "He drinks a cup of coffee and reads the paper. It was a cold night and the stars were very bright."
)
