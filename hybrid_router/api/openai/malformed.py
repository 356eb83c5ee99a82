"""What is wrong with a body, said once, for every way in which one can be wrong."""

from __future__ import annotations

from types import MappingProxyType
from typing import Any, TypeVar

import msgspec

from hybrid_router.core.errors import CallRefused, UnsupportedParameter

T = TypeVar("T")

# Call-supplied destinations, credentials and templates: a client may not choose where a call goes
# (CVE-2024-6587), nor bring code for the template engine.
REFUSED = frozenset(
    {
        "api_base", "api_key", "api_type", "api_version", "azure_endpoint", "base_url", "chat_template",
        "custom_llm_provider", "default_headers", "endpoint", "extra_body", "extra_headers", "extra_query",
        "model_path", "proxy", "template", "tokenizer",
    }
)  # fmt: skip
# What is done anyway; any other value is one more field that nobody knows.
DONE_ANYWAY = MappingProxyType({"cache_prompt": True})
MOST_EXTRA_FIELDS = 64
MOST_LEVELS = 400  # the interpreter gives up at 1000, counted from wherever it is

_ABSENT = "Object missing required field `"
_CONTAINERS = frozenset({dict, list})
_ANYTHING = msgspec.json.Decoder(dict[str, Any])
_MOST_WHOLE = 2**53  # beyond it, a number with a point does not say which whole one it is
_FIELDS = msgspec.json.Decoder(dict[str, msgspec.Raw])


def read(decoder: msgspec.json.Decoder[T], known: frozenset[str], body: bytes) -> tuple[T, dict[str, Any]]:
    """Decode `body` twice: typed, and for the fields that the type does not know.

    Raises:
        CallRefused: whatever is wrong with it; `param` names the field, as `messages[0].role`.
    """
    try:
        typed = _typed(decoder, body)
        fields = _FIELDS.decode(body)
        extra = {} if fields.keys() <= known else _extra(fields, known)
    except msgspec.ValidationError as error:
        raise _misfit(str(error)) from None
    except msgspec.DecodeError as error:
        reason = str(error).removeprefix("JSON is malformed: ")
        raise CallRefused(
            f"the body is not JSON: {reason}" if body else "the body is empty: send JSON"
        ) from None
    except UnicodeError:
        raise CallRefused("the body is not UTF-8") from None
    except RecursionError:
        raise CallRefused("the body is nested too deeply") from None
    if body.count(b"[") + body.count(b"{") > MOST_LEVELS:  # else it cannot be deeper than that
        refuse_deep(msgspec.json.decode(body))
    return typed, extra


def _typed(decoder: msgspec.json.Decoder[T], body: bytes) -> T:
    """Decode `body`; where a number should be whole, 2.0 is 2, as some clients write it."""
    try:
        return decoder.decode(body)
    except msgspec.ValidationError as error:
        if "got `float`" not in str(error):
            raise
        fields = _ANYTHING.decode(body)
        whole = {name: int(value) for name, value in fields.items() if _is_whole(value)}
        return decoder.decode(msgspec.json.encode(fields | whole))


def _is_whole(value: Any) -> bool:
    """Whether a number that is written with a point could be written without."""
    return isinstance(value, float) and value.is_integer() and abs(value) <= _MOST_WHOLE


def _extra(fields: dict[str, msgspec.Raw], known: frozenset[str]) -> dict[str, Any]:
    """Parse the fields that the dialect has no name for; null counts as absent."""
    names = [name for name in fields if name not in known]
    if len(names) > MOST_EXTRA_FIELDS:
        raise CallRefused(f"the body has {len(names)} unknown fields; {MOST_EXTRA_FIELDS} are accepted")
    extra = {name: value for name in names if (value := msgspec.json.decode(fields[name])) is not None}
    for name in extra.keys() & DONE_ANYWAY.keys():
        if extra[name] == DONE_ANYWAY[name]:
            del extra[name]
    for name in extra.keys() & REFUSED:
        raise UnsupportedParameter(f"{name} is not for a call to choose; leave it out", param=name)
    return extra


def refuse_deep(value: Any, param: str | None = None) -> None:
    """Refuse what an encoder might stumble over later, deeper in the stack than the decoder was.

    Raises:
        CallRefused: it is nested too deeply.
    """
    level = [value]
    for _ in range(MOST_LEVELS):
        insides = [inside.values() if type(inside) is dict else inside for inside in level]
        level = [value for values in insides for value in values if type(value) in _CONTAINERS]
        if not level:
            return
    raise CallRefused(f"{param or 'the body'} is nested more than {MOST_LEVELS} levels deep", param=param)


def _misfit(said: str) -> CallRefused:
    """Turn msgspec's ``Expected `int`, got `str` - at `$.messages[0].role` `` into sentence and pointer."""
    message, _, place = said.partition(" - at `")
    param = place.rstrip("`").rpartition("`")[2].removeprefix("$").removeprefix(".").replace("[...]", "")
    if message.startswith(_ABSENT):
        absent = message[len(_ABSENT) : -1]
        param = f"{param}.{absent}" if param else absent
        message = "this field is required"
    return CallRefused(f"{param}: {message}" if param else message, param=param or None)
