"""`python -m hybrid_router`, and the `hybrid-router` command."""

from __future__ import annotations

from hybrid_router.cli.root import main

if __name__ == "__main__":
    main(prog_name="hybrid-router")
