"""The composition root: configuration → backends → service → listener.  The only room that knows all."""

from __future__ import annotations

from hybrid_router.app.backends import NO_ENGINE, open_worker
from hybrid_router.app.router import Running, beside, running

__all__ = ["NO_ENGINE", "Running", "beside", "open_worker", "running"]
