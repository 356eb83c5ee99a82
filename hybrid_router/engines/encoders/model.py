"""A sentence-transformers model: texts to token ids, token ids to vectors or scores."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from sentence_transformers import CrossEncoder, SentenceTransformer
from tokenizers import Encoding, Tokenizer
from transformers.utils import logging as library_logging

from hybrid_router.core.event import Embedding, Relevance
from hybrid_router.engines.devices import torch_device
from hybrid_router.engines.encoders import folder, packing
from hybrid_router.engines.encoders.computing import ComputeFailed
from hybrid_router.engines.encoders.passage import Passage
from hybrid_router.engines.settings import EncoderSettings
from hybrid_router.engines.tally import Found
from hybrid_router.engines.task import EngineFailed

_PROBES = ("Who goes there?  Zwei Ägypter, 3 wörter.", "a")
_FED = frozenset({"input_ids", "attention_mask", "token_type_ids", "modality"})
# What one more forward pass costs, in padding that could be computed instead.  On two CPU cores all-MiniLM-L6
# takes as long for a pass of nothing as for 90 tokens; a GPU computes thousands in that time.
_PASS_COST_TOKENS = {"cpu": 96, "cuda": 4096}
# Where texts share rows little is padding.  32 questions of 8 words take 130 ms of two cores so, where two
# padded passes took 190; of 60 words as long as three passes.
_PACKED_COST_TOKENS = 1024
_NO_LIMIT = 10**7
_UNSAID_CONTEXT = 512


class EncoderModel:
    """Embeds or ranks, by `EncoderSettings.purpose`.  See `computing.Model`."""

    def __init__(self, settings: EncoderSettings) -> None:
        """Open it.

        Raises:
            EngineFailed: the folder cannot be used; names it.
        """
        path = Path(settings.path)
        folder.check(path, settings.purpose)
        torch.set_num_threads(settings.threads)
        self._ranks = settings.purpose == "rerank"
        self._device = torch_device(settings.device).type
        self._model = _opened(path, self._device, ranks=self._ranks)
        self._model.eval()
        self._tokenizer = self._model.tokenizer
        self._checked(path)
        self.text_tokenizer: Tokenizer = self._tokenizer.backend_tokenizer
        self.text_tokenizer.no_truncation()
        self.text_tokenizer.no_padding()
        self.vocabulary_count = self.text_tokenizer.get_vocab_size()
        self.prompts: dict[str, str] = dict(self._model.prompts)
        self.default_prompt_name: str | None = self._model.default_prompt_name
        self.pools_prompts = all(getattr(module, "include_prompt", True) for module in self._model)
        self._packs = self._device == "cpu" and not self._ranks and packing.packs(self._model)
        self.pass_cost_tokens = _PACKED_COST_TOKENS if self._packs else _PASS_COST_TOKENS[self._device]
        self.context = _context(self._model)
        self._widen(path, settings.context)
        self.width = 0 if self._ranks else self._model.get_embedding_dimension() or 0
        self.description = f"{self._model.config.model_type}, {_count(self._model)} on {self._device}"

    def _checked(self, path: Path) -> None:
        """Refuse a model whose texts the library prepares in another way than `read` does."""
        if not self._tokenizer.is_fast:
            raise EngineFailed(f"{path}: its tokenizer is not a tokenizers one (tokenizer.json)")
        if self._ranks and self._model.num_labels != 1:
            raise EngineFailed(
                f"{path}: it gives {self._model.num_labels} scores; a model that ranks gives one"
            )
        for probe in _PROBES:
            wanted = self._model.preprocess([(probe, probe) if self._ranks else probe])
            given = self._tokenizer(probe, probe if self._ranks else None)["input_ids"]
            if wanted.keys() - _FED or wanted["input_ids"][0].tolist() != given:
                raise EngineFailed(f"{path}: it prepares texts by a template or code, which is not supported")

    def _widen(self, path: Path, context: int | None) -> None:
        """Take longer or shorter texts than the model's files say; try whether it can."""
        if context is None or context <= self.context:
            self.context = context or self.context
            return
        try:
            self.compute([Passage(0, 0, [0] * context)])
        except (ComputeFailed, EngineFailed) as error:
            raise EngineFailed(f"{path}: it cannot take {context} tokens; lower `context`") from error
        self.context = context

    def read(self, texts: Sequence[str], query: str | None = None) -> list[Encoding]:
        """Token ids with the marks around them; of each text behind the query, if there is one."""
        if query is None:
            return self.text_tokenizer.encode_batch(list(texts))
        return self.text_tokenizer.encode_batch([(query, text) for text in texts])

    def compute(self, passages: Sequence[Passage]) -> list[Found | None]:
        """See `computing.Model`."""
        try:
            with torch.inference_mode():
                return self._computed(passages)
        except torch.AcceleratorError as error:  # a GPU's context does not survive one
            raise EngineFailed(f"the device failed: {error}") from error
        except (RuntimeError, ValueError, IndexError) as error:
            raise ComputeFailed(type(error).__name__) from error

    def _computed(self, passages: Sequence[Passage]) -> list[Found | None]:
        found = self._found(passages)
        if self._ranks:
            scores = self._model.activation_fn(found["scores"].float()).reshape(-1).tolist()
            return [_relevance(one, score) for one, score in zip(passages, scores, strict=True)]
        vectors = found["sentence_embedding"].float()
        lengths = torch.linalg.vector_norm(vectors, dim=1).tolist()
        rows = torch.nn.functional.normalize(vectors, dim=1).cpu().numpy().astype("<f4")
        return [
            _embedding(one, length, row.tobytes())
            for one, length, row in zip(passages, lengths, rows, strict=True)
        ]

    def _found(self, passages: Sequence[Passage]) -> dict[str, Any]:
        if self._packs and len(passages) > 1:
            return packing.computed(self._model, passages, self._tokenizer.pad_token_id or 0)
        found: dict[str, Any] = self._model(self._features(passages))
        return found

    def _features(self, passages: Sequence[Passage]) -> dict[str, Any]:
        """A pass as the library wants it: (texts, tokens), padded at the side that the tokenizer pads."""
        longest = max(one.length for one in passages)
        left = self._tokenizer.padding_side == "left"

        def padded(rows: Sequence[list[int]], filler: int) -> torch.Tensor:
            fillers = [[filler] * (longest - len(row)) for row in rows]
            whole = [fill + row if left else row + fill for row, fill in zip(rows, fillers, strict=True)]
            return torch.tensor(whole, device=self._device)

        features: dict[str, Any] = {
            "input_ids": padded([one.tokens for one in passages], self._tokenizer.pad_token_id or 0),
            "attention_mask": padded([[1] * one.length for one in passages], 0),
            "modality": "text",
        }
        if "token_type_ids" in self._tokenizer.model_input_names:
            types = [one.types or [0] * one.length for one in passages]
            features["token_type_ids"] = padded(types, self._tokenizer.pad_token_type_id)
        if prompt_count := passages[0].prompt_count:
            features["prompt_length"] = prompt_count
        return features


def _relevance(passage: Passage, score: float) -> Relevance | None:
    return Relevance(score, passage.index, passage.truncated) if math.isfinite(score) else None


def _embedding(passage: Passage, length: float, values: bytes) -> Embedding | None:
    """A vector without a length has no direction."""
    if not (math.isfinite(length) and length > 0):
        return None
    return Embedding(values, passage.index, passage.truncated)


def _opened(path: Path, device: str, *, ranks: bool) -> Any:
    """The library's model.  Weights are safetensors, code of the model's own is never run."""
    library_logging.disable_progress_bar()  # type: ignore[no-untyped-call]
    kind: type[Any] = CrossEncoder if ranks else SentenceTransformer
    options: dict[str, Any] = {"use_safetensors": True}
    if device == "cpu":
        options["dtype"] = torch.float32  # half precision is slower there
    try:
        return kind(
            str(path), device=device, local_files_only=True, trust_remote_code=False, model_kwargs=options
        )
    except (OSError, ValueError, LookupError, TypeError, RuntimeError, ImportError, SafetensorError) as error:
        reason = str(error).strip().partition("\n")[0]
        raise EngineFailed(f"{path}: sentence-transformers cannot open it: {reason}") from error


def _context(model: Any) -> int:
    """Tokens of one text.  Tokenizers write a huge number where they know of no limit."""
    said = [model.max_seq_length, getattr(model.config, "max_position_embeddings", None)]
    return min((one for one in said if one and one < _NO_LIMIT), default=_UNSAID_CONTEXT)


def _count(model: Any) -> str:
    """How large it is."""
    return f"{sum(one.numel() for one in model.parameters()) / 1e6:.0f} M parameters"
