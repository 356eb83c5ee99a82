"""What a call may ask for that not every cloud has a word for."""

from __future__ import annotations

from collections.abc import Iterable

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
    asked = _asked(call)
    if (name := next((name for name in names if asked[name]), None)) is not None:
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


def _asked(call: Call) -> dict[str, bool]:
    """Each field, and whether it would change the answer."""
    sampling, form = call.sampling, call.response_format or {"type": "text"}
    penalty = sampling.repeat_penalty not in (None, 1.0)
    return {
        "echo": call.echo,
        "suffix": call.suffix is not None,
        "tools": bool(call.tools),
        "response_format": form.get("type") != "text",
        "grammar": form.get("type") in ("grammar", "regex"),
        "logprobs": call.top_logprobs is not None,
        "lora": bool(call.adapters),
        "chat_template_kwargs": bool(call.template_values),
        "reasoning_effort": call.reasoning_effort is not None,
        "reasoning_budget": call.reasoning_tokens is not None,
        "max_tokens: 0": sampling.max_tokens == 0,
        "seed": sampling.seed is not None,
        "stop": bool(sampling.stop),
        "logit_bias": bool(sampling.logit_bias),
        "presence_penalty": bool(sampling.presence_penalty),
        "frequency_penalty": bool(sampling.frequency_penalty),
        "repeat_penalty": penalty,
        "repeat_last_n": sampling.repeat_last_n is not None and penalty,
        "min_p": bool(sampling.min_p),
        "typical_p": sampling.typical_p not in (None, 1.0),
        "dry_multiplier": bool(sampling.dry_multiplier),
        "xtc_probability": bool(sampling.xtc_probability),
        "mirostat": bool(sampling.mirostat),
        "ignore_eos": sampling.ignore_eos,
    }
