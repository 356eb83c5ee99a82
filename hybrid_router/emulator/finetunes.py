"""The account's LoRA adapters: made, given their two files, listed, and looked for when a call names one."""

from __future__ import annotations

import uuid
from collections.abc import Mapping
from typing import Any

import msgspec
from msgspec import Struct

from hybrid_router.api.workers_ai.refusal import Refusal
from hybrid_router.catalogue.workers_ai import Model
from hybrid_router.emulator.ledger import Now

WEIGHTS, CONFIG = "adapter_model.safetensors", "adapter_config.json"
MOST_COUNT = 30
MOST_BYTES = 500 * 10**6
MOST_RANK = 32
KINDS = ("mistral", "gemma", "llama")
_PUBLIC = ("cf-public-cnn-summarization", "cf-public-jigsaw-classification", "cf-public-magicoder")
_PUBLIC_MODEL = "@cf/mistral/mistral-7b-instruct-v0.2-lora"
_PUBLISHED_AT = "2024-04-02T00:00:00+00:00"  # any date will do: clients want one
_REQUIRED = ("model", "name")


class FineTune(Struct, kw_only=True):
    """One adapter.  `assets`: the files that are there."""

    id: str
    model: str
    name: str
    description: str = ""
    public: bool = False
    created_at: str = ""
    modified_at: str = ""
    assets: set[str] = msgspec.field(default_factory=set)

    def document(self) -> dict[str, Any]:
        """As the API shows it."""
        shown: dict[str, Any] = msgspec.to_builtins(self)
        return {name: value for name, value in shown.items() if name != "assets"}


class FineTunes:
    """All adapters of an account, and the public ones."""

    def __init__(self, models: Mapping[str, Model], now: Now) -> None:
        self._models = models
        self._now = now
        self._own: list[FineTune] = []
        self._public = [
            FineTune(
                id=str(uuid.uuid5(uuid.NAMESPACE_URL, name)),
                model=_PUBLIC_MODEL,
                name=name,
                public=True,
                created_at=_PUBLISHED_AT,
                modified_at=_PUBLISHED_AT,
            )
            for name in _PUBLIC
        ]
        for each in self._public:
            each.assets |= {WEIGHTS, CONFIG}

    def create(self, body: Mapping[str, Any]) -> FineTune:
        """`POST /finetunes`.

        Raises:
            Refusal: 5006 a field is missing or the name is taken, 5007, 5005 no adapters for this model,
                8001 there are too many.
        """
        missing = ", ".join(f"'{name}'" for name in _REQUIRED if not isinstance(body.get(name), str))
        if missing:
            raise Refusal(5006, f"Bad input: Error: required properties at '/' are {missing}")
        self._lora_model(body["model"])
        if any(each.name == body["name"] for each in self._own):
            raise Refusal(5006, f"Bad input: Error: a fine-tune named '{body['name']}' exists")
        if len(self._own) >= MOST_COUNT:
            raise Refusal(8001, f"an account has at most {MOST_COUNT} fine-tunes")
        now = self._now().isoformat()
        made = FineTune(
            id=str(uuid.uuid4()),
            model=body["model"],
            name=body["name"],
            description=str(body.get("description") or ""),
            public=bool(body.get("public")),
            created_at=now,
            modified_at=now,
        )
        self._own.append(made)
        return made

    def own(self) -> list[dict[str, Any]]:
        """`GET /finetunes`."""
        return [each.document() for each in self._own]

    def public(self, limit: int, offset: int, order_by: str) -> list[dict[str, Any]]:
        """`GET /finetunes/public`: those of everybody."""
        rows = [each.document() for each in (*self._public, *(own for own in self._own if own.public))]
        rows.sort(key=lambda row: str(row.get(order_by, "")))
        return rows[offset : offset + limit]

    def add_asset(self, named: str, file_name: str, content: bytes) -> None:
        """`POST /finetunes/{id or name}/finetune-assets`.

        Raises:
            Refusal: 3042 no such fine-tune, 3039 no such file, 3006 too large, 8001 what is in it.
        """
        found = next((each for each in self._own if named in (each.id, each.name)), None)
        if found is None:
            raise Refusal(3042, f"no fine-tune '{named}'")
        if file_name not in (WEIGHTS, CONFIG):
            raise Refusal(3039, f"the files are {WEIGHTS} and {CONFIG}, not '{file_name}'")
        if file_name in found.assets:
            raise Refusal(8001, f"{file_name} is there, and assets cannot be edited")
        if len(content) > MOST_BYTES:
            raise Refusal(3006)
        if file_name == CONFIG:
            _check_config(content)
        found.assets.add(file_name)
        found.modified_at = self._now().isoformat()

    def check(self, model: Model, body: Mapping[str, Any]) -> None:
        """Accept the adapter that a call names, or that it names none.

        Raises:
            Refusal: 5005, 3042 or 3039.
        """
        named = body.get("lora")
        if named is None:
            return
        if not model.lora:
            raise Refusal(5005)
        found = next((each for each in (*self._own, *self._public) if named in (each.id, each.name)), None)
        if found is None or found.model != model.id:
            raise Refusal(3042, f"no fine-tune '{named}' of {model.id}")
        if missing := sorted({WEIGHTS, CONFIG} - found.assets):
            raise Refusal(3039, f"fine-tune is missing required files: {', '.join(missing)}")

    def _lora_model(self, model_id: str) -> None:
        model = self._models.get(model_id)
        if model is None:
            raise Refusal(5007, f"No such model {model_id} or task")
        if not model.lora:
            raise Refusal(5005)


def _check_config(content: bytes) -> None:
    try:
        config = msgspec.json.decode(content, type=dict[str, Any])
    except msgspec.DecodeError as error:
        raise Refusal(8001, f"{CONFIG} is no JSON object: {error}") from error
    if config.get("model_type") not in KINDS:
        raise Refusal(8001, f"model_type in {CONFIG} is one of {', '.join(KINDS)}")
    rank = config.get("r", 0)
    if not isinstance(rank, int) or rank > MOST_RANK:
        raise Refusal(8001, f"r in {CONFIG} is at most {MOST_RANK}")
