"""How much the models of Workers AI hold."""

from __future__ import annotations

from hybrid_router.catalogue.workers_ai import TEXT_GENERATION, load


def test_every_listed_text_model_says_how_much_it_holds() -> None:
    """But for the four that take adapters, of which Cloudflare publishes no window; none is guessed."""
    listed = [model for model in load().models if model.task == TEXT_GENERATION and model.status == "listed"]
    silent = [model.id for model in listed if model.context_window is None]

    assert len(listed) == 33
    assert len(silent) == 4
    assert all(model.endswith("-lora") for model in silent)
    assert all(model.context_window >= 24_000 for model in listed if model.context_window is not None)
