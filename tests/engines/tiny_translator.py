"""A translation model that tests write themselves: m2m100's shape, random weights, its own vocabulary."""

from __future__ import annotations

import json
import random
from pathlib import Path
from typing import Any

import ctranslate2
import sentencepiece
import torch
from transformers import M2M100Config, M2M100ForConditionalGeneration, M2M100Tokenizer

WORDS = ["the", "cat", "sat", "on", "mat", "dogs", "ran", "home", "birds", "flew", "red", "hills", "near"]


def tiny_translator(folder: Path) -> Path:
    """The model's folder, as a user would have converted one."""
    original, converted = folder / "original", folder / "converted"
    original.mkdir(parents=True)
    spm = _sentencepiece(original / "sentencepiece.bpe.model")
    pieces = [spm.id_to_piece(number) for number in range(spm.vocab_size())]
    specials = ["<s>", "<pad>", "</s>", "<unk>"]
    words = [*specials, *(piece for piece in pieces if piece not in specials)]
    (original / "vocab.json").write_text(json.dumps({word: number for number, word in enumerate(words)}))
    count = len(words) + 100 + 8  # m2m100's hundred languages, and what it leaves free
    torch.manual_seed(3)
    config = M2M100Config(
        vocab_size=count, d_model=32, encoder_layers=1, decoder_layers=1, encoder_attention_heads=2,
        decoder_attention_heads=2, encoder_ffn_dim=32, decoder_ffn_dim=32, max_position_embeddings=512,
    )  # fmt: skip
    M2M100ForConditionalGeneration(config).save_pretrained(original)
    M2M100Tokenizer(
        vocab_file=str(original / "vocab.json"), spm_file=str(original / "sentencepiece.bpe.model")
    ).save_pretrained(original)
    _Converter(str(original), copy_files=["sentencepiece.bpe.model"]).convert(str(converted))
    return converted


class _Languages:
    """A tokenizer that tells its languages by the name that they had before transformers 5, for which
    CTranslate2's converter asks."""

    def __init__(self, tokenizer: Any) -> None:
        self._tokenizer = tokenizer
        self.special_tokens_map = {
            **tokenizer.special_tokens_map,
            "additional_special_tokens": list(tokenizer.lang_code_to_token.values()),
        }

    def __getattr__(self, name: str) -> Any:
        return getattr(self._tokenizer, name)


class _Converter(ctranslate2.converters.TransformersConverter):  # type: ignore[misc]
    """CTranslate2's own, with such a tokenizer."""

    def load_tokenizer(self, *arguments: Any, **options: Any) -> _Languages:
        return _Languages(super().load_tokenizer(*arguments, **options))


def _sentencepiece(path: Path) -> sentencepiece.SentencePieceProcessor:
    """A vocabulary of a few words."""
    chance = random.Random(5)  # noqa: S311 - sentences, no secrets
    lines = [" ".join(chance.choices(WORDS, k=8)) + "." for _ in range(400)]
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter(lines), model_prefix=str(path.with_suffix("")), vocab_size=80,
        model_type="bpe", bos_id=0, pad_id=1, eos_id=2, unk_id=3, minloglevel=2,
    )  # fmt: skip
    return sentencepiece.SentencePieceProcessor(model_file=str(path))
