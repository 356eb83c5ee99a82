"""The order of steps: by what is predicted, without losing or inventing one."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from hybrid_router.core.backend import EVEN, Load
from hybrid_router.core.call import Call, Message, Operation, Sampling
from hybrid_router.core.step import Plan, Prediction, Step, Timeouts, Treatment
from hybrid_router.routing.facts import Facts
from hybrid_router.routing.ledger import Rate, most
from hybrid_router.routing.obstacles import obstacle
from hybrid_router.routing.order import ordered, with_predictions
from hybrid_router.routing.speed import Sample, Speed, learned

WAITS = Timeouts(connect_s=5, load_s=60, first_token_s=60, between_tokens_s=30, total_s=600)
FASTEST = Treatment(prefer="fastest")
RATE = Rate(
    input=1_000_000, output=10_000_000, cached_input=0
)  # one neuron a token read, ten a token written


def step(name: str, total_s: float | None = None, first_token_s: float | None = None) -> Step:
    """A step of backend `name`; with times, those are predicted."""
    told = (
        None if total_s is first_token_s is None else Prediction(total_s=total_s, first_token_s=first_token_s)
    )
    return Step(backend=name, model="m", timeouts=WAITS, because="try order", predicted=told)


def names(steps: list[Step]) -> str:
    """The steps' backends in order."""
    return " ".join(step.backend for step in steps)


def speed(first_token_s: float, total_s: float, completion_tokens: int = 11, **changes: Any) -> Speed:
    """What ten like attempts at a cloud teach."""
    told = Sample(
        at_s=1.0,
        prompt_tokens=100,
        completion_tokens=completion_tokens,
        first_token_s=first_token_s,
        total_s=total_s,
    )
    found = None
    for _ in range(10):
        found = learned(found, told, local=False)
    assert found is not None
    return replace(found, **changes)


def asking(**fields: Any) -> Call:
    """A chat call."""
    call = Call(
        id="x", operation=Operation.CHAT, alias="a", messages=(Message(role="user", content="hello"),)
    )
    return replace(call, **fields)


DECIDED = Plan(prompt_tokens=100, total_s=60.0)

# What each step is expected to take and cost


@pytest.mark.parametrize("operation", sorted(EVEN))
def test_a_long_text_delays_no_first_event_that_does_not_depend_on_it(operation: Operation) -> None:
    """A recording with a long prompt is heard as soon as one without; a chat reads its prompt first."""
    found = None
    for at_s in range(3):
        one = Sample(at_s=float(at_s), prompt_tokens=0, completion_tokens=30, first_token_s=3.0, total_s=9.0)
        found = learned(found, one, local=True)
    assert found is not None
    facts, decided = Facts(speeds={"local/m": found}), replace(DECIDED, prompt_tokens=500)

    def first_s(operation: Operation) -> float | None:
        (got,) = with_predictions([step("local")], asking(operation=operation), facts, decided)
        return None if got.predicted is None else got.predicted.first_token_s

    assert first_s(operation) == pytest.approx(3.0, rel=0.01)
    assert (first_s(Operation.CHAT) or 0.0) > decided.total_s


def test_a_step_of_which_nothing_is_known_is_left_as_it_is() -> None:
    """The very same object: planning a first call costs nothing."""
    unknown = step("a")

    (got,) = with_predictions([unknown], asking(), Facts(), DECIDED)

    assert got is unknown


def test_each_step_gets_its_own_prediction() -> None:
    """Times come from the step's speed, context from the facts; the rest of it stays."""
    facts = Facts(contexts={"a/m": 4096}, speeds={"a/m": speed(0.5, 1.5)})

    known, other = with_predictions([step("a"), step("b")], asking(), facts, DECIDED)

    assert known.predicted is not None
    assert known.predicted.first_token_s == pytest.approx(0.5)
    assert (known.context, known.name, known.because, known.timeouts) == (4096, "a/m", "try order", WAITS)
    assert known.predicted.neurons == 0
    assert other == step("b")


def test_load_and_cache_are_looked_at() -> None:
    """A full model is expected later; what is cached need not be read."""
    sample = Sample(at_s=1.0, prompt_tokens=100, completion_tokens=2, first_token_s=1.0, total_s=2.0)
    facts = Facts(speeds={"a/m": learned(None, sample, local=True)})

    def first_s(facts: Facts) -> float:
        (got,) = with_predictions([step("a")], asking(), facts, DECIDED)
        assert got.predicted is not None
        return got.predicted.first_token_s or 0.0

    full = Load(running_count=1, waiting_count=2, parallel=1)
    assert first_s(facts) == pytest.approx(1.0)
    assert first_s(replace(facts, loads={"a/m": full})) == pytest.approx(1.0 + 3 * 2.0)
    assert first_s(replace(facts, cached={"a/m": 60})) == pytest.approx(0.4)


@pytest.mark.parametrize(
    ("call", "neurons"),
    [
        (asking(sampling=Sampling(max_tokens=5)), 2 * 100 + 10 * 5),
        (asking(), 2 * 100 + 10 * 30),
        (asking(sampling=Sampling(max_tokens=5), n=3), 3 * (2 * 100 + 10 * 5)),
    ],
)
def test_the_worst_case_is_what_a_step_may_cost(call: Call, neurons: float) -> None:
    """Twice the estimated prompt and the longest answer, for each choice; dollars at the published price."""
    facts = Facts(rates={"a/m": RATE}, default_max_tokens={"a": 30})

    (got,) = with_predictions([step("a")], call, facts, DECIDED)

    assert got.predicted is not None
    assert got.predicted.neurons == pytest.approx(neurons)
    assert got.predicted.usd == pytest.approx(neurons * 0.011 / 1000)
    assert got.predicted.first_token_s is None


@pytest.mark.parametrize(("can", "slow"), [(Operation.CHAT, True), (Operation.EMBED, False)])
def test_a_chat_that_translates_takes_as_long_as_it_writes(can: Operation, slow: bool) -> None:
    """A model of translations alone is done with its first event; who writes has an answer before it."""
    asked = asking(operation=Operation.TRANSLATE, messages=(), prompts=("hello",))
    facts = Facts(speeds={"a/m": speed(0.5, 1.5)}, operations={"a/m": frozenset({Operation.TRANSLATE, can})})

    (got,) = with_predictions([step("a")], asked, facts, DECIDED)

    assert got.predicted is not None
    assert got.predicted.total_s is not None
    assert (got.predicted.total_s > 1.0) is slow


def test_a_chat_that_translates_costs_what_it_may_write() -> None:
    """The default of its backend for each text, as its meter will reserve."""
    asked = asking(operation=Operation.TRANSLATE, messages=(), prompts=("hello", "world"))
    facts = Facts(rates={"a/m": RATE}, default_max_tokens={"a": 30})

    (got,) = with_predictions([step("a")], asked, facts, DECIDED)

    assert got.predicted is not None
    assert got.predicted.neurons == most(RATE, asked, DECIDED.prompt_tokens, 30)
    assert got.predicted.neurons >= 2 * 10 * 30


def test_the_time_is_that_of_an_answer_as_long_as_they_were() -> None:
    """A high limit raises what may be spent, not how long the answer is expected to take."""
    facts = Facts(speeds={"a/m": speed(0.5, 1.5)}, rates={"a/m": RATE}, default_max_tokens={"a": 50_000})

    (got,) = with_predictions([step("a")], asking(), facts, DECIDED)

    assert got.predicted is not None
    assert got.predicted.neurons > 500_000
    assert (got.predicted.total_s or 99) < 6


def test_what_was_not_measured_for_long_leaves_no_step_out() -> None:
    """Beyond the deadline, a doubted prediction is not made; a fresh one is."""
    slow = speed(90.0, 95.0)
    doubted = Facts(speeds={"a/m": replace(slow, doubted=True)})

    (fresh,) = with_predictions([step("a")], asking(), Facts(speeds={"a/m": slow}), DECIDED)
    (unsure,) = with_predictions([step("a")], asking(), doubted, DECIDED)

    assert fresh.predicted is not None
    assert unsure.predicted is None


@pytest.mark.parametrize(
    ("context", "truncate", "refused_at_once"),
    [(66, None, True), (67, None, False), (66, "oldest", False), (None, None, False)],
)
def test_what_surely_overflows_is_not_left_out_as_late(
    context: int | None, truncate: Any, refused_at_once: bool
) -> None:
    """A prompt half as long again as the context is for the model to refuse, however slow it is; one that may
    fit, or is cut to fit, is late."""
    contexts = {} if context is None else {"a/m": context}
    facts = Facts(contexts=contexts, speeds={"a/m": speed(90.0, 95.0)})

    (got,) = with_predictions([step("a")], asking(truncate=truncate), facts, DECIDED)

    assert (got.predicted is None) == refused_at_once


@pytest.mark.parametrize(("context", "refused_at_once"), [(33, True), (34, False)])
def test_several_prompts_have_a_context_each(context: int, refused_at_once: bool) -> None:
    """Many short ones that take long together are late, not refused at once."""
    facts = Facts(contexts={"a/m": context}, speeds={"a/m": speed(90.0, 95.0)})
    asked = asking(operation=Operation.COMPLETE, messages=(), prompts=("a", "b"))

    (got,) = with_predictions([step("a")], asked, facts, DECIDED)

    assert (got.predicted is None) == refused_at_once


# The fastest first


def test_listed_steps_stay_as_listed() -> None:
    """Without `prefer` and `spill_when` predictions change nothing."""
    steps = [step("a", 9), step("b", 1)]

    assert ordered(steps, Facts(), Treatment()) is steps


def test_the_fastest_goes_first_and_says_why() -> None:
    """By the whole answer's time; who moved says so behind its first reason, who did not says nothing."""
    got = ordered([step("a", 9), step("b", 5), step("c", 1.25)], Facts(), FASTEST)

    assert names(got) == "c b a"
    assert [one.because for one in got] == [
        "try order; fastest first: 1.25 s for the whole answer",
        "try order",
        "try order; fastest first: 9 s for the whole answer",
    ]


@pytest.mark.parametrize(
    ("steps", "expected"),
    [
        ([step("a"), step("b")], "a b"),
        ([step("u"), step("a", 5), step("b", 1)], "b u a"),
        ([step("a", 5), step("u"), step("b", 1)], "b u a"),
        ([step("u"), step("a", 5)], "u a"),
        ([step("a", 5), step("u")], "a u"),
    ],
)
def test_the_unknown_counts_as_the_middle_of_the_known(steps: list[Step], expected: str) -> None:
    """A step that was never measured goes behind the faster half, and before the slower one."""
    assert names(ordered(steps, Facts(), FASTEST)) == expected


def test_a_slow_step_is_asked_again_when_its_figures_are_old() -> None:
    """Listed first, it gets a call once it was not measured for long; listed last, it does not."""
    facts = Facts(speeds={"a/m": Speed(doubted=True), "b/m": Speed()})

    assert names(ordered([step("a", 9), step("b", 1)], facts, FASTEST)) == "a b"
    assert names(ordered([step("b", 1), step("a", 9)], facts, FASTEST)) == "b a"


def test_after_a_night_old_figures_are_better_than_none() -> None:
    """Where nothing is fresh the order is that of the old figures."""
    facts = Facts(speeds={"a/m": Speed(doubted=True), "b/m": Speed(doubted=True)})

    assert names(ordered([step("a", 9), step("b", 1)], facts, FASTEST)) == "b a"


@pytest.mark.parametrize(
    ("total_s", "affinity", "expected"), [(1.05, True, "a b"), (1.2, True, "b a"), (1.05, False, "b a")]
)
def test_a_conversation_stays_for_a_tenth(total_s: float, affinity: bool, expected: str) -> None:
    """Where its beginning is cached it stays unless the other is faster by more than a tenth."""
    treatment = replace(FASTEST, affinity=affinity)
    steps = [step("a", total_s), step("b", 1.0)]

    assert names(ordered(steps, Facts(cached={"a/m": 500}), treatment)) == expected


def test_a_conversation_goes_back_to_its_cache() -> None:
    """A tie goes to the step that holds the prefix, which says so."""
    got = ordered([step("a", 1.0), step("b", 1.05)], Facts(cached={"b/m": 500}), FASTEST)

    assert names(got) == "b a"
    assert got[0].because.endswith("fastest first: 1.05 s for the whole answer, 500 tokens are cached")


# Models that are not in memory last

COLD = Facts(local=frozenset({"a"}), loads={"a/m": Load(loading=True)})
CLOUD = Treatment(while_loading="cloud")


def test_clouds_go_first_while_a_local_model_loads() -> None:
    """Only then, and only if asked for; once it is there the listed order holds again."""
    steps = [step("a"), step("b")]
    got = ordered(steps, COLD, CLOUD)

    assert names(got) == "b a"
    assert {one.because for one in got} == {"try order; a/m is not in memory yet"}
    assert ordered(steps, COLD, Treatment()) == steps
    assert ordered(steps, Facts(local=frozenset({"a"})), CLOUD) == steps


def test_without_a_cloud_everybody_waits_for_the_load() -> None:
    """No order of local models is better for a call than the listed one."""
    steps = [step("a"), step("b")]

    assert ordered(steps, replace(COLD, local=frozenset({"a", "b"})), CLOUD) == steps


# Busy steps last

QUEUED = Facts(loads={"a/m": Load(running_count=2, waiting_count=3, parallel=2)})


@pytest.mark.parametrize(("queue", "expected"), [(3, "b a"), (4, "a b")])
def test_a_step_with_a_queue_goes_behind(queue: int, expected: str) -> None:
    """From so many waiting calls on; both that moved name the cause."""
    got = ordered([step("a"), step("b")], QUEUED, Treatment(spill_queue=queue))

    assert names(got) == expected
    if expected == "b a":
        assert {one.because for one in got} == {"try order; a/m spills: 3 calls wait"}


@pytest.mark.parametrize(("first_token_s", "expected"), [(3.5, "b a"), (3.0, "a b"), (None, "a b")])
def test_a_step_that_is_expected_late_goes_behind(first_token_s: float | None, expected: str) -> None:
    """Later than `predicted_first_token`; what is not known is not late."""
    steps = [step("a", 9, first_token_s), step("b")]

    assert names(ordered(steps, Facts(), Treatment(spill_first_token_s=3.0))) == expected


def test_if_all_spill_the_order_stays() -> None:
    """Nobody is better off behind the others."""
    steps = [step("a", 9, 8), step("b", 9, 7)]

    assert ordered(steps, Facts(), Treatment(spill_first_token_s=3.0)) == steps


def test_a_fast_step_spills_all_the_same() -> None:
    """`spill_when` holds before `prefer: fastest`, which orders both halves."""
    steps = [step("c", 3), step("a", 1), step("b", 2)]

    assert names(ordered(steps, QUEUED, replace(FASTEST, spill_queue=1))) == "b c a"


@pytest.mark.parametrize(
    ("mine_s", "other_s", "expected"), [(2.0, 5.0, "a b"), (5.0, 2.0, "b a"), (2.0, None, "a b")]
)
def test_a_cached_conversation_spills_only_where_it_gains(
    mine_s: float, other_s: float | None, expected: str
) -> None:
    """The step that holds the prefix spills if another's first token is expected earlier."""
    facts = replace(QUEUED, cached={"a/m": 500})
    steps = [step("a", 9, mine_s), step("b", 9, other_s)]

    assert names(ordered(steps, facts, Treatment(spill_queue=1))) == expected
    assert names(ordered(steps, facts, Treatment(spill_queue=1, affinity=False))) == "b a"


# Any facts

BACKENDS = st.sampled_from("abcdef")
TIMES = st.none() | st.floats(0.001, 1000)


@given(
    steps=st.lists(st.builds(step, BACKENDS, TIMES, TIMES), max_size=7),
    loads=st.dictionaries(
        BACKENDS.map("{}/m".format), st.builds(Load, waiting_count=st.integers(0, 9)), max_size=6
    ),
    cached=st.dictionaries(BACKENDS.map("{}/m".format), st.integers(0, 900), max_size=6),
    doubted=st.dictionaries(BACKENDS.map("{}/m".format), st.builds(Speed, doubted=st.booleans()), max_size=6),
    treatment=st.builds(
        Treatment,
        prefer=st.sampled_from(["listed", "fastest"]),
        spill_queue=st.none() | st.integers(1, 5),
        spill_first_token_s=st.none() | st.floats(0.01, 100),
        affinity=st.booleans(),
    ),
)
def test_ordering_invents_and_drops_no_step(
    steps: list[Step],
    loads: dict[str, Load],
    cached: dict[str, int],
    doubted: dict[str, Speed],
    treatment: Treatment,
) -> None:
    """Any steps come out once each, changed in nothing but the reason, which only those that moved add to."""
    facts = Facts(loads=loads, cached=cached, speeds=doubted)
    before = [replace(one, because=f"{at}") for at, one in enumerate(steps)]

    after = ordered(list(before), facts, treatment)

    places = [int(one.because.partition("; ")[0]) for one in after]
    assert sorted(places) == list(range(len(steps)))
    for at, (place, one) in enumerate(zip(places, after, strict=True)):
        assert replace(one, because="") == replace(steps[place], because="")
        assert (at == place) == (one is before[place])
        assert at == place or len(one.because) > len(f"{place}; ")


@given(
    backends=st.lists(BACKENDS, max_size=7),
    known=st.frozensets(BACKENDS),
    priced=st.frozensets(BACKENDS),
    prompt_tokens=st.integers(0, 10**6),
)
def test_predicting_invents_and_drops_no_step(
    backends: list[str], known: frozenset[str], priced: frozenset[str], prompt_tokens: int
) -> None:
    """Each step comes out in its place, with times where it was measured and a price where it has one."""
    facts = Facts(
        speeds={f"{name}/m": speed(0.5, 1.5) for name in known}, rates={f"{name}/m": RATE for name in priced}
    )
    steps = [step(name) for name in backends]

    got = with_predictions(steps, asking(), facts, replace(DECIDED, prompt_tokens=prompt_tokens))

    assert [replace(one, predicted=None) for one in got] == steps
    for one in got:
        told = one.predicted or Prediction()
        assert (told.neurons > 0) == (told.usd > 0) == (one.backend in priced)
        assert (one.predicted is None) == (one.backend not in known | priced)


def test_a_price_in_dollars_caps_a_call_and_uses_no_neurons() -> None:
    """A step of another cloud is told with its dollars, and left out where the call may not cost them."""
    rate = Rate(input=2, output=8, cached_input=2, currency="usd")
    facts = Facts(rates={"a/m": rate}, default_max_tokens={"a": 1_000_000})
    capped = replace(DECIDED, treatment=replace(DECIDED.treatment, max_cost_usd=1.0))

    (got,) = with_predictions([step("a")], asking(), facts, DECIDED)

    assert got.predicted is not None
    assert got.predicted.neurons == 0
    assert got.predicted.usd == pytest.approx(8.0004)
    assert "it may cost 8.0004 USD" in str(obstacle(got, asking(), facts, capped, frozenset()))
    assert obstacle(got, asking(), facts, DECIDED, frozenset()) is None
