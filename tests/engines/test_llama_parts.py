"""The engine's pure parts: dividing a step, text from bytes, templates in their sandbox."""

from __future__ import annotations

from typing import Any

import jinja2
import pytest
from hypothesis import given
from hypothesis import strategies as st

from hybrid_router.core.call import FunctionCall, Message, TextPart, ToolCall
from hybrid_router.core.event import Finish, Text
from hybrid_router.engines.llama.sequence import Sequence, shares
from hybrid_router.engines.llama.template import Template
from hybrid_router.engines.llama.text import TextStream
from hybrid_router.engines.llama.written import tokens_of
from hybrid_router.engines.task import TaskRefused


def sequence(prompt_count: int, *, computed: int = 0, running: bool = False, limit: int = 10) -> Sequence:
    """A sequence in the middle of its life.  Its sampler is never used here."""
    unused: Any = None
    made = Sequence(
        task_id=1,
        index=0,
        prompt=[0] * prompt_count,
        limit_count=limit,
        sampler=unused,
        text=TextStream(()),
        computed_count=prompt_count if running else computed,
    )
    if running:
        made.take(7, b"x", ends=False)
    return made


SEQUENCES = st.lists(st.tuples(st.integers(1, 500), st.booleans()), max_size=8)


@given(SEQUENCES, st.integers(16, 256))
def test_a_step_is_bounded_and_nobody_is_stalled(drawn: list[tuple[int, bool]], chunk: int) -> None:
    """Every running sequence gets its token; prompts share one chunk; only whole prompts want logits."""
    sequences = [sequence(count, running=running) for count, running in drawn]

    divided = shares(sequences, chunk)

    running = [share for share in divided if share.sequence.next_token is not None]
    prefill = [share for share in divided if share.sequence.next_token is None]
    assert len(running) == sum(is_running for _, is_running in drawn)
    assert all(share.count == 1 and share.wants_logits for share in running)
    assert sum(share.count for share in prefill) <= chunk
    assert all(share.wants_logits == (share.count == len(share.sequence.prompt)) for share in prefill)
    if any(not is_running for _, is_running in drawn):
        assert prefill


def test_positions_follow_the_prompt() -> None:
    """The first generated token goes right behind the prompt."""
    running = sequence(5, running=True)

    assert running.position == 5
    running.take(8, b"y", ends=False)
    assert running.position == 6


def test_the_last_allowed_token_finishes_with_length() -> None:
    """A limit of one gives one token and says why it stopped."""
    made = sequence(3, limit=1)

    assert made.take(7, b"hi", ends=False) == [Text("hi"), Finish("length")]


def test_an_end_token_is_not_text_and_not_counted() -> None:
    """Usage counts what was written."""
    made = sequence(3)

    assert made.take(2, b"", ends=True) == [Finish("stop")]
    assert made.generated_count == 0


@given(st.text(max_size=20), st.integers(1, 5))
def test_characters_are_never_split(text: str, size: int) -> None:
    """Whatever bytes a token holds, a delta is whole characters and none is lost."""
    stream, encoded = TextStream(()), text.encode("utf-8", "replace")

    shown = [stream.feed(encoded[at : at + size])[0] for at in range(0, len(encoded), size)]

    assert "".join(shown) + stream.flush() == encoded.decode()
    assert "\ufffd" not in "".join(shown).replace(encoded.decode(), "") or "\ufffd" in text


class Spaced:
    """A vocabulary of characters that puts a space before every text, as some are made."""

    def tokenize(self, text: str, *, add_special: bool = True, read_special: bool = True) -> list[int]:
        assert not add_special
        assert not read_special
        return [*b" ", *text.encode()]

    def piece(self, token: int) -> bytes:
        return bytes([token])


@given(st.text(st.characters(codec="utf-8"), min_size=1, max_size=20))
def test_a_beginning_gets_no_space_of_its_own(written: str) -> None:
    """Whatever the vocabulary puts in front, the tokens stand for the very bytes that are out."""
    assert bytes(tokens_of(written, Spaced())) == written.encode()


def test_a_beginning_that_cannot_be_said_is_refused() -> None:
    """Rather than that the model goes on from something else."""

    class Lower(Spaced):
        def piece(self, token: int) -> bytes:
            return bytes([token]).lower()

    with pytest.raises(TaskRefused) as refused:
        tokens_of("Hello", Lower())

    assert refused.value.code == "prefill_refused"
    assert not refused.value.by_call


CHATML = (
    "{% for message in messages %}<|im_start|>{{ message['role'] }}\n{{ message['content'] }}<|im_end|>\n"
    "{% endfor %}{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)


def test_a_template_gets_text_and_known_roles() -> None:
    """Parts are joined, developer is system, null is empty."""
    rendered = Template(CHATML, "", "").render(
        (
            Message(role="developer", content="Be brief."),
            Message(role="user", content=[TextPart("a"), TextPart("b")]),
            Message(
                role="assistant",
                content=None,
                tool_calls=[ToolCall(id="1", function=FunctionCall(name="f", arguments="{}"))],
            ),
        )
    )

    assert rendered == (
        "<|im_start|>system\nBe brief.<|im_end|>\n<|im_start|>user\nab<|im_end|>\n"
        "<|im_start|>assistant\n<|im_end|>\n<|im_start|>assistant\n"
    )


def test_a_template_that_refuses_is_heard() -> None:
    """Its own sentence reaches the log and the client."""
    with pytest.raises(TaskRefused, match="roles must alternate"):
        Template("{{ raise_exception('roles must alternate') }}", "", "").render(())


HOSTILE = {
    "attributes": "{{ ''.__class__.__mro__ }}",
    "import": "{% include '/etc/passwd' %}",
    "long range": "{% for i in range(10**9) %}{% endfor %}",
    "endless output": "{% for i in range(99999) %}{{ 'x' * 9999 }}{% endfor %}",
    "undefined call": "{{ cycler.__init__.__globals__ }}",
    "arithmetic": "{{ 1 // 0 }}",
}


@pytest.mark.parametrize("source", HOSTILE.values(), ids=HOSTILE.keys())
def test_a_hostile_template_gets_nowhere(source: str) -> None:
    """It fails by name, or the sandbox gives it nothing; it neither reads, nor runs, nor fills the memory."""
    template = Template(source, "", "")
    try:
        shown = template.render((Message(role="user", content="hi"),))
    except TaskRefused as refused:
        shown = refused.code

    assert shown in {"", "template_failed"}


def test_a_template_that_never_ends_is_interrupted(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nested silent loops write nothing that could be counted, so a timer ends them."""
    monkeypatch.setattr("hybrid_router.engines.llama.template._TIME_LIMIT_S", 0.05)
    loops = "{% for i in range(99999) %}{% for j in range(99999) %}{% endfor %}{% endfor %}"

    with pytest.raises(TaskRefused, match="too long"):
        Template(loops, "", "").render(())


def test_broken_jinja_is_noticed_when_the_model_opens() -> None:
    """Not at the first call."""
    with pytest.raises(jinja2.TemplateError):
        Template("{% if %}", "", "")
