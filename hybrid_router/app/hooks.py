"""Who hears of what happens.  Whoever fails at it hurts neither the call nor the others, and is counted."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from typing import ParamSpec

from hybrid_router.observe.bridge import PerSecond
from hybrid_router.observe.logs import Logs
from hybrid_router.observe.metrics import Labels, Read

P = ParamSpec("P")
_TOLD_PER_SECOND = 1  # of each hook; a hook that fails does so at every call


class Hooks:
    """Makes hooks that cannot fail.

    Attributes:
        failed_count: hook → how often it failed.
    """

    def __init__(self, logs: Logs) -> None:
        self._logs = logs
        self._per_second = PerSecond(_TOLD_PER_SECOND)
        self.failed_count: Counter[Labels] = Counter()

    def each(self, **hooks: Callable[P, object]) -> Callable[P, None]:
        """One hook that tells all of `hooks`, in their order, whatever becomes of those before."""
        named = tuple(hooks.items())

        def tell(*args: P.args, **kwargs: P.kwargs) -> None:
            for name, hook in named:
                try:
                    hook(*args, **kwargs)
                except Exception as error:  # noqa: BLE001 - whatever it was, the call goes on
                    self._failed(name, error)

        return tell

    def shield(self, name: str, read: Read) -> Read:
        """A reading that gives nothing where `read` fails."""

        def shielded() -> dict[Labels, float]:
            try:
                return dict(read())
            except Exception as error:  # noqa: BLE001 - the other numbers are told
                self._failed(name, error)
                return {}

        return shielded

    def _failed(self, name: str, error: Exception) -> None:
        """Count it, and say so once a second, if the log is not what failed."""
        self.failed_count[name,] += 1
        if self._per_second.admit(name) is None:
            return
        try:
            self._logs.logger.error("hook failed", hook=name, exc_info=error)
        except Exception:  # noqa: BLE001 - the log itself fails
            self.failed_count["log",] += 1
