"""Kinds of values that many keys of router.yaml have."""

from __future__ import annotations

from typing import Annotated, Literal, TypeAlias

from hybrid_router.config.marks import Bounds, Pattern, Unit

Duration: TypeAlias = Annotated[float, Unit("duration"), Bounds(at_least=0.001, at_most=86_400)]
# What AI Gateway takes, and so the gateways here that are like it.
KeptFor: TypeAlias = Annotated[float, Unit("duration"), Bounds(at_least=60, at_most=30 * 86_400)]
SizeBytes: TypeAlias = Annotated[int, Unit("size"), Bounds(at_least=1024)]
Name: TypeAlias = Annotated[
    str,
    Pattern(r"[A-Za-z0-9][A-Za-z0-9._:@/-]{0,127}", "ASCII letters, digits and . _ : @ / - (128 at most)"),
]
AliasName: TypeAlias = Annotated[
    str,
    Pattern(r"[A-Za-z0-9@][A-Za-z0-9._:@/-]{0,127}", "ASCII letters, digits and . _ : @ / - (128 at most)"),
]
BackendName: TypeAlias = Annotated[
    str,
    Pattern(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}", "ASCII letters, digits and . _ - (64 at most)"),
]
ModelName: TypeAlias = Annotated[
    str,
    Pattern(r"[A-Za-z0-9@][A-Za-z0-9._:@/-]{0,127}", "ASCII letters, digits and . _ : @ / - (128 at most)"),
]
StepName: TypeAlias = Annotated[
    str,
    Pattern(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}/[A-Za-z0-9@][A-Za-z0-9._:@/-]{0,127}", "backend/model"),
]
HeaderName: TypeAlias = Annotated[
    str, Pattern(r"[A-Za-z0-9!#$%&'*+.^_`|~-]{1,64}", "the name of an HTTP header, as in x-private")
]
Finding: TypeAlias = Literal[
    "secrets", "api_keys", "private_keys", "tokens", "pii", "emails", "phones", "cards", "ibans"
]
Share: TypeAlias = Annotated[float, Bounds(at_least=0, at_most=1)]
Clock: TypeAlias = Annotated[
    str, Pattern(r"([01]\d|2[0-3]):[0-5]\d", "a time of day in quotes, as in '06:30'")
]
Regex: TypeAlias = Annotated[str, Pattern("re2", "a regular expression that RE2 accepts")]
