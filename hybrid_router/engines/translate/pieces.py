"""Texts to a translation model's tokens and back: by SentencePiece, or by a `tokenizer.json`."""

from __future__ import annotations

from pathlib import Path
from typing import Protocol

import sentencepiece

from hybrid_router.engines.task import EngineFailed

_SHARED = (
    "sentencepiece.bpe.model",
    "sentencepiece.model",
    "spm.128k.model",
    "flores200_sacrebleu_tokenizer_spm.model",
)
_PAIR = (("source.spm", "target.spm"), ("source.model", "target.model"))
_WORD = "\u2581"


class Pieces(Protocol):
    """Cuts texts and joins what was cut."""

    def cut(self, text: str) -> list[str]:
        """A source text's tokens, none of them special."""
        ...

    def joined(self, tokens: list[str]) -> str:
        """The text of tokens of the target."""
        ...


def begins_word(token: str) -> bool:
    """Whether a token stands at the beginning of a word."""
    return token.startswith(_WORD)


def opened_pieces(folder: Path) -> Pieces:
    """By the files that are there.

    Raises:
        EngineFailed: there are none, or none that can be read.
    """
    for source, target in (*((name, name) for name in _SHARED), *_PAIR):
        if (folder / source).is_file() and (folder / target).is_file():
            return _SentencePieces(folder / source, folder / target)
    if (folder / "tokenizer.json").is_file():
        return _Tokenizer(folder / "tokenizer.json")
    raise EngineFailed(
        f"{folder}: its tokenizer is missing: put the original model's sentencepiece.bpe.model "
        "(m2m100, NLLB), source.spm and target.spm (OPUS), or tokenizer.json beside model.bin"
    )


class _SentencePieces:
    """See `Pieces`."""

    def __init__(self, source: Path, target: Path) -> None:
        self._source = _opened(source)
        self._target = self._source if target == source else _opened(target)

    def cut(self, text: str) -> list[str]:
        found: list[str] = self._source.encode(text, out_type=str)
        return found

    def joined(self, tokens: list[str]) -> str:
        return str(self._target.decode(tokens))


class _Tokenizer:
    """See `Pieces`."""

    def __init__(self, path: Path) -> None:
        import tokenizers  # noqa: PLC0415 - few models need it

        try:
            self._tokenizer = tokenizers.Tokenizer.from_file(str(path))
        except Exception as error:  # noqa: BLE001 - the library raises nothing narrower
            raise EngineFailed(f"{path}: not a tokenizer ({error})") from None

    def cut(self, text: str) -> list[str]:
        found: list[str] = self._tokenizer.encode(text, add_special_tokens=False).tokens
        return found

    def joined(self, tokens: list[str]) -> str:
        numbers = [self._tokenizer.token_to_id(token) for token in tokens]
        return str(self._tokenizer.decode([number for number in numbers if number is not None]))


def _opened(path: Path) -> sentencepiece.SentencePieceProcessor:
    try:
        return sentencepiece.SentencePieceProcessor(model_file=str(path))
    except (OSError, RuntimeError) as error:
        raise EngineFailed(f"{path}: not a SentencePiece model ({error})") from None
