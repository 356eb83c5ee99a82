"""Who speaks: the models' own speakers, and the names that clients know from OpenAI."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

# What clients ask for that know OpenAI's service only.
OPENAI = frozenset(
    {
        "alloy", "ash", "ballad", "cedar", "coral", "echo", "fable", "marin", "nova", "onyx", "sage",
        "shimmer", "verse",
    }
)  # fmt: skip
SPEAKERS: Mapping[str, frozenset[str]] = MappingProxyType(
    {
        "@cf/deepgram/aura-1": frozenset({
            "angus", "arcas", "asteria", "athena", "helios", "hera", "luna", "orion", "orpheus", "perseus",
            "stella", "zeus",
        }),
        "@cf/deepgram/aura-2-en": frozenset({
            "amalthea", "andromeda", "apollo", "arcas", "aries", "asteria", "athena", "atlas", "aurora",
            "callista", "cora", "cordelia", "delia", "draco", "electra", "harmonia", "helena", "hera",
            "hermes", "hyperion", "iris", "janus", "juno", "jupiter", "luna", "mars", "minerva", "neptune",
            "odysseus", "ophelia", "orion", "orpheus", "pandora", "phoebe", "pluto", "saturn", "thalia",
            "theia", "vesta", "zeus",
        }),
        "@cf/deepgram/aura-2-es": frozenset({
            "alvaro", "aquila", "carina", "celeste", "diana", "estrella", "javier", "nestor", "selena",
            "sirio",
        }),
    }
)  # fmt: skip
