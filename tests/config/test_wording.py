"""Mistakes are told in the words of whoever writes the file, never in those of a library."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any, get_args

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from hybrid_router.config.hints import fields
from hybrid_router.config.keys import listing
from hybrid_router.config.load import ConfigErrors, loads
from hybrid_router.config.local_schema import LocalModel

# What msgspec, Python and PyYAML say of values and types.
FOREIGN = re.compile(
    r"Expected `|Invalid enum value|Invalid value| - at `\$|Object (missing|contains)|matching regex"
    r"|Traceback|<class|NoneType|\bstr\b|\bint\b|\bfloat\b|\bbool\b|yaml\.|\bNode\b"
)
GOOD = """\
backends:
  local: {type: local, models: {small: {%s}}}
  cf: {type: workers_ai, account_id: {env: A}, token: {env: T}%s}
aliases: {default: {try: [local/small, cf/@cf/meta/llama]%s}}
%s
"""
MODEL = "backends.local.models.small"


def told(text: str) -> list[tuple[str, str]]:
    """(key path, message) of each mistake; none if the text is a configuration."""
    try:
        loads(text)
    except ConfigErrors as errors:
        for problem in errors.problems:
            assert not FOREIGN.search(problem.message), problem.message
        return [(problem.path, problem.message) for problem in errors.problems]
    return []


@pytest.mark.parametrize(
    ("where", "written", "path", "said"),
    [
        (0, "engine: wisper", f"{MODEL}.engine", "'wisper' is no engine; did you mean whisper?"),
        (0, "engine: 3", f"{MODEL}.engine", "there is llama, whisper, sentence_transformers, speech"),
        (0, "engine: [llama]", f"{MODEL}.engine", "wants one of llama, whisper, sentence_transformers"),
        (0, "engine: ", f"{MODEL}.engine", "is empty: write one of llama, whisper"),
        (0, "purpose: chat", f"{MODEL}.purpose", "'chat' is not one of generate, embed, rerank, moderate"),
        (0, "engine: whisper, device: gpu", f"{MODEL}.device", "'gpu' is not one of auto, cpu, cuda"),
        (0, "engine: whisper, beam_size: 99", f"{MODEL}.beam_size", "must be at most 16, not 99"),
        (0, "engine: whisper, beam_size: x", f"{MODEL}.beam_size", "write a whole number"),
        (0, "engine: whisper, longest: 0s", f"{MODEL}.longest", "must be at least 1ms, not 0ms"),
        (0, "engine: moderate, threshold: 2", f"{MODEL}.threshold", "must be at most 1, not 2"),
        (0, "engine: moderate, threshold: high", f"{MODEL}.threshold", "write a number"),
        (0, "engine: translate, source: german", f"{MODEL}.source", "must be a language's code, as in de"),
        (0, "engine: speech, voice: ''", f"{MODEL}.voice", "must not be empty"),
        (0, "engine: speech, voices: [a]", f"{MODEL}.voices", "wants a mapping, not a list"),
        (0, "engine: images, dtype: int8", f"{MODEL}.dtype", "not one of auto, float32, float16, bfloat16"),
        (0, "voice: heart", f"{MODEL}.voice", "no such key; there is weights, threads, queue"),
        (0, "context: 4k", f"{MODEL}.context", "write a whole number, without quotes or unit"),
        (0, "context: 1e3", f"{MODEL}.context", "write a whole number, without quotes or unit"),
        (0, "parallel: true", f"{MODEL}.parallel", "write a whole number, without quotes or unit, or auto"),
        (0, "memory: 10%", f"{MODEL}.memory", "'10%' is not a size"),
        (0, "idle: 5", f"{MODEL}.idle", "'5' is not a duration"),
        (0, "pinned: 1", f"{MODEL}.pinned", "write true or false, without quotes"),
        (0, "weights: [a]", f"{MODEL}.weights", "wants text, not a list"),
        (0, "weights: {a: b}", f"{MODEL}.weights", "wants text, not a mapping"),
        (0, "memory: [1GiB]", f"{MODEL}.memory", "wants a size, as in 8MiB, not a list"),
        (0, "parallel: [2]", f"{MODEL}.parallel", "wants auto or a whole number, not a list"),
        (0, "tensor_split: [a]", f"{MODEL}.tensor_split[0]", "write a number"),
        (0, "prefix_cache: off", f"{MODEL}.prefix_cache", "wants a mapping of ram, disk, share_prefix"),
        (0, "adapters: {x: {scale: 1}}", f"{MODEL}.adapters.x", "needs `weights`: text"),
        (0, "pinned: true, idle: 5m", f"{MODEL}.idle", "does nothing beside `pinned: true`"),
        (1, ", timeouts: 5s", "backends.cf.timeouts", "wants a mapping of connect, load, first_token"),
        (1, ", timeouts: {first: 5s}", "backends.cf.timeouts.first", "did you mean first_token?"),
        (1, ", timeouts: {connect: {}}", "backends.cf.timeouts.connect", "wants a duration, as in 30s"),
        (1, ", chat_endpoint: v2", "backends.cf.chat_endpoint", "'v2' is not one of v1, run"),
        (1, ", models: {a: b}", "backends.cf.models", "wants a list, not a mapping"),
        (1, ", default_max_tokens: []", "backends.cf.default_max_tokens", "wants a whole number, not a list"),
        (
            1,
            ", gateway: {id: g, cache_ttl: 60d}",
            "backends.cf.gateway.cache_ttl",
            "at most 30d, not 60d, or off",
        ),
        (
            1,
            ", gateway: {id: g, cache_ttl: 5s}",
            "backends.cf.gateway.cache_ttl",
            "at least 60s, not 5s, or off",
        ),
        (2, ", on_break: maybe", "aliases.default.on_break", "'maybe' is not one of continue, error"),
        (2, ", retries: 9", "aliases.default.retries", "must be at most 5, not 9"),
        (2, ", hedge: [true]", "aliases.default.hedge", "wants true or false, not a list"),
        (2, ", redact: names", "aliases.default.redact[0]", "'names' is not one of secrets, api_keys"),
        (2, ", max_cost_usd: {a: 1}", "aliases.default.max_cost_usd", "wants a number, not a mapping"),
        (3, "residency: {ram: lots}", "residency.ram", "must be a share, as in 80%, or a size, as in 12GiB"),
        (3, "residency: 5GiB", "residency", "wants a mapping of ram, vram, swap_wait, not a single value"),
        (3, "server: {listen: 80}", "server.listen", "write host:port"),
        (3, "server: {keys: [a]}", "server.keys[0]", "wants a mapping of name, sha256, not a single value"),
        (3, "log: {level: warn}", "log.level", "did you mean warning?"),
        (3, "rules: {a: b}", "rules", "wants a list, not a mapping"),
        (3, "rules: [{name: r, when: {operation: sing}}]", "rules[0].when.operation[0]", "chat, complete"),
        (3, "store: {keep_days: 0}", "store.keep_days", "must be at least 1, not 0"),
        (3, "gateways: {g: {cache_ttl: 5s}}", "gateways.g.cache_ttl", "at least 60s, not 5s, or off"),
        (3, "gateways: {g: {cache_ttl: 31d}}", "gateways.g.cache_ttl", "at most 30d, not 31d, or off"),
        (3, "logs: {}", "logs", "no such key; did you mean log?"),
    ],
)
def test_a_mistake_says_what_was_found_and_what_is_wanted(
    where: int, written: str, path: str, said: str
) -> None:
    """At the key that is wrong: what is allowed there, and the word that was probably meant."""
    parts = [written if at == where else "" for at in range(4)]

    found = dict(told(GOOD % tuple(parts)))

    assert said in found[path]


@pytest.mark.parametrize("ttl", ["60s", "7d", "30d", "off"])
def test_a_gateway_keeps_answers_for_a_minute_to_a_month(ttl: str) -> None:
    """Cloudflare's and the router's own alike, though other durations end with a day."""
    gateways = f"gateways: {{g: {{cache_ttl: {ttl}}}}}"

    assert told(GOOD % ("", f", gateway: {{id: g, cache_ttl: {ttl}}}", "", gateways)) == []


def nested(path: str, value: object) -> dict[str, Any]:
    """A file with `value` at a key of the listing and nothing else below it."""
    made: Any = value
    for part in reversed(re.findall(r"[^.\[]+|\[\]", path.replace("[]", ".[]"))):
        if part == "[]":
            made = [made]
        elif part.startswith("<"):
            made = {"small": _tagged(part.strip("<>"), made)}
        else:
            made = {part: made}
    assert isinstance(made, dict)
    return made


def _tagged(kind: str, made: object) -> object:
    """With the word that says which struct it is."""
    engines = {str(each.__struct_config__.tag) for each in get_args(LocalModel)}
    key = "engine" if kind in engines else "type" if kind in {"local", "workers_ai"} else None
    return {key: kind, **made} if key is not None and isinstance(made, dict) else made


ODD: st.SearchStrategy[object] = st.sampled_from(
    [
        None, "", "x y", "-1", 0, -1, 1.5, 10**30, True, [], [[]], {}, {"a": {}}, [None], {1: 2}, "5", "1e9s",
        "é", "\x00", "999999999GiB", "0%", "yes", ["a", "a"], {"env": 3},
    ]
)  # fmt: skip


def _paths() -> Iterator[str]:
    yield from (key.path for key in listing())


@given(st.sampled_from(sorted(_paths())), ODD)
def test_no_key_answers_an_odd_value_in_a_librarys_words(path: str, value: object) -> None:
    """Any key with any kind of value: every problem has a message of ours, in one line."""
    text = yaml.safe_dump({"backends": {"l": {"type": "local"}}, "aliases": {}, **nested(path, value)})

    for _, message in told(text):
        assert message
        assert "\n" not in message


def test_every_engine_knows_its_own_keys() -> None:
    """A word that no engine has is answered with the keys of the engine that is written."""
    for struct in get_args(LocalModel):
        engine = str(struct.__struct_config__.tag)
        ((_, message),) = told(GOOD % (f"engine: {engine}, zzzz: 1", "", "", ""))
        assert all(field.key in message for field in fields(struct))
