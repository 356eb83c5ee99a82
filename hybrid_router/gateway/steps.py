"""The universal endpoint's body: steps, of which the first that works answers."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import msgspec
from msgspec import Struct, field

from hybrid_router.core.errors import CallRefused
from hybrid_router.core.secret import SECRET_HEADERS
from hybrid_router.gateway.controls import (
    Controls,
    StepConfig,
    first_of,
    from_config,
    from_headers,
)

MOST_STEPS = 20
# A provider's own header for its key may be called anything: by these words it gives itself away.
_KEYS = ("auth", "key", "token", "secret", "password", "credential", "cookie", "signature")


class GatewayStep(Struct, frozen=True, kw_only=True):
    """Whom to ask what.

    Attributes:
        endpoint: the provider's path.
        query: the body for it.
        controls: what the step wishes for itself.
        headers: those for the provider; empty unless they are to be sent on.
        seen: those that rules may look at, by lower-case names; none that may hold a key.
    """

    provider: str
    endpoint: str = ""
    query: Any = None
    controls: Controls = Controls()
    headers: Mapping[str, str] = field(default_factory=dict)
    seen: Mapping[str, str] = field(default_factory=dict)


class _Written(Struct, frozen=True):
    provider: str
    endpoint: str = ""
    headers: dict[str, Any] = field(default_factory=dict)
    query: Any = None
    config: StepConfig | None = None


_MANY = msgspec.json.Decoder(list[_Written])
_ONE = msgspec.json.Decoder(_Written)


def read(body: bytes, *, keeps_headers: bool) -> tuple[GatewayStep, ...]:
    """The steps, in order; a lone object is a list of one.

    Args:
        keeps_headers: they are sent on, keys included; otherwise nothing of them is kept but the controls,
            and what rules may look at.

    Raises:
        CallRefused: the body is no such list, or a control is none.
    """
    try:
        written = [_ONE.decode(body)] if body.lstrip()[:1] == b"{" else _MANY.decode(body)
    except msgspec.ValidationError as error:
        raise CallRefused(f"expected a list of steps with provider, endpoint and query: {error}") from None
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        raise CallRefused("the body is not JSON") from None
    if not 0 < len(written) <= MOST_STEPS:
        raise CallRefused(f"expected 1 to {MOST_STEPS} steps")
    for number, one in enumerate(written):
        if not one.endpoint.strip(" /"):
            raise CallRefused(
                f"the endpoint of step {number} is missing: write the provider's path, as chat/completions"
            )
    return tuple(_step(one, keeps_headers=keeps_headers) for one in written)


def _step(written: _Written, *, keeps_headers: bool) -> GatewayStep:
    texts = {name: _text(value) for name, value in written.headers.items()}
    own = {
        name: value
        for name, value in texts.items()
        if name.lower().startswith(("cf-aig-", "cf-cache-", "cf-skip-"))
    }
    return GatewayStep(
        provider=written.provider.strip().lower(),
        endpoint=written.endpoint.strip().strip("/"),
        query=written.query,
        controls=first_of(from_config(written.config), from_headers(own)),
        headers={name: value for name, value in texts.items() if name not in own} if keeps_headers else {},
        seen=_seen(texts),
    )


def _seen(headers: Mapping[str, str]) -> dict[str, str]:
    """What rules may look at.  A name in two spellings has two values, as a repeated header has."""
    seen: dict[str, str] = {}
    for name, value in headers.items():
        key = name.lower()
        if key not in SECRET_HEADERS and not any(word in key for word in _KEYS):
            seen[key] = f"{seen[key]}, {value}" if key in seen else value
    return seen


def _text(value: Any) -> str:
    """A header as text: JSON may bring numbers, flags and objects, as `cf-aig-metadata` is one."""
    return value if isinstance(value, str) else msgspec.json.encode(value).decode()
