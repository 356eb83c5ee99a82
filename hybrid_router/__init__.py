"""hybrid-router: one OpenAI-compatible address, local models first, clouds behind them."""

__version__ = "0.1.0"
