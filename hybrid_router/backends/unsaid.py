"""What a call may ask for that not every cloud has a word for."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from types import MappingProxyType
from typing import Any

from hybrid_router.core.call import Call
from hybrid_router.core.errors import Inexpressible


def check(call: Call, names: Iterable[str], label: str) -> None:
    """Refuse a call that asks for something without a word; what would not change the answer is let pass.

    Args:
        names: the fields that the cloud does not know, as clients call them.
        label: the cloud's name.

    Raises:
        Inexpressible: the call asks for one of `names`.
    """
    if (name := next((name for name in names if _ASKED[name](call)), None)) is not None:
        raise Inexpressible(f"{label} takes no `{name}`")


def texts(call: Call, label: str) -> list[str]:
    """A call's prompts.

    Raises:
        Inexpressible: one is token ids, which are another model's.
    """
    found = [prompt for prompt in call.prompts if isinstance(prompt, str)]
    if len(found) < len(call.prompts):
        raise Inexpressible(f"{label} takes text only: the prompt holds token ids")
    return found


def _form(call: Call) -> Any:
    return call.response_format.get("type") if call.response_format else "text"


def _penalises_repeats(call: Call) -> bool:
    return call.sampling.repeat_penalty not in (None, 1.0)


# Each field, and whether it would change the answer: only those that a cloud lacks are looked at.
_ASKED: Mapping[str, Callable[[Call], bool]] = MappingProxyType({
    "echo": lambda call: call.echo,
    "suffix": lambda call: call.suffix is not None,
    "tools": lambda call: bool(call.tools),
    "response_format": lambda call: _form(call) != "text",
    "grammar": lambda call: _form(call) in ("grammar", "regex"),
    "logprobs": lambda call: call.top_logprobs is not None,
    "lora": lambda call: bool(call.adapters),
    "chat_template_kwargs": lambda call: bool(call.template_values),
    "reasoning_effort": lambda call: call.reasoning_effort is not None,
    "reasoning_budget": lambda call: call.reasoning_tokens is not None,
    "max_tokens: 0": lambda call: call.sampling.max_tokens == 0,
    "seed": lambda call: call.sampling.seed is not None,
    "stop": lambda call: bool(call.sampling.stop),
    "logit_bias": lambda call: bool(call.sampling.logit_bias),
    "presence_penalty": lambda call: bool(call.sampling.presence_penalty),
    "frequency_penalty": lambda call: bool(call.sampling.frequency_penalty),
    "repeat_penalty": _penalises_repeats,
    "repeat_last_n": lambda call: call.sampling.repeat_last_n is not None and _penalises_repeats(call),
    "min_p": lambda call: bool(call.sampling.min_p),
    "typical_p": lambda call: call.sampling.typical_p not in (None, 1.0),
    "dry_multiplier": lambda call: bool(call.sampling.dry_multiplier),
    "xtc_probability": lambda call: bool(call.sampling.xtc_probability),
    "mirostat": lambda call: bool(call.sampling.mirostat),
    "ignore_eos": lambda call: call.sampling.ignore_eos,
})  # fmt: skip
