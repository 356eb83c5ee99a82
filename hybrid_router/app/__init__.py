"""The composition root: configuration → backends → service → listener.  The only room that knows all."""

from __future__ import annotations

from hybrid_router.app.backends import open_worker
from hybrid_router.app.router import Running, beside, running

__all__ = ["Running", "beside", "open_worker", "running"]
