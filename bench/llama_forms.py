"""Answers that have a form: JSON by random schemas, and calls of tools."""

from __future__ import annotations

import asyncio
import random
import string
import time
from collections.abc import Callable, Sequence
from typing import Any

import jsonschema
import msgspec

from bench.llama_client import Said, Server, Stream, session
from bench.llama_figures import Goal, Samples, Section
from bench.llama_joiners import by_id, by_index, by_name
from bench.llama_subjects import Setup, Shape, servers

_SLOTS, _TOKENS, _DEPTH = 8, 384, 2
_REFUSED = "refused"
Schema = dict[str, Any]


def schemas(setup: Setup) -> Section:
    """Random schemas, eight at once, sampled at temperature 1: is each answer valid?"""
    samples, pick = Samples(), random.Random(20261122)  # noqa: S311 - the same schemas each time
    asked = [schema(pick) for _ in range(setup.schemas_count)]
    bodies = [_schema_body(one, seed) for seed, one in enumerate(asked)]
    notes = [
        f"{len(asked)} random schemas, one call each, {_SLOTS} at once, temperature 1, at most {_TOKENS} "
        "tokens. Valid: the answer is JSON and `jsonschema` finds nothing; cut: it ran into its limit. "
        "Per cent valid is of those that were neither cut nor refused."
    ]
    with servers(setup, Shape(1024, _SLOTS)) as listening:
        for name, server in listening.items():
            setup.say(f"schemas: {name}")
            began_s = time.perf_counter()
            said = asyncio.run(crowd(server, bodies, setup.say))
            ends = [_end(one, wanted) for one, wanted in zip(said, asked, strict=True)]
            valid = [end == "valid" for end in ends if end in {"valid", "not valid"}]
            samples.add("valid, per cent", name, _per_cent(valid))
            for end in ("valid", "not valid", "cut", _REFUSED):
                samples.add(end, name, ends.count(end))
            tokens_count = sum(one.tokens_count for one in said if one.error is None)
            samples.add("tokens/s", name, tokens_count / (time.perf_counter() - began_s))
            notes += _refusals(name, said)
    goals = {"valid, per cent": Goal(at_least=100, of_ratio=False), _REFUSED: Goal(at_most=0, of_ratio=False)}
    return Section(name="schemas", title="JSON by schema", rows=samples.rows(goals), notes=notes)


def _refusals(name: str, said: Sequence[Said]) -> list[str]:
    """Why calls failed, each reason once, a few of them."""
    reasons = dict.fromkeys(one.error for one in said if one.error)
    return [f"{name}: {reason}" for reason in list(reasons)[:3]]


def _schema_body(wanted: Schema, seed: int) -> dict[str, Any]:
    form = {"type": "json_schema", "json_schema": {"name": "answer", "strict": True, "schema": wanted}}
    return {
        "messages": [{"role": "user", "content": f"Make up an example of {', '.join(wanted['required'])}."}],
        "response_format": form,
        "max_tokens": _TOKENS,
        "temperature": 1.0,
        "seed": seed,
    }


def _per_cent(found: Sequence[bool]) -> float:
    return 100 * sum(found) / len(found) if found else 0.0


def _end(said: Said, wanted: Schema) -> str:
    if said.error:
        return _REFUSED
    if said.reason == "length":
        return "cut"
    return "valid" if fits(said.text, wanted) else "not valid"


def fits(text: str, wanted: Schema) -> bool:
    """Whether a text is JSON by a schema."""
    try:
        jsonschema.validate(msgspec.json.decode(text), wanted)
    except (msgspec.DecodeError, jsonschema.ValidationError):
        return False
    return True


async def crowd(server: Server, bodies: Sequence[dict[str, Any]], say: Callable[[str], None]) -> list[Said]:
    """All calls to their ends, as many at once as there are slots."""
    places, done = asyncio.Semaphore(_SLOTS), 0

    async def one(body: dict[str, Any]) -> Said:
        nonlocal done
        async with places:
            said = await Stream(server, body).run(client)
        done += 1
        say(f"{server.name}: {done} of {len(bodies)}")
        return said

    async with session() as client:
        return await asyncio.gather(*map(one, bodies))


def schema(pick: random.Random) -> Schema:
    """A random object schema, as strict output wants it: every property required, no others."""
    return _object(pick, _DEPTH)


def _object(pick: random.Random, depth: int) -> Schema:
    names = pick.sample(_NAMES, pick.randint(1, 4))
    return {
        "type": "object",
        "properties": {name: _any(pick, depth - 1) for name in names},
        "required": names,
        "additionalProperties": False,
    }


def _any(pick: random.Random, depth: int) -> Schema:
    makers: list[Callable[[random.Random, int], Schema]] = [_string, _choice, _integer, _number, _plain]
    if depth > 0:
        makers += [_nested, _array, _either]
    return pick.choice(makers)(pick, depth)


def _nested(pick: random.Random, depth: int) -> Schema:
    return _object(pick, depth)


def _array(pick: random.Random, depth: int) -> Schema:
    least = pick.randint(0, 2)
    return {
        "type": "array",
        "items": _any(pick, depth - 1),
        "minItems": least,
        "maxItems": least + pick.randint(0, 2),
    }


def _either(pick: random.Random, depth: int) -> Schema:
    return {"anyOf": [_any(pick, depth - 1), {"type": "null"}]}


def _string(pick: random.Random, _: int) -> Schema:
    least = pick.randint(0, 4)
    return pick.choice(
        (
            {"type": "string", "minLength": least, "maxLength": least + pick.randint(1, 20)},
            {"type": "string", "pattern": f"^[a-{pick.choice('fkz')}]{{1,{pick.randint(2, 8)}}}$"},
            {"type": "string", "pattern": "^[0-9]{4}-[0-9]{2}-[0-9]{2}$"},
        )
    )


def _choice(pick: random.Random, _: int) -> Schema:
    values = ["".join(pick.choices(string.ascii_lowercase, k=pick.randint(1, 8))) for _ in range(3)]
    return {"type": "string", "enum": sorted(set(values))}


def _integer(pick: random.Random, _: int) -> Schema:
    least = pick.randint(-50, 50)
    return {"type": "integer", "minimum": least, "maximum": least + pick.randint(0, 1000)}


def _number(pick: random.Random, _: int) -> Schema:
    least = pick.randint(-50, 50)
    return {"type": "number", "minimum": least, "maximum": least + pick.randint(1, 1000)}


def _plain(pick: random.Random, _: int) -> Schema:
    return pick.choice(({"type": "boolean"}, {"type": "null"}, {"const": pick.randint(0, 9)}))


_NAMES = ("name", "age", "city", "tags", "price", "id", "state", "when", "size", "note", "kind", "über")

_TOOLS: tuple[Schema, ...] = (
    {
        "name": "get_weather",
        "description": "The weather in a city.",
        "parameters": {
            "type": "object",
            "properties": {
                "city": {"type": "string", "maxLength": 40},
                "unit": {"type": "string", "enum": ["celsius", "fahrenheit"]},
            },
            "required": ["city", "unit"],
            "additionalProperties": False,
        },
    },
    {
        "name": "add",
        "description": "Add two whole numbers.",
        "parameters": {
            "type": "object",
            "properties": {
                "a": {"type": "integer", "minimum": -9999, "maximum": 9999},
                "b": {"type": "integer", "minimum": -9999, "maximum": 9999},
            },
            "required": ["a", "b"],
            "additionalProperties": False,
        },
    },
    {
        "name": "now",
        "description": "The time.",
        "parameters": {"type": "object", "properties": {}, "required": [], "additionalProperties": False},
    },
)
_QUESTIONS = (
    "What is the weather in Paris?",
    "Add 17 and 25.",
    "What time is it, and how warm is it in Oslo?",
    "Say hello.",
    "Compare the weather in Rome and in Berlin.",
    "Sum up 1 and 2, then 3 and 4.",
)


def tools(setup: Setup) -> Section:
    """Every way of choosing tools: do three readers of the stream see the same calls, and are they valid?"""
    samples, notes = Samples(), []
    bodies = [body for question in _QUESTIONS for body in _tool_bodies(question)]
    with servers(setup, Shape(2048, _SLOTS)) as listening:
        for name, server in listening.items():
            setup.say(f"tools: {name}")
            said = asyncio.run(crowd(server, bodies, setup.say))
            _count_calls(samples, name, said, bodies)
            notes += _refusals(name, said)
    goals = {_FAILED: Goal(at_most=0, of_ratio=False)}
    goals |= {one: Goal(at_least=100, of_ratio=False) for one in (_AGREE, _VALID, _KEPT)}
    notes.append(
        f"{len(bodies)} streams: {len(_QUESTIONS)} questions with tool_choice auto, required, and each tool "
        "by name, with and without parallel calls. Fragments are joined by index, by id and by name. "
        "Valid: the name is a tool's and the arguments are JSON by its schema."
    )
    return Section(name="tools", title="Tool calls", rows=samples.rows(goals), notes=notes)


_FAILED, _AGREE = "streams that failed", "joiners agree, per cent of streams"
_VALID, _KEPT = "valid, per cent of calls", "required or named and called, per cent"


def _tool_bodies(question: str) -> list[dict[str, Any]]:
    named = [{"type": "function", "function": {"name": one["name"]}} for one in _TOOLS]
    return [
        {
            "messages": [{"role": "user", "content": question}],
            "tools": [{"type": "function", "function": one} for one in _TOOLS],
            "tool_choice": choice,
            "parallel_tool_calls": parallel,
            "max_tokens": _TOKENS,
            "temperature": 0.7,
            "seed": 1,
        }
        for choice in ("auto", "required", *named)
        for parallel in (False, True)
    ]


def _count_calls(samples: Samples, name: str, said: Sequence[Said], bodies: Sequence[dict[str, Any]]) -> None:
    whole = [(one, body) for one, body in zip(said, bodies, strict=True) if one.error is None]
    parameters = {one["name"]: one["parameters"] for one in _TOOLS}
    calls = [call for one, _ in whole for call in by_index(one.chunks)]
    bound = [bool(by_index(one.chunks)) for one, body in whole if body["tool_choice"] != "auto"]
    agree = [by_index(one.chunks) == by_id(one.chunks) == by_name(one.chunks) for one, _ in whole]
    valid = [tool in parameters and fits(arguments, parameters[tool]) for tool, arguments in calls]
    samples.add(_FAILED, name, len(said) - len(whole))
    samples.add("calls", name, len(calls))
    for measure, found in ((_AGREE, agree), (_VALID, valid), (_KEPT, bound)):
        samples.add(measure, name, _per_cent(found))
