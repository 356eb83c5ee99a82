"""Every kind of mistake in router.yaml, its place and its sentence."""

from __future__ import annotations

import pytest

from hybrid_router.config.cloud_schema import WorkersAIBackend
from hybrid_router.config.load import ConfigErrors, loads

GOOD = """\
backends:
  local: {type: local, models: {small: {}}}
  cf: {type: workers_ai, account_id: {env: ACCOUNT}, token: {env: TOKEN}}
aliases:
  default: {try: [local/small, cf/@cf/meta/llama]}
"""


def problems(text: str) -> list[str]:
    """The lines of the error that `text` raises, without the file's name."""
    with pytest.raises(ConfigErrors) as caught:
        loads(text)
    return [line.removeprefix("router.yaml:") for line in str(caught.value).splitlines()]


def place(text: str, at: str) -> str:
    """`line:column` of the arrow in `at`, whose text is found once in `text`."""
    before, after = at.split("→")
    assert text.count(before + after) == 1
    before = text[: text.index(before + after) + len(before)]
    return f"{before.count(chr(10)) + 1}:{len(before) - before.rfind(chr(10))}"


def with_rule(rule: str) -> str:
    """A good configuration with one rule, on line 7."""
    return f"{GOOD}rules:\n  - {rule}\n"


@pytest.mark.parametrize(
    ("wrong", "right", "at", "message"),
    [
        (
            "small: {}",
            "small: {paralel: 2}",
            "→parale",
            "backends.local.models.small.paralel: no such key; did you mean parallel?",
        ),
        (
            "small: {}",
            "small: {parallel: 0}",
            "→0}}}",
            "backends.local.models.small.parallel: must be at least 1, not 0, or auto",
        ),
        (
            "small: {}",
            "small: {parallel: 65}",
            "→65}}}",
            "backends.local.models.small.parallel: must be at most 64, not 65, or auto",
        ),
        (
            "small: {}",
            "small: {parallel: '2'}",
            "→'2'}}}",
            "backends.local.models.small.parallel: write a whole number, without quotes or unit, or auto",
        ),
        (
            "small: {}",
            "small: {parallel: 1:30}",
            "→1:30}}",
            "backends.local.models.small.parallel: write a whole number, without quotes or unit, or auto",
        ),
        (
            "small: {}",
            "small: {prefix_cache: {disk: 0}}",
            "→0}}}",
            "backends.local.models.small.prefix_cache.disk: '0' is not a size: "
            "write a number and B, KiB, MiB or GiB, as in 8MiB, or off",
        ),
        (
            "small: {}",
            "small: {cache_type_v: q8_0, flash_attention: off}",
            "→q8_0",
            "backends.local.models.small.cache_type_v: q8_0 needs flash attention: "
            "write flash_attention: auto, or cache_type_v: f16",
        ),
        (
            "small: {}",
            "small: {split_mode: none, tensor_split: [3, 1]}",
            "→[3, 1]",
            "backends.local.models.small.tensor_split: split_mode: none uses one GPU; remove one of the two",
        ),
        (
            "small: {}",
            "small: {tensor_split: [0, 0]}",
            "→[0, 0]",
            "backends.local.models.small.tensor_split: gives no GPU anything",
        ),
        (
            "small: {}",
            "small: {main_gpu: 1}",
            "→1}}}",
            "backends.local.models.small.main_gpu: counts only with split_mode: none or row; "
            "tensor_split: [0, 1] skips a GPU",
        ),
        (
            "small: {}",
            "small: {drafting: {weights: tiny}}",
            "→tiny",
            "backends.local.models.small.drafting.weights: is never asked: "
            "write how many `tokens` it may guess",
        ),
        (
            "small: {}",
            "small: {purpose: embed, projector: eyes}",
            "→eyes",
            "backends.local.models.small.projector: does nothing for purpose: embed; remove it",
        ),
        (
            "[local/small, cf/@cf/meta/llama]",
            "cf/@cf/meta/llama, adapters: {sql: 0.5}",
            "→0.5",
            "aliases.default.adapters.sql: Workers AI takes fine-tunes at strength 1 alone",
        ),
        (
            "small: {}",
            "small: {adapters: {sqls: {}}}",
            "→{}}}}",
            "backends.local.models.small.adapters.sqls: needs `weights`: text",
        ),
        (
            "small: {}",
            "small: {preload: yes}",
            "→yes}}}",
            "backends.local.models.small.preload: write true or false, without quotes",
        ),
        (
            "TOKEN}}",
            "TOKEN}, timeouts: {load: 5s}}",
            "→5s",
            "backends.cf.timeouts.load: a cloud loads nothing here: remove it",
        ),
        (
            "cf/@cf/meta/llama]",
            "{step: cf/@cf/meta/llama, timeouts: {load: 4s}}]",
            "→4s",
            "aliases.default.try[1].timeouts.load: a cloud loads nothing here: remove it",
        ),
        ("aliases:", "log: 3\naliases:", "→3", "log: wants a mapping of level, calls, not a single value"),
        (
            "aliases:",
            "log: {level: [info]}\naliases:",
            "→[info]",
            "log.level: wants one of debug, info, warning, error, not a list",
        ),
        (
            "small: {}",
            "small: ",
            "→ }}",
            "backends.local.models.small: is empty: give it a value or remove the key",
        ),
        ("{small: {}}", "{}", "→{}}", "backends.local.models: is empty: name something or remove the key"),
        ("{small: {}}", "[small]", "→[small", "backends.local.models: wants a mapping, not a list"),
        (
            "type: local",
            "type: lokal",
            "→lokal,",
            "backends.local.type: 'lokal' is no type of backend; did you mean local?",
        ),
        (
            "type: local, ",
            "",
            "→{model",
            "backends.local: needs `type`: one of local, workers_ai, openai, anthropic, "
            "huggingface, replicate",
        ),
        (
            "token: {env: TOKEN}",
            "token: {}",
            "oken: →{}}",
            "backends.cf.token: names no source: give it credential, file or env",
        ),
        (
            "token: {env: TOKEN}",
            "token: sk-canary",
            "→sk-canary",
            "backends.cf.token: never in this file, only where it is: { env: CLOUDFLARE_API_TOKEN }",
        ),
        (
            ", token: {env: TOKEN}",
            "",
            "  cf: →{type:",
            "backends.cf: needs `token`: a mapping of credential, file, env",
        ),
        ("{env: ACCOUNT}", "abc", "→abc, t", "backends.cf.account_id: must be 32 hexadecimal digits"),
        (
            "{try: [",
            "{timeouts: {total: 5}, try: [",
            "→5}, tr",
            (
                "aliases.default.timeouts.total: '5' is not a duration: write a number and ms, s, m, h"
                " or d, as in 30s"
            ),
        ),
        (
            "[local/small, cf/@cf/meta/llama]",
            "[]",
            "→[]}",
            "aliases.default.try: is an empty list: name something or remove the key",
        ),
        ("[local/small,", "[small,", "→small,", "aliases.default.try[0]: must be backend/model"),
        (
            "[local/small,",
            "[lokal/small,",
            "→lokal/",
            "aliases.default.try[0]: no backend lokal; did you mean local?",
        ),
        (
            "[local/small,",
            "[local/smal,",
            "→local/",
            "aliases.default.try[0]: local has no model smal; did you mean small?",
        ),
        (
            "TOKEN}}",
            "TOKEN}, models: ['@cf/meta/llama3']}",
            "→cf/@cf",
            "aliases.default.try[1]: cf has no model @cf/meta/llama; did you mean @cf/meta/llama3?",
        ),
        (
            "TOKEN}}",
            "TOKEN}, base_url: 'http://example.com'}",
            "→'http:",
            "backends.cf.base_url: the token would travel unencrypted: use https",
        ),
        (
            "{type: workers_ai, account_id: {env: ACCOUNT}, token: {env: TOKEN}}",
            "{type: huggingface, token: {env: T}, models: {'@cf/meta/llama': {}}, tasks_url: 'http://a.example'}",
            "→'http:",
            "backends.cf.tasks_url: the token would travel unencrypted: use https",
        ),
        (
            "TOKEN}}",
            "TOKEN}, base_url: 'https://me:pw@example.com'}",
            "→'https",
            "backends.cf.base_url: must be an http(s) address without query or user",
        ),
        (
            "TOKEN}}",
            "TOKEN}, timeouts: {total: 5s}}",
            "→total:",
            (
                "backends.cf.timeouts.total: belongs to the whole call: write it under the alias's "
                "`timeouts` or the global ones"
            ),
        ),
        (
            "  default:",
            "  défaut:",
            "→défaut",
            ('aliases."d\\u00e9faut": the name must be ASCII letters, digits and . _ : @ / - (128 at most)'),
        ),
        (
            "  default:",
            "  <<:",
            "→<<: {t",
            'aliases."<<": the name must be ASCII letters, digits and . _ : @ / - (128 at most)',
        ),
        ("aliases:", "manifest: ''\naliases:", "→''", "manifest: must not be empty"),
        (
            "aliases:",
            "log: {level: warn}\naliases:",
            "→warn}",
            "log.level: 'warn' is not one of debug, info, warning, error; did you mean warning?",
        ),
        ("aliases:", "log: [1]\naliases:", "→[1]", "log: wants a mapping of level, calls, not a list"),
        (
            "aliases:",
            "log: {<<: {level: info}}\naliases:",
            "→<<: {l",
            'log."<<": merge keys are not read here: write the values out',
        ),
        ("aliases:", "log: {[a]: info}\naliases:", "→{[a]: ", "log: a key must be a word"),
        (
            "aliases:",
            "server: {body_limit: 8}\naliases:",
            "→8}",
            "server.body_limit: '8' is not a size: write a number and B, KiB, MiB or GiB, as in 8MiB",
        ),
        (
            "aliases:",
            "server: {body_limit: 8B}\naliases:",
            "→8B}",
            "server.body_limit: must be at least 1024B, not 8B",
        ),
        (
            "aliases:",
            "server: {drain: 25h}\naliases:",
            "→25h}",
            "server.drain: must be at most 1d, not 25h",
        ),
        (
            "aliases:",
            "server: {listen: '0.0.0.0:80'}\naliases:",
            "→'0.0.0",
            "server.listen: others can reach this address: add server.keys, or listen on 127.0.0.1",
        ),
        (
            "aliases:",
            "server: {listen: localhost}\naliases:",
            "→localh",
            "server.listen: write host:port, as in 127.0.0.1:8080 or [::1]:8080",
        ),
    ],
)
def test_a_mistake_is_named_with_its_place(wrong: str, right: str, at: str, message: str) -> None:
    """One mistake gives one line: file, line, column, key path, and what to do."""
    assert wrong in GOOD
    text = GOOD.replace(wrong, right, 1)

    assert problems(text) == [f"{place(text, at)}: {message}"]


def test_a_key_that_nobody_has_is_named_with_those_that_are() -> None:
    """Where there are keys, a rule about another one is a slip of the pen."""
    keys = f"server: {{keys: [{{name: laptop, sha256: {'0' * 64}}}]}}\n"

    (problem,) = problems(with_rule("{name: a, only: local, when: {key: lapto}}") + keys)

    assert problem.endswith("rules[0].when.key[0]: no key lapto; did you mean laptop?")


@pytest.mark.parametrize(
    ("rule", "at", "message"),
    [
        ("{name: a}", "→{name:", "rules[0]: a does nothing: give it first, only, local_only or refuse"),
        ("{name: a, only: }", "→ }", "rules[0].only: is empty: give it a value or remove the key"),
        ("{name: a, only: []}", "→[]}", "rules[0].only: is an empty list: name something or remove the key"),
        (
            "{name: a, only: local, refuse: not today}",
            "→{name:",
            "rules[0]: a refused call runs nowhere: write refuse alone",
        ),
        (
            "{name: a, refuse: no}",
            "→no}",
            "rules[0].refuse: must be a sentence for the client, as in: pictures are not served here",
        ),
        (
            "{name: A, only: local}",
            "→A, onl",
            "rules[0].name: must be a sentence in snake_case, as keep_keys_home",
        ),
        ("{name: a, only: lokal}", "→lokal}", "rules[0].only[0]: no backend lokal; did you mean local?"),
        (
            "{name: a, first: [local, cf/@cf/meta/lama]}",
            "ocal, →cf/@cf",
            "rules[0].first[1]: no alias tries cf/@cf/meta/lama; did you mean cf/@cf/meta/llama?",
        ),
        (
            "{name: a, only: local, when: {alias: defalt}}",
            "→defalt",
            "rules[0].when.alias[0]: no alias defalt; did you mean default?",
        ),
        (
            "{name: a, only: local, when: {key: ann}}",
            "→ann}}",
            "rules[0].when.key[0]: no key ann: server.keys has none, so whoever calls is local",
        ),
        (
            "{name: a, only: local, when: {time: '8:00-9:00'}}",
            "→'8:00-",
            "rules[0].when.time: must be local times as in 22:00-06:30",
        ),
        (
            "{name: a, only: local, when: {time: '08:00-08:00'}}",
            "→'08:00",
            "rules[0].when.time: ends when it begins: leave it out to mean the whole day",
        ),
        (
            "{name: a, only: local, when: {prompt_tokens: {}}}",
            "kens: →{}}}",
            "rules[0].when.prompt_tokens: says nothing: give it above, below or both",
        ),
        (
            "{name: a, only: local, when: {prompt_tokens: {above: 5, below: 6}}}",
            "→{above",
            "rules[0].when.prompt_tokens: nothing is above 5 and below 6",
        ),
        (
            "{name: a, only: local, when: {text: '(?=x)'}}",
            "→'(?=x)",
            (
                "rules[0].when.text[0]: is not a regular expression that RE2 accepts: invalid perl "
                "operator: (?="
            ),
        ),
        (
            "{name: a, only: local, when: {has: pictures}}",
            "→pictur",
            "rules[0].when.has[0]: 'pictures' is not one of tools, images, audio, schema, logprobs, "
            "grammar, infill, adapters, prefill, speech_translation, image_input, inpainting, prompts",
        ),
        (
            "{name: a, only: local, when: {header: {'x y': a}}}",
            "→'x y':",
            'rules[0].when.header."x y": the name must be the name of an HTTP header, as in x-private',
        ),
        (
            "{name: a, only: local, when: {any: [{all: [{}]}]}}",
            "→{}]}]}",
            "rules[0].when.any[0].all[0]: an empty condition; give it a key or remove it",
        ),
        (
            "{name: a, only: local, when: {not: {}}}",
            "{not: →{}}}",
            "rules[0].when.not: an empty condition; give it a key or remove it",
        ),
        (
            "{name: a, only: local, when: {any: {text: x}}}",
            "→{text:",
            "rules[0].when.any: wants a list, not a mapping",
        ),
        ("{only: local}", "→{only:", "rules[0]: needs `name`: text"),
    ],
)
def test_a_rule_that_cannot_mean_anything_is_named(rule: str, at: str, message: str) -> None:
    """A rule that would do nothing, or something else than it seems, is a mistake with its place."""
    text = with_rule(rule)

    assert problems(text) == [f"{place(text, at)}: {message}"]


@pytest.mark.parametrize(
    ("neurons", "at", "message"),
    [
        ("{reserve: 10001}", "→10001", "reserve: more than the day has: 10000"),
        ("{daily: 0, reserve: 1}", "→1}", "reserve: more than the day has: 0"),
        (
            "{pace: {'18:00': 0.3, '09:00': 0.5}}",
            "→0.3",
            "pace.18:00: less than 0.5, which may be gone by 09:00: it only grows",
        ),
        (
            "{pace: {'00:00': 0, '09:00': 0.5}}",
            "→0, ",
            "pace.00:00: nothing comes before 00:00, when the day begins: remove it",
        ),
        (
            "{pace: {'9:00': 0.5}}",
            "→'9:00'",
            "pace.9:00: the name must be a time of day in quotes, as in '06:30'",
        ),
        (
            "{pace: {'09:00': 1.5}}",
            "→1.5",
            "pace.09:00: must be at most 1, not 1.5",
        ),
        (
            "{rates: {'@cf/meta/lama': {input: 1, output: 2}}}",
            "→'@cf/meta/lama'",
            "rates.@cf/meta/lama: no alias tries @cf/meta/lama here; did you mean @cf/meta/llama?",
        ),
        (
            "{overflow_usd: -1}",
            "→-1",
            "overflow_usd: must be at least 0, not -1",
        ),
    ],
)
def test_neurons_that_cannot_be_meant_are_named(neurons: str, at: str, message: str) -> None:
    """A reserve over the day, a pace that falls or holds nothing back, a price of nobody's model."""
    text = GOOD.replace("{env: TOKEN}", f"{{env: TOKEN}}, neurons: {neurons}")

    assert problems(text) == [f"{place(text, at)}: backends.cf.neurons.{message}"]


def test_a_price_is_not_doubted_for_an_aliass_own_mistake() -> None:
    """An alias that cannot be read may have tried the model: only its own mistake is named."""
    neurons = "neurons: {rates: {'@cf/meta/llama': {input: 1, output: 2}}}"
    text = GOOD.replace("{env: TOKEN}", f"{{env: TOKEN}}, {neurons}").replace("cf/@cf/meta/llama]", "cf/]")

    assert [line.partition(": ")[2] for line in problems(text)] == [
        "aliases.default.try[1]: must be backend/model"
    ]


def test_every_good_way_to_write_neurons_is_taken() -> None:
    """All keys together; a price of a model that only `models` names; a pace that stays level."""
    neurons = (
        "{daily: 9000, reserve: 9000, overflow_usd: 0, pace: {'09:00': 0.5, '18:00': 0.5},"
        " rates: {'@cf/meta/llama': {input: 1, output: 2}, '@cf/a/b': {input: 0, output: 0}}}"
    )
    models = "models: ['@cf/a/b', '@cf/meta/llama']"
    config = loads(GOOD.replace("{env: TOKEN}", f"{{env: TOKEN}}, {models}, neurons: {neurons}")).config
    backend = config.backends["cf"]

    assert isinstance(backend, WorkersAIBackend)
    assert backend.neurons.pace == {"09:00": 0.5, "18:00": 0.5}
    assert backend.neurons.rates["@cf/a/b"].cached_input is None
