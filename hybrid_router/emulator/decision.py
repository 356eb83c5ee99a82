"""Decision models: questions about a state → answers, of the right shape and always the same.

Their checks are the model's own: what does not fit is 422/5012 and not 5006.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from hybrid_router.api.workers_ai.refusal import Refusal, wrapped
from hybrid_router.catalogue import prices
from hybrid_router.emulator import admission, tokens
from hybrid_router.emulator.settings import Account
from hybrid_router.emulator.stand_ins import meaning

_SURE = 0.9


def decided(account: Account, model_id: str, body: dict[str, Any]) -> dict[str, Any]:
    """The answers in their envelope.

    Raises:
        Refusal: 5007, 5028, 5035, 3021, 5012 or the quota's code.
    """
    model, priced = admission.model_of(account, model_id)
    admission.count(account, priced)
    try:
        account.schemas.check(model, body)
    except Refusal as refusal:
        raise Refusal(5012, refusal.message) from refusal
    admission.check_quota(account)
    state = str(body["state"])
    answers = {name: _answer(question, state) for name, question in body["questions"].items()}
    asked, told = tokens.count(f"{state}{body['questions']}"), len(answers)
    work = prices.Work(prompt_tokens=asked, completion_tokens=told)
    account.ledger.charge(prices.neurons(priced.price, work))
    usage = {"input_tokens": asked, "output_tokens": told}
    return wrapped({"model": body["model"].strip(), "answers": answers, "usage": usage})


def _answer(question: Mapping[str, Any], state: str) -> dict[str, Any]:
    match question["type"]:
        case "noul":
            return {"type": "noul", "noul": meaning.relevance(str(question["instructions"]), state)}
        case "choice":
            return _choice(list(question["criteria"]), state)
    levels = [str(each) for each in question["criteria"]]
    chosen = max(range(len(levels)), key=lambda level: meaning.relevance(levels[level], state))
    return {
        "type": "score",
        "score": chosen,
        "legend": {str(level): text for level, text in enumerate(levels)},
        "probabilities": _shares([str(level) for level in range(len(levels))], str(chosen)),
        "confidence": _SURE,
    }


def _choice(names: list[str], state: str) -> dict[str, Any]:
    """The name that the state holds most of; the first, if it holds none."""
    chosen = max(names, key=lambda name: meaning.relevance(name, state)) if names else ""
    return {
        "type": "choice",
        "choice": chosen,
        "probabilities": _shares(names, chosen),
        "confidence": _SURE,
    }


def _shares(names: list[str], chosen: str) -> dict[str, float]:
    rest = (1.0 - _SURE) / max(1, len(names) - 1)
    return {name: _SURE if name == chosen else rest for name in names}
