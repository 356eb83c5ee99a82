"""Other people's Jinja: what it gets, and what it does not get."""

from __future__ import annotations

import resource
from typing import Any

import jinja2
import pytest

from hybrid_router.engines.llama.chat.template import Template
from hybrid_router.engines.task import TaskRefused

HI: list[dict[str, Any]] = [{"role": "user", "content": "hi"}]


def test_a_template_gets_its_variables() -> None:
    """Messages, the first and last token, whether the model is to go on, and values by name."""
    source = "{{ bos_token }}{{ messages[0].content }}{{ eos_token }}{{ add_generation_prompt }}{{ mood }}"

    assert Template(source, "<s>", "</s>").render(HI, {"mood": "fine"}) == "<s>hi</s>Truefine"
    assert Template(source, "<s>", "</s>").render(HI, {"bos_token": "no"}) == "<s>hi</s>True"


def test_json_is_written_as_models_know_it() -> None:
    """Without HTML's escapes, letters as they are, and laid out if the template says so."""
    value = {"value": {"é<": [1]}}

    assert Template("{{ value | tojson }}", "", "").render(HI, value) == '{"é<": [1]}'
    assert Template("{{ value | tojson(indent=1) }}", "", "").render(HI, value) == '{\n "é<": [\n  1\n ]\n}'
    assert (
        Template(
            "{{ value | tojson(ensure_ascii=True, separators=(',', ':'), sort_keys=true) }}", "", ""
        ).render(HI, value)
        == '{"\\u00e9<":[1]}'
    )


def test_answers_marked_for_training_are_rendered() -> None:
    """Some templates mark them with a tag of their own; loops may be left early; the date can be told."""
    source = (
        "{% generation %}{% for m in messages %}{{ m.content }}{% break %}{% endfor %}{% endgeneration %}!"
    )

    assert Template(source, "", "").render(HI + HI) == "hi!"
    assert Template("{{ strftime_now('%Y') }}", "", "").render(HI).isdecimal()


def test_a_template_that_refuses_is_heard() -> None:
    """Its own sentence reaches the log and the client."""
    with pytest.raises(TaskRefused, match="roles must alternate"):
        Template("{{ raise_exception('roles must alternate') }}", "", "").render([])


HOSTILE = {
    "attributes": "{{ ''.__class__.__mro__ }}",
    "import": "{% include '/etc/passwd' %}",
    "long range": "{% for i in range(10**9) %}{% endfor %}",
    "endless output": "{% for i in range(99999) %}{{ 'x' * 9999 }}{% endfor %}",
    "undefined call": "{{ cycler.__init__.__globals__ }}",
    "arithmetic": "{{ 1 // 0 }}",
    "format": "{{ '{0.__class__}'.format(messages) }}",
    "wide format": "{{ '%0999999999d' | format(1) }}",
    "wide text": "{{ 'x' | center(10**9) }}",
    "long text": "{{ ('x' * 4000000000) | length }}",
    "doubled text": "{% set n = namespace(x='xx') %}{% for i in range(60) %}{% set n.x = n.x ~ n.x %}"
    "{% endfor %}",
    "power": "{{ 10 ** 99999999 }}",
    "large product": "{% set n = namespace(x=9) %}{% for i in range(60) %}{% set n.x = n.x * n.x %}"
    "{% endfor %}",
    "recursion": "{% macro f() %}{{ f() }}{% endmacro %}{{ f() }}",
    "recursive loop": "{% for m in messages recursive %}{{ loop(messages) }}{% endfor %}",
    "wide JSON": "{{ messages | tojson(indent=999999999) }}",
    "many": "{{ messages | batch(10**9, 'x') | list }}",
    "mutation": "{{ messages.append(1) }}",
}


@pytest.mark.parametrize("source", HOSTILE.values(), ids=HOSTILE.keys())
def test_a_hostile_template_gets_nowhere(source: str) -> None:
    """It fails by name, or the sandbox gives it nothing; it neither reads, nor runs, nor fills the memory."""
    limits, messages = resource.getrlimit(resource.RLIMIT_AS), list(HI)
    template = Template(source, "", "")
    try:
        shown = template.render(messages)
    except TaskRefused as refused:
        shown = refused.code

    assert shown in {"", "template_failed"}
    assert messages == HI
    assert resource.getrlimit(resource.RLIMIT_AS) == limits


def test_a_template_that_never_ends_is_interrupted(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nested silent loops write nothing that could be counted, so a timer ends them."""
    monkeypatch.setattr("hybrid_router.engines.llama.chat.template._TIME_LIMIT_S", 0.05)
    loops = "{% for i in range(99999) %}{% for j in range(99999) %}{% endfor %}{% endfor %}"

    with pytest.raises(TaskRefused, match="too long"):
        Template(loops, "", "").render([])


BROKEN = {
    "unfinished": "{% if %}",
    "deep": "{% for a in b %}" * 200 + "{% endfor %}" * 200,
    "nested": "{{ " + "(" * 5000 + "1" + ")" * 5000 + " }}",
    "long": "x" * (2**20 + 1),
}


@pytest.mark.parametrize("source", BROKEN.values(), ids=BROKEN.keys())
def test_broken_jinja_is_noticed_when_the_model_opens(source: str) -> None:
    """Not at the first call; and what is too deep or too long is broken too."""
    with pytest.raises(jinja2.TemplateError):
        Template(source, "", "")
