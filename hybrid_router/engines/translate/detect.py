"""Which language a text is written in, of those that a model reads: by py3langid."""

from __future__ import annotations

from collections.abc import Iterable
from functools import cached_property
from typing import Any

from hybrid_router.engines.task import TaskRefused
from hybrid_router.engines.translate.languages import bare

_READ_CHARS = 2_000
_LEAST_LIKELIHOOD = 0.5


class Detector:
    """Loads its tables when it is asked for the first time: half a second, and 90 MB."""

    def __init__(self, languages: Iterable[str]) -> None:
        self._languages = frozenset(languages)

    def language(self, text: str) -> tuple[str, float]:
        """ISO 639-1, and how likely it is.

        Raises:
            TaskRefused: it cannot be told.
        """
        name, likelihood = self._identifier.classify(text[:_READ_CHARS])
        if likelihood < _LEAST_LIKELIHOOD:
            raise TaskRefused(
                "invalid_request_error",
                'source: the text is too short to tell its language; name it, as in "source": "en"',
                by_call=True,
                param="source",
            )
        return str(name), float(likelihood)

    @cached_property
    def _identifier(self) -> Any:
        from py3langid.langid import (  # type: ignore[import-untyped] # noqa: PLC0415
            MODEL_FILE,
            LanguageIdentifier,
        )

        identifier = LanguageIdentifier.from_model_file(MODEL_FILE, norm_probs=True)
        known = {bare(name) for name in self._languages} & set(identifier.nb_classes)
        if known:
            identifier.set_languages(known)
        return identifier
