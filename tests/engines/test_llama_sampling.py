"""Samplers at one place of the real starter model's text, and in answers that it writes."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import llama_cpp as llama
import msgspec
import numpy as np
import pytest
from numpy.typing import NDArray

from hybrid_router.core.call import Sampling
from hybrid_router.engines.llama.chain import Past, Prototypes
from hybrid_router.engines.llama.context import Context
from hybrid_router.engines.llama.sampler import Sampler
from hybrid_router.engines.llama.scores import scored
from hybrid_router.engines.llama.weights import Weights
from hybrid_router.engines.task import Settings, TaskRefused

pytestmark = pytest.mark.model
GREEDY = Sampling(temperature=0)
# Nothing but the model's own probabilities.
PLAIN = Sampling(temperature=1, top_k=0, top_p=1, min_p=0, seed=1)


def named(value: Sampling | dict[str, float]) -> str:
    """A test's name: what is set."""
    chosen = value if isinstance(value, dict) else msgspec.to_builtins(value)
    return ",".join(f"{name}={given:g}" for name, given in chosen.items() if isinstance(given, float | int))


@dataclass
class Place:
    """A place in a text: its logits are the library's, behind the last token of a prompt."""

    weights: Weights
    context: Context
    prototypes: Prototypes
    entry: int = 0

    def read(self, text: str | Sequence[int]) -> list[int]:
        """Go behind a prompt."""
        tokens = self.weights.tokenize(text) if isinstance(text, str) else list(text)
        self.context.forget(0)
        self.context.decode([(token, at, 0, at == len(tokens) - 1) for at, token in enumerate(tokens)])
        self.entry = len(tokens) - 1
        return tokens

    @property
    def logits(self) -> NDArray[np.float32]:
        return self.context.logits(self.entry)

    @property
    def ranked(self) -> list[int]:
        """All tokens, the likeliest first."""
        return [int(token) for token in np.argsort(-self.logits, kind="stable")]

    def sampler(self, sampling: Sampling, index: int = 0, **given: Any) -> Sampler:
        return Sampler(sampling, index, self.weights, prototypes=self.prototypes, **given)

    def draws(self, sampling: Sampling, count: int = 300, index: int = 0, **given: Any) -> list[int]:
        """Choose again and again at this place, as if each token led to it again."""
        sampler = self.sampler(sampling, index, **given)
        try:
            return [sampler.choose(self.context, self.entry) for _ in range(count)]
        finally:
            sampler.close()

    def write(self, text: str, sampling: Sampling, count: int, **given: Any) -> list[int]:
        """An answer of at most `count` tokens."""
        position = len(self.read(text))
        sampler = self.sampler(sampling, **given)
        written: list[int] = []
        while len(written) < count:
            token = sampler.choose(self.context, self.entry)
            if self.weights.ends(token):
                break
            written.append(token)
            self.context.decode([(token, position, 0, True)])
            self.entry, position = 0, position + 1
        sampler.close()
        return written


def probabilities(logits: NDArray[np.floating]) -> NDArray[np.float64]:
    shares = np.exp(logits.astype(np.float64) - logits.max())
    whole: NDArray[np.float64] = shares / shares.sum()
    return whole


@pytest.fixture(scope="module")
def opened(model_settings: Settings) -> Iterator[Place]:
    weights = Weights(model_settings.path, model_settings.offload)
    context = Context(weights, model_settings, cells_count=512, sequences_count=1, batch_count=128)
    yield Place(weights, context, Prototypes(weights))
    context.close()
    weights.close()


@pytest.fixture
def place(opened: Place) -> Iterator[Place]:
    """Behind a prompt that leaves much open."""
    opened.read("My favourite city is")
    yield opened
    opened.prototypes.close()


@pytest.mark.parametrize(
    "sampling",
    [
        GREEDY,
        Sampling(temperature=1e-9),
        Sampling(temperature=5, top_k=1),
        Sampling(temperature=5, min_p=1),
        Sampling(temperature=5, top_p=1e-9),
        Sampling(temperature=0, mirostat=2),
        Sampling(temperature=0, mirostat=1, typical_p=0.5),
        Sampling(temperature=0, repeat_penalty=1, frequency_penalty=0, dry_multiplier=0, xtc_probability=0),
        Sampling(temperature=0, frequency_penalty=2, repeat_last_n=0),
        Sampling(temperature=0, dry_multiplier=5, dry_penalty_last_n=0),
        Sampling(temperature=0, xtc_probability=1, xtc_threshold=0.6),
    ],
    ids=named,
)
def test_settings_that_leave_one_token_choose_the_likeliest(place: Place, sampling: Sampling) -> None:
    """Whichever setting says so, and whatever is switched off beside it."""
    assert set(place.draws(sampling, 5)) == {place.ranked[0]}


def test_the_default_is_llama_cpps_own(place: Place) -> None:
    """Token for token, with the same seed: what is done faster here changes nothing."""
    parts = (
        llama.llama_sampler_init_top_k(40),
        llama.llama_sampler_init_top_p(0.95, 1),
        llama.llama_sampler_init_min_p(0.05, 1),
        llama.llama_sampler_init_temp(0.8),
        llama.llama_sampler_init_dist(7),
    )
    chain = llama.llama_sampler_chain_init(llama.llama_sampler_chain_default_params())
    for part in parts:
        llama.llama_sampler_chain_add(chain, part)
    theirs = [llama.llama_sampler_sample(chain, place.context.handle, place.entry) for _ in range(300)]
    llama.llama_sampler_free(chain)

    assert place.draws(Sampling(seed=7)) == theirs
    assert len(set(theirs)) > 5


def test_tokens_come_as_often_as_they_are_likely(place: Place) -> None:
    """At temperature 2, three tokens of five thousand draws."""
    sampling = msgspec.structs.replace(PLAIN, temperature=2, top_k=3)
    likely = probabilities(place.logits[place.ranked[:3]] / 2)

    drawn = place.draws(sampling, 5000)

    assert [drawn.count(token) / 5000 for token in place.ranked[:3]] == pytest.approx(likely, abs=0.03)


def test_top_k_keeps_so_many(place: Place) -> None:
    """All of them, and nothing else; also more than are near the first."""
    few = place.draws(msgspec.structs.replace(PLAIN, temperature=3, top_k=4))
    many = place.draws(msgspec.structs.replace(PLAIN, temperature=50, top_k=20_000), 100)

    assert set(few) == set(place.ranked[:4])
    assert set(many) <= set(place.ranked[:20_000])
    assert not set(many) <= set(place.ranked[:10_000])


def test_top_p_keeps_the_nucleus(place: Place) -> None:
    """The fewest tokens that make up so much, of all."""
    sums = np.cumsum(probabilities(place.logits)[place.ranked])
    nucleus = set(place.ranked[: int(np.argmax(sums >= 0.3)) + 1])

    assert 2 < len(nucleus) < 30
    assert set(place.draws(msgspec.structs.replace(PLAIN, top_p=0.3), 400)) == nucleus


def test_min_p_keeps_what_is_near_the_first(place: Place) -> None:
    """Tokens at least a fifth as likely as the likeliest."""
    likely = probabilities(place.logits)
    near = set(np.flatnonzero(likely >= 0.2 * likely.max()))

    assert 2 < len(near) < 30
    assert set(place.draws(msgspec.structs.replace(PLAIN, min_p=0.2), 400)) == near


def test_typical_p_keeps_what_surprises_as_expected(place: Place) -> None:
    """Tokens whose surprise is nearest to the average; the likeliest need not be among them."""
    likely = probabilities(place.logits)
    surprise = -np.log(likely)
    order = np.argsort(np.abs(surprise - (likely * surprise).sum()), kind="stable")
    typical = order[: int(np.argmax(np.cumsum(likely[order]) > 0.2)) + 1]

    drawn = place.draws(msgspec.structs.replace(PLAIN, typical_p=0.2), 60)

    assert place.ranked[0] not in typical
    assert set(drawn) <= {int(token) for token in typical}
    assert len(set(drawn)) > 5
    assert place.draws(Sampling(temperature=0, typical_p=0.2), 1) != place.ranked[:1]


def test_typical_p_bears_impossible_tokens(place: Place) -> None:
    """A bias that makes all others vanish leaves one."""
    chosen = place.ranked[10]
    sampling = msgspec.structs.replace(PLAIN, typical_p=0.5, logit_bias={chosen: 1000.0})

    assert set(place.draws(sampling, 20)) == {chosen}


def test_xtc_removes_the_top_choices(place: Place) -> None:
    """Of the tokens above the threshold only the least likely stays; half the time, with a chance of half."""
    likely = probabilities(place.logits[place.ranked[:10]])
    threshold = float((likely[2] + likely[3]) / 2)
    always = msgspec.structs.replace(PLAIN, top_k=10, xtc_probability=1, xtc_threshold=threshold)
    sometimes = msgspec.structs.replace(always, xtc_probability=0.5)

    assert not set(place.draws(always)) & set(place.ranked[:2])
    assert place.ranked[2] in place.draws(always)
    assert set(place.draws(sometimes)) & set(place.ranked[:2])
    assert set(place.draws(msgspec.structs.replace(always, temperature=0), 3)) == {place.ranked[2]}


def penalised(place: Place, count: int, window: int, by: dict[str, float]) -> list[int]:
    """What greedy choices should be, token after token."""
    past: list[int] = []
    for _ in range(count):
        logits = place.logits.astype(np.float64)
        recent = past[-window:]
        for token in set(recent):
            repeat = by.get("repeat_penalty", 1.0)
            logits[token] = logits[token] / repeat if logits[token] > 0 else logits[token] * repeat
            logits[token] -= by.get("frequency_penalty", 0.0) * recent.count(token)
            logits[token] -= by.get("presence_penalty", 0.0)
        past.append(int(logits.argmax()))
    return past


@pytest.mark.parametrize(
    "by",
    [
        {"frequency_penalty": 0.4},
        {"presence_penalty": 1.1},
        {"presence_penalty": 30.0},
        {"repeat_penalty": 1.2},
    ],
    ids=named,
)
@pytest.mark.parametrize("window", [3, 1000])
def test_penalties_count_the_last_tokens(place: Place, by: dict[str, float], window: int) -> None:
    """As a reference does it; what is longer ago than `repeat_last_n` is forgotten."""
    drawn = place.draws(Sampling(temperature=0, repeat_last_n=window, **by), 40)  # type: ignore[arg-type]

    assert drawn == penalised(place, 40, window, by)
    assert len(set(drawn)) > 1


def test_all_penalties_add_up(place: Place) -> None:
    """The repeat penalty first, then what is taken off."""
    by = {"repeat_penalty": 1.05, "frequency_penalty": 0.3, "presence_penalty": 0.2}
    sampling = Sampling(temperature=0, repeat_last_n=-1, **by)  # type: ignore[arg-type]

    assert place.draws(sampling, 60) == penalised(place, 60, 1000, by)


def test_penalties_may_leave_few_of_the_likely_tokens(place: Place) -> None:
    """Where all that were near the first are penalised, what was far comes, in its order."""
    near = int((place.logits > place.logits.max() - 10.5).sum())
    sampling = Sampling(temperature=0, presence_penalty=100)

    assert place.draws(sampling, 20, written=place.ranked[:near]) == place.ranked[near : near + 20]


@pytest.mark.parametrize("name", ["presence_penalty", "frequency_penalty", "dry_multiplier"])
def test_a_negative_penalty_rewards(place: Place, name: str) -> None:
    """However unlikely the token was."""
    far, run = place.ranked[20_000], place.ranked[1000:1003]
    sampling = Sampling(**{"temperature": 0, name: -100})  # type: ignore[arg-type]

    assert place.draws(sampling, 1, written=[*run, far, *run])[0] in {far, *run}


def test_openais_penalties_count_the_whole_answer_alone(place: Place) -> None:
    """What is written already, however long; not the prompt."""
    best = place.ranked[0]
    sampling = Sampling(temperature=0, presence_penalty=5)
    long_ago = [best, *place.ranked[1000:1200]]

    assert place.draws(sampling, 1, prompt=[best] * 9) == [best]
    assert place.draws(sampling, 1, written=[best]) != [best]
    assert place.draws(sampling, 1, written=long_ago) != [best]


def test_the_repeat_penalty_counts_the_prompt(place: Place) -> None:
    """The last 64 tokens of prompt and answer together; an image in it counts as nothing."""
    best = place.ranked[0]
    sampling = Sampling(temperature=0, repeat_penalty=1.5)

    assert place.draws(sampling, 1, prompt=[best, -3]) != [best]
    assert place.draws(sampling, 1, prompt=[best], written=place.ranked[1000:1060]) != [best]
    assert place.draws(sampling, 1, prompt=[best], written=place.ranked[1000:1064]) == [best]


def test_the_past_is_cut_from_the_end() -> None:
    """The newest tokens stay, in order, whether of the answer or of the prompt."""
    past = Past(prompt=[1, 2, -1, 3], written=[4, 5])

    assert past.last(3) == [3, 4, 5]
    assert past.last(4) == [2, 3, 4, 5]
    assert past.last(1) == [5]
    assert past.last(9) == [1, 2, 3, 4, 5]
    assert past.last(0) == []


LOOP = "a b c a b c a b c a b c a b c a b c c c c"


def test_a_repeat_penalty_ends_a_loop(place: Place) -> None:
    """What would go on for ever says something else, and nothing twice."""
    stuck = place.write(LOOP, GREEDY, 12)
    freed = place.write(LOOP, Sampling(temperature=0, repeat_penalty=1.5), 12)

    assert len(set(stuck)) == 1
    assert len(set(freed)) == 12


def test_dry_ends_a_loop_and_leaves_single_words_alone(place: Place) -> None:
    """A run of more than the allowed length is not repeated; the word itself is not forbidden."""
    (word,) = set(place.write(LOOP, GREEDY, 12))

    freed = place.write(LOOP, Sampling(temperature=0, dry_multiplier=5), 12)

    assert freed[:3] == [word] * 3
    assert freed[3] != word


DRY = Sampling(temperature=0, dry_multiplier=20)


def test_dry_forbids_what_continues_a_repeated_run(place: Place) -> None:
    """In the answer, from prompt to answer, within its window, and not across a breaker."""
    best, run = place.ranked[0], place.ranked[1000:1003]
    (line_end,) = place.weights.tokenize("\n", add_special=False)
    broken = [run[0], line_end, run[2]]

    def first(sampling: Sampling = DRY, **given: Any) -> int:
        return place.draws(sampling, 1, **given)[0]

    assert first(written=[*run, best, *run]) != best
    assert first(prompt=[*run, best], written=run) != best
    assert first(written=[*run, best, run[2]]) == best  # too short a run
    assert first(written=[*broken, best, *broken]) == best
    assert first(replace(dry_sequence_breakers=()), written=[*broken, best, *broken]) != best
    assert first(replace(dry_allowed_length=4), written=[*run, best, *run]) == best
    assert first(replace(dry_penalty_last_n=5), written=[*run, best, *run]) == best
    assert first(replace(dry_penalty_last_n=-1), written=[*run, best, *place.ranked[2000:2100], *run]) != best


def replace(**changed: Any) -> Sampling:
    return msgspec.structs.replace(DRY, **changed)


def test_dry_is_the_same_however_it_was_made(place: Place) -> None:
    """New, from a prototype, or after so many others that its prototype is gone."""
    best, run = place.ranked[0], place.ranked[1000:1003]
    written = [*run, best, *run]
    expected = Sampler(DRY, 0, place.weights, written)
    alone = expected.choose(place.context, place.entry)
    expected.close()

    for length in (2, 3, 2, 4, 5, 6, 7, 8, 9, 10, 11, 2):
        drawn = place.draws(replace(dry_allowed_length=length), 1, written=written)
        assert drawn == [alone if length <= 3 else best]
    assert alone != best


def test_a_prototype_may_go_before_what_was_made_from_it(place: Place) -> None:
    """An engine that closes frees them in any order."""
    best, run = place.ranked[0], place.ranked[1000:1003]
    sampler = place.sampler(DRY, written=[*run, best, *run])
    place.prototypes.close()

    assert sampler.choose(place.context, place.entry) != best
    sampler.close()
    sampler.close()


@pytest.mark.parametrize("version", [1, 2])
def test_mirostat_aims_at_a_surprise(place: Place, version: int) -> None:
    """The higher tau, the more surprising are the tokens; the same seed gives the same ones."""
    bits = -np.log2(probabilities(place.logits))

    def drawn(tau: float, seed: int = 3) -> list[int]:
        return place.draws(Sampling(mirostat=version, mirostat_tau=tau, temperature=1, seed=seed), 80)

    calm, lively = drawn(1.5), drawn(6)

    assert bits[calm].mean() + 1 < bits[lively].mean()
    assert drawn(6) == lively != drawn(6, seed=4)
    assert lively != place.draws(Sampling(temperature=1, seed=3), 80)


def test_mirostat_leaves_penalties_in_force(place: Place) -> None:
    """They are no cuts: a token that was written does not come again."""
    sampling = Sampling(mirostat=2, mirostat_tau=3, seed=3, presence_penalty=50)

    drawn = place.draws(sampling, 50)

    assert len(set(drawn)) == 50
    assert len(set(place.draws(msgspec.structs.replace(sampling, presence_penalty=0), 50))) < 50


def test_a_seed_repeats_and_choices_have_their_own(place: Place) -> None:
    """Same seed and index, same text; without a seed every answer is another."""
    seeded, free = Sampling(temperature=2, seed=42), Sampling(temperature=2)

    assert place.draws(seeded) == place.draws(seeded) != place.draws(seeded, index=1)
    assert place.draws(free) != place.draws(free)
    assert place.write("Once", seeded, 10) == place.write("Once", seeded, 10)
    assert place.draws(Sampling(temperature=2, seed=2**40)) != place.draws(
        Sampling(temperature=2, seed=2**40 - 1)
    )


ENDED = "<|im_start|>user\nHi<|im_end|>\n<|im_start|>assistant\nHello! How can I help you today?"


def test_an_answer_that_may_not_end_goes_on(place: Place) -> None:
    """`ignore_eos`: no token that would end it is chosen, also against a bias."""
    eos = place.weights.special("eos") or 0
    endless = Sampling(temperature=0, ignore_eos=True, logit_bias={eos: 100.0})

    assert place.write(ENDED, GREEDY, 15) == []
    assert len(place.write(ENDED, endless, 15)) == 15
    assert eos in place.prototypes.ending_tokens
    assert all(map(place.weights.ends, place.prototypes.ending_tokens))


def test_a_bias_moves_one_tokens_logit(place: Place) -> None:
    """By as much as it says; -100 forbids; the model's own numbers stay as they are for other choices."""
    best, second = place.ranked[:2]
    before, gap = place.logits.copy(), float(place.logits[best] - place.logits[second])

    def first(**bias: float) -> int:
        tokens = {"best": best, "second": second}
        biased = Sampling(temperature=0, logit_bias={tokens[name]: by for name, by in bias.items()})
        return place.draws(biased, 1)[0]

    assert first(second=gap + 0.01) == second
    assert first(second=gap - 0.01) == best
    assert first(best=-100, second=-99) == place.ranked[2]
    assert first(best=1e30) == best
    assert (place.logits == before).all()


@dataclass
class Only:
    """A form that allows some tokens, at every place."""

    allowed: Sequence[int]
    taken: list[int] = field(default_factory=list)
    fault: Exception | None = None
    complete: bool = False

    def restrict(self, logits: NDArray[np.float32]) -> None:
        if self.fault is not None:
            raise self.fault
        kept = logits[list(self.allowed)]
        logits[:] = -np.inf
        logits[list(self.allowed)] = kept

    def accept(self, token: int) -> None:
        if self.fault is not None:
            raise self.fault
        self.taken.append(token)

    def forced(self) -> list[int]:
        return []


@pytest.mark.parametrize(
    "sampling",
    [
        GREEDY,
        Sampling(seed=1),
        PLAIN,
        Sampling(seed=1, temperature=0.1, mirostat=1),
        Sampling(seed=1, mirostat=2),
        Sampling(seed=1, top_k=0, typical_p=0.5),
        Sampling(seed=1, xtc_probability=1, xtc_threshold=0),
        Sampling(seed=1, repeat_penalty=1.5, dry_multiplier=900),
    ],
    ids=named,
)
@pytest.mark.parametrize("allowed_count", [1, 2, 30])
def test_nothing_leaves_the_form(place: Place, sampling: Sampling, allowed_count: int) -> None:
    """Whatever the samplers, also if only the most unlikely tokens are allowed; the form hears of each."""
    form = Only(place.ranked[-allowed_count:])

    drawn = place.draws(sampling, 20, constraint=form)

    assert set(drawn) <= set(form.allowed)
    assert form.taken == drawn


def test_a_form_chooses_as_the_model_would(place: Place) -> None:
    """Of what is allowed the likeliest; and the choice beside it, without a form, is not bound by it."""
    form = Only([place.ranked[7], place.ranked[5], place.ranked[9]])

    assert place.draws(GREEDY, 1, constraint=form) == [place.ranked[5]]
    assert place.draws(GREEDY, 1) == [place.ranked[0]]


def test_the_end_is_not_part_of_the_form(place: Place) -> None:
    """A token that ends the answer is chosen where the form allows it, and not given to it."""
    eos = place.weights.special("eos") or 0
    form = Only([eos])

    assert place.draws(GREEDY, 1, constraint=form) == [eos]
    assert form.taken == []


def test_a_token_that_must_come_is_remembered(place: Place) -> None:
    """It need not be chosen to count for penalties and form."""
    best, form = place.ranked[0], Only(place.ranked[:5])
    sampler = place.sampler(Sampling(temperature=0, presence_penalty=50), constraint=form)

    sampler.accept(best)

    assert sampler.choose(place.context, place.entry) == place.ranked[1]
    assert form.taken == place.ranked[:2]
    sampler.close()


def refusal(place: Place, sampling: Sampling = GREEDY, **given: Any) -> TaskRefused:
    with pytest.raises(TaskRefused) as raised:
        place.draws(sampling, 1, **given)
    return raised.value


def test_a_contradiction_is_named(place: Place) -> None:
    """The form allows what the call forbids: no token at all rather than a wrong one."""
    best = place.ranked[0]
    eos = place.weights.special("eos") or 0
    banned = Sampling(temperature=0, logit_bias={best: -100})

    for sampling, allowed in ((banned, best), (Sampling(ignore_eos=True), eos)):
        no = refusal(place, sampling, constraint=Only([allowed]))
        assert no.by_call
        assert "forbids every token" in no.message
    assert "form allows no token" in refusal(place, constraint=Only([])).message


def test_a_forms_fault_ends_the_task_alone(place: Place) -> None:
    """Not the process; its reason is told."""
    no = refusal(place, constraint=Only([1], fault=ValueError("lexer is stuck")))
    sampler = place.sampler(GREEDY, constraint=Only([1], fault=RuntimeError("no such state")))

    assert "lexer is stuck" in no.message
    assert not no.by_call
    with pytest.raises(TaskRefused, match="no such state"):
        sampler.accept(1)


def test_a_model_that_computes_no_numbers_is_noticed(place: Place) -> None:
    """A damaged file gives no answer instead of a wrong one; the call is not at fault."""
    for broken in (np.nan, -np.inf, np.inf):
        place.read("a")
        place.logits[0 if broken == np.inf else slice(None)] = broken
        for sampling in (GREEDY, Sampling(), Sampling(logit_bias={5: 1.0})):
            no = refusal(place, sampling)
            assert "damaged" in no.message
            assert not no.by_call


@pytest.mark.parametrize(
    ("field_name", "value"),
    [
        ("logit_bias", {10**7: 1.0}),
        ("logit_bias", {-1: 1.0}),
        ("repeat_penalty", 0.0),
        ("repeat_penalty", -1.0),
        ("temperature", float("nan")),
        ("frequency_penalty", 1e39),
        ("mirostat", 3),
        ("dry_base", 0.5),
        ("dry_sequence_breakers", ("",)),
        ("dry_sequence_breakers", ("a\0b",)),
        ("dry_sequence_breakers", ("x" * 41,)),
        ("dry_sequence_breakers", ("x",) * 33),
    ],
)
def test_an_impossible_setting_is_named(place: Place, field_name: str, value: Any) -> None:
    """Before anything is computed; the call is at fault."""
    sampling = Sampling(**{"dry_multiplier": 1.0, field_name: value})

    no = refusal(place, sampling)

    assert no.by_call
    assert no.code == "invalid_request_error"
    assert field_name in no.message


@pytest.mark.parametrize(
    "sampling",
    [
        Sampling(top_k=2**40, seed=2**70, repeat_last_n=2**40, repeat_penalty=1.1),
        Sampling(dry_multiplier=1, dry_penalty_last_n=2**40, dry_allowed_length=2**40),
        Sampling(dry_multiplier=1, dry_allowed_length=-5, dry_sequence_breakers=("Grüße", "\n\n")),
        Sampling(top_k=-1, top_p=0, min_p=7, typical_p=-1),
        Sampling(temperature=1e6, presence_penalty=-1e6),
        Sampling(xtc_probability=9, xtc_threshold=-1, top_p=1, min_p=0),
        Sampling(mirostat=1, mirostat_tau=-9, mirostat_eta=1e6),
        Sampling(mirostat=2, mirostat_tau=1e6, temperature=1e-5),
    ],
    ids=named,
)
def test_absurd_settings_still_choose_tokens(place: Place, sampling: Sampling) -> None:
    """Nothing overflows and no memory is asked for that is not needed."""
    drawn = place.draws(sampling, 20, written=place.ranked[:10], prompt=place.ranked[:10])

    assert all(0 <= token < place.weights.vocabulary_count for token in drawn)


def test_a_scored_choice_is_the_same_choice(place: Place) -> None:
    """And its score is the model's own, before bias and form."""
    chosen = place.ranked[30]
    sampling = Sampling(temperature=0, logit_bias={chosen: 90.0})
    sampler = place.sampler(sampling, constraint=Only(place.ranked[:50]))

    token, score = sampler.choose_scored(place.context, place.entry, 3, place.weights)

    assert token == chosen
    assert score == scored(place.logits, chosen, 3, place.weights)
    assert score.logprob == pytest.approx(np.log(probabilities(place.logits)[chosen]), abs=1e-5)
    sampler.close()
