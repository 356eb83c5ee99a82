"""A native JSON body, as far as it is the same for every model."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import msgspec

from hybrid_router.api.openai import malformed
from hybrid_router.core.errors import CallRefused, UnsupportedParameter

_MOST_FIELDS = 128
_LATER = ("background", "webhookUrl", "webhookFormat")


def document(raw: bytes) -> dict[str, Any]:
    """The body's object; nothing in it chooses where a call goes, or is nested beyond reason.

    Raises:
        CallRefused: whatever is wrong with it.
    """
    if not raw:
        raise CallRefused("request is missing headers or body: body")
    try:
        body = msgspec.json.decode(raw, type=dict[str, Any])
        if raw.count(b"[") + raw.count(b"{") > malformed.MOST_LEVELS:
            malformed.refuse_deep(body)
    except msgspec.ValidationError:
        raise CallRefused("Bad input: Error: Type mismatch of '/', 'object' expected", param="/") from None
    except msgspec.DecodeError as error:
        raise CallRefused(f"Bad input: Error: the body is not JSON: {error}", param="/") from None
    except UnicodeError:
        raise CallRefused("Bad input: Error: the body is not UTF-8", param="/") from None
    except RecursionError:
        raise CallRefused("Bad input: Error: the body is nested too deeply", param="/") from None
    return checked(body)


def checked(body: dict[str, Any]) -> dict[str, Any]:
    """`body`, if it names nothing that is not for a call to choose.

    Raises:
        CallRefused: it does, or has too many fields.
    """
    if len(body) > _MOST_FIELDS:
        raise CallRefused(f"Bad input: Error: more than {_MOST_FIELDS} fields", param="/")
    for name in body.keys() & malformed.REFUSED:
        raise UnsupportedParameter(f"'/{name}' is not for a call to choose; leave it out", param=f"/{name}")
    return body


def refuse_later(query: Mapping[str, str], body: Mapping[str, Any] | None) -> None:
    """Refuse a call that wants its answer later: nothing here sends it, and who waits for it waits for ever.

    Raises:
        UnsupportedParameter: it asks for a place in a queue, or for a webhook.
    """
    options = (body or {}).get("options")
    options = options if isinstance(options, dict) else {}
    if query.get("queueRequest", "").lower() in ("1", "true") or options.get("queueRequest"):
        raise UnsupportedParameter("queueRequest: calls are not queued here; send them one by one")
    for name in _LATER:
        if options.get(name):
            raise UnsupportedParameter(
                f"'/options/{name}': calls are answered at once here, and no webhook is sent; leave it out",
                param=f"/options/{name}",
            )
