"""The order of steps that can serve, by what is predicted of each."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Iterable

from hybrid_router.core.backend import EVEN, GENERATES, IDLE
from hybrid_router.core.call import Call, Operation
from hybrid_router.core.step import Plan, Prediction, Step, Treatment
from hybrid_router.routing import ledger
from hybrid_router.routing.facts import Facts
from hybrid_router.routing.ledger import Rate
from hybrid_router.routing.speed import Speed, predicted

_MOST_TOKENS = 4096  # of an answer that nobody limits
_OVERFLOW = 1.5  # an estimate this far beyond the context is no slip of the estimate
_STAYING_FACTOR = 1.1  # a conversation stays where it is cached for an answer that takes a tenth longer


def with_predictions(steps: Iterable[Step], call: Call, facts: Facts, decided: Plan) -> list[Step]:
    """Each step with what it is expected to take and cost; one of which nothing is known as it is."""
    return [_with_prediction(step, call, facts, decided) for step in steps]


def _with_prediction(step: Step, call: Call, facts: Facts, decided: Plan) -> Step:
    name = step.name
    context, speed, rate = facts.contexts.get(name), facts.speeds.get(name), facts.rates.get(name)
    if context is None and speed is None and rate is None:
        return step
    expected = None
    most_tokens = _most_tokens(step, call, facts, decided)
    if speed is not None:
        read_tokens = 0 if call.operation in EVEN else decided.prompt_tokens
        expected = _expected(name, speed, facts, read_tokens, most_tokens)
        if _late(expected, decided) and (speed.doubted or _overflows(call, context, decided)):
            expected = None
    if rate is not None:
        amount = ledger.most(rate, call, decided.prompt_tokens, most_tokens)
        expected = _priced(expected or Prediction(), rate, amount)
    return _copy(step, step.because, expected, context)


def _most_tokens(step: Step, call: Call, facts: Facts, decided: Plan) -> int:
    """The most tokens that one choice of the answer may have; what is no text has none."""
    if not _generates(step, call, facts):
        return 1
    if call.sampling.max_tokens is not None:
        return call.sampling.max_tokens
    if (by_default := facts.default_max_tokens.get(step.backend)) is not None:
        return by_default
    context = facts.contexts.get(step.name)
    return _MOST_TOKENS if context is None else max(1, context - decided.prompt_tokens)


def _generates(step: Step, call: Call, facts: Facts) -> bool:
    """Whether the step answers with text that a model writes: a translation too, where a chat makes it."""
    if call.operation is not Operation.TRANSLATE:
        return call.operation in GENERATES
    rate = facts.rates.get(step.name)
    return _chats(step, facts) or (rate is not None and not rate.translates)


def _chats(step: Step, facts: Facts) -> bool:
    """Whether the step is asked for a translation as a chat: of those made for it none chats."""
    return Operation.CHAT in facts.operations.get(step.name, ())


def _expected(name: str, speed: Speed, facts: Facts, read_tokens: int, most_tokens: int) -> Prediction:
    """What the step takes: a prompt that does not fit is no later than one that fills the context."""
    prompt_tokens = min(read_tokens, facts.contexts.get(name, read_tokens))
    load, cached_tokens = facts.loads.get(name, IDLE), facts.cached.get(name, 0)
    return predicted(speed, load, prompt_tokens, cached_tokens, most_tokens)


def _late(expected: Prediction | None, decided: Plan) -> bool:
    """Whether the prediction would leave the step out.  One that cannot be relied on may not."""
    return (
        expected is not None
        and expected.first_token_s is not None
        and expected.first_token_s > decided.total_s
    )


def _overflows(call: Call, context: int | None, decided: Plan) -> bool:
    """Whether a prompt is far too long for the model, which will say so at once, whatever its speed.

    Of several, each has the context to itself: if all fit into as many, none need be too long.
    """
    if context is None or call.truncate is not None:
        return False
    return decided.prompt_tokens > _OVERFLOW * context * max(1, len(call.prompts))


def _priced(expected: Prediction, rate: Rate, amount: float) -> Prediction:
    return Prediction(
        first_token_s=expected.first_token_s,
        first_token_p90_s=expected.first_token_p90_s,
        total_s=expected.total_s,
        neurons=rate.neurons(amount),
        usd=rate.usd(amount),
    )


def _copy(step: Step, because: str, expected: Prediction | None, context: int | None) -> Step:
    """As `msgspec.structs.replace`, at a third of its cost: this is done for every call."""
    return Step(
        backend=step.backend,
        model=step.model,
        timeouts=step.timeouts,
        because=because,
        predicted=expected,
        context=context,
    )


def ordered(steps: list[Step], facts: Facts, treatment: Treatment) -> list[Step]:
    """`steps` as `prefer`, `while_loading`, `spill_when` and affinity put them; each that moves says why.

    A step that spills is behind all that do not, however fast it is.
    """
    spills = treatment.spill_queue is not None or treatment.spill_first_token_s is not None
    listed = treatment.prefer == "listed" and treatment.while_loading == "wait"
    if len(steps) <= 1 or (listed and not spills):
        return steps
    order = _Order(steps)
    if treatment.prefer == "fastest":
        _fastest_first(order, facts, treatment)
    if treatment.while_loading == "cloud":
        _loading_last(order, facts)
    if spills:
        _spilling_last(order, facts, treatment)
    return order.moved()


def translators_first(steps: list[Step], facts: Facts) -> list[Step]:
    """Steps of a translation: those that must be asked for it as a chat behind the others, and saying so."""
    chats = [_chats(step, facts) for step in steps]
    order = _Order(steps)
    order.sort(
        chats.__getitem__,
        lambda place: "it translates by chat" if chats[place] else "made for translation",
    )
    return order.moved()


class _Order:
    """Steps while they are put in order.  `places` are those of the listed order, as they stand now."""

    def __init__(self, steps: list[Step]) -> None:
        self.steps = steps
        self.places = list(range(len(steps)))
        self._reasons: dict[int, str] = {}

    def sort(self, rank: Callable[[int], float], why: Callable[[int], str]) -> None:
        """Sort places by rank, equals as they stand; each that moves has a reason."""
        before, self.places = self.places, sorted(self.places, key=rank)
        for was, now in zip(before, self.places, strict=True):
            if was != now:
                self._reasons[now] = f"{self._reasons.get(now, '')}; {why(now)}"

    def moved(self) -> list[Step]:
        """The steps in their order; those that are elsewhere than listed say why."""
        return [
            self.steps[place] if place == at else self._saying(place) for at, place in enumerate(self.places)
        ]

    def _saying(self, place: int) -> Step:
        step = self.steps[place]
        return _copy(step, step.because + self._reasons[place], step.predicted, step.context)


def _fastest_first(order: _Order, facts: Facts, treatment: Treatment) -> None:
    """By the time the whole answer takes.

    A step of which nothing is known counts as the middle of the known ones: it is neither shunned nor
    preferred.  One that was not measured for long counts as no worse than that, so that it is asked again.
    """
    steps = order.steps
    totals = [None if step.predicted is None else step.predicted.total_s for step in steps]
    doubted = [step.name in facts.speeds and facts.speeds[step.name].doubted for step in steps]
    stays = [_stays(step, facts, treatment) for step in steps]
    known = [total_s for total_s in totals if total_s is not None]
    if not known:
        return
    fresh = [total_s for total_s, old in zip(totals, doubted, strict=True) if total_s is not None and not old]
    middle_s = statistics.median(fresh or known)

    def rank(place: int) -> float:
        total_s = totals[place]
        if total_s is None:
            total_s = middle_s
        elif fresh and doubted[place]:
            total_s = min(total_s, middle_s)
        return total_s / _STAYING_FACTOR if stays[place] else total_s

    def why(place: int) -> str:
        total_s = totals[place]
        said = "nothing is known of it yet" if total_s is None else f"{total_s:.3g} s for the whole answer"
        cached = f", {facts.cached[steps[place].name]} tokens are cached" if stays[place] else ""
        return f"fastest first: {said}{cached}"

    order.sort(rank, why)


def _stays(step: Step, facts: Facts, treatment: Treatment) -> bool:
    """Whether the conversation has a reason to stay at this step."""
    return treatment.affinity and facts.cached.get(step.name, 0) > 0


def loads_first(step: Step, facts: Facts) -> bool:
    """Whether a step's model has to be brought into memory before it answers."""
    return step.backend in facts.local and facts.loads.get(step.name, IDLE).loading


def _loading_last(order: _Order, facts: Facts) -> None:
    """Local models that are not in memory yet behind the clouds; where there is no cloud, all stay."""
    if all(step.backend in facts.local for step in order.steps):
        return
    loading = [loads_first(step, facts) for step in order.steps]
    said = "; ".join(
        f"{step.name} is not in memory yet" for step, loads in zip(order.steps, loading, strict=True) if loads
    )
    order.sort(loading.__getitem__, lambda place: said)


def _spilling_last(order: _Order, facts: Facts, treatment: Treatment) -> None:
    """Busy steps behind the others; if all are busy, all stay."""
    steps = order.steps
    busy = [_busy(step, facts, treatment) for step in steps]
    calm = [step for step, reason in zip(steps, busy, strict=True) if reason is None]
    if not calm or len(calm) == len(steps):
        return
    earliest_s = min((first_s for step in calm if (first_s := _first_s(step)) is not None), default=None)
    spills = [
        reason is not None and (not _stays(step, facts, treatment) or _later(step, earliest_s))
        for step, reason in zip(steps, busy, strict=True)
    ]
    said = [f"{step.name} spills: {reason}" for step, reason in zip(steps, busy, strict=True)]
    before = list(order.places)

    def why(place: int) -> str:
        if spills[place]:
            return said[place]
        ahead = before[: before.index(place)]
        return "; ".join(dict.fromkeys(said[other] for other in ahead if spills[other]))

    order.sort(spills.__getitem__, why)


def _busy(step: Step, facts: Facts, treatment: Treatment) -> str | None:
    """Why a step spills, or None."""
    waiting_count = facts.loads.get(step.name, IDLE).waiting_count
    if treatment.spill_queue is not None and waiting_count >= treatment.spill_queue:
        return f"{waiting_count} call{'s wait' if waiting_count > 1 else ' waits'}"
    limit_s, first_s = treatment.spill_first_token_s, _first_s(step)
    if limit_s is not None and first_s is not None and first_s > limit_s:
        return f"its first token is expected after {first_s:.3g} s"
    return None


def _first_s(step: Step) -> float | None:
    return None if step.predicted is None else step.predicted.first_token_s


def _later(step: Step, than_s: float | None) -> bool:
    """Whether a step's first token is known to be later."""
    first_s = _first_s(step)
    return first_s is not None and than_s is not None and first_s > than_s
