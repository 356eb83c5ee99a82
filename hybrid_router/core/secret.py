"""What never shows itself: not in logs, errors, tracebacks or `repr`."""

from __future__ import annotations

# Headers that carry a key of somebody: never kept, shown or matched by a rule.
SECRET_HEADERS = frozenset(
    {
        "authorization",
        "proxy-authorization",
        "cookie",
        "api-key",
        "x-api-key",
        "x-auth-email",
        "x-auth-key",
        "x-goog-api-key",
        "cf-aig-authorization",
    }
)


class Secret:
    """Wraps a token.  `reveal()` is the only way out, so every use can be found by name."""

    __slots__ = ("_value",)

    def __init__(self, value: str) -> None:
        self._value = value

    def reveal(self) -> str:
        """The value itself, for the header that needs it."""
        return self._value

    def __repr__(self) -> str:
        return "***"

    __str__ = __repr__

    def __format__(self, spec: str) -> str:
        return "***"

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Secret) and other._value == self._value

    def __hash__(self) -> int:
        return hash(self._value)

    def __reduce__(self) -> str:
        raise TypeError("a Secret is not pickled")
