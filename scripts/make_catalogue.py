"""Write hybrid_router/catalogue/workers_ai.json from an assembled copy of the public sources.

    python scripts/make_catalogue.py SOURCE_DIR

SOURCE_DIR holds `models.json` (an index of models with prices) and `models/*.json` (one a model: the row
of a model search with `schema.input` and `schema.output`).  Long descriptions and examples inside schemas
are left out; equal schemas are kept once.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

from hybrid_router.catalogue.refresh import slim

DATED = "2026-10-01"
OUT = Path(__file__).parent.parent / "hybrid_router" / "catalogue" / "workers_ai.json"
ATTRIBUTION = [
    "Cloudflare documentation (model pages, pricing, limits), CC BY 4.0",
    "cloudflare/workerd type definitions, Apache-2.0",
    "cloudflare/cloudflare-typescript, Apache-2.0",
    "cloudflare/api-schemas OpenAPI document (2024-08), BSD-3-Clause",
]
COPIED = (
    *("id", "task", "status", "native_result", "context_window", "max_input_tokens", "dimensions"),
    *("streaming", "function_calling", "reasoning", "vision", "lora", "async_batch", "beta", "partner"),
    *("realtime", "requires_workers_paid", "deprecated_on", "aliased_to"),
)
KEPT_PROPERTIES = {"info", "terms", "languages"}

# Which model does a retired one's work, by our own judgement: Cloudflare names a successor only where it
# answers in the old one's place (`aliased_to`).  By kind and, roughly, by size, among the models listed then.
SUCCESSORS_DATED = "2026-10-01"
_SMALLEST, _SMALL, _MIDDLE = (
    "@cf/meta/llama-3.2-1b-instruct",
    "@cf/meta/llama-3.2-3b-instruct",
    "@cf/meta/llama-3.1-8b-instruct-fp8",
)
_LLAMA_70B = "@cf/meta/llama-3.3-70b-instruct-fp8-fast"
_MISTRAL = "@cf/mistralai/mistral-small-3.1-24b-instruct"
_QWEN, _CODER = "@cf/qwen/qwen3-30b-a3b-fp8", "@cf/qwen/qwen2.5-coder-32b-instruct"
_REASONER, _GEMMA = "@cf/deepseek-ai/deepseek-r1-distill-qwen-32b", "@cf/google/gemma-4-26b-a4b-it"
SUCCESSORS = {
    "@cf/deepseek-ai/deepseek-math-7b-base": _REASONER,
    "@cf/deepseek-ai/deepseek-math-7b-instruct": _REASONER,
    "@cf/defog/sqlcoder-7b-2": _CODER,
    "@cf/facebook/bart-large-cnn": _SMALL,
    "@cf/fblgit/una-cybertron-7b-v2-bf16": _MIDDLE,
    "@cf/google/gemma-3-12b-it": _GEMMA,
    "@cf/meta/llama-2-7b-chat-fp16": _SMALL,
    "@cf/meta/llama-2-7b-chat-int8": _SMALL,
    "@cf/meta/llama-3-8b-instruct": _MIDDLE,
    "@cf/meta/llama-3-8b-instruct-awq": _MIDDLE,
    "@cf/meta/llama-3.1-70b-instruct": _LLAMA_70B,
    "@cf/meta/llama-3.1-8b-instruct": _MIDDLE,
    "@cf/meta/llama-3.1-8b-instruct-awq": _MIDDLE,
    "@cf/microsoft/phi-2": _SMALL,
    "@cf/mistral/mistral-7b-instruct-v0.1": _MISTRAL,
    "@cf/moonshotai/kimi-k2.5": "@cf/moonshotai/kimi-k2.6",
    "@cf/openchat/openchat-3.5-0106": _MIDDLE,
    "@cf/qwen/qwen1.5-0.5b-chat": _SMALLEST,
    "@cf/qwen/qwen1.5-1.8b-chat": _SMALLEST,
    "@cf/qwen/qwen1.5-14b-chat-awq": _QWEN,
    "@cf/qwen/qwen1.5-7b-chat-awq": _QWEN,
    "@cf/runwayml/stable-diffusion-v1-5-img2img": "@cf/black-forest-labs/flux-2-klein-4b",
    "@cf/thebloke/discolm-german-7b-v1-awq": _MIDDLE,
    "@cf/tiiuae/falcon-7b-instruct": _MIDDLE,
    "@cf/tinyllama/tinyllama-1.1b-chat-v1.0": _SMALLEST,
    "@cf/unum/uform-gen2-qwen-500m": "@cf/llava-hf/llava-1.5-7b-hf",
    "@hf/google/gemma-7b-it": _GEMMA,
    "@hf/meta-llama/meta-llama-3-8b-instruct": _MIDDLE,
    "@hf/mistral/mistral-7b-instruct-v0.2": _MISTRAL,
    "@hf/nexusflow/starling-lm-7b-beta": _MIDDLE,
    "@hf/nousresearch/hermes-2-pro-mistral-7b": _MISTRAL,
    "@hf/thebloke/deepseek-coder-6.7b-base-awq": _CODER,
    "@hf/thebloke/deepseek-coder-6.7b-instruct-awq": _CODER,
    "@hf/thebloke/llama-2-13b-chat-awq": _MIDDLE,
    "@hf/thebloke/llamaguard-7b-awq": "@cf/meta/llama-guard-3-8b",
    "@hf/thebloke/mistral-7b-instruct-v0.1-awq": _MISTRAL,
    "@hf/thebloke/neural-chat-7b-v3-1-awq": _MIDDLE,
    "@hf/thebloke/openhermes-2.5-mistral-7b-awq": _MIDDLE,
    "@hf/thebloke/zephyr-7b-beta-awq": _MIDDLE,
}
Json = Any


class Schemas:
    """Schemas by name; an equal one is kept under the first one's name."""

    def __init__(self) -> None:
        self.by_name: dict[str, Json] = {}
        self._names: dict[str, str] = {}

    def add(self, name: str, schema: Json) -> str:
        """Keep `schema` and return the name to refer to it by."""
        slimmed = slim(schema)
        text = json.dumps(slimmed, sort_keys=True)
        if text not in self._names:
            self._names[text] = name
            self.by_name[name] = slimmed
        return self._names[text]


def model_row(index_row: Json, detail: Json, schemas: Schemas) -> Json:
    """One entry of the table."""
    row = {key: index_row[key] for key in COPIED if index_row.get(key) not in (None, False)}
    if index_row["id"] in SUCCESSORS:
        row["successor"] = SUCCESSORS[index_row["id"]]
    row["price"] = [
        {key: line[key] for key in ("unit", "usd", "neurons")} for line in index_row.get("price", [])
    ]
    if detail.get("id"):
        row["uuid"] = detail["id"]
    if detail.get("description"):
        row["description"] = detail["description"]
    kept = {p["property_id"]: p["value"] for p in detail["properties"] if p["property_id"] in KEPT_PROPERTIES}
    if kept:
        row["properties"] = kept
    short = index_row["id"].rpartition("/")[2]
    for side in ("input", "output"):
        if detail.get("schema", {}).get(side):
            row[f"{side}_schema"] = schemas.add(f"{short}.{side}", detail["schema"][side])
    return row


def table(source: Path) -> Json:
    """The whole table."""
    index = json.loads((source / "models.json").read_text())
    schemas = Schemas()
    models = [
        model_row(row, json.loads((source / row["file"]).read_text()), schemas) for row in index["models"]
    ]
    overrides = index["rate_limit_overrides_per_minute"]
    return {
        "dated": DATED,
        "successors_dated": SUCCESSORS_DATED,
        "about": index["about"],
        "attribution": ATTRIBUTION,
        "neuron_usd": index["neuron_usd"],
        "free_neurons_per_day": index["free_neurons_per_day"],
        "tasks": index["tasks"],
        "rate_limits_per_minute": index["rate_limits_per_minute"],
        "rate_limit_overrides_per_minute": {k: v for k, v in overrides.items() if k.startswith("@")},
        "paid_model_per_minute": overrides["requires_workers_paid (standard billing)"],
        "models": models,
        "schemas": schemas.by_name,
    }


def rows_on_lines(document: Json) -> str:
    """JSON with one model or schema a line, so that a diff names what changed."""
    parts = []
    for key, value in document.items():
        if key == "models":
            lines = ",\n".join("  " + json.dumps(row, ensure_ascii=False) for row in value)
            parts.append(f' "models": [\n{lines}\n ]')
        elif key == "schemas":
            lines = ",\n".join(
                f"  {json.dumps(name)}: {json.dumps(schema, ensure_ascii=False, separators=(',', ':'))}"
                for name, schema in value.items()
            )
            parts.append(f' "schemas": {{\n{lines}\n }}')
        else:
            parts.append(f" {json.dumps(key)}: {json.dumps(value, ensure_ascii=False)}")
    return "{\n" + ",\n".join(parts) + "\n}\n"


if __name__ == "__main__":
    OUT.write_text(rows_on_lines(table(Path(sys.argv[1]))), encoding="utf-8")
