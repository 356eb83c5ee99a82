"""Classifiers that tests write themselves: of texts with known labels, of images with random weights."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import (
    BertConfig,
    BertForSequenceClassification,
    PreTrainedTokenizerFast,
    ViTConfig,
    ViTForImageClassification,
    ViTImageProcessorPil,
)

WORDS = ["[PAD]", "[UNK]", "kind", "rude", "grim"]
SHARP = 20.0  # how sure the hand-made classifier is


def as_json(config: Any) -> Any:
    """A configuration's class: its keywords are those of config.json, more than it says."""
    return config


def of_texts(folder: Path, labels: list[str], **more: Any) -> Path:
    """A classifier that looks at the first token alone: word `2 + i` is label `i`."""
    tokenizer = Tokenizer(models.WordLevel({word: i for i, word in enumerate(WORDS)}, unk_token="[UNK]"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    PreTrainedTokenizerFast(  # type: ignore[no-untyped-call]
        tokenizer_object=tokenizer,
        pad_token="[PAD]",
        unk_token="[UNK]",
        model_max_length=16,
    ).save_pretrained(folder)
    torch.manual_seed(1)
    config = as_json(BertConfig)(
        vocab_size=len(WORDS), hidden_size=8, num_hidden_layers=0, num_attention_heads=2, intermediate_size=8,
        max_position_embeddings=16, num_labels=len(labels), id2label=dict(enumerate(labels)),
        label2id={label: i for i, label in enumerate(labels)}, **more,
    )  # fmt: skip
    model: Any = BertForSequenceClassification(config)
    embeddings = model.bert.embeddings
    with torch.no_grad():
        embeddings.position_embeddings.weight.zero_()
        embeddings.token_type_embeddings.weight.zero_()
        embeddings.word_embeddings.weight.copy_(torch.eye(len(WORDS), 8))
        model.bert.pooler.dense.weight.copy_(torch.eye(8))
        model.bert.pooler.dense.bias.zero_()
        model.classifier.weight.zero_()
        model.classifier.bias.zero_()
        for i in range(len(labels)):
            model.classifier.weight[i, i + 2] = SHARP
    model.save_pretrained(folder)
    return folder


def of_images(folder: Path, labels: list[str]) -> Path:
    """One of images, of random weights."""
    torch.manual_seed(1)
    config = as_json(ViTConfig)(
        hidden_size=16, num_hidden_layers=1, num_attention_heads=2, intermediate_size=16, image_size=32,
        patch_size=8, num_labels=len(labels), id2label=dict(enumerate(labels)),
        label2id={label: i for i, label in enumerate(labels)},
    )  # fmt: skip
    ViTForImageClassification(config).save_pretrained(folder)
    ViTImageProcessorPil(size={"height": 32, "width": 32}).save_pretrained(folder)
    return folder
