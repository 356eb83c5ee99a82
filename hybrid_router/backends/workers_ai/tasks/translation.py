"""Texts in another language: by a model that takes one at a time, and by one that takes several.

Both must be told what they cannot find out: the one the text's language, the other that it is English.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Callable, Sequence
from contextlib import aclosing
from functools import partial

from msgspec import Struct

from hybrid_router.backends.chunks import Counts
from hybrid_router.backends.errand import Errand, Unreadable
from hybrid_router.backends.workers_ai.tasks import bodies, counts, results
from hybrid_router.backends.workers_ai.tasks.pieces import Piece, answered, portions, texts
from hybrid_router.backends.workers_ai.tasks.task import Asked, Send
from hybrid_router.catalogue.families import Family
from hybrid_router.core.asks import Translation
from hybrid_router.core.call import Call, Feature
from hybrid_router.core.errors import NotAble
from hybrid_router.core.event import Batch, Finish, Label, Text
from hybrid_router.core.language import detector
from hybrid_router.engines.translate.languages import bare

MOST_TEXTS = 16  # in one request of the model that takes several
ENGLISH = "en"
# Source: the languages of M2M-100's vocabulary (Fan et al. 2020).
_M2M100 = (
    "af am ar ast az ba be bg bn br bs ca ceb cs cy da de el en es et fa ff fi fr fy ga gd gl gu ha he hi hr "
    "ht hu hy id ig ilo is it ja jv ka kk km kn ko lb lg ln lo lt lv mg mk ml mn mr ms my ne nl no ns oc or "
    "pa pl ps pt ro ru sd si sk sl so sq sr ss su sv sw ta th tl tn tr uk ur uz vi wo xh yi yo zh zu"
)
M2M100 = frozenset(_M2M100.split())
# Source: `target_language` of the model's input schema.  Of a language in two scripts, the first is meant.
INDIC = (
    "asm_Beng", "awa_Deva", "ben_Beng", "bho_Deva", "brx_Deva", "doi_Deva", "eng_Latn", "gom_Deva",
    "gon_Deva", "guj_Gujr", "hin_Deva", "hne_Deva", "kan_Knda", "kas_Arab", "kas_Deva", "kha_Latn",
    "lus_Latn", "mag_Deva", "mai_Deva", "mal_Mlym", "mar_Deva", "mni_Beng", "mni_Mtei", "npi_Deva",
    "ory_Orya", "pan_Guru", "san_Deva", "sat_Olck", "snd_Arab", "snd_Deva", "tam_Taml", "tel_Telu",
    "urd_Arab", "unr_Deva",
)  # fmt: skip
_ISO_3 = {"or": "ory", "sa": "san", "ks": "kas"}  # those that have two letters and are not in FLORES' table


class Placed(Struct, frozen=True):
    """One of the call's texts: which, and in which language it is."""

    index: int
    text: str
    source: str


Write = Callable[[Asked, Sequence[Placed]], list[Piece]]


class Translator:
    """See `task.Task`.

    Args:
        reads: whether a model reads a language.
        write: the requests for texts that are not in the target's language yet.
    """

    def __init__(self, reads: Callable[[str], bool], write: Write) -> None:
        self._reads = reads
        self._write = write

    def features(self, family: Family, model: str) -> frozenset[Feature]:
        """Nothing but texts."""
        return frozenset()

    async def run(self, asked: Asked, send: Send) -> AsyncGenerator[Batch]:
        """Find out the languages, ask, and tell the answer once it is whole.

        Raises:
            NotAble: a language is not the model's, or cannot be told.
        """
        ask = _ask(asked.call)
        target = target_of(asked.family, ask.target)
        given = texts(asked.call)
        placed, told = await asyncio.to_thread(placed_in, given, ask.source)
        for one in placed:
            if not self._reads(one.source):
                raise NotAble(
                    f"this Workers AI model does not read the language {one.source}", param="source"
                )
        abroad: list[Placed] = []
        for one in placed:
            if one.source == bare(target):
                told += [Text(one.text, one.index), Finish("stop", one.index)]
            else:
                abroad.append(one)
        pieces = self._write(asked, abroad)
        async with aclosing(answered(pieces, send, told)) as batches:
            async for batch in batches:
                yield batch


def placed_in(given: Sequence[str], source: str | None) -> tuple[list[Placed], Batch]:
    """Texts with their languages, and what is told of those that were found out.

    Raises:
        NotAble: one is too short to tell.
    """
    if source is not None:
        return [Placed(index, text, bare(source)) for index, text in enumerate(given)], []
    placed: list[Placed] = []
    told: Batch = []
    for index, text in enumerate(given):
        found = detector(frozenset()).likeliest(text)
        if found is None:
            raise NotAble(
                'source: the text is too short to tell its language; name it, as in "source": "en"',
                param="source",
            )
        placed.append(Placed(index, text, found[0]))
        told.append(Label(*found, index))
    return placed, told


def target_of(family: Family, name: str) -> str:
    """A language as the model writes it.

    Raises:
        NotAble: it does not.
    """
    wanted = bare(name)
    if family is Family.TRANSLATION:
        found = wanted if wanted in M2M100 else None
    else:
        short = _ISO_3.get(wanted, wanted)
        alike = (code for code in INDIC if code[:3] == short or bare(code) == wanted)
        found = name if name in INDIC else next(alike, None)
    if found is None:
        raise NotAble(f"this Workers AI model does not write `{name}`", param="target")
    return found


def _ask(call: Call) -> Translation:
    if not isinstance(call.ask, Translation):
        raise TypeError(type(call.ask))
    return call.ask


class Translated(Struct, gc=False):
    """What the model that takes one text answers."""

    translated_text: str
    usage: Counts | None = None


class _Several(Struct, gc=False):
    translations: list[str]
    usage: Counts | None = None


def one_by_one(asked: Asked, placed: Sequence[Placed]) -> list[Piece]:
    """A request for each text."""
    target = target_of(asked.family, _ask(asked.call).target)
    return [
        Piece(alone(asked.model, one.text, one.source, target), partial(decode_one, index=one.index))
        for one in placed
    ]


def alone(model: str, text: str, source: str, target: str) -> Errand:
    """The request for one text, of the model that takes no more."""
    return bodies.document(model, {"text": text, "source_lang": source, "target_lang": target})


def some_at_once(asked: Asked, placed: Sequence[Placed]) -> list[Piece]:
    """A request for some texts."""
    target = target_of(asked.family, _ask(asked.call).target)
    return [
        Piece(
            bodies.document(asked.model, {"text": [one.text for one in some], "target_language": target}),
            partial(decode_several, indices=[one.index for one in some]),
        )
        for _, some in portions(placed, MOST_TEXTS)
    ]


def decode_one(body: bytes, *, index: int) -> Batch:
    """The translation.

    Raises:
        Unreadable: there is none.
    """
    told = read_one(body)
    return [Text(told.translated_text, index), Finish("stop", index), *counts.usage(told.usage)]


def read_one(body: bytes) -> Translated:
    """The reply to `alone`.

    Raises:
        Unreadable: there is no translation in it.
    """
    told = results.read(body, Translated, "a translation")
    _check(told.translated_text)
    return told


def decode_several(body: bytes, *, indices: Sequence[int]) -> Batch:
    """The translations, in the order of the texts.

    Raises:
        Unreadable: there are fewer, or more.
    """
    told = results.read(body, _Several, "translations")
    if len(told.translations) != len(indices):
        raise Unreadable(f"sent {len(told.translations)} translations for {len(indices)} texts")
    batch: Batch = []
    for index, text in zip(indices, told.translations, strict=True):
        _check(text)
        batch += [Text(text, index), Finish("stop", index)]
    return [*batch, *counts.usage(told.usage)]


def _check(text: str) -> None:
    if not text.strip():
        raise Unreadable("answered with an empty translation")
